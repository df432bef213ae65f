//! Events.

use super::context::healthy;
use crate::driver::abi::{Handle, Out};
use crate::driver::api::api;
use crate::driver::capture::check_unsafe_call;
use crate::driver::error::{CuError, CuResult};
use crate::driver::event::{Event, Record};
use crate::driver::state::Driver;
use crate::driver::work::Work;
use std::sync::{Arc, OnceLock};

fn record(event: Handle, stream: Handle) -> CuResult {
    let context = healthy()?;
    let event = context.driver.events.get(event)?;
    let stream = context.stream(stream)?;
    if let Some(capture) = stream.capture() {
        event.set(Record::Captured(Arc::clone(&capture), capture.frontier(&stream)?));
        return Ok(());
    }
    let time = Arc::new(OnceLock::new());
    if let Some(marker) = context.submit(&stream, Work::Record(Arc::clone(&time)))? {
        event.set(Record::Placed(marker, time));
    }
    Ok(())
}

fn elapsed(milliseconds: Out<f32>, start: Handle, end: Handle) -> CuResult {
    let driver = Driver::healthy()?;
    let (start, end) = (driver.events.get(start)?, driver.events.get(end)?);
    milliseconds.set(end.milliseconds_since(&start)?)
}

api! {
    fn cuEventCreate(event: Out<Handle>, flags: u32) {
        let context = healthy()?;
        // Blocking wait, no timing, interprocess.
        if flags & !7 != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        event.set(context.driver.events.insert(Arc::new(Event::new(flags))))
    }

    fn cuEventDestroy_v2(event: Handle) {
        Driver::get()?.events.remove(event).map(|_| ())
    }

    fn cuEventRecord(event: Handle, stream: Handle) {
        record(event, stream)
    }

    fn cuEventRecordWithFlags(event: Handle, stream: Handle, flags: u32) {
        // 1 = external, an event record node within a capture.
        if flags != 0 {
            return Err(CuError::NOT_SUPPORTED);
        }
        record(event, stream)
    }

    fn cuEventQuery(event: Handle) {
        let driver = Driver::healthy()?;
        check_unsafe_call()?;
        match driver.events.get(event)?.record() {
            Record::Never => Ok(()),
            Record::Captured(..) => Err(CuError::CAPTURED_EVENT),
            Record::Placed(marker, _) if marker.is_done() => driver.check_fault(),
            Record::Placed(..) => Err(CuError::NOT_READY),
        }
    }

    fn cuEventSynchronize(event: Handle) {
        let driver = Driver::healthy()?;
        check_unsafe_call()?;
        match driver.events.get(event)?.record() {
            Record::Never => Ok(()),
            Record::Captured(..) => Err(CuError::CAPTURED_EVENT),
            Record::Placed(marker, _) => {
                marker.wait();
                driver.check_fault()
            }
        }
    }

    fn cuEventElapsedTime(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }

    fn cuEventElapsedTime_v2(milliseconds: Out<f32>, start: Handle, end: Handle) {
        elapsed(milliseconds, start, end)
    }
}
