//! `mma.sync` and `movmatrix`: whole-warp operations on registers.
use super::warp::full;
use crate::exec::cx::Cx;
use crate::exec::op::{Flow, Op};
use crate::num::{Lanes, matrix, mma};

/// `mma.sync`: the immediate is the form's index in the kernel; operands D, A, B, C in the operand list.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn mma(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if !full(cx, mask) {
        return Flow::Stop;
    }
    let kernel = cx.launch.kernel;
    let form = &kernel.mmas[op.imm as usize];
    let (na, nb, nd) = form.registers();
    let list = &kernel.operands[op.more as usize..];
    // SAFETY: 32-bit registers by lowering; the result is written after all sources were read.
    unsafe {
        let at = |i: usize| &*cx.reg::<u32>(list[i]);
        let a = std::array::from_fn(|i| at(nd + i.min(na - 1)));
        let b = std::array::from_fn(|i| at(nd + na + i.min(nb - 1)));
        let c = std::array::from_fn(|i| at(nd + na + nb + i.min(nd - 1)));
        let mut d: [Lanes; 4] = [[0; 32]; 4];
        form.run(&mma::Fragments { a, b, c }, &mut d);
        for (i, values) in d.iter().take(nd).enumerate() {
            *cx.reg::<u32>(list[i]) = *values;
        }
    }
    cx.count.tensor_macs += form.operations() / 2;
    Flow::Next
}

/// `mma.sync.m8n8k4.f64`: operands D (2), A, B, C (2).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn mma_f64(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if !full(cx, mask) {
        return Flow::Stop;
    }
    let list = &cx.launch.kernel.operands[op.more as usize..];
    // SAFETY: 64-bit registers by lowering.
    unsafe {
        let at = |i: usize| &*cx.reg::<f64>(list[i]);
        let d = mma::run_f64(at(2), at(3), [at(4), at(5)]);
        for (i, values) in d.iter().enumerate() {
            *cx.reg::<f64>(list[i]) = *values;
        }
    }
    cx.count.tensor_macs += 8 * 8 * 4;
    Flow::Next
}

/// `movmatrix.trans`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn transpose(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    if !full(cx, mask) {
        return Flow::Stop;
    }
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let out = matrix::transpose(&*cx.reg::<u32>(op.a));
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}
