//! Kernels: their attributes and launching them.

use super::context::healthy;
use crate::driver::abi::{Handle, In, LaunchConfig, Out};
use crate::driver::api::api;
use crate::driver::context::Context;
use crate::driver::error::{CuError, CuResult};
use crate::driver::module::{Function, MAX_DYNAMIC_SHARED};
use crate::driver::work::{KernelLaunch, Work};
use crate::exec::Launch;
use std::sync::Arc;

/// Marks in a launch's `extra` list.
const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

const ATTRIBUTE_COOPERATIVE: u32 = 2;
const ATTRIBUTE_CLUSTER: u32 = 4;

/// A launch as the caller describes it.
pub struct Request {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub cooperative: bool,
    pub params: In<In<u8>>,
    pub extra: In<usize>,
}

impl Request {
    /// Checks the launch against the kernel and the chip, and takes the parameters' values.
    pub fn work(&self, context: &Context) -> CuResult<Work> {
        let function = context.driver.functions.get(self.function)?;
        self.check(context, &function)?;
        let params = self.param_bytes(&function)?;
        let launch = Launch {
            grid: self.grid,
            block: self.block,
            dynamic_shared: self.shared,
            cooperative: self.cooperative,
            params,
        };
        Ok(Work::Launch(Arc::new(KernelLaunch {
            module: Arc::clone(&function.module),
            kernel: function.kernel,
            launch,
        })))
    }

    fn check(&self, context: &Context, function: &Function) -> CuResult {
        let (info, spec) = (function.info(), context.driver.gpu().spec());
        let threads = self.block.iter().try_fold(1u32, |product, &n| product.checked_mul(n)).unwrap_or(u32::MAX);
        let [_, grid_y, grid_z] = self.grid;
        if self.grid.contains(&0) || threads == 0 || grid_y > 65535 || grid_z > 65535 || self.block[2] > 64 {
            return Err(CuError::INVALID_VALUE);
        }
        if threads > 1024 || self.shared > function.max_dynamic_shared(spec.shared_per_block) {
            return Err(CuError::INVALID_VALUE);
        }
        if threads > info.max_threads {
            return Err(CuError::LAUNCH_OUT_OF_RESOURCES);
        }
        let resident = spec.occupancy(threads, info.registers, info.static_shared + self.shared);
        if resident == 0 {
            return Err(CuError::LAUNCH_OUT_OF_RESOURCES);
        }
        let blocks: u64 = self.grid.iter().map(|&n| u64::from(n)).product();
        if self.cooperative && blocks > u64::from(resident) * u64::from(spec.sms) {
            return Err(CuError::COOPERATIVE_LAUNCH_TOO_LARGE);
        }
        Ok(())
    }

    /// The parameter buffer, from one pointer per parameter or from a buffer that `extra` describes.
    fn param_bytes(&self, function: &Function) -> CuResult<Vec<u8>> {
        let info = function.info();
        let mut buffer = vec![0; info.param_bytes];
        if !self.extra.is_null() {
            let given = extra_buffer(self.extra)?;
            let length = given.len().min(buffer.len());
            buffer[..length].copy_from_slice(&given[..length]);
            return Ok(buffer);
        }
        for (index, &(offset, size)) in info.params.iter().enumerate() {
            buffer[offset..offset + size].copy_from_slice(&self.params.at(index)?.bytes::<Vec<u8>>(size)?);
        }
        Ok(buffer)
    }
}

/// The bytes that an `extra` list points at.
fn extra_buffer(extra: In<usize>) -> CuResult<Vec<u8>> {
    let (mut buffer, mut size) = (0, 0);
    for index in (0..).step_by(2) {
        match extra.at(index)? {
            PARAM_END => break,
            PARAM_BUFFER_POINTER => buffer = extra.at(index + 1)?,
            PARAM_BUFFER_SIZE => size = In::<usize>::at_usize(extra.at(index + 1)?).get()?,
            _ => return Err(CuError::INVALID_VALUE),
        }
    }
    In::at_address(buffer).bytes(size)
}

fn enqueue(request: &Request, stream: Handle) -> CuResult {
    let context = healthy()?;
    let work = request.work(&context)?;
    context.submit(&context.stream(stream)?, work).map(|_| ())
}

