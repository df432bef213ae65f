//! Native code for kernels: what the handlers do one call at a time, x86-64 code with AVX2, FMA and F16C does in one go.
//!
//! A kernel is compiled as a whole when it is first launched ([`compile`]): straight runs of operations that have a
//! template ([`alu`]) become code for eight lanes at a time ([`run`]), all other operations calls of their handlers. The
//! code serves warps of 32 active lanes. Where lanes part, or an operation stops, it is left with everything in the
//! register file, and the handlers go on alone until all lanes are together again. So results, counts and reports are
//! those of the handlers, which stay the oracle and the way on other hosts.
#[cfg(target_arch = "x86_64")]
mod alu;
#[cfg(target_arch = "x86_64")]
mod compile;
#[cfg(target_arch = "x86_64")]
mod encode;
#[cfg(target_arch = "x86_64")]
#[allow(missing_docs, reason = "registers and instructions have the names of Intel's manual")]
mod forms;
#[cfg(target_arch = "x86_64")]
mod halves;
#[cfg(target_arch = "x86_64")]
mod logic;
#[cfg(target_arch = "x86_64")]
mod pages;
#[cfg(target_arch = "x86_64")]
mod run;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "x86_64")]
pub use x86::Native;

/// Why native code was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "there is no native code to leave"))]
pub enum Left {
    /// The operation's handler has set `cx.pc`.
    Jump(usize),
    /// The operation's handler has set `cx.stop`.
    Stop(usize),
    /// The operation is to be interpreted.
    Interpret(usize),
    /// The lanes had their turn and are at the operation.
    Turn(usize),
}

/// There is no native code for this host.
#[cfg(not(target_arch = "x86_64"))]
pub enum Native {}

#[cfg(not(target_arch = "x86_64"))]
impl Native {
    /// None.
    pub fn new(_kernel: &super::program::Kernel) -> Option<Native> {
        None
    }

    /// Is there code that begins with this operation?
    pub fn begins(&self, _pc: usize) -> bool {
        match *self {}
    }

    /// Never called.
    ///
    /// # Safety
    /// None.
    pub unsafe fn run(&self, _cx: &mut super::cx::Cx<'_>, _pc: usize) -> Left {
        match *self {}
    }
}
