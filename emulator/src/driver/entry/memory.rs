//! Device memory: allocation, at once and in stream order, and managed memory.

use super::context::healthy;
use crate::driver::abi::{DevicePtr, Handle, Out};
use crate::driver::api::api;
use crate::driver::capture::check_unsafe_call;
use crate::driver::error::{CuError, CuResult};
use crate::driver::state::{Driver, lock};
use crate::driver::work::Work;

/// Finishes all work of all contexts, so that what it frees is free and what it uses may be.
pub fn finish_all(driver: &Driver) -> CuResult {
    driver.contexts.all().iter().try_for_each(|context| context.synchronise())
}

fn allocate(driver: &Driver, bytes: usize) -> CuResult<DevicePtr> {
    if bytes == 0 {
        return Err(CuError::INVALID_VALUE);
    }
    let memory = driver.gpu().memory();
    if let Some(address) = memory.alloc(bytes) {
        return Ok(address);
    }
    // Memory that is only waiting for its stream to free it counts as free.
    finish_all(driver)?;
    memory.alloc(bytes).ok_or(CuError::OUT_OF_MEMORY)
}

fn allocate_in_stream(bytes: usize, pool: Handle, stream: Handle) -> CuResult<DevicePtr> {
    let context = healthy()?;
    if context.stream(stream)?.capture().is_some() {
        // Allocation nodes: the address would have to come and go with each launch.
        return Err(CuError::STREAM_CAPTURE_UNSUPPORTED);
    }
    let pool = context.driver.pools.get(pool)?;
    let address = allocate(context.driver, bytes)?;
    pool.took(bytes);
    Ok(address)
}

/// Is `address` the beginning of an allocation?
fn is_base(driver: &Driver, address: DevicePtr) -> bool {
    driver.gpu().memory().range(address, 0).is_ok_and(|range| range.base == address)
}

/// Managed memory lives on the host and moves nowhere; advice about it is taken note of and that is all.
fn advised(address: DevicePtr) -> CuResult {
    let driver = Driver::healthy()?;
    driver.gpu().memory().range(address, 0).map(|_| ()).map_err(|_| CuError::INVALID_VALUE)
}

api! {
    fn cuMemAlloc_v2(address: Out<DevicePtr>, bytes: usize) {
        check_unsafe_call()?;
        let context = healthy()?;
        address.set(allocate(context.driver, bytes)?)
    }

    fn cuMemAllocPitch_v2(address: Out<DevicePtr>, pitch: Out<usize>, width: usize, height: usize, _element: u32) {
        check_unsafe_call()?;
        let context = healthy()?;
        let row = width.checked_next_multiple_of(512).ok_or(CuError::OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(CuError::OUT_OF_MEMORY)?;
        address.set(allocate(context.driver, bytes)?)?;
        pitch.set(row)
    }

    fn cuMemFree_v2(address: DevicePtr) {
        check_unsafe_call()?;
        let driver = healthy()?.driver;
        if address == 0 {
            return Ok(());
        }
        let managed = driver.pinned.find(address as usize).is_some_and(|r| r.managed && r.base == address as usize);
        if !managed && (!is_base(driver, address) || driver.pinned.find(address as usize).is_some()) {
            return Err(CuError::INVALID_VALUE);
        }
        finish_all(driver)?;
        if managed {
            return driver.pinned.free(driver.gpu().memory(), address as usize);
        }
        driver.gpu().memory().free(address).map_err(|_| CuError::INVALID_VALUE)
    }

    fn cuMemAllocAsync(address: Out<DevicePtr>, bytes: usize, stream: Handle) {
        let pool = *lock(&Driver::healthy()?.current_pool);
        address.set(allocate_in_stream(bytes, pool, stream)?)
    }

    fn cuMemAllocFromPoolAsync(address: Out<DevicePtr>, bytes: usize, pool: Handle, stream: Handle) {
        address.set(allocate_in_stream(bytes, pool, stream)?)
    }

    fn cuMemFreeAsync(address: DevicePtr, stream: Handle) {
        let context = healthy()?;
        if address == 0 {
            return Ok(());
        }
        let stream = context.stream(stream)?;
        if stream.capture().is_some() {
            return Err(CuError::STREAM_CAPTURE_UNSUPPORTED);
        }
        if !is_base(context.driver, address) {
            return Err(CuError::INVALID_VALUE);
        }
        context.submit(&stream, Work::Free(address)).map(|_| ())
    }

    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let usage = healthy()?.driver.gpu().memory().usage();
        free.set_if_wanted(usage.0);
        total.set_if_wanted(usage.1);
        Ok(())
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePtr>, size: Out<usize>, address: DevicePtr) {
        let driver = healthy()?.driver;
        let range = driver.gpu().memory().range(address, 1).map_err(|_| CuError::NOT_FOUND)?;
        base.set_if_wanted(range.base);
        size.set_if_wanted(range.size);
        Ok(())
    }

    fn cuMemAllocManaged(address: Out<DevicePtr>, bytes: usize, flags: u32) {
        check_unsafe_call()?;
        let driver = healthy()?.driver;
        address.set(driver.pinned.alloc(driver.gpu().memory(), bytes, flags, true)? as u64)
    }

    fn cuMemAdvise(address: DevicePtr, _bytes: usize, _advice: u32, _device: i32) {
        advised(address)
    }

    fn cuMemAdvise_v2(address: DevicePtr, _bytes: usize, _advice: u32, _location: u64) {
        advised(address)
    }

    fn cuMemPrefetchAsync(address: DevicePtr, _bytes: usize, _device: i32, _stream: Handle) {
        advised(address)
    }

    fn cuMemPrefetchAsync_v2(address: DevicePtr, _bytes: usize, _location: u64, _flags: u32, _stream: Handle) {
        advised(address)
    }

    fn cuStreamAttachMemAsync(_stream: Handle, address: DevicePtr, _bytes: usize, _flags: u32) {
        advised(address)
    }
}
