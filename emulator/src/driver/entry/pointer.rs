//! What an address is.

use super::context::healthy;
use crate::driver::abi::{DevicePtr, In, Out, memory_type};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};
use crate::driver::state;

/// Writes attribute `which` of `address` as the type the API gives it.
fn answer(data: Out<u8>, which: u32, address: DevicePtr) -> CuResult {
    let driver = healthy()?.driver;
    let pinned = driver.pinned.find(address as usize);
    let range = driver.gpu().memory().range(address, 1).map_err(|_| CuError::INVALID_VALUE)?;
    let kind = if pinned.is_some_and(|r| !r.managed) { memory_type::HOST } else { memory_type::DEVICE };
    match which {
        1 => data.cast().set(state::current().unwrap_or(0)), // CONTEXT
        2 => data.cast().set(kind),                          // MEMORY_TYPE
        3 => data.cast().set(address),                       // DEVICE_POINTER
        4 if pinned.is_some() => data.cast().set(address),   // HOST_POINTER
        6 => data.cast().set(1u32),                          // SYNC_MEMOPS
        7 => data.cast().set(range.base),                    // BUFFER_ID
        8 => data.cast().set(u32::from(pinned.is_some_and(|r| r.managed))), // IS_MANAGED
        9 => data.cast().set(0i32),                          // DEVICE_ORDINAL
        10 | 15 => data.cast().set(0u32),                    // IS_LEGACY_CUDA_IPC_CAPABLE, IS_GPU_DIRECT_RDMA_CAPABLE
        11 => data.cast().set(range.base),                   // RANGE_START_ADDR
        12 => data.cast().set(range.size),                   // RANGE_SIZE
        13 => data.cast().set(1u32),                         // MAPPED
        16 => data.cast().set(3u32),                         // ACCESS_FLAGS: read and write
        _ => Err(CuError::INVALID_VALUE),
    }
}

api! {
    fn cuPointerGetAttribute(data: Out<u8>, which: u32, address: DevicePtr) {
        answer(data, which, address)
    }

    /// Attributes that an address does not have are zero, and no error.
    fn cuPointerGetAttributes(count: u32, which: In<u32>, data: In<Out<u8>>, address: DevicePtr) {
        healthy()?;
        for index in 0..count as usize {
            let (which, data) = (which.at(index)?, data.at(index)?);
            if answer(data, which, address).is_err() {
                let wide = matches!(which, 1 | 3 | 4 | 7 | 11 | 12);
                if wide { data.cast().set(0u64)? } else { data.cast().set(0u32)? }
            }
        }
        Ok(())
    }

    /// Copies of one stream are in order whatever the flag says.
    fn cuPointerSetAttribute(_value: In<u8>, which: u32, address: DevicePtr) {
        let driver = healthy()?.driver;
        let known = driver.gpu().memory().range(address, 1).is_ok();
        if which == 6 && known { Ok(()) } else { Err(CuError::INVALID_VALUE) }
    }
}
