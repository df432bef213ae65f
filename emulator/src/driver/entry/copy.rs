//! Copies between host and device.
//!
//! As on a GPU: the synchronous functions use the legacy stream; an asynchronous copy from ordinary host memory takes
//! the bytes at the call, one to ordinary host memory blocks, and one with pinned memory comes later.

use super::context::healthy;
use crate::driver::abi::{DevicePtr, Handle, In, Memcpy2D, Memcpy3D, memory_type};
use crate::driver::api::api;
use crate::driver::capture::check_unsafe_call;
use crate::driver::context::Context;
use crate::driver::error::{CuError, CuResult};
use crate::driver::state::trace;
use crate::driver::work::{Copy, Place, Work};

/// Up to this size the bytes of ordinary host memory are taken at the call; beyond it the call blocks.
const MAX_STAGED: usize = 16 << 20;

/// Host memory, pinned or not.
fn host(context: &Context, address: usize, bytes: usize) -> Place {
    Place::Host { address, pinned: context.driver.pinned.holds(address, bytes) }
}

/// Whatever an address of the unified address space means.
fn unified(context: &Context, address: u64, bytes: usize) -> Place {
    let pinned = context.driver.pinned.holds(address as usize, bytes);
    if !pinned && context.driver.gpu().memory().range(address, 1).is_ok() {
        Place::Device(address)
    } else {
        Place::Host { address: address as usize, pinned }
    }
}

fn is_pageable(place: &Place) -> bool {
    matches!(place, Place::Host { pinned: false, .. })
}

/// Host memory that is not held back, since somebody waits for it.
fn awaited(place: Place) -> Place {
    match place {
        Place::Host { address, .. } => Place::Host { address, pinned: false },
        other => other,
    }
}

/// Takes the source's bytes now.
fn stage(copy: &mut Copy) -> CuResult {
    if let Place::Host { address, .. } = copy.src {
        copy.src = Place::Staged(In::at_address(address).bytes(copy.source_span())?);
    }
    Ok(())
}

fn check(context: &Context, copy: &Copy) -> CuResult {
    copy.check(context.driver.gpu().memory()).map_err(|error| {
        trace(&format!("copy: {error}"));
        CuError::INVALID_VALUE
    })
}

/// An asynchronous copy in a stream.
fn enqueue(context: &Context, mut copy: Copy, stream: Handle) -> CuResult {
    check(context, &copy)?;
    let stream = context.stream(stream)?;
    if stream.capture().is_some() {
        return context.submit(&stream, Work::Copy(copy)).map(|_| ());
    }
    if is_pageable(&copy.src) && copy.source_span() <= MAX_STAGED {
        stage(&mut copy)?;
    }
    if is_pageable(&copy.src) || is_pageable(&copy.dst) {
        return context.submit_and_wait(&stream, Work::Copy(copy));
    }
    context.submit(&stream, Work::Copy(copy)).map(|_| ())
}

/// A synchronous copy in the legacy stream. Within the device it is not waited for.
fn complete(context: &Context, mut copy: Copy) -> CuResult {
    check_unsafe_call()?;
    check(context, &copy)?;
    let stream = context.stream(0)?;
    let within = matches!((&copy.src, &copy.dst), (Place::Device(_), Place::Device(_)));
    (copy.src, copy.dst) = (awaited(copy.src), awaited(copy.dst));
    if within {
        return context.submit(&stream, Work::Copy(copy)).map(|_| ());
    }
    context.submit_and_wait(&stream, Work::Copy(copy))
}

fn end(context: &Context, kind: u32, on_host: usize, on_device: DevicePtr, offset: usize) -> CuResult<Place> {
    match kind {
        memory_type::HOST => Ok(host(context, on_host.wrapping_add(offset), 1)),
        memory_type::DEVICE => Ok(Place::Device(on_device.wrapping_add(offset as u64))),
        memory_type::UNIFIED => Ok(unified(context, on_device.wrapping_add(offset as u64), 1)),
        // Arrays belong to textures.
        _ => Err(CuError::NOT_SUPPORTED),
    }
}

fn box_2d(context: &Context, p: &Memcpy2D) -> CuResult<Copy> {
    let pitch = |pitch: usize| if pitch == 0 { p.width } else { pitch };
    let (from, to) = (pitch(p.src_pitch), pitch(p.dst_pitch));
    if p.height > 1 && (from < p.width || to < p.width) {
        return Err(CuError::INVALID_VALUE);
    }
    Ok(Copy {
        src: end(context, p.src_type, p.src_host, p.src_device, p.src_y * from + p.src_x)?,
        dst: end(context, p.dst_type, p.dst_host, p.dst_device, p.dst_y * to + p.dst_x)?,
        width: p.width,
        height: p.height,
        depth: 1,
        pitch: (from, to),
        slice: (0, 0),
    })
}

