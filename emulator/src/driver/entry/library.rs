//! Context-independent loading. A library is a module and a kernel is a function, since there is one device.

use super::context::healthy;
use super::launch::{function_attribute, set_function_attribute};
use super::module::{enumerate, function, global, load_or_tell, unload};
use crate::driver::abi::{DevicePtr, Handle, In, Out, Text};
use crate::driver::api::api;
use crate::driver::error::CuError;
use crate::driver::state::Driver;

api! {
    fn cuLibraryLoadData(
        library: Out<Handle>, code: In<u8>, _jit: In<u32>, _jit_values: In<usize>, _jit_count: u32,
        _options: In<u32>, _option_values: In<usize>, _option_count: u32,
    ) {
        library.set(load_or_tell(healthy()?.driver, &super::module::ptx_text(code)?)?)
    }

    fn cuLibraryLoadFromFile(
        library: Out<Handle>, path: Text, _jit: In<u32>, _jit_values: In<usize>, _jit_count: u32,
        _options: In<u32>, _option_values: In<usize>, _option_count: u32,
    ) {
        let driver = healthy()?.driver;
        let bytes = std::fs::read(path.get()?).map_err(|_| CuError::FILE_NOT_FOUND)?;
        let text = String::from_utf8(bytes).map_err(|_| CuError::NO_BINARY_FOR_GPU)?;
        library.set(load_or_tell(driver, &text)?)
    }

    fn cuLibraryUnload(library: Handle) {
        unload(Driver::get()?, library)
    }

    fn cuLibraryGetKernel(kernel: Out<Handle>, library: Handle, name: Text) {
        kernel.set(function(healthy()?.driver, library, &name.get()?)?)
    }

    fn cuLibraryGetKernelCount(count: Out<u32>, library: Handle) {
        count.set(healthy()?.driver.modules.get(library)?.names().len() as u32)
    }

    fn cuLibraryEnumerateKernels(kernels: Out<Handle>, room: u32, library: Handle) {
        enumerate(kernels, room, library)
    }

    fn cuLibraryGetModule(module: Out<Handle>, library: Handle) {
        healthy()?.driver.modules.get(library)?;
        module.set(library)
    }

    fn cuLibraryGetGlobal(address: Out<DevicePtr>, bytes: Out<usize>, library: Handle, name: Text) {
        global(address, bytes, library, name)
    }

    fn cuKernelGetFunction(function: Out<Handle>, kernel: Handle) {
        healthy()?.driver.functions.get(kernel)?;
        function.set(kernel)
    }

    fn cuKernelGetLibrary(library: Out<Handle>, kernel: Handle) {
        library.set(healthy()?.driver.functions.get(kernel)?.handle_of_module)
    }

    fn cuKernelGetAttribute(value: Out<i32>, which: u32, kernel: Handle, _device: i32) {
        value.set(function_attribute(kernel, which)?)
    }

    fn cuKernelSetAttribute(which: u32, value: i32, kernel: Handle, _device: i32) {
        set_function_attribute(kernel, which, value)
    }
}
