//! Executes PTX: loading a module into warp operations, and running grids of them.
mod class;
mod cx;
mod fault;
mod lane;
mod lower;
mod native;
mod op;
mod ops;
mod program;
mod run;
mod table;

pub use class::Class;
pub use fault::{Fault, FaultKind};
pub use program::Program;
pub use run::launch;
pub use table::names as operation_names;

use crate::ptx::ast;
use std::fmt;

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
