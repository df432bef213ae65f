//! One GPU: context, compute stream, memory, kernels.
//!
//! Invariant: all work goes to one stream in call order, so no operation needs to know of another. What runs beside it
//! names its stream and asks for the order that it needs (`copies.rs`).
use super::copies::CopyStream;
use super::driver::Driver;
use super::memory::{CudaMemory, Staging};
use super::modules::{Kernel, Modules};
use super::pinned::Pinned;
use crate::backend::{Buffer, MemoryInfo};
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};
use std::sync::{Arc, Mutex};

/// Facts of a device that shape launches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuSpec {
    /// As the driver names it.
    pub name: String,
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Compute capability.
    pub compute: (u32, u32),
    /// Most shared memory of a block, in bytes, after opt-in.
    pub shared_per_block: u32,
    /// L2 cache in bytes.
    pub l2_bytes: u32,
}

/// An open device.
pub struct Gpu {
    pub(super) stream: Arc<CudaStream>,
    pub(super) context: Arc<CudaContext>,
    modules: Modules,
    staging: Mutex<Staging>,
    spec: GpuSpec,
}

/// Shared memory that a block gets without asking.
const SHARED_DEFAULT: u32 = 48 << 10;

pub(super) fn failed(what: &str) -> impl FnOnce(DriverError) -> Error + '_ {
    move |e| Error::Device(format!("{what}: {e:?}"))
}

impl Gpu {
    /// Opens the device of a driver that [`super::select`] chose.
    pub fn open(driver: &Driver) -> Result<Self> {
        let ordinal = match driver {
            Driver::Real(n) => *n,
            Driver::Emulated => 0,
        };
        let context = CudaContext::new(ordinal).map_err(failed("opening the device"))?;
        // SAFETY: everything runs on one stream in call order, or is ordered by events of ours; the library's own would only
        // add calls, and would forbid graph capture.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(failed("creating a stream"))?;
        let staging = Mutex::new(Staging::new(&context, 4).map_err(failed("allocating pinned memory"))?);
        let spec = read_spec(&context).map_err(failed("reading the device's attributes"))?;
        Ok(Gpu { stream, context, modules: Modules::default(), staging, spec })
    }

    /// What the device is.
    pub fn spec(&self) -> &GpuSpec {
        &self.spec
    }

    /// Free and total memory.
    pub fn memory(&self) -> Result<MemoryInfo> {
        let (free, total) = self.context.mem_get_info().map_err(failed("asking for free memory"))?;
        Ok(MemoryInfo { free: free as u64, total: total as u64 })
    }

    /// The kernel `entry` of `kernels/{file}.cu`, loaded when first asked for.
    pub fn kernel(&self, file: &'static str, entry: &str) -> Result<Kernel> {
        let hopper = self.spec.compute == (9, 0);
        self.modules.kernel(&self.context, hopper, file, entry)
    }

    /// Takes `kernels/{file}.cu` from this PTX text instead of the embedded one: for trying out kernels, and for tests that
    /// plant mistakes in them.
    pub fn replace_ptx(&self, file: &'static str, ptx: String) {
        self.modules.replace(file, ptx);
    }

    /// Queues a kernel whose only parameter is `params`.
    pub fn launch<P: bytemuck::NoUninit>(
        &self,
        kernel: &Kernel,
        grid: [u32; 3],
        block: u32,
        shared_bytes: u32,
        params: &P,
    ) -> Result<()> {
        self.launch_on(&self.stream, kernel, grid, block, shared_bytes, params)
    }

    /// Queues a kernel without dynamic shared memory beside the compute stream.
    pub fn launch_beside<P: bytemuck::NoUninit>(
        &self,
        stream: &CopyStream,
        kernel: &Kernel,
        grid: [u32; 3],
        block: u32,
        params: &P,
    ) -> Result<()> {
        self.launch_on(&stream.0, kernel, grid, block, 0, params)
    }

    fn launch_on<P: bytemuck::NoUninit>(
        &self,
        stream: &CudaStream,
        kernel: &Kernel,
        grid: [u32; 3],
        block: u32,
        shared_bytes: u32,
        params: &P,
    ) -> Result<()> {
        self.bind()?;
        if shared_bytes > SHARED_DEFAULT {
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            kernel
                .function
                .set_attribute(attribute, shared_bytes as i32)
                .map_err(|e| Error::Device(format!("{}: {shared_bytes} bytes of shared memory: {e:?}", kernel.name)))?;
        }
        let mut arguments = [std::ptr::from_ref(params).cast_mut().cast()];
        // SAFETY: the driver copies the one parameter, of the size that the kernel declares (params.h is shared by both
        // sides), before the call returns.
        unsafe {
            result::launch_kernel(
                kernel.function.cu_function(),
                grid.into(),
                (block, 1, 1),
                shared_bytes,
                stream.cu_stream(),
                &mut arguments,
            )
        }
        .map_err(|e| Error::Device(format!("launching {}: {e:?}", kernel.name)))
    }

