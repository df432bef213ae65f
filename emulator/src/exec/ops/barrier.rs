//! Block barriers, as a warp sees them; the block's scheduler counts arrivals.
use super::warp::aligned;
use crate::exec::cx::Cx;
use crate::exec::op::{Flow, Op, Stop};

/// Parts of the immediate of [`block`].
pub mod mode {
    /// The kind: the low three bits.
    pub const KIND: i64 = 7;
    /// `bar.sync`
    pub const SYNC: i64 = 0;
    /// `bar.arrive`
    pub const ARRIVE: i64 = 1;
    /// `bar.red.popc`
    pub const POPC: i64 = 2;
    /// `bar.red.and`
    pub const AND: i64 = 3;
    /// `bar.red.or`
    pub const OR: i64 = 4;
    /// A thread count is given (source b).
    pub const COUNTED: i64 = 8;
    /// `.aligned`: the warp arrives as a whole.
    pub const ALIGNED: i64 = 16;
}

/// `bar` and `barrier`: sources id, count, predicate.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn block(cx: &mut Cx<'_>, _op: &Op, mask: u32) -> Flow {
    if aligned(cx, mask) {
        cx.stop = Stop::Barrier(mask);
    }
    Flow::Stop
}
