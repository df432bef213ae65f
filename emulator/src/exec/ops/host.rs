//! Calls that the host answers: `vprintf` and `__assertfail`, and copies of call parameters.
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::op::{Flow, Op, Stop};
use crate::exec::ops::access;

/// Copies bytes of local memory: immediate = length, destination offset `target`, source offset `more`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn local_copy(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    for l in lanes(mask) {
        // SAFETY: lowering placed both ranges inside the thread's local memory.
        unsafe {
            let base = cx.local.add(l * cx.local_len);
            std::ptr::copy(base.add(op.more as usize), base.add(op.target as usize), op.imm as usize);
        }
    }
    Flow::Next
}

/// A 64-bit word of a lane's local memory at an offset that lowering chose.
unsafe fn local_word(cx: &Cx<'_>, lane: usize, offset: u32) -> u64 {
    // SAFETY: lowering placed eight bytes there.
    unsafe { cx.local.add(lane * cx.local_len + offset as usize).cast::<u64>().read_unaligned() }
}

/// Bytes at a generic address, up to `len`; fewer if the memory ends. `None`: a fault was recorded.
fn read(cx: &mut Cx<'_>, op: &Op, lane: usize, addr: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for i in 0..len as u64 {
        let at = access::locate_generic(cx, op, lane, addr.wrapping_add(i), 1)?;
        // SAFETY: `locate_generic` checked the byte.
        bytes.push(unsafe { (at as *const u8).read_volatile() });
    }
    Some(bytes)
}

/// A string at a generic address, at most 4096 bytes of it.
fn read_string(cx: &mut Cx<'_>, op: &Op, lane: usize, addr: u64) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    while text.len() < 4096 {
        let byte = read(cx, op, lane, addr + text.len() as u64, 1)?[0];
        if byte == 0 {
            break;
        }
        text.push(byte);
    }
    Some(text)
}

/// `vprintf(format, arguments)`: the parameters' local offsets are `target` and `more`; `d` gets the result.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn vprintf(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    for l in lanes(mask) {
        // SAFETY: lowering gives the offsets of two 64-bit parameters.
        let (format, args) = unsafe { (local_word(cx, l, op.target), local_word(cx, l, op.more)) };
        let Some(format) = read_string(cx, op, l, format) else { return Flow::Stop };
        let Some((text, count)) = print(cx, op, l, &format, args) else { return Flow::Stop };
        cx.launch.gpu.print(&text);
        // SAFETY: a 32-bit register by lowering.
        unsafe { (*cx.reg::<u32>(op.d))[l] = count };
    }
    Flow::Next
}

/// Formats as C does; the arguments lie at `args`, each aligned to its size.
fn print(cx: &mut Cx<'_>, op: &Op, lane: usize, format: &[u8], mut args: u64) -> Option<(Vec<u8>, u32)> {
    let (mut out, mut i, mut count) = (Vec::new(), 0, 0);
    let mut next = |cx: &mut Cx<'_>, size: u64| -> Option<u64> {
        args = args.next_multiple_of(size);
        let bytes = read(cx, op, lane, args, size as usize)?;
        args += size;
        count += 1;
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(&bytes);
        Some(u64::from_le_bytes(word))
    };
    while i < format.len() {
        let start = i;
        i += 1;
        if format[start] != b'%' {
            out.push(format[start]);
            continue;
        }
        let mut spec = vec![b'%'];
        let mut long = false;
        while i < format.len() && b"-+ #0123456789.*lhzjt".contains(&format[i]) {
            match format[i] {
                b'*' => spec.extend((next(cx, 4)? as i32).to_string().bytes()),
                b'l' | b'z' | b'j' | b't' => long = true,
                b'h' => {}
                c => spec.push(c),
            }
            i += 1;
        }
        let conversion = format.get(i).copied().unwrap_or(b'%');
        i += 1;
        match conversion {
            b'%' => out.push(b'%'),
            b'd' | b'i' if !long => format_one(&mut out, &spec, b"lld", i64::from(next(cx, 4)? as i32) as u64),
            b'd' | b'i' => format_one(&mut out, &spec, b"lld", next(cx, 8)?),
            b'u' | b'x' | b'X' | b'o' => {
                let value = next(cx, if long { 8 } else { 4 })?;
                format_one(&mut out, &spec, &[b'l', b'l', conversion], value);
            }
            b'c' => format_one(&mut out, &spec, b"c", next(cx, 4)?),
            b'p' => format_one(&mut out, &spec, b"p", next(cx, 8)?),
            b's' => {
                let addr = next(cx, 8)?;
                let mut text = read_string(cx, op, lane, addr)?;
                text.push(0);
                format_one(&mut out, &spec, b"s", text.as_ptr() as u64);
            }
            b'f' | b'F' | b'e' | b'E' | b'g' | b'G' | b'a' | b'A' => {
                let value = f64::from_bits(next(cx, 8)?);
                format_float(&mut out, &spec, conversion, value);
            }
            _ => out.extend(&format[start..i.min(format.len())]),
        }
    }
    Some((out, count))
}

/// One integer, character, pointer or string conversion by the C library.
fn format_one(out: &mut Vec<u8>, spec: &[u8], conversion: &[u8], value: u64) {
    let format = [spec, conversion, b"\0"].concat();
    let mut text = [0u8; 4200];
    // SAFETY: the format has one conversion of a 64-bit argument (or a character, promoted); snprintf ends the text.
    let n = unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), format.as_ptr().cast(), value) };
    out.extend(&text[..(n.max(0) as usize).min(text.len() - 1)]);
}

/// One floating-point conversion by the C library.
fn format_float(out: &mut Vec<u8>, spec: &[u8], conversion: u8, value: f64) {
    let format = [spec, &[conversion, 0]].concat();
    let mut text = [0u8; 4200];
    // SAFETY: the format has one conversion of a double; snprintf ends the text.
    let n = unsafe { libc::snprintf(text.as_mut_ptr().cast(), text.len(), format.as_ptr().cast(), value) };
    out.extend(&text[..(n.max(0) as usize).min(text.len() - 1)]);
}

/// `__assertfail(message, file, line, function, size)`: the parameters' local offsets lie in the operand list.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn assert_fail(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let lane = mask.trailing_zeros() as usize;
    // SAFETY: lowering gives the offsets of the five parameters, eight readable bytes each.
    let word = |cx: &Cx<'_>, i| unsafe { local_word(cx, lane, cx.more(op, i)) };
    let mut texts = Vec::new();
    for i in [0, 1, 3] {
        let addr = word(cx, i);
        let Some(text) = read_string(cx, op, lane, addr) else { return Flow::Stop };
        texts.push(String::from_utf8_lossy(&text).into_owned());
    }
    let line = word(cx, 2) as u32;
    let what = format!("assertion `{}` failed in {} ({}:{line})", texts[0], texts[2], texts[1]);
    cx.fault = Some(Cause { kind: FaultKind::Assert, lane: Some(lane), what });
    cx.stop = Stop::Fault;
    Flow::Stop
}
