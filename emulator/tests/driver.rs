//! The driver API through cudarc, as the engine uses it: memory, streams, events, capture. No kernels.

use cudarc::driver::sys::{self, CUresult, CUstreamCaptureMode, CUstreamCaptureStatus, CUstreamWaitValue_flags};
use cudarc::driver::{CudaContext, CudaStream, DevicePtr, DevicePtrMut, PinnedHostSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One test at a time: the copy delay and the bytes in use are the process's.
fn device() -> (MutexGuard<'static, ()>, Arc<CudaContext>) {
    static ONE: Mutex<()> = Mutex::new(());
    let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    kvick_emulator::install().unwrap();
    kvick_emulator::driver::set_copy_delay(Duration::from_millis(1));
    let context = CudaContext::new(0).unwrap();
    // SAFETY: these tests order their streams themselves.
    unsafe { context.disable_event_tracking() };
    (guard, context)
}

/// A pinned buffer whose bytes are read without the events that cudarc keeps for it.
struct Pinned {
    slice: PinnedHostSlice<u8>,
    address: *mut u8,
}

impl Pinned {
    fn new(context: &Arc<CudaContext>, bytes: &[u8]) -> Pinned {
        // SAFETY: every byte is written below.
        let mut slice = unsafe { context.alloc_pinned::<u8>(bytes.len()) }.unwrap();
        slice.as_mut_slice().unwrap().copy_from_slice(bytes);
        let address = slice.as_mut_ptr().unwrap();
        Pinned { slice, address }
    }

    /// What lies there now. Volatile, since a stream may write it meanwhile.
    fn now(&self) -> Vec<u8> {
        // SAFETY: within the slice.
        (0..self.slice.len()).map(|i| unsafe { self.address.add(i).read_volatile() }).collect()
    }

    fn write(&self, value: u8) {
        // SAFETY: as above.
        (0..self.slice.len()).for_each(|i| unsafe { self.address.add(i).write_volatile(value) });
    }
}

fn upload(stream: &Arc<CudaStream>, device: u64, host: &Pinned) {
    let (address, bytes) = (host.address.cast_const().cast(), host.slice.len());
    // SAFETY: both sides hold that many bytes.
    unsafe { sys::cuMemcpyHtoDAsync_v2(device, address, bytes, stream.cu_stream()) }.result().unwrap();
}

fn download(stream: &Arc<CudaStream>, host: &Pinned, device: u64) {
    let (address, bytes) = (host.address.cast(), host.slice.len());
    // SAFETY: as in `upload`.
    unsafe { sys::cuMemcpyDtoHAsync_v2(address, device, bytes, stream.cu_stream()) }.result().unwrap();
}

#[test]
fn the_device_is_the_posed_chip() {
    let (_guard, context) = device();
    assert_eq!(CudaContext::device_count().unwrap(), 1);
    assert!(context.name().unwrap().contains("emulated"));
    assert_eq!(context.compute_capability().unwrap(), (8, 0));
    assert!(context.has_async_alloc());
    let (free, total) = context.mem_get_info().unwrap();
    assert!(free <= total && total == context.total_mem().unwrap());
    let attribute = |a| context.attribute(a).unwrap();
    assert_eq!(attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT), 108);
    assert_eq!(attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
}

#[test]
fn memory_round_trip_and_accounting() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let free_before = context.mem_get_info().unwrap().0;
    let data: Vec<u32> = (0..100_000).map(|i: u32| i.wrapping_mul(2_654_435_761)).collect();
    let on_device = stream.clone_htod(&data).unwrap();
    assert!(context.mem_get_info().unwrap().0 <= free_before - 400_000);
    let mut copy = stream.alloc_zeros::<u32>(data.len()).unwrap();
    assert!(stream.clone_dtoh(&copy).unwrap().iter().all(|&x| x == 0));
    stream.memcpy_dtod(&on_device, &mut copy).unwrap();
    assert_eq!(stream.clone_dtoh(&copy).unwrap(), data);
    assert_eq!(stream.clone_dtoh(&copy.slice(17..21)).unwrap(), data[17..21]);
    drop((on_device, copy));
    stream.synchronize().unwrap();
    assert_eq!(context.mem_get_info().unwrap().0, free_before);
}

