//! Executes PTX: loading a module into warp operations, and running grids of them.
mod fault;

pub use fault::{Fault, FaultKind};

use crate::gpu::{DeviceSpec, Gpu};
use crate::mem::Memory;
use crate::ptx::ast;
use std::fmt;
use std::sync::Arc;

/// Why a module cannot be loaded: an operation, modifier or operand that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// Where.
    pub pos: ast::Pos,
    /// Path of the `.cu` file of `pos`, empty if unknown.
    pub file: String,
    /// What.
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ptx line {}", self.pos.ptx_line)?;
        if self.pos.line != 0 {
            write!(f, " ({}:{})", self.file, self.pos.line)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for LoadError {}

/// What the driver may ask of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelInfo {
    /// Name.
    pub name: String,
    /// (offset, size) in bytes of each parameter in the parameter buffer.
    pub params: Vec<(usize, usize)>,
    /// Size of the parameter buffer in bytes.
    pub param_bytes: usize,
    /// Static shared memory of a block in bytes.
    pub static_shared: u32,
    /// Local memory of a thread in bytes.
    pub local_bytes: u32,
    /// Threads a block may have (`.maxntid` or `.reqntid`, else 1024).
    pub max_threads: u32,
    /// 32-bit registers a thread needs: an estimate from liveness, `ptxas` may differ.
    pub registers: u32,
}

/// A loaded module.
pub struct Program {
    kernels: Vec<KernelInfo>,
}

/// One launch's configuration.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block in bytes.
    pub dynamic_shared: u32,
    /// All blocks must be resident together.
    pub cooperative: bool,
    /// The parameter buffer, laid out as [`KernelInfo::params`] says.
    pub params: Vec<u8>,
}

impl Program {
    /// Lowers a module, and allocates and initialises its global and constant variables in `memory`.
    ///
    /// # Errors
    /// Every operation that is not known, each with its place.
    pub fn load(module: &ast::Module, memory: &Arc<Memory>, spec: &DeviceSpec) -> Result<Program, Vec<LoadError>> {
        let _ = (module, memory, spec);
        let message = "not executable yet".to_string();
        Err(vec![LoadError { pos: ast::Pos::default(), file: String::new(), message }])
    }

    /// Index of the kernel `name`.
    pub fn kernel(&self, name: &str) -> Option<usize> {
        self.kernels.iter().position(|k| k.name == name)
    }

    /// What is known of a kernel.
    pub fn info(&self, kernel: usize) -> &KernelInfo {
        &self.kernels[kernel]
    }

    /// (device address, size in bytes) of the module variable `name`.
    pub fn global(&self, name: &str) -> Option<(u64, usize)> {
        let _ = name;
        None
    }
}

/// Runs a grid on the GPU's worker threads and returns when it has finished.
///
/// # Errors
/// The first fault; the blocks that had not begun are not run.
pub fn launch(program: &Program, kernel: usize, launch: &Launch, gpu: &Gpu) -> Result<(), Fault> {
    let _ = (launch, gpu);
    Err(Fault { kind: FaultKind::LaunchFailed, report: format!("{}: not executable yet", program.info(kernel).name) })
}

/// Classes by which warp instructions are counted.
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
    /// Global and constant memory, including `cp.async`.
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
