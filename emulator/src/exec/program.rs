//! A loaded module: its kernels as lowered operations, and its variables in device memory.
//!
//! Invariants of a [`Kernel`], on which the handlers' unchecked register accesses rest: every register operand of every
//! operation lies inside `file_bytes` and is aligned to its size, every branch target is an index into `code`, the last
//! operation does not fall through, and constants are written by nobody.
use super::native::Native;
use super::op::Op;
use super::{KernelInfo, LoadError};
use crate::gpu::DeviceSpec;
use crate::mem::Memory;
use crate::num::mma::Mma;
use crate::ptx::ast;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// A lowered kernel, together with the device functions that it calls.
pub struct Kernel {
    /// What the driver may ask.
    pub info: KernelInfo,
    /// The operations; callees first, each function's blocks in running order.
    pub code: Vec<Op>,
    /// Where each operation comes from.
    pub places: Vec<ast::Pos>,
    /// Operand lists: register offsets, branch targets, local offsets.
    pub operands: Vec<u32>,
    /// The first operation.
    pub entry: usize,
    /// Size of a warp's register file in bytes.
    pub file_bytes: usize,
    /// Constant registers, to be filled in every warp's file.
    pub constants: Vec<Constant>,
    /// Registers that may be read before they are written: byte ranges to be cleared for each warp.
    pub cleared: Vec<(u32, u32)>,
    /// Forms of `mma` that the code uses.
    pub mmas: Vec<Mma>,
    /// Where the dynamic shared memory begins.
    pub dynamic_base: u32,
    /// Number of memory access sites.
    pub sites: usize,
    /// When each operation's only result is read last, operation `i` reading at `2i`; the greatest number if that is not
    /// known.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "there is no native code"))]
    pub until: Vec<u32>,
    /// Its native code, made at the first launch.
    pub native: OnceLock<Option<Native>>,
}

impl Kernel {
    /// Its native code, if this host has any.
    pub fn native(&self) -> Option<&Native> {
        self.native.get_or_init(|| Native::new(self)).as_ref()
    }

    /// Shared memory of a block in bytes.
    pub fn shared_bytes(&self, dynamic: u32) -> usize {
        if dynamic == 0 { self.info.static_shared as usize } else { (self.dynamic_base + dynamic) as usize }
    }
}

/// A register that holds one value in all lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constant {
    /// Offset in the register file.
    pub offset: u32,
    /// What it holds.
    pub value: Value,
}

/// The value of a constant register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The same in every launch: 32 bits.
    Bits32(u32),
    /// 64 bits.
    Bits64(u64),
    /// A predicate that is always true.
    True,
    /// A predicate that is always false.
    False,
    /// From the parameter buffer: `bytes` bytes at `at`, extended to a register of 32 or 64 bits.
    Param {
        /// Offset in the buffer.
        at: u32,
        /// Size in bytes: 1, 2, 4 or 8.
        bytes: u8,
        /// Extended by its sign?
        signed: bool,
        /// A 64-bit register?
        wide: bool,
    },
}

/// A loaded module.
pub struct Program {
    pub(super) kernels: Vec<Kernel>,
    globals: HashMap<String, (u64, usize)>,
    memory: Arc<Memory>,
    files: Vec<(u32, String)>,
}

impl Drop for Program {
    fn drop(&mut self) {
        for (addr, _) in self.globals.values() {
            // The memory may have been reset by then; there is nobody to tell.
            let _ = self.memory.free(*addr);
        }
    }
}

