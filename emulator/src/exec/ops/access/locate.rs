//! From addresses to host pointers: bounds, alignment, the range that each site hit last, and the fault if there is none.
use super::{Kind, LOCAL_WINDOW, PARAM_WINDOW, Pattern, Pointers, SHARED_WINDOW, Space};
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::lane::{LANES, Store};
use crate::exec::op::{Op, Stop};
use crate::mem::Range;

/// Addresses of all lanes: register plus displacement.
#[inline(always)]
unsafe fn addresses<S: Space>(cx: &Cx<'_>, reg: u32, displacement: i64) -> [u64; LANES] {
    let mut out = [0; LANES];
    // SAFETY: lowering gives 32-bit address registers to shared accesses and 64-bit ones to all others.
    unsafe {
        if S::KIND == Kind::Shared {
            let a = &*cx.reg::<u32>(reg);
            for l in 0..LANES {
                out[l] = u64::from(a[l].wrapping_add(displacement as u32));
            }
        } else {
            let a = &*cx.reg::<u64>(reg);
            for l in 0..LANES {
                out[l] = a[l].wrapping_add(displacement as u64);
            }
        }
    }
    out
}

/// The usual access of all 32 lanes, side by side or at one address, within the range that the site hit last: its pattern
/// and first host address. Nothing of the lanes' addresses is kept, so this costs a fraction of [`locate`].
///
/// # Safety
/// As [`crate::exec::op::Handler`]; not for local memory.
#[inline(always)]
pub unsafe fn whole<S: Space>(cx: &Cx<'_>, op: &Op, size: usize) -> Option<(Pattern, usize)> {
    // SAFETY: lowering gives 32-bit address registers to shared accesses and 64-bit ones to global ones.
    let (first, contiguous, uniform) = unsafe {
        if S::KIND == Kind::Shared {
            let a = &*cx.reg::<u32>(op.a);
            let (contiguous, uniform) = steps32(cx.wide, a, size as u32);
            (u64::from(a[0].wrapping_add(op.imm as u32)), contiguous, uniform)
        } else {
            let a = &*cx.reg::<u64>(op.a);
            let (contiguous, uniform) = steps64(cx.wide, a, size as u64);
            (a[0].wrapping_add(op.imm as u64), contiguous, uniform)
        }
    };
    let (pattern, bytes) = match (contiguous, uniform) {
        (true, _) => (Pattern::Contiguous, LANES * size),
        (_, true) => (Pattern::Uniform, size),
        _ => return None,
    };
    let range = range::<S>(cx, op);
    let inside = first & (size as u64 - 1) == 0 && range.contains(first, bytes);
    inside.then(|| (pattern, range.host + (first - range.base) as usize))
}

macro_rules! steps {
    ($name:ident, $t:ty, $lanes:literal, $set1:ident, $sub:ident) => {
        /// Do the lanes' addresses rise by `size`? Are they all the same?
        ///
        /// # Safety
        /// `wide` only on a CPU with AVX2.
        #[inline(always)]
        unsafe fn $name(wide: bool, a: &[$t; LANES], size: $t) -> (bool, bool) {
            #[cfg(target_arch = "x86_64")]
            if wide {
                use std::arch::x86_64::*;
                // SAFETY: 32 bytes of an array each; the caller vouches for AVX2.
                unsafe {
                    let steps: [$t; $lanes] = std::array::from_fn(|l| l as $t * size);
                    let mut step = _mm256_loadu_si256(steps.as_ptr().cast());
                    let (mut apart, mut differ) = (_mm256_setzero_si256(), _mm256_setzero_si256());
                    let first = $set1(a[0] as _);
                    for i in 0..LANES / $lanes {
                        let x = _mm256_loadu_si256(a.as_ptr().add($lanes * i).cast());
                        let from_first = $sub(x, first);
                        differ = _mm256_or_si256(differ, from_first);
                        apart = _mm256_or_si256(apart, _mm256_xor_si256(from_first, step));
                        step = $sub(step, $set1((size * $lanes).wrapping_neg() as _));
                    }
                    return (_mm256_testz_si256(apart, apart) == 1, _mm256_testz_si256(differ, differ) == 1);
                }
            }
            let _ = wide;
            let (mut apart, mut differ) = (0, 0);
            for l in 0..LANES {
                let from_first = a[l].wrapping_sub(a[0]);
                apart |= from_first ^ l as $t * size;
                differ |= from_first;
            }
            (apart == 0, differ == 0)
        }
    };
}

steps!(steps32, u32, 8, _mm256_set1_epi32, _mm256_sub_epi32);
steps!(steps64, u64, 4, _mm256_set1_epi64x, _mm256_sub_epi64);

/// The memory that an access most likely goes to.
#[inline(always)]
fn range<S: Space>(cx: &Cx<'_>, op: &Op) -> Range {
    match S::KIND {
        Kind::Shared => Range { base: 0, size: cx.shared_len, host: cx.shared as usize },
        _ => cx.sites[op.site as usize],
    }
}

