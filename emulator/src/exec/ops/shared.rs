//! `ldmatrix` and `stmatrix`: 8x8 matrices of 16-bit elements between shared memory and registers.
use super::access::{self, Shared};
use super::warp::full;
use crate::exec::cx::Cx;
use crate::exec::lane::{LANES, Store};
use crate::exec::op::{Flow, Op};
use crate::num::matrix::{self, Rows};

/// Bit of the immediate: `.trans`.
pub const TRANSPOSE: i64 = 1;

/// The row pointers of `count` matrices, 16 bytes each. The displacement is the immediate above bit 8. `None`: a fault was
/// recorded.
#[inline(always)]
unsafe fn rows(cx: &mut Cx<'_>, op: &Op, count: usize) -> Option<[u32; LANES]> {
    let mask = u32::MAX >> (LANES - 8 * count);
    let mut at = [0; LANES];
    let (limit, mut bad) = (cx.shared_len as u32, 0);
    // SAFETY: a 32-bit register by lowering.
    let base = unsafe { &*cx.reg::<u32>(op.a) };
    for l in 0..LANES {
        at[l] = base[l].wrapping_add((op.imm >> 8) as u32);
        let outside = u32::from(at[l] > limit.wrapping_sub(16)) | u32::from(limit < 16);
        bad |= u32::spread(mask >> l & 1) & (outside | at[l] & 15);
    }
    if bad != 0 {
        // SAFETY: passed on; it finds the same lane and records the fault.
        unsafe { access::locate::<Shared>(cx, op, (op.a, op.imm >> 8), mask, 16, &mut [0; LANES])? };
        return None;
    }
    cx.count.shared_accesses += 1;
    cx.count.shared_wavefronts += access::wavefronts(cx, op, mask, 16, &at);
    Some(at)
}

/// Matrices that the operation moves: bits 1 to 3 of the immediate.
fn matrices(op: &Op) -> usize {
    (op.imm >> 1 & 7) as usize
}

/// `ldmatrix`: destinations a register per matrix, source address.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn load_matrix(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if !full(cx, mask) {
        return Flow::Stop;
    }
    let count = matrices(op);
    // SAFETY: `rows` checked 16 bytes at each row; shared memory belongs to this worker alone.
    unsafe {
        let Some(at) = rows(cx, op, count) else { return Flow::Stop };
        let row = |i: usize, r: usize| cx.shared.add(at[8 * i + r] as usize).cast::<[u32; 4]>();
        for i in 0..count {
            let d = cx.reg::<u32>(if count == 1 { op.d } else { cx.more(op, i) });
            // Every living lane takes part, so the registers are written whole.
            #[cfg(target_arch = "x86_64")]
            if cx.wide && op.imm & TRANSPOSE == 0 {
                access::transfer::x86::join_rows(|r| row(i, r).cast(), d);
                continue;
            }
            if op.imm & TRANSPOSE == 0 {
                // Lane `4r + p` holds word `p` of row `r`: the rows one after the other.
                for r in 0..8 {
                    d.cast::<[u32; 4]>().add(r).write(row(i, r).read());
                }
            } else {
                let mut m: Rows = [[0; 4]; 8];
                for r in 0..8 {
                    m[r] = row(i, r).read();
                }
                *d = matrix::load_transposed(&m);
            }
        }
    }
    Flow::Next
}

/// `stmatrix`: sources address, then a register per matrix.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn store_matrix(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if !full(cx, mask) {
        return Flow::Stop;
    }
    let count = matrices(op);
    // SAFETY: as in `load_matrix`.
    unsafe {
        let Some(at) = rows(cx, op, count) else { return Flow::Stop };
        for i in 0..count {
            let s = if count < 3 { [op.b, op.c][i] } else { cx.more(op, i + 1) };
            let values = &*cx.reg::<u32>(s);
            let m = if op.imm & TRANSPOSE != 0 { matrix::store_transposed(values) } else { matrix::store(values) };
            for r in 0..8 {
                cx.shared.add(at[8 * i + r] as usize).cast::<[u32; 4]>().write(m[r]);
            }
        }
    }
    Flow::Next
}