    /// Host memory that the device copies from and to without staging.
    pub fn pinned(&self, bytes: usize) -> Result<Pinned> {
        Pinned::new(&self.context, bytes)
            .map_err(|e| Error::Device(format!("pinning {bytes} bytes of host memory: {e:?}")))
    }

    /// A zeroed buffer.
    pub fn alloc(&self, what: &str, bytes: usize) -> Result<Buffer> {
        let memory = CudaMemory::new(&self.context, bytes).map_err(|e| self.alloc_error(what, bytes, e))?;
        // SAFETY: the memory is `bytes` long and lives as long as the buffer, which outlives queued work (freeing waits).
        unsafe { result::memset_d8_async(memory.address(), 0, bytes, self.stream.cu_stream()) }
            .map_err(failed("clearing memory"))?;
        Ok(Buffer::new(memory))
    }

    fn alloc_error(&self, what: &str, bytes: usize, e: DriverError) -> Error {
        if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
            let free = self.memory().map_or(0, |m| m.free);
            return Error::OutOfMemory { what: what.into(), needed: bytes as u64, free };
        }
        Error::Device(format!("allocating {bytes} bytes for {what}: {e:?}"))
    }

    /// Device address of a buffer of this device.
    pub fn address(&self, buffer: &Buffer) -> Result<u64> {
        match buffer.downcast::<CudaMemory>() {
            Some(memory) if *memory.context() == self.context => Ok(memory.address()),
            _ => Err(Error::Device("a buffer of another device was given to this one".into())),
        }
    }

    pub(super) fn range(&self, buffer: &Buffer, offset: usize, bytes: usize) -> Result<u64> {
        if offset.checked_add(bytes).is_none_or(|end| end > buffer.bytes()) {
            let message = format!("{bytes} bytes at {offset} do not lie in a buffer of {} bytes", buffer.bytes());
            return Err(Error::Shape { op: "copy", message });
        }
        Ok(self.address(buffer)? + offset as u64)
    }

    /// Copies from the host; `src` may be reused on return.
    pub fn upload(&self, dst: &Buffer, offset: usize, src: &[u8]) -> Result<()> {
        let address = self.range(dst, offset, src.len())?;
        self.bind()?;
        let copied = if src.len() <= Staging::BLOCK {
            let mut staging = self.staging.lock().unwrap_or_else(|e| e.into_inner());
            // SAFETY: the range was checked; freeing a buffer waits for queued copies.
            unsafe { staging.upload(&self.stream, address, src) }
        } else {
            // SAFETY: as above; the driver stages pageable memory before it returns.
            unsafe { result::memcpy_htod_async(address, src, self.stream.cu_stream()) }
        };
        copied.map_err(failed("copying to the device"))
    }

    /// Copies to the host and waits.
    pub fn download(&self, src: &Buffer, offset: usize, dst: &mut [u8]) -> Result<()> {
        let address = self.range(src, offset, dst.len())?;
        self.bind()?;
        // SAFETY: the range was checked, and `dst` is borrowed until the stream is done.
        let copied = unsafe { result::memcpy_dtoh_async(dst, address, self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(failed("copying from the device"))
    }

    /// Copies within the device.
    pub fn copy(&self, src: &Buffer, src_offset: usize, dst: &Buffer, dst_offset: usize, bytes: usize) -> Result<()> {
        let from = self.range(src, src_offset, bytes)?;
        let to = self.range(dst, dst_offset, bytes)?;
        self.bind()?;
        // SAFETY: both ranges were checked.
        unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream.cu_stream()) }
            .map_err(failed("copying within the device"))
    }

    /// Waits for all queued work.
    pub fn synchronize(&self) -> Result<()> {
        self.bind()?;
        self.stream.synchronize().map_err(failed("waiting for the device"))
    }

    pub(super) fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(failed("using the device from this thread"))
    }
}

fn read_spec(context: &Arc<CudaContext>) -> Result<GpuSpec, DriverError> {
    use sys::CUdevice_attribute_enum as A;
    let get = |a| context.attribute(a).map(|v| v as u32);
    let (major, minor) = context.compute_capability()?;
    Ok(GpuSpec {
        name: context.name()?,
        sms: get(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        compute: (major as u32, minor as u32),
        shared_per_block: get(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        l2_bytes: get(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
    })
}
