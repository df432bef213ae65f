//! One lowered warp operation, and what its handler tells the scheduler.
use super::cx::Cx;

/// Executes one operation for the lanes in `mask`.
///
/// # Safety
/// `op` belongs to the kernel whose register files `cx` points into, the CPU has the features that the handler was
/// chosen for, and `mask` is not empty.
pub type Handler = unsafe extern "C" fn(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow;

/// What follows an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flow {
    /// The next operation.
    Next,
    /// All active lanes go on at `cx.pc`.
    Jump,
    /// `cx.stop` says what happens.
    Stop,
}

/// One warp operation. Register operands are byte offsets into the warp's register file.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Op {
    /// Its handler, for the CPU this process runs on.
    pub run: Handler,
    /// First destination.
    pub d: u32,
    /// First source.
    pub a: u32,
    /// Second source.
    pub b: u32,
    /// Third source.
    pub c: u32,
    /// Offset of the guard predicate (the constant true one if there is no guard).
    pub guard: u32,
    /// All ones if the guard is negated, else 0.
    pub guard_not: u32,
    /// An immediate: address displacement, lookup table, packed parameters.
    pub imm: i64,
    /// Where the operands that do not fit above begin in the kernel's operand list: all destinations, then all sources.
    pub more: u32,
    /// Branch target, an index of an operation.
    pub target: u32,
    /// Memory access site, for the range that its last access hit.
    pub site: u32,
    /// Its entry in the op table.
    pub code: super::table::Code,
    /// Counts as an instruction; helper operations of a lowered instruction do not.
    pub counted: bool,
    /// Moves that are not executed, since their value is constant, and are counted with this operation.
    pub folded: u8,
}

/// Why a warp's running lanes stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The lanes of `taken` go to `target`, the others on.
    Branch {
        /// Lanes that branch.
        taken: u32,
        /// Where to.
        target: u32,
    },
    /// The lanes of `taken` go to `target`, the others execute the operation again.
    Split {
        /// Lanes that go.
        taken: u32,
        /// Where to.
        target: u32,
    },
    /// The lanes of the mask end.
    Exit(u32),
    /// The lanes of the mask wait here until the lanes they named have arrived; the others go on.
    Park(u32),
    /// The lanes of the mask have arrived at a block barrier; the others go on.
    Barrier(u32),
    /// Other warps and blocks should run; then go on with the next operation.
    Yield,
    /// `cx.fault` is set.
    Fault,
}
