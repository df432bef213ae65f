//! The C side of the API: handles, structures, constants, and pointer arguments.
//!
//! Invariant: every pointer that a caller of the driver hands over is dereferenced in this file alone, by [`Out`],
//! [`In`] and [`Text`]. They refuse null; that a non-null pointer is valid is the C API's contract with its caller, as
//! it is on a GPU.

use super::error::{CuError, CuResult};
use std::ffi::{CStr, c_char, c_void};

/// Any opaque handle, or a device ordinal's wider kin.
pub type Handle = usize;
/// A device address.
pub type DevicePtr = u64;
/// A function that a stream calls on the host.
pub type HostFn = Option<unsafe extern "C" fn(*mut c_void)>;
/// A `cuStreamAddCallback` function: stream, status, user data.
pub type StreamCallback = Option<unsafe extern "C" fn(Handle, u32, *mut c_void)>;

/// An output argument.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Clone for Out<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Out<T> {}

impl<T> Out<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Writes `value`.
    pub fn set(self, value: T) -> CuResult {
        if self.0.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: the caller of the C function vouches for its non-null output pointers.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes `value` unless the pointer is null.
    pub fn set_if_wanted(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: as in `set`.
            unsafe { self.0.write_unaligned(value) };
        }
    }

    /// What the pointer points at: an argument that is both input and output.
    pub fn get(self) -> CuResult<T>
    where
        T: Copy,
    {
        In(self.0.cast_const()).get()
    }

    /// Writes as many of `values` as `room` allows.
    pub fn set_slice(self, values: &[T], room: usize) -> CuResult
    where
        T: Copy,
    {
        if self.0.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        for (index, value) in values.iter().take(room).enumerate() {
            // SAFETY: the caller vouches for `room` elements.
            unsafe { self.0.add(index).write_unaligned(*value) };
        }
        Ok(())
    }

    pub fn cast<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

/// An input argument.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T> Clone for In<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for In<T> {}

impl<T: Copy> In<T> {
    pub fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub fn get(self) -> CuResult<T> {
        self.at(0)
    }

    /// Element `index`.
    pub fn at(self, index: usize) -> CuResult<T> {
        if self.0.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: the caller of the C function vouches for its non-null input pointers.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    /// `count` elements; empty for a null pointer and no elements.
    pub fn to_vec(self, count: usize) -> CuResult<Vec<T>> {
        (0..count).map(|index| self.at(index)).collect()
    }
}

impl In<usize> {
    /// A pointer that the caller gave as an integer.
    pub fn at_usize(address: usize) -> In<usize> {
        In(address as *const usize)
    }

    /// Element `index`, which is itself the address of an output buffer.
    pub fn buffer_at(self, index: usize) -> CuResult<Out<u8>> {
        self.at(index).map(|address| Out(address as *mut u8))
    }
}

impl In<u8> {
    /// Bytes at an address that the caller gave as an integer or untyped pointer.
    pub fn at_address(address: usize) -> In<u8> {
        In(address as *const u8)
    }

    /// The same pointer as a C string.
    pub fn text(self) -> Text {
        Text(self.0.cast())
    }

    /// Copies `length` bytes into a collection of the caller's choice.
    pub fn bytes<B: for<'a> From<&'a [u8]>>(self, length: usize) -> CuResult<B> {
        if length == 0 {
            return Ok(B::from(&[]));
        }
        if self.0.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: the caller vouches for `length` bytes at its non-null pointer.
        Ok(B::from(unsafe { std::slice::from_raw_parts(self.0, length) }))
    }
}

/// A C string argument.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The string up to its NUL.
    pub fn get(self) -> CuResult<String> {
        String::from_utf8(self.bytes()?).map_err(|_| CuError::INVALID_VALUE)
    }

    /// The bytes up to the NUL.
    pub fn bytes(self) -> CuResult<Vec<u8>> {
        if self.0.is_null() {
            return Err(CuError::INVALID_VALUE);
        }
        // SAFETY: the caller vouches for a NUL-terminated string.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes().to_vec())
    }
}

/// Writes `text` with a NUL into a caller's buffer of `room` bytes, cut to fit.
pub fn write_text(buffer: Out<u8>, room: usize, text: &str) -> CuResult {
    let Some(last) = room.checked_sub(1) else { return Err(CuError::INVALID_VALUE) };
    let mut bytes = text.as_bytes()[..text.len().min(last)].to_vec();
    bytes.push(0);
    buffer.set_slice(&bytes, room)
}

/// `CUlaunchConfig`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchConfig {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub stream: Handle,
    pub attributes: In<LaunchAttribute>,
    pub attribute_count: u32,
}

/// `CUlaunchAttribute`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct LaunchAttribute {
    pub id: u32,
    pub pad: u32,
    /// A union of 64 bytes; what we read of it begins with 32-bit numbers.
    pub value: [u32; 16],
}

/// `CUDA_KERNEL_NODE_PARAMS` as it was first; version 2 appends to it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KernelNodeParams {
    pub function: Handle,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
    pub params: In<In<u8>>,
    pub extra: In<usize>,
}

/// `CUDA_KERNEL_NODE_PARAMS_v2`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KernelNodeParams2 {
    pub first: KernelNodeParams,
    /// Stands in for the function if that is null.
    pub kernel: Handle,
    pub context: Handle,
}

/// `CUDA_MEMSET_NODE_PARAMS`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct MemsetNodeParams {
    pub dst: DevicePtr,
    pub pitch: usize,
    pub value: u32,
    pub element_size: u32,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct HostNodeParams {
    pub function: HostFn,
    pub data: *mut c_void,
}

/// `CUDA_MEMCPY2D`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Memcpy2D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: u32,
    pub src_host: usize,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: u32,
    pub dst_host: usize,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Memcpy3D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: u32,
    pub src_host: usize,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub reserved0: usize,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: u32,
    pub dst_host: usize,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub reserved1: usize,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUgraphExecUpdateResultInfo`
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GraphUpdateInfo {
    pub result: u32,
    pub error_node: Handle,
    pub error_from: Handle,
}

/// `CU_MEMORYTYPE_*`
pub mod memory_type {
    pub const HOST: u32 = 1;
    pub const DEVICE: u32 = 2;
    pub const UNIFIED: u32 = 4;
}
