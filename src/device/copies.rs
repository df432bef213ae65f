//! Streams beside the compute stream, and copies on them whose end is asked for, never waited for.
use super::gpu::{Gpu, failed};
use super::pinned::PinnedBytes;
use crate::backend::Buffer;
use crate::error::{Error, Result};
use cudarc::driver::{CudaEvent, CudaStream, result};
use std::sync::Arc;

/// A stream beside the compute stream of its [`Gpu`]. Its work is in order by itself, and in no order with the compute
/// stream's but where it is asked for.
#[derive(Clone)]
pub struct CopyStream(pub(super) Arc<CudaStream>);

/// Copies under way, with the pinned memory that they use.
///
/// Invariant: the memory is given out after the last copy only; dropped before, it waits for the stream.
pub struct Copies {
    stream: CopyStream,
    pieces: Vec<PinnedBytes>,
    end: Option<CudaEvent>,
    over: bool,
}

impl Gpu {
    /// A new stream.
    pub fn copy_stream(&self) -> Result<CopyStream> {
        self.context.new_stream().map(CopyStream).map_err(failed("creating a copy stream"))
    }

    /// Work queued on `stream` from now on comes after all that was queued on the compute stream before.
    pub fn after_compute(&self, stream: &CopyStream) -> Result<()> {
        let waited = self.stream.record_event(None).and_then(|now| stream.0.wait(&now));
        waited.map_err(failed("ordering a copy after the steps before it"))
    }

    /// Work queued on the compute stream from now on comes after these copies, which have all been queued.
    pub fn before_compute(&self, copies: &Copies) -> Result<()> {
        let Some(end) = &copies.end else { return Ok(()) };
        self.stream.wait(end).map_err(failed("ordering steps after a copy"))
    }
}

impl Copies {
    /// None yet.
    pub fn on(stream: &CopyStream) -> Self {
        Copies { stream: stream.clone(), pieces: Vec::new(), end: None, over: false }
    }

    /// Queues a copy from the device into `to`.
    pub fn download(&mut self, gpu: &Gpu, src: &Buffer, offset: usize, mut to: PinnedBytes) -> Result<()> {
        let address = gpu.range(src, offset, to.len())?;
        gpu.bind()?;
        // SAFETY: the piece is `len` bytes and is kept until the copy is over.
        let dst = unsafe { std::slice::from_raw_parts_mut(to.pointer(), to.len()) };
        // SAFETY: the range was checked; freeing a buffer waits for queued copies.
        let copied = unsafe { result::memcpy_dtoh_async(dst, address, self.stream.0.cu_stream()) };
        self.pieces.push(to);
        copied.map_err(failed("copying from the device"))
    }

    /// Queues a copy of `from` to the device.
    pub fn upload(&mut self, gpu: &Gpu, from: PinnedBytes, dst: &Buffer, offset: usize) -> Result<()> {
        let address = gpu.range(dst, offset, from.len())?;
        gpu.bind()?;
        // SAFETY: the range was checked, and the piece is kept, unwritten, until the copy is over.
        let copied = unsafe { result::memcpy_htod_async(address, &from[..], self.stream.0.cu_stream()) };
        self.pieces.push(from);
        copied.map_err(failed("copying to the device"))
    }

    /// Pieces so far.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether nothing was copied.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Marks the end: whatever was queued on the stream up to here.
    pub fn end(&mut self) -> Result<()> {
        self.end = Some(self.stream.0.record_event(None).map_err(failed("marking the end of copies"))?);
        Ok(())
    }

    /// Whether the marked end is reached, or what the device says instead.
    pub fn is_over(&mut self, gpu: &Gpu) -> Result<bool> {
        gpu.bind()?;
        let unmarked = || Error::Device("copies whose end the device could not mark".into());
        let end = self.end.as_ref().ok_or_else(unmarked)?;
        self.over = end.try_is_complete().map_err(failed("copying beside the steps"))?;
        Ok(self.over)
    }