#[test]
fn more_memory_than_there_is() {
    let (_guard, context) = device();
    let stream = context.default_stream();
    let total = context.total_mem().unwrap();
    // SAFETY: nothing is read.
    let error = unsafe { stream.alloc::<u8>(total + 1) }.unwrap_err();
    assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    // The context still works, and memory that waits for its stream counts as free.
    // SAFETY: nothing is read.
    let half = |stream: &Arc<CudaStream>| unsafe { stream.alloc::<u8>(total / 3 * 2) };
    drop(half(&stream).unwrap());
    assert!(half(&stream).is_ok());
}

#[test]
fn wrong_addresses_are_refused_at_the_call() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let buffer = stream.alloc_zeros::<u8>(64).unwrap();
    let (address, _sync) = buffer.device_ptr(&stream);
    let mut host = [0u8; 128];
    let into = host.as_mut_ptr().cast();
    // SAFETY: the driver refuses these before it touches anything.
    unsafe {
        let copy = |from, bytes| sys::cuMemcpyDtoHAsync_v2(into, from, bytes, stream.cu_stream());
        assert_eq!(copy(address, 65), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(copy(0, 1), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(copy(address, 64), CUresult::CUDA_SUCCESS);
        assert_eq!(sys::cuMemFree_v2(address + 8), CUresult::CUDA_ERROR_INVALID_VALUE);
        assert_eq!(sys::cuEventQuery(0x1234 as sys::CUevent), CUresult::CUDA_ERROR_INVALID_HANDLE);
        assert_eq!(sys::cuStreamSynchronize(address as sys::CUstream), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
}

#[test]
fn functions_that_are_missing_say_so() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let flags = CUstreamWaitValue_flags::CU_STREAM_WAIT_VALUE_GEQ as u32;
    // SAFETY: not implemented, so nothing is touched.
    let code = unsafe { sys::cuStreamWaitValue32_v2(stream.cu_stream(), 0, 0, flags) };
    assert_eq!(code, CUresult::CUDA_ERROR_NOT_SUPPORTED);
    assert!(code.result().unwrap_err().to_string().contains("CUDA_ERROR_NOT_SUPPORTED"));
}

#[test]
fn pinned_downloads_come_late() {
    let (_guard, context) = device();
    kvick_emulator::driver::set_copy_delay(Duration::from_secs(60));
    let stream = context.new_stream().unwrap();
    let device = stream.clone_htod(&[7u8; 32]).unwrap();
    let host = Pinned::new(&context, &[1; 32]);
    download(&stream, &host, device.device_ptr(&stream).0);
    // A program that does not synchronise reads the old bytes.
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(host.now(), [1; 32]);
    stream.synchronize().unwrap();
    assert_eq!(host.now(), [7; 32]);
}

#[test]
fn pinned_uploads_come_late() {
    let (_guard, context) = device();
    kvick_emulator::driver::set_copy_delay(Duration::from_secs(60));
    let stream = context.new_stream().unwrap();
    let mut device = stream.alloc_zeros::<u8>(32).unwrap();
    let address = device.device_ptr_mut(&stream).0;
    let host = Pinned::new(&context, &[1; 32]);
    upload(&stream, address, &host);
    // A program that reuses the buffer too early sends the new bytes; one that waits for an event does not.
    host.write(9);
    assert_eq!(stream.clone_dtoh(&device).unwrap(), [9; 32]);
    host.write(2);
    upload(&stream, address, &host);
    stream.record_event(None).unwrap().synchronize().unwrap();
    host.write(3);
    assert_eq!(stream.clone_dtoh(&device).unwrap(), [2; 32]);
}

#[test]
fn pageable_copies_take_their_bytes_at_the_call() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let mut device = stream.alloc_zeros::<u8>(1 << 20).unwrap();
    let mut data = vec![5u8; 1 << 20];
    stream.memcpy_htod(&data, &mut device).unwrap();
    data.fill(6);
    assert!(stream.clone_dtoh(&device).unwrap().iter().all(|&b| b == 5));
}

#[test]
fn without_a_wait_another_stream_reads_too_early() {
    let (_guard, context) = device();
    kvick_emulator::driver::set_copy_delay(Duration::from_secs(60));
    let (writer, reader) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let mut device = writer.alloc_zeros::<u8>(64).unwrap();
    writer.synchronize().unwrap();
    let host = Pinned::new(&context, &[8; 64]);
    upload(&writer, device.device_ptr_mut(&writer).0, &host);
    assert_eq!(reader.clone_dtoh(&device).unwrap(), [0; 64], "nothing orders the two streams");
    reader.wait(&writer.record_event(None).unwrap()).unwrap();
    assert_eq!(reader.clone_dtoh(&device).unwrap(), [8; 64]);
}

#[test]
fn the_legacy_stream_waits_for_blocking_streams() {
    let (_guard, context) = device();
    kvick_emulator::driver::set_copy_delay(Duration::from_secs(60));
    let host = Pinned::new(&context, &[4; 64]);
    for (flags, expected) in
        [(sys::CUstream_flags::CU_STREAM_DEFAULT, 4), (sys::CUstream_flags::CU_STREAM_NON_BLOCKING, 0)]
    {
        let mut stream: sys::CUstream = std::ptr::null_mut();
        let mut address = 0;
        let mut back = [1u8; 64];
        // SAFETY: all pointers are to locals of the right size.
        unsafe {
            sys::cuStreamCreate(&mut stream, flags as u32).result().unwrap();
            sys::cuMemAlloc_v2(&mut address, 64).result().unwrap();
            sys::cuMemsetD8_v2(address, 0, 64).result().unwrap();
            context.synchronize().unwrap();
            sys::cuMemcpyHtoDAsync_v2(address, host.address.cast_const().cast(), 64, stream).result().unwrap();
            sys::cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), address, 64).result().unwrap();
            sys::cuMemFree_v2(address).result().unwrap();
            sys::cuStreamDestroy_v2(stream).result().unwrap();
        }
        assert_eq!(back, [expected; 64], "{flags:?}");
    }
}

