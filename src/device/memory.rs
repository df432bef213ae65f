//! Device memory behind [`Buffer`](crate::backend::Buffer), and pinned staging for small uploads.
use crate::backend::DeviceMemory;
use cudarc::driver::{CudaContext, CudaEvent, DriverError, result, sys};
use std::any::Any;
use std::sync::Arc;

/// One allocation, freed with its last handle.
pub struct CudaMemory {
    context: Arc<CudaContext>,
    address: sys::CUdeviceptr,
    bytes: usize,
}

impl CudaMemory {
    /// Allocates at least one byte, 256-byte aligned as the driver gives it, not zeroed.
    pub fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        // SAFETY: the memory is only reached through this handle, whose owner zeroes it before use.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }?;
        Ok(CudaMemory { context: context.clone(), address, bytes })
    }

    /// Device address.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The context it belongs to.
    pub fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        // SAFETY: allocated by `new`, freed once. cuMemFree waits for queued work that may use it.
        let freed = self.context.bind_to_thread().and_then(|()| unsafe { result::free_sync(self.address) });
        self.context.record_err(freed);
    }
}

impl DeviceMemory for CudaMemory {
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A ring of pinned blocks for uploads that must not wait: a step's metadata.
///
/// A block is written only after the event of its last copy.
pub struct Staging {
    blocks: Vec<Block>,
    next: usize,
}

struct Block {
    host: *mut u8,
    done: CudaEvent,
}

// SAFETY: the pointer is to pinned host memory owned by the block; a `Staging` is used by one thread at a time (`&mut`).
unsafe impl Send for Block {}

impl Staging {
    /// Bytes of a block; larger uploads take another way.
    pub const BLOCK: usize = 1 << 20;

    /// Allocates `count` blocks.
    pub fn new(context: &Arc<CudaContext>, count: usize) -> Result<Self, DriverError> {
        context.bind_to_thread()?;
        let block = |_| {
            let done = context.new_event(Some(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING))?;
            // SAFETY: pinned memory is owned by the block until its drop.
            let host = unsafe { result::malloc_host(Self::BLOCK, 0) }?.cast::<u8>();
            Ok(Block { host, done })
        };
        Ok(Staging { blocks: (0..count).map(block).collect::<Result<_, DriverError>>()?, next: 0 })
    }

    /// Copies `src` (at most [`Staging::BLOCK`] bytes) to `dst` on `stream`; `src` may be reused at once.
    ///
    /// # Safety
    /// `dst..dst + src.len()` is device memory that outlives the copy.
    pub unsafe fn upload(
        &mut self,
        stream: &cudarc::driver::CudaStream,
        dst: sys::CUdeviceptr,
        src: &[u8],
    ) -> Result<(), DriverError> {
        assert!(src.len() <= Self::BLOCK, "an upload of {} bytes does not fit a staging block", src.len());
        let count = self.blocks.len();
        let block = &self.blocks[self.next];
        self.next = (self.next + 1) % count;
        block.done.synchronize()?;
        // SAFETY: the block is `BLOCK` bytes, its last copy is done, and nobody else has it (`&mut self`).
        let pinned = unsafe { std::slice::from_raw_parts_mut(block.host, src.len()) };
        pinned.copy_from_slice(src);
        // SAFETY: `dst` by the caller's promise; the pinned block is not written again before `done`.
        unsafe { result::memcpy_htod_async(dst, pinned, stream.cu_stream()) }?;
        block.done.record(stream)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let context = self.done.context();
        // SAFETY: allocated by `Staging::new`, freed once, after its last copy.
        let freed = self.done.synchronize().and_then(|()| unsafe { result::free_host(self.host.cast()) });
        context.record_err(freed);
    }
}
