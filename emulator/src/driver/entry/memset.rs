//! Filling device memory.

use super::context::healthy;
use crate::driver::abi::{DevicePtr, Handle};
use crate::driver::api::api;
use crate::driver::capture::check_unsafe_call;
use crate::driver::context::Context;
use crate::driver::error::{CuError, CuResult};
use crate::driver::work::{Fill, Work};

/// Checks a fill against the memory it is for.
pub fn checked(context: &Context, fill: Fill) -> CuResult<Fill> {
    let aligned =
        fill.dst.is_multiple_of(fill.element as u64) && (fill.height < 2 || fill.pitch.is_multiple_of(fill.element));
    let rows_apart = fill.height < 2 || fill.pitch / fill.element >= fill.width;
    if !aligned || !rows_apart || fill.check(context.driver.gpu().memory()).is_err() {
        return Err(CuError::INVALID_VALUE);
    }
    Ok(fill)
}

fn linear(dst: DevicePtr, value: u32, element: usize, count: usize) -> Fill {
    Fill { dst, value, element, width: count, height: 1, pitch: 0 }
}

/// In a stream. Only the synchronous functions are refused during a capture, and none of them waits: for device memory
/// they return before the work is done, as on a GPU.
fn enqueue(fill: Fill, stream: Handle) -> CuResult {
    let context = healthy()?;
    let fill = checked(&context, fill)?;
    context.submit(&context.stream(stream)?, Work::Fill(fill)).map(|_| ())
}

fn immediate(fill: Fill) -> CuResult {
    check_unsafe_call()?;
    enqueue(fill, 0)
}

api! {
    fn cuMemsetD8_v2(dst: DevicePtr, value: u8, count: usize) {
        immediate(linear(dst, value.into(), 1, count))
    }

    fn cuMemsetD16_v2(dst: DevicePtr, value: u16, count: usize) {
        immediate(linear(dst, value.into(), 2, count))
    }

    fn cuMemsetD32_v2(dst: DevicePtr, value: u32, count: usize) {
        immediate(linear(dst, value, 4, count))
    }

    fn cuMemsetD8Async(dst: DevicePtr, value: u8, count: usize, stream: Handle) {
        enqueue(linear(dst, value.into(), 1, count), stream)
    }

    fn cuMemsetD16Async(dst: DevicePtr, value: u16, count: usize, stream: Handle) {
        enqueue(linear(dst, value.into(), 2, count), stream)
    }

    fn cuMemsetD32Async(dst: DevicePtr, value: u32, count: usize, stream: Handle) {
        enqueue(linear(dst, value, 4, count), stream)
    }

    fn cuMemsetD2D8_v2(dst: DevicePtr, pitch: usize, value: u8, width: usize, height: usize) {
        immediate(Fill { dst, value: value.into(), element: 1, width, height, pitch })
    }

    fn cuMemsetD2D16_v2(dst: DevicePtr, pitch: usize, value: u16, width: usize, height: usize) {
        immediate(Fill { dst, value: value.into(), element: 2, width, height, pitch })
    }

    fn cuMemsetD2D32_v2(dst: DevicePtr, pitch: usize, value: u32, width: usize, height: usize) {
        immediate(Fill { dst, value, element: 4, width, height, pitch })
    }

    fn cuMemsetD2D8Async(dst: DevicePtr, pitch: usize, value: u8, width: usize, height: usize, stream: Handle) {
        enqueue(Fill { dst, value: value.into(), element: 1, width, height, pitch }, stream)
    }

    fn cuMemsetD2D16Async(dst: DevicePtr, pitch: usize, value: u16, width: usize, height: usize, stream: Handle) {
        enqueue(Fill { dst, value: value.into(), element: 2, width, height, pitch }, stream)
    }

    fn cuMemsetD2D32Async(dst: DevicePtr, pitch: usize, value: u32, width: usize, height: usize, stream: Handle) {
        enqueue(Fill { dst, value, element: 4, width, height, pitch }, stream)
    }
}