#[test]
fn events_query_and_measure() {
    let (_guard, context) = device();
    kvick_emulator::driver::set_copy_delay(Duration::from_millis(30));
    let stream = context.new_stream().unwrap();
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let device = stream.alloc_zeros::<u8>(16).unwrap();
    let host = Pinned::new(&context, &[0; 16]);
    let start = stream.record_event(timed).unwrap();
    download(&stream, &host, device.device_ptr(&stream).0);
    let end = stream.record_event(timed).unwrap();
    end.synchronize().unwrap();
    assert!(start.is_complete() && end.is_complete());
    assert!(start.elapsed_ms(&end).unwrap() >= 0.0);
    assert!(end.elapsed_ms(&start).unwrap() <= 0.0);
    let untimed = stream.record_event(None).unwrap();
    untimed.synchronize().unwrap();
    assert!(start.elapsed_ms(&untimed).is_err());
}

#[test]
fn host_functions_run_in_order() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    /// Appends the next number to the list it is given.
    unsafe extern "C" fn append(list: *mut std::ffi::c_void) {
        // SAFETY: the list outlives the stream's work, which alone uses it.
        let list = unsafe { &mut *list.cast::<Vec<usize>>() };
        list.push(list.len());
    }
    let mut seen: Vec<usize> = vec![];
    for _ in 0..10 {
        // SAFETY: as in `append`.
        unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(append), (&raw mut seen).cast()) }.result().unwrap();
    }
    stream.synchronize().unwrap();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

