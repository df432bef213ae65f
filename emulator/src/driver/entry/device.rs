//! Devices: there is one, of the posed chip.

use crate::driver::abi::{Handle, Out, write_text};
use crate::driver::api::api;
use crate::driver::attribute::*;
use crate::driver::error::{CuError, CuResult};
use crate::driver::state::Driver;
use crate::gpu::DeviceSpec;

/// The driver if `device` is its one device.
pub fn of(device: i32) -> CuResult<&'static Driver> {
    let driver = Driver::get()?;
    if device == 0 { Ok(driver) } else { Err(CuError::INVALID_DEVICE) }
}

/// A `CUdevice_attribute` of a chip; 0 for what it does not have, `None` for what is no attribute.
fn attribute(spec: &DeviceSpec, which: u32) -> Option<i32> {
    let value = match which {
        MAX_THREADS_PER_BLOCK | MAX_BLOCK_DIM_X | MAX_BLOCK_DIM_Y => 1024,
        MAX_BLOCK_DIM_Z => 64,
        MAX_GRID_DIM_X | MAX_PITCH => i32::MAX as u64,
        MAX_GRID_DIM_Y | MAX_GRID_DIM_Z => 65535,
        MAX_SHARED_MEMORY_PER_BLOCK => spec.shared_per_block.into(),
        TOTAL_CONSTANT_MEMORY => 65536,
        WARP_SIZE | TEXTURE_PITCH_ALIGNMENT => 32,
        MAX_REGISTERS_PER_BLOCK | MAX_REGISTERS_PER_MULTIPROCESSOR => spec.registers_per_sm.into(),
        CLOCK_RATE => spec.clock_khz.into(),
        TEXTURE_ALIGNMENT | SURFACE_ALIGNMENT => 512,
        MULTIPROCESSOR_COUNT => spec.sms.into(),
        MEMORY_CLOCK_RATE => spec.memory_clock_khz.into(),
        GLOBAL_MEMORY_BUS_WIDTH => spec.bus_bits.into(),
        L2_CACHE_SIZE => spec.l2_bytes.into(),
        MAX_THREADS_PER_MULTIPROCESSOR => spec.threads_per_sm.into(),
        ASYNC_ENGINE_COUNT => 3,
        COMPUTE_CAPABILITY_MAJOR => spec.compute.0.into(),
        COMPUTE_CAPABILITY_MINOR => spec.compute.1.into(),
        MAX_SHARED_MEMORY_PER_MULTIPROCESSOR => spec.shared_per_sm.into(),
        SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO => 2,
        MAX_SHARED_MEMORY_PER_BLOCK_OPTIN => spec.shared_per_block_optin.into(),
        MAX_BLOCKS_PER_MULTIPROCESSOR => spec.blocks_per_sm.into(),
        MAX_PERSISTING_L2_CACHE_SIZE => u64::from(spec.l2_bytes) * 3 / 4,
        MAX_ACCESS_POLICY_WINDOW_SIZE => 128 << 20,
        RESERVED_SHARED_MEMORY_PER_BLOCK => spec.shared_reserved.into(),
        GPU_OVERLAP
        | CAN_MAP_HOST_MEMORY
        | CONCURRENT_KERNELS
        | ECC_ENABLED
        | PCI_BUS_ID
        | UNIFIED_ADDRESSING
        | STREAM_PRIORITIES_SUPPORTED
        | GLOBAL_L1_CACHE_SUPPORTED
        | LOCAL_L1_CACHE_SUPPORTED
        | MANAGED_MEMORY
        | CONCURRENT_MANAGED_ACCESS
        | COMPUTE_PREEMPTION_SUPPORTED
        | CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        | COOPERATIVE_LAUNCH
        | HOST_REGISTER_SUPPORTED
        | READ_ONLY_HOST_REGISTER_SUPPORTED
        | MEMORY_POOLS_SUPPORTED => 1,
        _ if which <= LAST_ATTRIBUTE => 0,
        _ => return None,
    };
    Some(i32::try_from(value).unwrap_or(i32::MAX))
}

api! {
    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        of(ordinal)?;
        device.set(ordinal)
    }

    fn cuDeviceGetCount(count: Out<i32>) {
        Driver::get()?;
        count.set(1)
    }

    fn cuDeviceGetName(name: Out<u8>, room: i32, device: i32) {
        let driver = of(device)?;
        write_text(name, usize::try_from(room).map_err(|_| CuError::INVALID_VALUE)?, driver.gpu().spec().name)
    }

    fn cuDeviceGetUuid(uuid: Out<[u8; 16]>, device: i32) {
        of(device)?;
        uuid.set(*b"kvick-emulator\0\0")
    }

    fn cuDeviceGetUuid_v2(uuid: Out<[u8; 16]>, device: i32) {
        of(device)?;
        uuid.set(*b"kvick-emulator\0\0")
    }

    fn cuDeviceGetPCIBusId(text: Out<u8>, room: i32, device: i32) {
        of(device)?;
        write_text(text, usize::try_from(room).map_err(|_| CuError::INVALID_VALUE)?, "0000:01:00.0")
    }

    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        bytes.set(of(device)?.gpu().memory().usage().1)
    }

    fn cuDeviceGetAttribute(value: Out<i32>, which: u32, device: i32) {
        let spec = of(device)?.gpu().spec();
        value.set(attribute(spec, which).ok_or(CuError::INVALID_VALUE)?)
    }

    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) {
        let compute = of(device)?.gpu().spec().compute;
        major.set(compute.0 as i32)?;
        minor.set(compute.1 as i32)
    }

    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        of(device)?;
        of(peer)?;
        can.set(0)
    }

    fn cuDeviceGetP2PAttribute(_value: Out<i32>, _attribute: u32, device: i32, peer: i32) {
        of(device)?;
        of(peer)?;
        // Source and destination must differ, and there is one device.
        Err(CuError::INVALID_DEVICE)
    }

    fn cuDevicePrimaryCtxRetain(context: Out<Handle>, device: i32) {
        let driver = of(device)?;
        driver.check_fault()?;
        context.set(driver.retain_primary())
    }

    fn cuDevicePrimaryCtxRelease_v2(device: i32) {
        of(device)?.release_primary()
    }

    fn cuDevicePrimaryCtxReset_v2(device: i32) {
        of(device)?.reset_primary();
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: i32, flags: Out<u32>, active: Out<i32>) {
        let driver = of(device)?;
        flags.set(0)?;
        active.set(driver.primary_is_active().into())
    }

    /// Scheduling flags tell a host thread how to wait; here it always blocks.
    fn cuDevicePrimaryCtxSetFlags_v2(device: i32, _flags: u32) {
        of(device).map(|_| ())
    }
}
