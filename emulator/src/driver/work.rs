//! What a stream can be asked to do, and doing it.
//!
//! Invariant: after a fault no work touches memory any more; only events complete and waits end, so that nobody hangs.

use super::abi::{DevicePtr, HostFn, StreamCallback};
use super::module::Module;
use super::queue::Marker;
use super::state::Driver;
use crate::exec::{self, Fault, FaultKind, Launch};
use crate::mem::{MemError, Memory};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// One piece of work.
#[derive(Clone)]
pub enum Work {
    Launch(Arc<KernelLaunch>),
    Copy(Copy),
    Fill(Fill),
    /// `cuMemFreeAsync`
    Free(DevicePtr),
    Host(HostCall),
    /// An event; the time is taken when the work is reached.
    Record(Arc<OnceLock<Instant>>),
    /// Another stream's work.
    Wait(Marker),
    /// A graph's nodes in an order that fits their dependencies.
    Graph(Arc<Vec<Work>>),
    Nothing,
}

/// A kernel with its configuration and parameter bytes.
#[derive(Clone)]
pub struct KernelLaunch {
    pub module: Arc<Module>,
    pub kernel: usize,
    pub launch: Launch,
}

/// One end of a copy.
#[derive(Clone)]
pub enum Place {
    /// A device address, or pinned host memory that the device can address.
    Device(DevicePtr),
    /// Ordinary host memory; `pinned` if the copy may come after the call.
    Host { address: usize, pinned: bool },
    /// Bytes taken from the host when the call was made.
    Staged(Arc<[u8]>),
}

/// A box of bytes: `depth` slices of `height` rows of `width` bytes.
#[derive(Clone)]
pub struct Copy {
    pub src: Place,
    pub dst: Place,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    /// Bytes from a row to the next one, source and destination.
    pub pitch: (usize, usize),
    /// Bytes from a slice to the next one.
    pub slice: (usize, usize),
}

impl Copy {
    /// `bytes` in one run.
    pub fn linear(src: Place, dst: Place, bytes: usize) -> Copy {
        Copy { src, dst, width: bytes, height: 1, depth: 1, pitch: (bytes, bytes), slice: (bytes, bytes) }
    }
}

/// `height` rows of `width` elements set to a value of 1, 2 or 4 bytes.
#[derive(Clone)]
pub struct Fill {
    pub dst: DevicePtr,
    pub value: u32,
    pub element: usize,
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
}

/// A function to be called on the host, with its argument.
#[derive(Clone)]
pub enum HostCall {
    Function(HostFn, UserData),
    Callback(StreamCallback, usize, UserData),
}

/// The caller's pointer, handed through untouched.
#[derive(Clone)]
pub struct UserData(pub *mut c_void);

// SAFETY: the pointer is never dereferenced here; the API says that the function runs on another thread.
unsafe impl Send for UserData {}
// SAFETY: as for Send.
unsafe impl Sync for UserData {}

impl Work {
    /// An asynchronous copy with pinned host memory, alone or in a graph: it may be held back.
    pub fn is_pinned_copy(&self) -> bool {
        let pinned = |place: &Place| matches!(place, Place::Host { pinned: true, .. });
        match self {
            Work::Copy(copy) => pinned(&copy.src) || pinned(&copy.dst),
            Work::Graph(nodes) => nodes.iter().any(Work::is_pinned_copy),
            _ => false,
        }
    }

    /// Does the work, or nothing but its signals after a fault.
    pub fn run(&self, driver: &Driver) {
        let result = match self {
            Work::Record(time) => {
                let _ = time.set(Instant::now());
                Ok(())
            }
            Work::Wait(marker) => {
                marker.wait();
                Ok(())
            }
            _ if driver.fault().is_some() => Ok(()),
            Work::Graph(nodes) => {
                nodes.iter().for_each(|node| node.run(driver));
                Ok(())
            }
            _ => catch_unwind(AssertUnwindSafe(|| self.perform(driver))).unwrap_or_else(|_| Err(panicked())),
        };
        if let Err(fault) = result {
            driver.set_fault(fault);
        }
    }

    fn perform(&self, driver: &Driver) -> Result<(), Fault> {
        let memory = driver.gpu().memory();
        match self {
            Work::Launch(l) => exec::launch(l.module.program(), l.kernel, &l.launch, driver.gpu()),
            Work::Copy(copy) => copy.run(memory).map_err(|e| memory_fault("copy", &e)),
            Work::Fill(fill) => fill.run(memory).map_err(|e| memory_fault("memset", &e)),
            Work::Free(address) => memory.free(*address).map_err(|e| memory_fault("cuMemFreeAsync", &e)),
            Work::Host(call) => {
                call.run();
                Ok(())
            }
            Work::Record(_) | Work::Wait(_) | Work::Graph(_) | Work::Nothing => Ok(()),
        }
    }
}