/// A graph of an upload, a fill of the second half, and a download.
fn captured(stream: &Arc<CudaStream>, device: u64, from: &Pinned, to: &Pinned) -> cudarc::driver::CudaGraph {
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    upload(stream, device, from);
    // SAFETY: within the allocation.
    unsafe { sys::cuMemsetD8Async(device + 16, 0xee, 16, stream.cu_stream()) }.result().unwrap();
    download(stream, to, device);
    assert_eq!(stream.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    stream.end_capture(flags).unwrap().unwrap()
}

#[test]
fn a_captured_graph_runs_when_launched() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let mut device = stream.alloc_zeros::<u8>(32).unwrap();
    stream.synchronize().unwrap();
    let (from, to) = (Pinned::new(&context, &[1; 32]), Pinned::new(&context, &[0; 32]));
    let graph = captured(&stream, device.device_ptr_mut(&stream).0, &from, &to);
    stream.synchronize().unwrap();
    assert_eq!(to.now(), [0; 32], "capture runs nothing");
    graph.upload().unwrap();
    kvick_emulator::driver::set_copy_delay(Duration::from_secs(60));
    for value in [1, 2] {
        let before = to.now();
        from.write(value);
        graph.launch().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(to.now(), before, "its copies with pinned memory come late too");
        stream.synchronize().unwrap();
        let mut expected = [value; 32];
        expected[16..].fill(0xee);
        assert_eq!(to.now(), expected);
    }
}

