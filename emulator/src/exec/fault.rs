//! What stops a kernel, with the CUDA error that the driver returns for it.
use std::fmt;

/// The kind of fault; its number is the CUDA driver's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FaultKind {
    /// The launch's configuration is not possible (`CUDA_ERROR_INVALID_VALUE`).
    InvalidValue = 1,
    /// An access outside of every allocation, or after free (`CUDA_ERROR_ILLEGAL_ADDRESS`).
    IllegalAddress = 700,
    /// More registers, threads or shared memory than the chip has (`CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES`).
    OutOfResources = 701,
    /// No thread can make progress (`CUDA_ERROR_LAUNCH_TIMEOUT`).
    Deadlock = 702,
    /// A device-side assert or trap (`CUDA_ERROR_ASSERT`).
    Assert = 710,
    /// `trap` or an instruction that the hardware refuses (`CUDA_ERROR_ILLEGAL_INSTRUCTION`).
    IllegalInstruction = 715,
    /// A misaligned access (`CUDA_ERROR_MISALIGNED_ADDRESS`).
    Misaligned = 716,
    /// Everything else, such as a barrier that only a part of a warp reaches (`CUDA_ERROR_LAUNCH_FAILED`).
    LaunchFailed = 719,
    /// More blocks than can be resident at once (`CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE`).
    CooperativeTooLarge = 720,
}

impl FaultKind {
    /// The CUDA driver's error code.
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// What an operation records when it fails.
#[derive(Clone, Debug)]
pub struct Cause {
    /// Its kind.
    pub kind: FaultKind,
    /// The lane at fault.
    pub lane: Option<usize>,
    /// What happened, in one line.
    pub what: String,
}

/// A fault of a launch: its kind and the whole report (kernel, block, thread, PTX line, `.cu` line, cause).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// The report, several lines of text.
    pub report: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

impl std::error::Error for Fault {}
