//! Classes by which warp instructions are counted.

/// What kind of work an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// Integer, bit and move operations.
    Integer,
    /// f16 and bf16 arithmetic.
    Half,
    /// f32 arithmetic.
    Single,
    /// f64 arithmetic.
    Double,
    /// Approximate functions (`ex2`, `rcp`, `rsqrt`, ...).
    Special,
    /// Conversions.
    Convert,
    /// Comparisons, selections and predicate logic.
    Compare,
    /// Global, constant and generic memory, including `cp.async`.
    Global,
    /// Shared memory.
    Shared,
    /// Local and parameter memory.
    Local,
    /// Atomics and reductions.
    Atomic,
    /// `mma`.
    Tensor,
    /// Shuffles, votes and matches.
    Warp,
    /// Branches, calls and returns.
    Control,
    /// Barriers and fences.
    Barrier,
}

impl Class {
    /// All classes, in the order of [`crate::gpu::KernelCounters::by_class`].
    pub const ALL: [Class; 15] = [
        Class::Integer,
        Class::Half,
        Class::Single,
        Class::Double,
        Class::Special,
        Class::Convert,
        Class::Compare,
        Class::Global,
        Class::Shared,
        Class::Local,
        Class::Atomic,
        Class::Tensor,
        Class::Warp,
        Class::Control,
        Class::Barrier,
    ];
}
