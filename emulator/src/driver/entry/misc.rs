//! Initialisation, versions, error texts, function addresses, the profiler's switches.

use crate::driver::abi::{Out, Text};
use crate::driver::api::api;
use crate::driver::error::{self, CuError};
use crate::driver::state::Driver;
use crate::driver::symbols;
use std::ffi::c_char;

/// The driver version that is posed: CUDA 13.0.
pub const VERSION: i32 = 13000;

api! {
    fn cuInit(flags: u32) {
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        Driver::initialise()
    }

    fn cuDriverGetVersion(version: Out<i32>) {
        version.set(VERSION)
    }

    fn cuGetErrorName(code: u32, text: Out<*const c_char>) {
        let Some(name) = error::name(code) else {
            text.set_if_wanted(std::ptr::null());
            return Err(CuError::INVALID_VALUE);
        };
        text.set(name)
    }

    fn cuGetErrorString(code: u32, text: Out<*const c_char>) {
        let Some(description) = error::description(code) else {
            text.set_if_wanted(std::ptr::null());
            return Err(CuError::INVALID_VALUE);
        };
        text.set(description)
    }

    fn cuGetProcAddress(name: Text, address: Out<*const ()>, _version: i32, _flags: u64) {
        address.set(symbols::newest(&name.get()?).ok_or(CuError::NOT_FOUND)?)
    }

    fn cuGetProcAddress_v2(name: Text, address: Out<*const ()>, _version: i32, _flags: u64, status: Out<u32>) {
        // CU_GET_PROC_ADDRESS_SUCCESS, _SYMBOL_NOT_FOUND
        let found = symbols::newest(&name.get()?);
        status.set_if_wanted(u32::from(found.is_none()));
        address.set(found.unwrap_or(std::ptr::null()))
    }

    fn cuProfilerStart() {
        Driver::healthy().map(|_| ())
    }

    fn cuProfilerStop() {
        Driver::healthy().map(|_| ())
    }
}