#[test]
fn capture_forks_and_joins_streams() {
    let (_guard, context) = device();
    let (stream, side) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let buffer = stream.alloc_zeros::<u8>(32).unwrap();
    stream.synchronize().unwrap();
    let address = buffer.device_ptr(&stream).0;
    // SAFETY: within the allocation.
    let fill = |s: &Arc<CudaStream>, at, value| unsafe { sys::cuMemsetD8Async(address + at, value, 16, s.cu_stream()) };
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
    fill(&stream, 0, 1).result().unwrap();
    side.wait(&stream.record_event(None).unwrap()).unwrap();
    fill(&side, 16, 2).result().unwrap();
    fill(&stream, 0, 3).result().unwrap();
    stream.wait(&side.record_event(None).unwrap()).unwrap();
    fill(&stream, 8, 4).result().unwrap();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let graph = stream.end_capture(flags).unwrap().unwrap();
    assert_eq!(side.capture_status().unwrap(), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
    graph.launch().unwrap();
    let expected = [[3u8; 8], [4; 8], [4; 8], [2; 8]].concat();
    assert_eq!(stream.clone_dtoh(&buffer).unwrap(), expected);
}

#[test]
fn an_unjoined_stream_ends_the_capture_with_an_error() {
    let (_guard, context) = device();
    let (stream, side) = (context.new_stream().unwrap(), context.new_stream().unwrap());
    let buffer = stream.alloc_zeros::<u8>(32).unwrap();
    stream.synchronize().unwrap();
    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
    side.wait(&stream.record_event(None).unwrap()).unwrap();
    // SAFETY: within the allocation.
    unsafe { sys::cuMemsetD8Async(buffer.device_ptr(&side).0, 1, 32, side.cu_stream()) }.result().unwrap();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    let error = stream.end_capture(flags).err().unwrap();
    assert_eq!(error.0, CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    assert!(side.synchronize().is_ok(), "both streams are usable again");
}

#[test]
fn calls_that_break_a_capture_are_refused() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let earlier = stream.record_event(None).unwrap();
    let buffer = stream.alloc_zeros::<u8>(32).unwrap();
    stream.synchronize().unwrap();
    let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
    type Breaking<'a> = (&'a str, &'a dyn Fn() -> CUresult, CUresult);
    let mut address = 0;
    let address: *mut u64 = &mut address;
    // SAFETY: pointers to locals; refused calls touch nothing.
    let calls: [Breaking; 3] = unsafe {
        [
            ("sync", &|| sys::cuStreamSynchronize(stream.cu_stream()), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
            ("alloc", &|| sys::cuMemAlloc_v2(address, 8), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED),
            (
                "wait for earlier work",
                &|| sys::cuStreamWaitEvent(stream.cu_stream(), earlier.cu_event(), 0),
                CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION,
            ),
        ]
    };
    for (name, call, code) in calls {
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        assert_eq!(call(), code, "{name}");
        // SAFETY: within the allocation.
        let more = unsafe { sys::cuMemsetD8Async(buffer.device_ptr(&stream).0, 1, 32, stream.cu_stream()) };
        assert_eq!(more, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "{name}");
        assert_eq!(stream.end_capture(flags).err().unwrap().0, CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    }
}

#[test]
fn registered_memory_and_pointer_attributes() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let mut data = vec![3u8; 8192];
    let host = data.as_mut_ptr();
    let buffer = stream.alloc_zeros::<u8>(16).unwrap();
    let kind = |address: u64| {
        let mut kind = 0u32;
        let which = sys::CUpointer_attribute::CU_POINTER_ATTRIBUTE_MEMORY_TYPE;
        // SAFETY: the attribute is four bytes.
        let code = unsafe { sys::cuPointerGetAttribute((&raw mut kind).cast(), which, address) };
        (code, kind)
    };
    // SAFETY: `data` outlives its registration.
    unsafe {
        assert_eq!(kind(host as u64).0, CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuMemHostRegister_v2(host.cast(), 8192, 0).result().unwrap();
        let again = sys::cuMemHostRegister_v2(host.add(100).cast(), 8, 0);
        assert_eq!(again, CUresult::CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        let mut address = 0;
        sys::cuMemHostGetDevicePointer_v2(&mut address, host.add(64).cast(), 0).result().unwrap();
        assert_eq!(address, host.add(64) as u64);
        assert_eq!(kind(address), (CUresult::CUDA_SUCCESS, 1));
        assert_eq!(kind(buffer.device_ptr(&stream).0), (CUresult::CUDA_SUCCESS, 2));
        sys::cuMemHostUnregister(host.cast()).result().unwrap();
        let twice = sys::cuMemHostUnregister(host.cast());
        assert_eq!(twice, CUresult::CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    }
}

#[test]
fn two_dimensional_copies_and_fills() {
    let (_guard, context) = device();
    let stream = context.new_stream().unwrap();
    let data: Vec<u8> = (0..64).collect();
    let device = stream.clone_htod(&data).unwrap();
    let address = device.device_ptr(&stream).0;
    let mut back = [0u8; 12];
    let params = sys::CUDA_MEMCPY2D {
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        srcDevice: address,
        srcPitch: 16,
        srcXInBytes: 2,
        srcY: 1,
        srcHost: std::ptr::null(),
        srcArray: std::ptr::null_mut(),
        dstXInBytes: 0,
        dstY: 0,
        dstDevice: 0,
        dstArray: std::ptr::null_mut(),
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        dstHost: back.as_mut_ptr().cast(),
        dstPitch: 4,
        WidthInBytes: 4,
        Height: 3,
    };
    // SAFETY: `back` holds three rows of four bytes.
    unsafe { sys::cuMemcpy2DAsync_v2(&params, stream.cu_stream()) }.result().unwrap();
    assert_eq!(back, [18, 19, 20, 21, 34, 35, 36, 37, 50, 51, 52, 53]);
    // SAFETY: two rows of two words, 16 bytes apart, within the allocation.
    unsafe { sys::cuMemsetD2D32Async(address + 4, 16, 0xa1b2_c3d4, 2, 2, stream.cu_stream()) }.result().unwrap();
    let now = stream.clone_dtoh(&device).unwrap();
    let word = [0xd4, 0xc3, 0xb2, 0xa1];
    assert_eq!(now[..12], [&data[..4], &word, &word].concat());
    assert_eq!((&now[12..20], &now[20..28]), (&data[12..20], &[word, word].concat()[..]));
}

/// Freeing memory waits for all work, that of streams which were destroyed while they had some included.
#[test]
fn work_of_a_destroyed_stream_still_counts() {
    let (_guard, context) = device();
    kvick_emulator::driver::set_copy_delay(Duration::from_millis(50));
    let stream = context.new_stream().unwrap();
    let pinned = Pinned::new(&context, &[7; 64]);
    // SAFETY: freed below, after what was queued for it.
    unsafe {
        let mut address = 0;
        sys::cuMemAlloc_v2(&mut address, 64).result().unwrap();
        upload(&stream, address, &pinned);
        drop(stream);
        sys::cuMemFree_v2(address).result().unwrap();
    }
    // Long enough for a copy that nobody waited for to reach memory that is gone.
    std::thread::sleep(Duration::from_millis(150));
    context.synchronize().unwrap();
}
