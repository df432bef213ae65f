//! Modules: loading PTX text, finding kernels and variables.

use super::context::healthy;
use crate::driver::abi::{DevicePtr, Handle, In, Out, Text, write_text};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};
use crate::driver::module::{Function, Module};
use crate::driver::state::{Driver, lock};
use std::sync::Arc;

const ERROR_LOG_BUFFER: u32 = 5;
const ERROR_LOG_BUFFER_SIZE: u32 = 6;

/// Beginnings of machine code: ELF, a fat binary, and the wrapper around one.
const BINARIES: [[u8; 4]; 3] = [*b"\x7fELF", [0x50, 0xed, 0x55, 0xba], [0xb1, 0x43, 0x62, 0x46]];

/// The PTX text at `image`; machine code cannot be emulated.
pub fn ptx_text(image: In<u8>) -> CuResult<String> {
    for magic in BINARIES {
        if (0..4).try_fold(true, |same, index| Ok(same && image.at(index)? == magic[index]))? {
            return Err(CuError::NO_BINARY_FOR_GPU);
        }
    }
    image.text().get().map_err(|_| CuError::INVALID_IMAGE)
}

/// Loads PTX text; the handle of the module.
pub fn load(driver: &'static Driver, text: &str) -> CuResult<Handle> {
    Ok(driver.modules.insert(Arc::new(Module::load(driver, text)?)))
}

/// As [`load`]; a failure that the caller left no room for is told on stderr, or nobody would know the reason.
pub fn load_or_tell(driver: &'static Driver, text: &str) -> CuResult<Handle> {
    load(driver, text).inspect_err(|error| eprintln!("emulated GPU: {error}: {}", driver.load_log()))
}

/// The handle of a kernel of a module.
pub fn function(driver: &Driver, module_handle: Handle, name: &str) -> CuResult<Handle> {
    let module = driver.modules.get(module_handle)?;
    let kernel = module.program().kernel(name).ok_or(CuError::NOT_FOUND)?;
    let mut known = lock(&module.functions);
    if let Some(&handle) = known.get(name) {
        return Ok(handle);
    }
    let handle = driver.functions.insert(Arc::new(Function::new(Arc::clone(&module), module_handle, kernel)));
    known.insert(name.to_string(), handle);
    Ok(handle)
}

/// Ends a module; kernels in flight keep what they need.
pub fn unload(driver: &Driver, module: Handle) -> CuResult {
    let module = driver.modules.remove(module)?;
    for (_, handle) in lock(&module.functions).drain() {
        driver.functions.remove(handle)?;
    }
    Ok(())
}

/// Address and size of a module's variable.
pub fn global(address: Out<DevicePtr>, bytes: Out<usize>, module: Handle, name: Text) -> CuResult {
    let module = healthy()?.driver.modules.get(module)?;
    let (base, size) = module.program().global(&name.get()?).ok_or(CuError::NOT_FOUND)?;
    address.set_if_wanted(base);
    bytes.set_if_wanted(size);
    Ok(())
}

/// The handles of a module's kernels, up to `room`.
pub fn enumerate(functions: Out<Handle>, room: u32, module: Handle) -> CuResult {
    let driver = healthy()?.driver;
    let names = driver.modules.get(module)?.names().to_vec();
    let handles: Vec<Handle> = names.iter().map(|name| function(driver, module, name)).collect::<CuResult<_>>()?;
    functions.set_slice(&handles, room as usize)
}

/// The caller's buffer for error messages, and its size.
fn error_log(count: u32, options: In<u32>, values: In<usize>) -> CuResult<Option<(Out<u8>, usize)>> {
    let (mut buffer, mut room) = (None, 0);
    for index in 0..count as usize {
        match options.at(index)? {
            ERROR_LOG_BUFFER => buffer = Some(values.buffer_at(index)?),
            ERROR_LOG_BUFFER_SIZE => room = values.at(index)?,
            _ => {}
        }
    }
    Ok(buffer.filter(|b| !b.is_null() && room > 0).map(|b| (b, room)))
}

api! {
    fn cuModuleLoadData(module: Out<Handle>, image: In<u8>) {
        let context = healthy()?;
        module.set(load_or_tell(context.driver, &ptx_text(image)?)?)
    }

    fn cuModuleLoadDataEx(module: Out<Handle>, image: In<u8>, count: u32, options: In<u32>, values: In<usize>) {
        let driver = healthy()?.driver;
        let text = ptx_text(image)?;
        let Some((buffer, room)) = error_log(count, options, values)? else {
            return module.set(load_or_tell(driver, &text)?);
        };
        match load(driver, &text) {
            Ok(handle) => module.set(handle),
            Err(error) => {
                write_text(buffer, room, &driver.load_log())?;
                Err(error)
            }
        }
    }

    fn cuModuleLoad(module: Out<Handle>, path: Text) {
        let driver = healthy()?.driver;
        let bytes = std::fs::read(path.get()?).map_err(|_| CuError::FILE_NOT_FOUND)?;
        let text = String::from_utf8(bytes).map_err(|_| CuError::NO_BINARY_FOR_GPU)?;
        module.set(load_or_tell(driver, &text)?)
    }

    fn cuModuleLoadFatBinary(_module: Out<Handle>, _image: In<u8>) {
        Err(CuError::NO_BINARY_FOR_GPU)
    }

    fn cuModuleUnload(module: Handle) {
        unload(Driver::get()?, module)
    }

    fn cuModuleGetFunction(out: Out<Handle>, module: Handle, name: Text) {
        out.set(function(healthy()?.driver, module, &name.get()?)?)
    }

    fn cuModuleGetFunctionCount(count: Out<u32>, module: Handle) {
        count.set(healthy()?.driver.modules.get(module)?.names().len() as u32)
    }

    fn cuModuleEnumerateFunctions(functions: Out<Handle>, room: u32, module: Handle) {
        enumerate(functions, room, module)
    }

    fn cuModuleGetGlobal_v2(address: Out<DevicePtr>, bytes: Out<usize>, module: Handle, name: Text) {
        global(address, bytes, module, name)
    }

    /// Eager: a module is complete once it is loaded.
    fn cuModuleGetLoadingMode(mode: Out<u32>) {
        mode.set(1)
    }
}
