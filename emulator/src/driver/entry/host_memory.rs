//! Pinned host memory.

use super::context::healthy;
use super::memory::finish_all;
use crate::driver::abi::{DevicePtr, Out};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};
use crate::driver::pinned::Range;
use crate::driver::state::Driver;

/// Flags that `cuMemHostAlloc` knows: portable, device map, write-combined.
const ALLOC_FLAGS: u32 = 7;

fn allocate(bytes: usize, flags: u32) -> CuResult<usize> {
    let driver = healthy()?.driver;
    if flags & !ALLOC_FLAGS != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    driver.pinned.alloc(driver.gpu().memory(), bytes, flags, false)
}

fn pinned(address: usize) -> CuResult<(&'static Driver, Range)> {
    let driver = healthy()?.driver;
    driver.pinned.find(address).map(|range| (driver, range)).ok_or(CuError::INVALID_VALUE)
}

api! {
    fn cuMemHostAlloc(address: Out<usize>, bytes: usize, flags: u32) {
        address.set(allocate(bytes, flags)?)
    }

    fn cuMemAllocHost_v2(address: Out<usize>, bytes: usize) {
        address.set(allocate(bytes, 0)?)
    }

    /// Work that still uses the memory is finished first.
    fn cuMemFreeHost(address: usize) {
        let driver = Driver::get()?;
        // After a fault the work is over as well, and the memory is the program's to free.
        let finished = finish_all(driver);
        driver.pinned.free(driver.gpu().memory(), address)?;
        finished
    }

    fn cuMemHostRegister_v2(address: usize, bytes: usize, flags: u32) {
        let driver = healthy()?.driver;
        driver.pinned.register(driver.gpu().memory(), address, bytes, flags)
    }

    fn cuMemHostUnregister(address: usize) {
        let driver = Driver::get()?;
        let finished = finish_all(driver);
        driver.pinned.unregister(driver.gpu().memory(), address)?;
        finished
    }

    /// Kernels use the host's address.
    fn cuMemHostGetDevicePointer_v2(device: Out<DevicePtr>, address: usize, flags: u32) {
        pinned(address)?;
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        device.set(address as u64)
    }

    fn cuMemHostGetFlags(flags: Out<u32>, address: usize) {
        flags.set(pinned(address)?.1.flags)
    }
}