/// `CUfunction_attribute` of a kernel.
pub fn function_attribute(function: Handle, which: u32) -> CuResult<i32> {
    let driver = healthy()?.driver;
    let function = driver.functions.get(function)?;
    let (info, spec) = (function.info(), driver.gpu().spec());
    let (major, minor) = function.module.version;
    let value = match which {
        0 => info.max_threads,       // MAX_THREADS_PER_BLOCK
        1 => info.static_shared,     // SHARED_SIZE_BYTES
        2 => 0,                      // CONST_SIZE_BYTES
        3 => info.local_bytes,       // LOCAL_SIZE_BYTES
        4 => info.registers,         // NUM_REGS
        5 => major * 10 + minor,     // PTX_VERSION
        6 => function.module.target, // BINARY_VERSION
        MAX_DYNAMIC_SHARED => function.max_dynamic_shared(spec.shared_per_block),
        7 | 9..=15 => return Ok(function.attribute(which).unwrap_or(if which == 9 { -1 } else { 0 })),
        _ => return Err(CuError::INVALID_VALUE),
    };
    i32::try_from(value).map_err(|_| CuError::INVALID_VALUE)
}

/// Sets one of the attributes that can be set.
pub fn set_function_attribute(function: Handle, which: u32, value: i32) -> CuResult {
    let driver = healthy()?.driver;
    let function = driver.functions.get(function)?;
    let room = driver.gpu().spec().shared_per_block_optin.saturating_sub(function.info().static_shared);
    match which {
        MAX_DYNAMIC_SHARED if u32::try_from(value).is_ok_and(|v| v <= room) => {}
        9..=15 if value >= -1 => {}
        _ => return Err(CuError::INVALID_VALUE),
    }
    function.set_attribute(which, value);
    Ok(())
}

/// The launch of a `CUlaunchConfig`; attributes that only hint are passed over.
fn configured(config: &LaunchConfig, function: Handle, params: In<In<u8>>, extra: In<usize>) -> CuResult<Request> {
    let mut cooperative = false;
    for index in 0..config.attribute_count as usize {
        let attribute = config.attributes.at(index)?;
        match attribute.id {
            ATTRIBUTE_COOPERATIVE => cooperative = attribute.value[0] != 0,
            ATTRIBUTE_CLUSTER if attribute.value[..3] != [1, 1, 1] => return Err(CuError::NOT_SUPPORTED),
            _ => {}
        }
    }
    let (grid, block, shared) = (config.grid, config.block, config.shared);
    Ok(Request { function, grid, block, shared, cooperative, params, extra })
}

api! {
    fn cuLaunchKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared: u32,
        stream: Handle, params: In<In<u8>>, extra: In<usize>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        enqueue(&Request { function, grid, block, shared, cooperative: false, params, extra }, stream)
    }

    fn cuLaunchCooperativeKernel(
        function: Handle, grid_x: u32, grid_y: u32, grid_z: u32, block_x: u32, block_y: u32, block_z: u32, shared: u32,
        stream: Handle, params: In<In<u8>>,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let extra = In::at_usize(0);
        enqueue(&Request { function, grid, block, shared, cooperative: true, params, extra }, stream)
    }

    fn cuLaunchKernelEx(config: In<LaunchConfig>, function: Handle, params: In<In<u8>>, extra: In<usize>) {
        let config = config.get()?;
        enqueue(&configured(&config, function, params, extra)?, config.stream)
    }

    fn cuFuncGetAttribute(value: Out<i32>, which: u32, function: Handle) {
        value.set(function_attribute(function, which)?)
    }

    fn cuFuncSetAttribute(function: Handle, which: u32, value: i32) {
        set_function_attribute(function, which, value)
    }

    fn cuFuncGetModule(module: Out<Handle>, function: Handle) {
        module.set(healthy()?.driver.functions.get(function)?.handle_of_module)
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        let function = healthy()?.driver.functions.get(function)?;
        let &(at, bytes) = function.info().params.get(index).ok_or(CuError::INVALID_VALUE)?;
        offset.set(at)?;
        size.set_if_wanted(bytes);
        Ok(())
    }

    /// A preference between L1 and shared memory: nothing here depends on it.
    fn cuFuncSetCacheConfig(function: Handle, _config: u32) {
        healthy()?.driver.functions.get(function).map(|_| ())
    }

    fn cuFuncSetSharedMemConfig(function: Handle, _config: u32) {
        healthy()?.driver.functions.get(function).map(|_| ())
    }

    fn cuFuncLoad(function: Handle) {
        healthy()?.driver.functions.get(function).map(|_| ())
    }

    fn cuFuncIsLoaded(state: Out<u32>, function: Handle) {
        healthy()?.driver.functions.get(function)?;
        state.set(1)
    }
}
