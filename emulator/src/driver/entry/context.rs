//! Contexts: creation, the stack of the thread, limits.

use crate::driver::abi::{Handle, Out};
use crate::driver::api::api;
use crate::driver::capture::check_unsafe_call;
use crate::driver::context::Context;
use crate::driver::entry::device;
use crate::driver::error::{CuError, CuResult};
use crate::driver::state::{self, Driver, lock};
use std::sync::atomic::Ordering;

/// The current context of a driver without fault.
pub fn healthy() -> CuResult<std::sync::Arc<Context>> {
    Driver::healthy()?.context()
}

fn create(out: Out<Handle>, flags: u32, ordinal: i32) -> CuResult {
    let driver = device::of(ordinal)?;
    driver.check_fault()?;
    let handle = driver.contexts.insert(Context::new(driver, flags));
    state::push_current(handle);
    out.set(handle)
}

/// The context of a handle, or the current one for 0.
fn named(handle: Handle) -> CuResult<std::sync::Arc<Context>> {
    let driver = Driver::get()?;
    if handle == 0 { driver.context() } else { driver.contexts.get(handle).map_err(|_| CuError::INVALID_CONTEXT) }
}

/// Default of a `CUlimit`; `None` for one that is not known.
fn default_limit(limit: u32) -> Option<usize> {
    match limit {
        0 => Some(1024),    // stack size
        1 => Some(1 << 20), // printf buffer
        2 => Some(8 << 20), // malloc heap
        3 => Some(2),       // device runtime sync depth
        4 => Some(2048),    // device runtime pending launches
        5 => Some(64),      // L2 fetch granularity
        6 => Some(0),       // persisting L2
        _ => None,
    }
}

api! {
    fn cuCtxCreate_v2(context: Out<Handle>, flags: u32, device: i32) {
        create(context, flags, device)
    }

    fn cuCtxCreate_v3(context: Out<Handle>, _affinity: usize, _count: i32, flags: u32, device: i32) {
        create(context, flags, device)
    }

    fn cuCtxCreate_v4(context: Out<Handle>, _params: usize, flags: u32, device: i32) {
        create(context, flags, device)
    }

    fn cuCtxDestroy_v2(context: Handle) {
        let driver = Driver::get()?;
        driver.contexts.remove(context).map_err(|_| CuError::INVALID_CONTEXT)?.destroy();
        if state::current() == Some(context) {
            state::pop_current();
        }
        Ok(())
    }

    fn cuCtxGetCurrent(context: Out<Handle>) {
        Driver::get()?;
        context.set(state::current().unwrap_or(0))
    }

    fn cuCtxSetCurrent(context: Handle) {
        Driver::get()?;
        if context != 0 {
            named(context)?;
        }
        state::set_current(context);
        Ok(())
    }

    fn cuCtxPushCurrent_v2(context: Handle) {
        named(context)?;
        state::push_current(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: Out<Handle>) {
        Driver::get()?;
        let popped = state::pop_current().ok_or(CuError::INVALID_CONTEXT)?;
        context.set_if_wanted(popped);
        Ok(())
    }

    fn cuCtxGetDevice(device: Out<i32>) {
        Driver::get()?.context()?;
        device.set(0)
    }

    fn cuCtxGetDevice_v2(device: Out<i32>, context: Handle) {
        named(context)?;
        device.set(0)
    }

    fn cuCtxGetFlags(flags: Out<u32>) {
        flags.set(named(0)?.flags.load(Ordering::Relaxed))
    }

    fn cuCtxSetFlags(flags: u32) {
        named(0)?.flags.store(flags, Ordering::Relaxed);
        Ok(())
    }

    fn cuCtxGetId(context: Handle, id: Out<u64>) {
        id.set(named(context)?.id)
    }

    fn cuCtxGetApiVersion(context: Handle, version: Out<u32>) {
        named(context)?;
        version.set(3020)
    }

    fn cuCtxSynchronize() {
        check_unsafe_call()?;
        healthy()?.synchronise()
    }

    fn cuCtxSynchronize_v2(context: Handle) {
        check_unsafe_call()?;
        named(context)?.synchronise()
    }

    fn cuCtxGetLimit(value: Out<usize>, limit: u32) {
        let default = default_limit(limit).ok_or(CuError::UNSUPPORTED_LIMIT)?;
        let context = named(0)?;
        let set = lock(&context.limits).get(&limit).copied();
        value.set(set.unwrap_or(default))
    }

    fn cuCtxSetLimit(limit: u32, value: usize) {
        default_limit(limit).ok_or(CuError::UNSUPPORTED_LIMIT)?;
        lock(&named(0)?.limits).insert(limit, value);
        Ok(())
    }

    fn cuCtxGetCacheConfig(config: Out<u32>) {
        config.set(named(0)?.cache_config.load(Ordering::Relaxed))
    }

    fn cuCtxSetCacheConfig(config: u32) {
        named(0)?.cache_config.store(config, Ordering::Relaxed);
        Ok(())
    }

    /// Four-byte banks, the only ones of these chips.
    fn cuCtxGetSharedMemConfig(config: Out<u32>) {
        named(0)?;
        config.set(1)
    }

    fn cuCtxSetSharedMemConfig(_config: u32) {
        named(0).map(|_| ())
    }

    fn cuCtxGetStreamPriorityRange(least: Out<i32>, greatest: Out<i32>) {
        named(0)?;
        least.set_if_wanted(0);
        greatest.set_if_wanted(-5);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        healthy().map(|_| ())
    }

    fn cuCtxEnablePeerAccess(_peer: Handle, _flags: u32) {
        Err(CuError::PEER_ACCESS_UNSUPPORTED)
    }

    fn cuCtxDisablePeerAccess(_peer: Handle) {
        Err(CuError::PEER_ACCESS_NOT_ENABLED)
    }
}