    /// The pieces, in the order of the calls; none before the end is reached.
    pub fn finished(mut self) -> Vec<PinnedBytes> {
        if self.over { std::mem::take(&mut self.pieces) } else { Vec::new() }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if !self.over && !self.pieces.is_empty() {
            // A stream that failed does nothing more either.
            self.stream.0.context().record_err(self.stream.0.synchronize());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Pinned, select};
    use super::*;
    use std::ffi::c_void;
    use std::sync::mpsc::{Receiver, channel};

    unsafe extern "C" fn wait(gate: *mut c_void) {
        // SAFETY: the test gives a boxed receiver, once.
        let gate = unsafe { Box::from_raw(gate.cast::<Receiver<()>>()) };
        let _ = gate.recv();
    }

    fn poll(gpu: &Gpu, copies: &mut Copies) -> bool {
        copies.is_over(gpu).unwrap()
    }

    fn download(gpu: &Gpu, buffer: &Buffer, pinned: &Pinned, ordered: bool) -> Copies {
        let stream = gpu.copy_stream().unwrap();
        let mut copies = Copies::on(&stream);
        if ordered {
            gpu.after_compute(&stream).unwrap();
        }
        copies.download(gpu, buffer, 0, pinned.take(buffer.bytes()).unwrap()).unwrap();
        copies.end().unwrap();
        copies
    }

    /// The compute stream is held up before it writes: a copy that does not wait for it brings what was there before, and
    /// one that waits is not over until it may go on.
    #[test]
    fn a_copy_out_waits_for_the_steps_before_it_and_without_that_it_is_wrong() {
        let gpu = Gpu::open(&select("emulator").unwrap().0).unwrap();
        let pinned = gpu.pinned(8192).unwrap();
        let (page, new) = (gpu.alloc("page", 1024).unwrap(), gpu.alloc("new", 1024).unwrap());
        gpu.upload(&new, 0, &[7; 1024]).unwrap();
        gpu.synchronize().unwrap();
        let (open, gate) = channel::<()>();
        let gate = Box::into_raw(Box::new(gate)).cast::<c_void>();
        // SAFETY: the stream lives, and the function takes the box that it is given.
        unsafe { result::stream::launch_host_function(gpu.stream.cu_stream(), wait, gate) }.unwrap();
        gpu.copy(&new, 0, &page, 0, 1024).unwrap();

        let mut careless = download(&gpu, &page, &pinned, false);
        while !poll(&gpu, &mut careless) {
            std::thread::yield_now();
        }
        assert!(careless.finished()[0].iter().all(|&b| b == 0), "without the wait the old bytes come");

        let mut right = download(&gpu, &page, &pinned, true);
        for _ in 0..20 {
            assert!(!poll(&gpu, &mut right), "over while the step before it has not run");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        open.send(()).unwrap();
        while !poll(&gpu, &mut right) {
            std::thread::yield_now();
        }
        assert!(right.finished()[0].iter().all(|&b| b == 7));
    }

    #[test]
    fn pinned_pieces_are_disjoint_bounded_and_come_back() {
        let gpu = Gpu::open(&select("emulator").unwrap().0).unwrap();
        let pinned = gpu.pinned(4 * 256).unwrap();
        let mut pieces: Vec<_> = (0..4).map(|i| pinned.take(200 + i).unwrap()).collect();
        assert!(pinned.take(1).is_none(), "four pieces of up to 256 bytes fill it");
        for (i, piece) in pieces.iter_mut().enumerate() {
            piece.fill(i as u8 + 1);
        }
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.len() == 200 + i && piece.iter().all(|&b| b == i as u8 + 1), "piece {i}");
        }
        pieces.swap_remove(1);
        assert!(pinned.take(257).is_none() && pinned.take(256).is_some());
        pieces.clear();
        assert!(pinned.take(4 * 256).is_some(), "free ranges are joined");
    }

    /// Dropped early, the copies wait: the memory does not go back while the device writes to it.
    #[test]
    fn memory_of_abandoned_copies_is_not_given_back_early() {
        let gpu = Gpu::open(&select("emulator").unwrap().0).unwrap();
        let pinned = gpu.pinned(1 << 20).unwrap();
        let page = gpu.alloc("page", 1 << 20).unwrap();
        gpu.upload(&page, 0, &vec![9; 1 << 20]).unwrap();
        drop(download(&gpu, &page, &pinned, true));
        let mut piece = pinned.take(1 << 20).unwrap();
        piece.fill(1);
        gpu.synchronize().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(5));
        assert!(piece.iter().all(|&b| b == 1), "an abandoned copy wrote to memory that had been given back");
    }
}