/// The copy of a `CUDA_MEMCPY3D`.
pub fn box_3d(context: &Context, p: &Memcpy3D) -> CuResult<Copy> {
    let or = |value: usize, default: usize| if value == 0 { default } else { value };
    let (from, to) = (or(p.src_pitch, p.width), or(p.dst_pitch, p.width));
    let (from_slice, to_slice) = (from * or(p.src_height, p.height), to * or(p.dst_height, p.height));
    if (p.height > 1 || p.depth > 1) && (from < p.width || to < p.width) {
        return Err(CuError::INVALID_VALUE);
    }
    Ok(Copy {
        src: end(context, p.src_type, p.src_host, p.src_device, p.src_z * from_slice + p.src_y * from + p.src_x)?,
        dst: end(context, p.dst_type, p.dst_host, p.dst_device, p.dst_z * to_slice + p.dst_y * to + p.dst_x)?,
        width: p.width,
        height: p.height,
        depth: p.depth,
        pitch: (from, to),
        slice: (from_slice, to_slice),
    })
}

api! {
    fn cuMemcpyHtoD_v2(dst: DevicePtr, src: usize, bytes: usize) {
        let context = healthy()?;
        complete(&context, Copy::linear(host(&context, src, bytes), Place::Device(dst), bytes))
    }

    fn cuMemcpyDtoH_v2(dst: usize, src: DevicePtr, bytes: usize) {
        let context = healthy()?;
        complete(&context, Copy::linear(Place::Device(src), host(&context, dst, bytes), bytes))
    }

    fn cuMemcpyDtoD_v2(dst: DevicePtr, src: DevicePtr, bytes: usize) {
        complete(&*healthy()?, Copy::linear(Place::Device(src), Place::Device(dst), bytes))
    }

    fn cuMemcpy(dst: DevicePtr, src: DevicePtr, bytes: usize) {
        let context = healthy()?;
        complete(&context, Copy::linear(unified(&context, src, bytes), unified(&context, dst, bytes), bytes))
    }

    fn cuMemcpyHtoDAsync_v2(dst: DevicePtr, src: usize, bytes: usize, stream: Handle) {
        let context = healthy()?;
        enqueue(&context, Copy::linear(host(&context, src, bytes), Place::Device(dst), bytes), stream)
    }

    fn cuMemcpyDtoHAsync_v2(dst: usize, src: DevicePtr, bytes: usize, stream: Handle) {
        let context = healthy()?;
        enqueue(&context, Copy::linear(Place::Device(src), host(&context, dst, bytes), bytes), stream)
    }

    fn cuMemcpyDtoDAsync_v2(dst: DevicePtr, src: DevicePtr, bytes: usize, stream: Handle) {
        enqueue(&*healthy()?, Copy::linear(Place::Device(src), Place::Device(dst), bytes), stream)
    }

    fn cuMemcpyAsync(dst: DevicePtr, src: DevicePtr, bytes: usize, stream: Handle) {
        let context = healthy()?;
        enqueue(&context, Copy::linear(unified(&context, src, bytes), unified(&context, dst, bytes), bytes), stream)
    }

    fn cuMemcpyPeer(dst: DevicePtr, _to: Handle, src: DevicePtr, _from: Handle, bytes: usize) {
        complete(&*healthy()?, Copy::linear(Place::Device(src), Place::Device(dst), bytes))
    }

    fn cuMemcpyPeerAsync(
        dst: DevicePtr, _to: Handle, src: DevicePtr, _from: Handle, bytes: usize, stream: Handle,
    ) {
        enqueue(&*healthy()?, Copy::linear(Place::Device(src), Place::Device(dst), bytes), stream)
    }

    fn cuMemcpy2D_v2(params: In<Memcpy2D>) {
        let context = healthy()?;
        complete(&context, box_2d(&context, &params.get()?)?)
    }

    fn cuMemcpy2DUnaligned_v2(params: In<Memcpy2D>) {
        let context = healthy()?;
        complete(&context, box_2d(&context, &params.get()?)?)
    }

    fn cuMemcpy2DAsync_v2(params: In<Memcpy2D>, stream: Handle) {
        let context = healthy()?;
        enqueue(&context, box_2d(&context, &params.get()?)?, stream)
    }

    fn cuMemcpy3D_v2(params: In<Memcpy3D>) {
        let context = healthy()?;
        complete(&context, box_3d(&context, &params.get()?)?)
    }

    fn cuMemcpy3DAsync_v2(params: In<Memcpy3D>, stream: Handle) {
        let context = healthy()?;
        enqueue(&context, box_3d(&context, &params.get()?)?, stream)
    }
}
