//! Modules and functions: PTX text to a loaded program, and what a function was set to.

use super::error::{CuError, CuResult};
use super::state::{Driver, lock};
use crate::exec::{KernelInfo, Program};
use crate::ptx::{self, ast};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The newest PTX that a driver of our version takes.
const PTX_VERSION: (u32, u32) = (9, 0);

/// A loaded module.
pub struct Module {
    program: Program,
    /// `.version`, `.target` in tens.
    pub version: (u32, u32),
    pub target: u32,
    names: Vec<String>,
    /// Handles given out for its functions, by name.
    pub functions: Mutex<HashMap<String, usize>>,
}

/// A kernel of a module.
pub struct Function {
    pub module: Arc<Module>,
    pub kernel: usize,
    pub handle_of_module: usize,
    /// `CU_FUNC_ATTRIBUTE_*` that were set.
    attributes: Mutex<HashMap<u32, i32>>,
}

pub const MAX_DYNAMIC_SHARED: u32 = 8;

impl Module {
    /// Loads PTX text. What is wrong with it goes to the driver's load log.
    pub fn load(driver: &Driver, text: &str) -> CuResult<Module> {
        Module::parse(driver, text).map_err(|(error, log)| {
            driver.set_load_log(log);
            error
        })
    }

    fn parse(driver: &Driver, text: &str) -> Result<Module, (CuError, String)> {
        let module = ptx::parse(text).map_err(|e| (CuError::INVALID_PTX, e.to_string()))?;
        let spec = driver.gpu().spec();
        if module.version > PTX_VERSION {
            let (major, minor) = module.version;
            let log = format!("PTX {major}.{minor} is newer than 9.0, the newest this driver knows");
            return Err((CuError::UNSUPPORTED_PTX_VERSION, log));
        }
        let target = target(&module.target);
        let compute = spec.compute.0 * 10 + spec.compute.1;
        let exact = module.target.ends_with('a');
        if target > compute || (exact && target != compute) {
            let log = format!("`.target {}` does not run on compute capability {}", module.target, compute);
            return Err((CuError::NO_BINARY_FOR_GPU, log));
        }
        if let Some(kernel) = module.functions.iter().find(|f| needs_cluster(f)) {
            let (name, line) = (&kernel.name, kernel.pos.ptx_line);
            let log = format!("ptx line {line}: `{name}` needs clusters of blocks, which are not implemented");
            return Err((CuError::INVALID_PTX, log));
        }
        let program = Program::load(&module, driver.gpu().memory(), spec).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            (CuError::INVALID_PTX, lines.join("\n"))
        })?;
        let names = module.functions.iter().filter(|f| f.entry).map(|f| f.name.clone()).collect();
        Ok(Module { program, version: module.version, target, names, functions: Mutex::default() })
    }

    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Names of its kernels.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Does a kernel ask for clusters of more than one block?
fn needs_cluster(function: &ast::Function) -> bool {
    let clusters = |(name, size): &(String, Vec<u32>)| name == ".reqnctapercluster" && size.iter().any(|&n| n > 1);
    function.directives.iter().any(clusters)
}

/// 80 of `sm_80` or `sm_90a`.
fn target(name: &str) -> u32 {
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

impl Function {
    pub fn new(module: Arc<Module>, handle_of_module: usize, kernel: usize) -> Function {
        Function { module, kernel, handle_of_module, attributes: Mutex::default() }
    }

    pub fn info(&self) -> &KernelInfo {
        self.module.program.info(self.kernel)
    }

    pub fn set_attribute(&self, attribute: u32, value: i32) {
        lock(&self.attributes).insert(attribute, value);
    }

    pub fn attribute(&self, attribute: u32) -> Option<i32> {
        lock(&self.attributes).get(&attribute).copied()
    }

    /// Dynamic shared memory that a launch may ask for, in bytes.
    pub fn max_dynamic_shared(&self, per_block: u32) -> u32 {
        let set = self.attribute(MAX_DYNAMIC_SHARED).and_then(|v| u32::try_from(v).ok());
        set.unwrap_or_else(|| per_block.saturating_sub(self.info().static_shared))
    }
}