/// Checks an access of `size` bytes a lane at register + displacement and finds its host addresses. `None`: a fault was recorded.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn locate<S: Space>(
    cx: &mut Cx<'_>,
    op: &Op,
    (reg, displacement): (u32, i64),
    mask: u32,
    size: usize,
    out: &mut Pointers,
) -> Option<Pattern> {
    // SAFETY: passed on.
    let addr = unsafe { addresses::<S>(cx, reg, displacement) };
    let first = addr[mask.trailing_zeros() as usize & 31];
    if S::KIND == Kind::Local {
        return locate_local(cx, op, mask, size, &addr, out);
    }
    let range = range::<S>(cx, op);
    let aligned = first & (size as u64 - 1) == 0;
    if mask == !0 && aligned && range.contains(first, LANES * size) {
        let mut apart = 0;
        for l in 0..LANES {
            apart |= addr[l] ^ first.wrapping_add((l * size) as u64);
        }
        if apart == 0 {
            out[0] = range.host + (first - range.base) as usize;
            return Some(Pattern::Contiguous);
        }
    }
    // Sizes are far below 2^63, so an offset or what it leaves of the range is negative exactly if it is outside: sums of
    // bits, which become vector code where comparisons would not.
    let limit = (range.size as u64).wrapping_sub(size as u64);
    let delta = (range.host as u64).wrapping_sub(range.base);
    let (mut outside, mut low, mut apart) = (0, 0, 0);
    for l in 0..LANES {
        // Inactive lanes do as the first active one.
        let differs = (addr[l] ^ first) & u64::spread(mask >> l & 1);
        let a = first ^ differs;
        let offset = a.wrapping_sub(range.base);
        outside |= offset | limit.wrapping_sub(offset);
        low |= a;
        apart |= differs;
        out[l] = a.wrapping_add(delta) as usize;
    }
    if outside >> 63 != 0 || low & (size as u64 - 1) != 0 {
        return locate_slowly::<S>(cx, op, mask, size, &addr, out);
    }
    out[0] = if apart == 0 { first.wrapping_add(delta) as usize } else { out[0] };
    Some(if apart == 0 { Pattern::Uniform } else { Pattern::Scattered })
}

/// Local memory: each lane has its own.
#[inline(always)]
fn locate_local(
    cx: &mut Cx<'_>,
    op: &Op,
    mask: u32,
    size: usize,
    addr: &[u64; LANES],
    out: &mut Pointers,
) -> Option<Pattern> {
    let (base, stride) = (cx.local as usize, cx.local_len);
    for l in lanes(mask) {
        let a = addr[l];
        if a & (size as u64 - 1) != 0 || a.checked_add(size as u64).is_none_or(|end| end > stride as u64) {
            bad_access(cx, op, l, a, size, "local");
            return None;
        }
        out[l] = base + l * stride + a as usize;
    }
    Some(Pattern::Scattered)
}

/// Lane by lane, with the whole table of allocations and windows: a first access of a site, several allocations in one
/// access, or a fault.
#[cold]
#[inline(never)]
fn locate_slowly<S: Space>(
    cx: &mut Cx<'_>,
    op: &Op,
    mask: u32,
    size: usize,
    addr: &[u64; LANES],
    out: &mut Pointers,
) -> Option<Pattern> {
    for l in lanes(mask) {
        if addr[l] & (size as u64 - 1) != 0 {
            bad_access(cx, op, l, addr[l], size, if S::KIND == Kind::Shared { "shared" } else { "global" });
            return None;
        }
        out[l] = match S::KIND {
            Kind::Shared => {
                let inside = addr[l] as usize + size <= cx.shared_len;
                if !inside {
                    bad_access(cx, op, l, addr[l], size, "shared");
                    return None;
                }
                cx.shared as usize + addr[l] as usize
            }
            _ => locate_generic(cx, op, l, addr[l], size)?,
        };
    }
    Some(Pattern::Scattered)
}

/// Host address of one lane's global or generic address.
pub fn locate_generic(cx: &mut Cx<'_>, op: &Op, lane: usize, addr: u64, size: usize) -> Option<usize> {
    let range = match addr {
        LOCAL_WINDOW..PARAM_WINDOW => {
            let base = cx.local as usize + lane * cx.local_len;
            Range { base: LOCAL_WINDOW, size: cx.local_len, host: base }
        }
        SHARED_WINDOW..LOCAL_WINDOW => Range { base: SHARED_WINDOW, size: cx.shared_len, host: cx.shared as usize },
        PARAM_WINDOW..0x1300_0000_0000 => {
            let params = cx.launch.params;
            Range { base: PARAM_WINDOW, size: params.len(), host: params.as_ptr() as usize }
        }
        _ => match cx.launch.gpu.memory().range(addr, size) {
            Ok(range) => range,
            Err(_) => {
                bad_access(cx, op, lane, addr, size, "global");
                return None;
            }
        },
    };
    if !range.contains(addr, size) {
        let space = if addr < LOCAL_WINDOW { "shared" } else { "local or parameter" };
        bad_access(cx, op, lane, addr, size, space);
        return None;
    }
    // Local memory differs from lane to lane, so its range serves this lane only.
    if !(LOCAL_WINDOW..PARAM_WINDOW).contains(&addr) {
        cx.sites[op.site as usize] = range;
    }
    Some(range.host + (addr - range.base) as usize)
}

/// Records the fault of an access that is out of bounds or misaligned.
#[cold]
#[inline(never)]
pub fn bad_access(cx: &mut Cx<'_>, op: &Op, lane: usize, addr: u64, size: usize, space: &str) {
    let verb = op.code.entry().name;
    let (kind, what) = if addr & (size as u64 - 1) != 0 {
        (FaultKind::Misaligned, format!("misaligned {size}-byte access ({verb}) to {space} address {addr:#x}"))
    } else {
        let near = match space {
            "global" => match cx.launch.gpu.memory().range(addr, size) {
                Err(e) => e.near,
                Ok(_) => "the access crosses the end of the allocation".to_string(),
            },
            "shared" => format!("the block has {} bytes of shared memory", cx.shared_len),
            _ => format!("the thread has {} bytes of local memory", cx.local_len),
        };
        (FaultKind::IllegalAddress, format!("invalid {size}-byte access ({verb}) to {space} address {addr:#x}: {near}"))
    };
    cx.fault = Some(Cause { kind, lane: Some(lane), what });
    cx.stop = Stop::Fault;
}
