//! `ldmatrix` and `stmatrix`: 8x8 matrices of 16-bit elements between shared memory and registers.
use super::access::{self, Shared};
use super::warp::full;
use crate::exec::cx::Cx;
use crate::exec::lane::LANES;
use crate::exec::op::{Flow, Op};
use crate::num::matrix::{self, Rows};

/// Bit of the immediate: `.trans`.
pub const TRANSPOSE: i64 = 1;

/// The row pointers of `count` matrices, 16 bytes each. The displacement is the immediate above bit 8.
unsafe fn rows(cx: &mut Cx<'_>, op: &Op, count: usize) -> Option<[usize; LANES]> {
    let mask = u32::MAX >> (LANES - 8 * count);
    let mut at = [0; LANES];
    // SAFETY: passed on; lanes above the mask give no address.
    unsafe {
        match access::locate::<Shared>(cx, op, (op.a, op.imm >> 8), mask, 16, &mut at)? {
            access::Pattern::Contiguous => at = std::array::from_fn(|l| at[0] + 16 * l),
            access::Pattern::Uniform => at = [at[0]; LANES],
            access::Pattern::Scattered => {}
        }
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
        for i in 0..count {
            let mut m: Rows = [[0; 4]; 8];
            for r in 0..8 {
                m[r] = (at[8 * i + r] as *const [u32; 4]).read();
            }
            let values = if op.imm & TRANSPOSE != 0 { matrix::load_transposed(&m) } else { matrix::load(&m) };
            let d = if count == 1 { op.d } else { cx.more(op, i) };
            cx.set(d, mask, &values);
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
                (at[8 * i + r] as *mut [u32; 4]).write(m[r]);
            }
        }
    }
    Flow::Next
}
