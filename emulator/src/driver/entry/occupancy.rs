//! Occupancy: how many blocks of a kernel a multiprocessor holds, from the chip's limits and the estimated registers.

use super::context::healthy;
use crate::driver::abi::{Handle, Out};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};

/// Dynamic shared memory of a block, in bytes, by its threads.
type SharedOf = Option<unsafe extern "C" fn(i32) -> usize>;

fn resident(function: Handle, threads: u32, shared: usize) -> CuResult<u32> {
    let driver = healthy()?.driver;
    let function = driver.functions.get(function)?;
    let (info, spec) = (function.info(), driver.gpu().spec());
    if threads == 0 {
        return Err(CuError::INVALID_VALUE);
    }
    let shared = u32::try_from(shared).unwrap_or(u32::MAX).saturating_add(info.static_shared);
    if threads > info.max_threads {
        return Ok(0);
    }
    Ok(spec.occupancy(threads, info.registers, shared))
}

/// The block size with the most resident threads, the largest one of them, and the grid that fills the chip.
fn best_block(function: Handle, shared_of: SharedOf, shared: usize, limit: i32) -> CuResult<(i32, i32)> {
    let driver = healthy()?.driver;
    let most = driver.functions.get(function)?.info().max_threads;
    let limit = if limit > 0 { most.min(limit as u32) } else { most };
    let mut best = (0, 0, 0);
    for threads in (1..=limit / 32).rev().map(|warps| warps * 32) {
        let shared = match shared_of {
            // SAFETY: the API's contract: the function is the caller's and takes a block size.
            Some(shared_of) => unsafe { shared_of(threads as i32) },
            None => shared,
        };
        let blocks = resident(function, threads, shared)?;
        if blocks * threads > best.0 {
            best = (blocks * threads, threads, blocks * driver.gpu().spec().sms);
        }
    }
    Ok((best.2 as i32, best.1 as i32))
}

api! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks: Out<i32>, function: Handle, threads: i32, shared: usize) {
        blocks.set(resident(function, threads.max(0) as u32, shared)? as i32)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: Out<i32>, function: Handle, threads: i32, shared: usize, _flags: u32,
    ) {
        blocks.set(resident(function, threads.max(0) as u32, shared)? as i32)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: Out<i32>, block: Out<i32>, function: Handle, shared_of: SharedOf, shared: usize, limit: i32,
    ) {
        let best = best_block(function, shared_of, shared, limit)?;
        grid.set(best.0)?;
        block.set(best.1)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: Out<i32>, block: Out<i32>, function: Handle, shared_of: SharedOf, shared: usize, limit: i32, _flags: u32,
    ) {
        let best = best_block(function, shared_of, shared, limit)?;
        grid.set(best.0)?;
        block.set(best.1)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(bytes: Out<usize>, function: Handle, blocks: i32, _threads: i32) {
        let driver = healthy()?.driver;
        let function = driver.functions.get(function)?;
        let spec = driver.gpu().spec();
        let blocks = u32::try_from(blocks).ok().filter(|&b| b > 0).ok_or(CuError::INVALID_VALUE)?;
        let each = (spec.shared_per_sm / blocks).saturating_sub(spec.shared_reserved).min(spec.shared_per_block_optin);
        bytes.set(each.saturating_sub(function.info().static_shared) as usize)
    }
}
