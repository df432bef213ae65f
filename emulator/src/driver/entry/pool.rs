//! Memory pools.

use super::device;
use super::memory::finish_all;
use crate::driver::abi::{Handle, Out};
use crate::driver::api::api;
use crate::driver::error::CuError;
use crate::driver::pool::{Pool, is_wide};
use crate::driver::state::{Driver, lock};
use std::sync::Arc;

api! {
    fn cuDeviceGetDefaultMemPool(pool: Out<Handle>, ordinal: i32) {
        pool.set(device::of(ordinal)?.default_pool())
    }

    fn cuDeviceGetMemPool(pool: Out<Handle>, ordinal: i32) {
        pool.set(*lock(&device::of(ordinal)?.current_pool))
    }

    fn cuDeviceSetMemPool(ordinal: i32, pool: Handle) {
        let driver = device::of(ordinal)?;
        driver.pools.get(pool)?;
        *lock(&driver.current_pool) = pool;
        Ok(())
    }

    fn cuMemPoolCreate(pool: Out<Handle>, _properties: usize) {
        pool.set(Driver::healthy()?.pools.insert(Arc::new(Pool::new())))
    }

    fn cuMemPoolDestroy(pool: Handle) {
        let driver = Driver::get()?;
        if pool == driver.default_pool() {
            return Err(CuError::INVALID_VALUE);
        }
        driver.pools.remove(pool)?;
        let mut current = lock(&driver.current_pool);
        if *current == pool {
            *current = driver.default_pool();
        }
        Ok(())
    }

    /// Memory goes back in stream order, so that trimming is waiting for it.
    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        let driver = Driver::healthy()?;
        driver.pools.get(pool)?;
        finish_all(driver)
    }

    fn cuMemPoolGetAttribute(pool: Handle, which: u32, value: Out<u8>) {
        let pool = Driver::healthy()?.pools.get(pool)?;
        match pool.attribute(which).ok_or(CuError::INVALID_VALUE)? {
            (wide, true) => value.cast().set(wide),
            (narrow, false) => value.cast().set(narrow as i32),
        }
    }

    fn cuMemPoolSetAttribute(pool: Handle, which: u32, value: Out<u8>) {
        let pool = Driver::healthy()?.pools.get(pool)?;
        let value = if is_wide(which) { value.cast().get()? } else { u64::from(value.cast::<u32>().get()?) };
        if pool.set_attribute(which, value) { Ok(()) } else { Err(CuError::INVALID_VALUE) }
    }

    /// The one device has access to all pools.
    fn cuMemPoolSetAccess(pool: Handle, _access: usize, _count: usize) {
        Driver::healthy()?.pools.get(pool).map(|_| ())
    }

    fn cuMemPoolGetAccess(flags: Out<u32>, pool: Handle, _location: usize) {
        Driver::healthy()?.pools.get(pool)?;
        flags.set(3)
    }
}
