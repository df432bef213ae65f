//! Streams, and capturing them.

use super::context::healthy;
use crate::driver::abi::{Handle, HostFn, Out, StreamCallback};
use crate::driver::api::api;
use crate::driver::capture::{Capture, Mode, exchange_thread_mode};
use crate::driver::error::{CuError, CuResult};
use crate::driver::event::Record;
use crate::driver::state::{self, Driver};
use crate::driver::stream::{NON_BLOCKING, Stream};
use crate::driver::work::{HostCall, UserData, Work};
use std::ffi::c_void;
use std::sync::Arc;

fn create(out: Out<Handle>, flags: u32, priority: i32) -> CuResult {
    let context = healthy()?;
    if flags & !NON_BLOCKING != 0 {
        return Err(CuError::INVALID_VALUE);
    }
    let stream = context.create_stream(flags, priority.clamp(-5, 0));
    out.set(context.driver.streams.insert(stream))
}

fn stream_of(handle: Handle) -> CuResult<Arc<Stream>> {
    healthy()?.stream(handle)
}

/// Refuses to wait for a stream that captures; that ends the capture.
fn not_capturing(stream: &Stream) -> CuResult {
    match stream.capture() {
        None => Ok(()),
        Some(capture) => {
            capture.invalidate();
            Err(CuError::STREAM_CAPTURE_UNSUPPORTED)
        }
    }
}

fn host_call(stream: Handle, call: HostCall) -> CuResult {
    let context = healthy()?;
    context.submit(&context.stream(stream)?, Work::Host(call)).map(|_| ())
}

/// `CU_STREAM_CAPTURE_STATUS_*`: none, active, invalidated.
fn status(stream: &Stream) -> u32 {
    stream.capture().map_or(0, |capture| if capture.is_invalid() { 2 } else { 1 })
}

/// Status and id of a capture; its graph is not handed out before it ends.
fn capture_info(stream: Handle, state: Out<u32>, id: Out<u64>) -> CuResult {
    let stream = stream_of(stream)?;
    id.set_if_wanted(stream.capture().map_or(0, |capture| capture.id));
    state.set(status(&stream))
}

api! {
    fn cuStreamCreate(stream: Out<Handle>, flags: u32) {
        create(stream, flags, 0)
    }

    fn cuStreamCreateWithPriority(stream: Out<Handle>, flags: u32, priority: i32) {
        create(stream, flags, priority)
    }

    /// Work that was given stays and is done.
    fn cuStreamDestroy_v2(stream: Handle) {
        Driver::get()?.streams.remove(stream)?.queue().close();
        Ok(())
    }

    fn cuStreamSynchronize(stream: Handle) {
        let context = healthy()?;
        let stream = context.stream(stream)?;
        not_capturing(&stream)?;
        stream.queue().latest().wait();
        context.driver.check_fault()
    }

    fn cuStreamQuery(stream: Handle) {
        let context = healthy()?;
        let stream = context.stream(stream)?;
        not_capturing(&stream)?;
        if stream.queue().latest().is_done() { context.driver.check_fault() } else { Err(CuError::NOT_READY) }
    }

    fn cuStreamWaitEvent(stream: Handle, event: Handle, flags: u32) {
        let context = healthy()?;
        let stream = context.stream(stream)?;
        if flags != 0 {
            return Err(CuError::NOT_SUPPORTED);
        }
        match (context.driver.events.get(event)?.record(), stream.capture()) {
            (Record::Never, _) => Ok(()),
            (Record::Captured(capture, nodes), _) => capture.join(&stream, &nodes),
            (Record::Placed(..), Some(capture)) => {
                capture.invalidate();
                Err(CuError::STREAM_CAPTURE_ISOLATION)
            }
            (Record::Placed(marker, _), None) if marker.is_in(stream.queue()) => Ok(()),
            (Record::Placed(marker, _), None) => context.submit(&stream, Work::Wait(marker)).map(|_| ()),
        }
    }

    fn cuStreamGetFlags(stream: Handle, flags: Out<u32>) {
        flags.set(stream_of(stream)?.flags)
    }

    fn cuStreamGetPriority(stream: Handle, priority: Out<i32>) {
        priority.set(stream_of(stream)?.priority)
    }

    fn cuStreamGetId(stream: Handle, id: Out<u64>) {
        id.set(stream_of(stream)?.id)
    }

    fn cuStreamGetCtx(stream: Handle, context: Out<Handle>) {
        stream_of(stream)?;
        context.set(state::current().unwrap_or(0))
    }

    fn cuStreamGetDevice(stream: Handle, device: Out<i32>) {
        stream_of(stream)?;
        device.set(0)
    }

    fn cuLaunchHostFunc(stream: Handle, function: HostFn, data: *mut c_void) {
        host_call(stream, HostCall::Function(function, UserData(data)))
    }

    fn cuStreamAddCallback(stream: Handle, function: StreamCallback, data: *mut c_void, flags: u32) {
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        not_capturing(&*stream_of(stream)?)?;
        host_call(stream, HostCall::Callback(function, stream, UserData(data)))
    }

    fn cuStreamBeginCapture_v2(stream: Handle, mode: u32) {
        Capture::begin(&stream_of(stream)?, Mode::from_code(mode)?)
    }

    fn cuStreamEndCapture(stream: Handle, graph: Out<Handle>) {
        let context = healthy()?;
        let stream = context.stream(stream)?;
        let capture = stream.capture().ok_or(CuError::ILLEGAL_STATE)?;
        match capture.end(&stream) {
            Ok(captured) => graph.set(context.driver.graphs.insert(Arc::new(captured))),
            Err(error) => {
                graph.set_if_wanted(0);
                Err(error)
            }
        }
    }

    fn cuStreamIsCapturing(stream: Handle, state: Out<u32>) {
        state.set(status(&*stream_of(stream)?))
    }

    fn cuStreamGetCaptureInfo(stream: Handle, state: Out<u32>, id: Out<u64>) {
        capture_info(stream, state, id)
    }

    fn cuStreamGetCaptureInfo_v2(
        stream: Handle, state: Out<u32>, id: Out<u64>, graph: Out<Handle>, nodes: Out<usize>, count: Out<usize>,
    ) {
        if !graph.is_null() || !nodes.is_null() || !count.is_null() {
            return Err(CuError::NOT_SUPPORTED);
        }
        capture_info(stream, state, id)
    }

    fn cuStreamGetCaptureInfo_v3(
        stream: Handle, state: Out<u32>, id: Out<u64>, graph: Out<Handle>, nodes: Out<usize>, edges: Out<usize>,
        count: Out<usize>,
    ) {
        if !graph.is_null() || !nodes.is_null() || !edges.is_null() || !count.is_null() {
            return Err(CuError::NOT_SUPPORTED);
        }
        capture_info(stream, state, id)
    }

    fn cuThreadExchangeStreamCaptureMode(mode: Out<u32>) {
        let old = exchange_thread_mode(Mode::from_code(mode.get()?)?);
        mode.set(old.code())
    }

    /// Attributes are hints (L2 windows, scheduling); a stream keeps none.
    fn cuStreamSetAttribute(stream: Handle, _attribute: u32, _value: usize) {
        stream_of(stream).map(|_| ())
    }

    fn cuStreamCopyAttributes(to: Handle, from: Handle) {
        stream_of(to)?;
        stream_of(from).map(|_| ())
    }
}