impl Program {
    /// Lowers a module, and allocates and initialises its global and constant variables in `memory`.
    ///
    /// # Errors
    /// Every operation that is not known, each with its place.
    pub fn load(module: &ast::Module, memory: &Arc<Memory>, spec: &DeviceSpec) -> Result<Program, Vec<LoadError>> {
        let fail = |message: String| LoadError { pos: ast::Pos::default(), file: String::new(), message };
        let (major, minor) = spec.compute;
        if let Some(target) = required_compute(&module.target)
            && target > major * 10 + minor
        {
            return Err(vec![fail(format!("made for {}, but the device is sm_{major}{minor}", module.target))]);
        }
        let mut program = Program {
            kernels: Vec::new(),
            globals: HashMap::new(),
            memory: memory.clone(),
            files: module.files.clone(),
        };
        let addresses = program.place_variables(module).map_err(|m| vec![fail(m)])?;
        let mut errors = Vec::new();
        for function in module.functions.iter().filter(|f| f.entry && f.body.is_some()) {
            match super::lower::kernel(module, function, &addresses, memory.checks()) {
                Ok(kernel) => program.kernels.push(kernel),
                Err(found) => errors.extend(found),
            }
        }
        errors.sort_by_key(|e: &LoadError| e.pos.ptx_line);
        errors.dedup();
        if errors.is_empty() { Ok(program) } else { Err(errors) }
    }

    /// Allocates the module's variables and fills them; their addresses by index, `None` for shared ones.
    fn place_variables(&mut self, module: &ast::Module) -> Result<Vec<Option<u64>>, String> {
        let mut addresses = Vec::new();
        for var in &module.vars {
            let placed = matches!(var.space, ast::Space::Global | ast::Space::Const) && !var.external;
            addresses.push(if placed {
                let addr = self.memory.alloc(var.size).ok_or_else(|| format!("no device memory for {}", var.name))?;
                self.globals.insert(var.name.clone(), (addr, var.size));
                Some(addr)
            } else {
                None
            });
        }
        for (var, addr) in module.vars.iter().zip(&addresses) {
            let Some(addr) = addr else { continue };
            let mut bytes = var.init.clone();
            for (offset, symbol, addend, _) in &var.relocs {
                let (target, _) = self.globals.get(symbol).ok_or_else(|| {
                    format!("the initial value of {} refers to {symbol}, which is no variable", var.name)
                })?;
                let value = target.wrapping_add_signed(*addend).to_le_bytes();
                bytes
                    .get_mut(*offset..offset + 8)
                    .ok_or_else(|| format!("{}: a relocation outside of it", var.name))?
                    .copy_from_slice(&value);
            }
            let host = self.memory.host_ptr(*addr, bytes.len()).map_err(|e| e.to_string())?;
            // SAFETY: the allocation was made above with at least this size, and nobody else knows it yet.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), host, bytes.len()) };
            // What has no initial value is zero.
            self.memory.mark_written(*addr, var.size);
        }
        Ok(addresses)
    }

    /// Index of the kernel `name`.
    pub fn kernel(&self, name: &str) -> Option<usize> {
        self.kernels.iter().position(|k| k.info.name == name)
    }

    /// What is known of a kernel.
    pub fn info(&self, kernel: usize) -> &KernelInfo {
        &self.kernels[kernel].info
    }

    /// Names of the op table's rows that a kernel's code uses, with repetitions.
    pub fn operations(&self, kernel: usize) -> impl Iterator<Item = &'static str> + '_ {
        self.kernels[kernel].code.iter().map(|op| op.code.entry().name)
    }

    /// (device address, size in bytes) of the module variable `name`.
    pub fn global(&self, name: &str) -> Option<(u64, usize)> {
        self.globals.get(name).copied()
    }

    /// Is this the address of a module variable?
    pub fn owns(&self, addr: u64) -> bool {
        self.globals.values().any(|(base, _)| *base == addr)
    }

    /// `.file` numbers and paths.
    pub(super) fn files(&self) -> &[(u32, String)] {
        &self.files
    }
}

/// "ptx line 12 (attention.cu:40)"
pub(super) fn place(files: &[(u32, String)], pos: ast::Pos) -> String {
    let file = files.iter().find(|(number, _)| *number == pos.file).map(|(_, path)| path.as_str());
    match file {
        Some(file) if pos.line != 0 => format!("ptx line {} ({file}:{})", pos.ptx_line, pos.line),
        _ => format!("ptx line {}", pos.ptx_line),
    }
}

/// The compute capability, times ten, that `.target` asks for.
fn required_compute(target: &str) -> Option<u32> {
    target.split(',').next()?.trim().strip_prefix("sm_")?.trim_end_matches(char::is_alphabetic).parse().ok()
}
