//! Devices: there is one, of the posed chip.

use crate::driver::abi::{Handle, Out, write_text};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};
use crate::driver::state::Driver;
use crate::gpu::DeviceSpec;

/// The driver if `device` is its one device.
pub fn of(device: i32) -> CuResult<&'static Driver> {
    let driver = Driver::get()?;
    if device == 0 { Ok(driver) } else { Err(CuError::INVALID_DEVICE) }
}

fn clamp(value: u64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A `CUdevice_attribute` of a chip; 0 for what it does not have, `None` for what is no attribute.
fn attribute(spec: &DeviceSpec, attribute: u32) -> Option<i32> {
    Some(match attribute {
        1 => 1024,                                       // MAX_THREADS_PER_BLOCK
        2 | 3 => 1024,                                   // MAX_BLOCK_DIM_X, _Y
        4 => 64,                                         // MAX_BLOCK_DIM_Z
        5 => i32::MAX,                                   // MAX_GRID_DIM_X
        6 | 7 => 65535,                                  // MAX_GRID_DIM_Y, _Z
        8 => clamp(spec.shared_per_block.into()),        // MAX_SHARED_MEMORY_PER_BLOCK
        9 => 65536,                                      // TOTAL_CONSTANT_MEMORY
        10 => 32,                                        // WARP_SIZE
        11 => i32::MAX,                                  // MAX_PITCH
        12 | 82 => clamp(spec.registers_per_sm.into()),  // MAX_REGISTERS_PER_BLOCK, _PER_MULTIPROCESSOR
        13 => clamp(spec.clock_khz.into()),              // CLOCK_RATE
        14 | 30 => 512,                                  // TEXTURE_ALIGNMENT, SURFACE_ALIGNMENT
        15 | 31 | 32 | 41 => 1, // GPU_OVERLAP, CONCURRENT_KERNELS, ECC_ENABLED, UNIFIED_ADDRESSING
        16 => clamp(spec.sms.into()), // MULTIPROCESSOR_COUNT
        19 | 78 | 79 | 80 => 1, // CAN_MAP_HOST_MEMORY, STREAM_PRIORITIES, GLOBAL_L1_CACHE, LOCAL_L1_CACHE
        33 => 1,                // PCI_BUS_ID
        36 => clamp(spec.memory_clock_khz.into()), // MEMORY_CLOCK_RATE
        37 => clamp(spec.bus_bits.into()), // GLOBAL_MEMORY_BUS_WIDTH
        38 => clamp(spec.l2_bytes.into()), // L2_CACHE_SIZE
        39 => clamp(spec.threads_per_sm.into()), // MAX_THREADS_PER_MULTIPROCESSOR
        40 => 3,                // ASYNC_ENGINE_COUNT
        51 => 32,               // TEXTURE_PITCH_ALIGNMENT
        75 => clamp(spec.compute.0.into()), // COMPUTE_CAPABILITY_MAJOR
        76 => clamp(spec.compute.1.into()), // COMPUTE_CAPABILITY_MINOR
        81 => clamp(spec.shared_per_sm.into()), // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        83 => 1,                // MANAGED_MEMORY
        87 => 2,                // SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO
        89 | 90 | 91 => 1, // CONCURRENT_MANAGED_ACCESS, COMPUTE_PREEMPTION, CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        95 => 1,           // COOPERATIVE_LAUNCH
        97 => clamp(spec.shared_per_block_optin.into()), // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        99 | 113 | 115 => 1, // HOST_REGISTER, READ_ONLY_HOST_REGISTER, MEMORY_POOLS
        106 => clamp(spec.blocks_per_sm.into()), // MAX_BLOCKS_PER_MULTIPROCESSOR
        108 => clamp(u64::from(spec.l2_bytes) * 3 / 4), // MAX_PERSISTING_L2_CACHE_SIZE
        109 => 128 << 20,  // MAX_ACCESS_POLICY_WINDOW_SIZE
        111 => clamp(spec.shared_reserved.into()), // RESERVED_SHARED_MEMORY_PER_BLOCK
        120 => i32::from(spec.compute.0 >= 9), // CLUSTER_LAUNCH
        1..=161 => 0,
        _ => return None,
    })
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
        major.set(clamp(compute.0.into()))?;
        minor.set(clamp(compute.1.into()))
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