fn memory_fault(what: &str, error: &MemError) -> Fault {
    Fault { kind: FaultKind::IllegalAddress, report: format!("{what} in a stream: {error}") }
}

fn panicked() -> Fault {
    let report = "the emulator failed while it did a stream's work; this is a defect of the emulator".into();
    Fault { kind: FaultKind::LaunchFailed, report }
}

impl Copy {
    /// Bytes from the first one to the end of the last, by pitch and slice.
    fn span(&self, pitch: usize, slice: usize) -> usize {
        if self.width == 0 || self.height == 0 || self.depth == 0 {
            return 0;
        }
        (self.depth - 1) * slice + (self.height - 1) * pitch + self.width
    }

    /// Bytes of the source, gaps included.
    pub fn source_span(&self) -> usize {
        self.span(self.pitch.0, self.slice.0)
    }

    /// Are all device bytes of the copy allocated?
    pub fn check(&self, memory: &Memory) -> Result<(), MemError> {
        host_pointer(&self.src, self.span(self.pitch.0, self.slice.0), memory)?;
        host_pointer(&self.dst, self.span(self.pitch.1, self.slice.1), memory)?;
        Ok(())
    }

    fn run(&self, memory: &Memory) -> Result<(), MemError> {
        let src = host_pointer(&self.src, self.span(self.pitch.0, self.slice.0), memory)?;
        let dst = host_pointer(&self.dst, self.span(self.pitch.1, self.slice.1), memory)?;
        for z in 0..self.depth {
            for y in 0..self.height {
                let from = src.wrapping_add(z * self.slice.0 + y * self.pitch.0);
                let to = dst.wrapping_add(z * self.slice.1 + y * self.pitch.1);
                // SAFETY: both spans are allocated: the device's were looked up, the host's are the caller's promise.
                // The device may race with this as real DMA would; such a program is wrong on a GPU too.
                unsafe { std::ptr::copy(from.cast_const(), to, self.width) };
                self.note_written(memory, z, y);
            }
        }
        Ok(())
    }
}

impl Copy {
    /// The row is written; a copy of bytes that nobody wrote is as good as not written.
    fn note_written(&self, memory: &Memory, z: usize, y: usize) {
        let Place::Device(dst) = self.dst else { return };
        let to = dst + (z * self.slice.1 + y * self.pitch.1) as u64;
        match (memory.written(), &self.src) {
            (None, _) => {}
            (Some(written), Place::Device(src)) => {
                written.copy(src + (z * self.slice.0 + y * self.pitch.0) as u64, to, self.width);
            }
            (Some(written), _) => written.mark(to, self.width),
        }
    }
}

fn host_pointer(place: &Place, span: usize, memory: &Memory) -> Result<*mut u8, MemError> {
    match place {
        _ if span == 0 => Ok(std::ptr::null_mut()),
        Place::Device(address) => memory.host_ptr(*address, span),
        Place::Host { address, .. } => Ok(*address as *mut u8),
        Place::Staged(bytes) => Ok(bytes.as_ptr().cast_mut()),
    }
}

impl Fill {
    fn span(&self) -> usize {
        if self.width == 0 || self.height == 0 {
            return 0;
        }
        (self.height - 1) * self.pitch + self.width * self.element
    }

    /// Are all bytes allocated?
    pub fn check(&self, memory: &Memory) -> Result<(), MemError> {
        host_pointer(&Place::Device(self.dst), self.span(), memory).map(|_| ())
    }

    fn run(&self, memory: &Memory) -> Result<(), MemError> {
        let start = host_pointer(&Place::Device(self.dst), self.span(), memory)?;
        for y in 0..self.height {
            let row = start.wrapping_add(y * self.pitch);
            memory.mark_written(self.dst + (y * self.pitch) as u64, self.width * self.element);
            // SAFETY: the span of all rows is allocated; 2- and 4-byte elements are aligned, as the call checked.
            unsafe {
                match self.element {
                    1 => row.write_bytes(self.value as u8, self.width),
                    2 => std::slice::from_raw_parts_mut(row.cast::<u16>(), self.width).fill(self.value as u16),
                    _ => std::slice::from_raw_parts_mut(row.cast::<u32>(), self.width).fill(self.value),
                }
            }
        }
        Ok(())
    }
}

impl HostCall {
    fn run(&self) {
        match self {
            HostCall::Function(Some(function), data) => {
                // SAFETY: the API's contract: the function may be called with its data from another thread.
                unsafe { function(data.0) }
            }
            HostCall::Callback(Some(function), stream, data) => {
                // SAFETY: as above; the status is success, since work after a fault is not done.
                unsafe { function(*stream, 0, data.0) }
            }
            HostCall::Function(None, _) | HostCall::Callback(None, ..) => {}
        }
    }
}
