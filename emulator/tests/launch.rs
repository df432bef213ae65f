//! Kernels through the driver API: loading, launching, ordering, graphs, limits.

use cudarc::driver::sys::{self, CUfunction_attribute, CUresult, CUstreamCaptureMode};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use proptest::prelude::*;
use proptest::sample::Index;
use std::ffi::{CStr, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const PTX: &str = include_str!("fixtures/driver.ptx");

fn device() -> (Arc<CudaContext>, Arc<CudaStream>, Arc<CudaModule>) {
    static CONTEXT: OnceLock<(Arc<CudaContext>, Arc<CudaModule>)> = OnceLock::new();
    let (context, module) = CONTEXT.get_or_init(|| {
        kvick_emulator::install().unwrap();
        let context = CudaContext::new(0).unwrap();
        // SAFETY: these tests order their streams themselves.
        unsafe { context.disable_event_tracking() };
        let module = context.load_module(Ptx::from_src(PTX)).unwrap();
        (context, module)
    });
    context.bind_to_thread().unwrap();
    (Arc::clone(context), context.new_stream().unwrap(), Arc::clone(module))
}

/// The one parameter of `affine`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Affine {
    x: u64,
    y: u64,
    n: u32,
    scale: u32,
}

/// `cuLaunchKernel` with one struct, one block of 128 threads for each 128 elements.
fn affine(stream: &Arc<CudaStream>, function: &CudaFunction, mut p: Affine) -> CUresult {
    let mut params = [(&raw mut p).cast::<c_void>()];
    let blocks = p.n.div_ceil(128);
    // SAFETY: the kernel has one parameter of this layout.
    unsafe {
        let (f, s) = (function.cu_function(), stream.cu_stream());
        sys::cuLaunchKernel(f, blocks, 1, 1, 128, 1, 1, 0, s, params.as_mut_ptr(), std::ptr::null_mut())
    }
}

fn accumulate(stream: &Arc<CudaStream>, function: &CudaFunction, y: &CudaSlice<u32>, value: u32) {
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: `y` holds a word.
    unsafe { stream.launch_builder(function).arg(y).arg(&value).launch(config) }.unwrap();
}

/// Holds a stream until the flag is set.
fn hold(stream: &Arc<CudaStream>, go: &'static AtomicBool) {
    unsafe extern "C" fn wait(flag: *mut c_void) {
        // SAFETY: a static.
        let flag = unsafe { &*flag.cast::<AtomicBool>() };
        while !flag.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    let flag = std::ptr::from_ref(go).cast_mut().cast();
    // SAFETY: the function and its flag live for ever.
    unsafe { sys::cuLaunchHostFunc(stream.cu_stream(), Some(wait), flag) }.result().unwrap();
}

#[test]
fn a_struct_parameter_and_a_module_variable() {
    let (_context, stream, module) = device();
    let function = module.load_function("affine").unwrap();
    let data: Vec<u32> = (0..1000).collect();
    let x = stream.clone_htod(&data).unwrap();
    let y = stream.alloc_zeros::<u32>(1000).unwrap();
    let p = Affine { x: x.device_ptr(&stream).0, y: y.device_ptr(&stream).0, n: 1000, scale: 3 };
    affine(&stream, &function, p).result().unwrap();
    let expected: Vec<u32> = data.iter().map(|i| i * 3 + 40).collect();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), expected);
    let counter = module.get_global("counter", &stream).unwrap();
    assert_eq!(counter.len(), 4);
    assert_eq!(stream.clone_dtoh(&counter).unwrap(), 40u32.to_le_bytes());
}

#[test]
fn parameters_from_a_buffer() {
    let (_context, stream, module) = device();
    let function = module.load_function("affine").unwrap();
    let x = stream.clone_htod(&[5u32, 6]).unwrap();
    let y = stream.alloc_zeros::<u32>(2).unwrap();
    let mut p = Affine { x: x.device_ptr(&stream).0, y: y.device_ptr(&stream).0, n: 2, scale: 10 };
    let mut size = size_of::<Affine>();
    // CU_LAUNCH_PARAM_BUFFER_POINTER, CU_LAUNCH_PARAM_BUFFER_SIZE, CU_LAUNCH_PARAM_END
    let mut extra: [*mut c_void; 5] = [
        std::ptr::dangling_mut::<c_void>(),
        (&raw mut p).cast(),
        2 as *mut c_void,
        (&raw mut size).cast(),
        std::ptr::null_mut(),
    ];
    let (f, s) = (function.cu_function(), stream.cu_stream());
    // SAFETY: the buffer has the parameters' layout.
    unsafe { sys::cuLaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, s, std::ptr::null_mut(), extra.as_mut_ptr()) }
        .result()
        .unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [90, 100]);
}

#[test]
fn kernels_read_and_write_pinned_memory() {
    let (context, stream, module) = device();
    let function = module.load_function("accumulate").unwrap();
    // SAFETY: written before it is read.
    let mut host = unsafe { context.alloc_pinned::<u32>(1) }.unwrap();
    host.as_mut_slice().unwrap()[0] = 7;
    let address = host.as_ptr().unwrap() as u64;
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the address is pinned memory's.
    unsafe { stream.launch_builder(&function).arg(&address).arg(&5u32).launch(config) }.unwrap();
    stream.synchronize().unwrap();
    assert_eq!(host.as_slice().unwrap(), [12]);
}

#[test]
fn streams_run_on_their_own_unless_an_event_orders_them() {
    static GO: AtomicBool = AtomicBool::new(false);
    let (context, writer, module) = device();
    let reader = context.new_stream().unwrap();
    let function = module.load_function("accumulate").unwrap();
    let y = writer.alloc_zeros::<u32>(1).unwrap();
    writer.synchronize().unwrap();
    hold(&writer, &GO);
    accumulate(&writer, &function, &y, 5);
    let written = writer.record_event(None).unwrap();
    assert_eq!(reader.clone_dtoh(&y).unwrap(), [0], "without a wait the reader does not see the writer's kernel");
    assert!(!written.is_complete());
    reader.wait(&written).unwrap();
    accumulate(&reader, &function, &y, 1);
    GO.store(true, Ordering::Release);
    assert_eq!(reader.clone_dtoh(&y).unwrap(), [6]);
}

#[test]
fn threads_share_the_device() {
    let worker = |first: u32| {
        move || {
            let (_context, stream, module) = device();
            let function = module.load_function("accumulate").unwrap();
            let y = stream.clone_htod(&[first]).unwrap();
            (0..50).for_each(|value| accumulate(&stream, &function, &y, value));
            stream.clone_dtoh(&y).unwrap()[0]
        }
    };
    let threads: Vec<_> = (0..8).map(|first| std::thread::spawn(worker(first))).collect();
    let sums: Vec<u32> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(sums, (0..8).map(|first| first + 49 * 25).collect::<Vec<_>>());
}

#[test]
fn a_graph_of_kernels_is_replayed_and_updated() {
    let (_context, stream, module) = device();
    let function = module.load_function("accumulate").unwrap();
    let y = stream.alloc_zeros::<u32>(1).unwrap();
    stream.synchronize().unwrap();
    let capture = |values: &[u32]| {
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED).unwrap();
        values.iter().for_each(|&v| accumulate(&stream, &function, &y, v));
        let mut graph: sys::CUgraph = std::ptr::null_mut();
        // SAFETY: ends the capture begun above.
        unsafe { sys::cuStreamEndCapture(stream.cu_stream(), &mut graph) }.result().unwrap();
        graph
    };
    let mut exec: sys::CUgraphExec = std::ptr::null_mut();
    let launch = |exec| {
        // SAFETY: an executable graph.
        unsafe { sys::cuGraphLaunch(exec, stream.cu_stream()) }.result().unwrap();
        stream.clone_dtoh(&y).unwrap()[0]
    };
    let mut info = sys::CUgraphExecUpdateResultInfo {
        result: sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_SUCCESS,
        errorNode: std::ptr::null_mut(),
        errorFromNode: std::ptr::null_mut(),
    };
    let (first, second, longer) = (capture(&[1, 10]), capture(&[100, 1000]), capture(&[1, 2, 3]));
    // SAFETY: handles of live graphs.
    unsafe {
        sys::cuGraphInstantiateWithFlags(&mut exec, first, 0).result().unwrap();
        assert_eq!((launch(exec), launch(exec)), (11, 22));
        sys::cuGraphExecUpdate_v2(exec, second, &mut info).result().unwrap();
        assert_eq!(launch(exec), 1122);
        assert_eq!(sys::cuGraphExecUpdate_v2(exec, longer, &mut info), CUresult::CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        assert_eq!(info.result, sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
        assert_eq!(launch(exec), 2222);
        for graph in [first, second, longer] {
            sys::cuGraphDestroy(graph).result().unwrap();
        }
        sys::cuGraphExecDestroy(exec).result().unwrap();
        assert_eq!(sys::cuGraphLaunch(exec, stream.cu_stream()), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
}

#[test]
fn graphs_built_by_hand_follow_their_edges() {
    let (context, stream, module) = device();
    let function = module.load_function("accumulate").unwrap();
    let y = stream.alloc_zeros::<u32>(1).unwrap();
    stream.synchronize().unwrap();
    let mut address = y.device_ptr(&stream).0;
    let mut value = 3u32;
    let mut params = [(&raw mut address).cast::<c_void>(), (&raw mut value).cast()];
    let mut kernel = sys::CUDA_KERNEL_NODE_PARAMS {
        func: function.cu_function(),
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 1,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        kernelParams: params.as_mut_ptr(),
        extra: std::ptr::null_mut(),
        kern: std::ptr::null_mut(),
        ctx: std::ptr::null_mut(),
    };
    let fill = sys::CUDA_MEMSET_NODE_PARAMS { dst: address, pitch: 4, value: 50, elementSize: 4, width: 1, height: 1 };
    let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
    let (mut set, mut add) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: handles made here; pointers to locals.
    unsafe {
        sys::cuGraphCreate(&mut graph, 0).result().unwrap();
        sys::cuGraphAddKernelNode_v2(&mut add, graph, std::ptr::null(), 0, &kernel).result().unwrap();
        sys::cuGraphAddMemsetNode(&mut set, graph, std::ptr::null(), 0, &fill, context.cu_ctx()).result().unwrap();
        sys::cuGraphAddDependencies_v2(graph, &set, &add, std::ptr::null(), 1).result().unwrap();
        let mut count = 0;
        sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count).result().unwrap();
        assert_eq!(count, 2);
        let mut nodes = [std::ptr::null_mut(); 2];
        sys::cuGraphGetNodes(graph, nodes.as_mut_ptr(), &mut count).result().unwrap();
        assert_eq!(nodes, [add, set], "a node has one handle");
        sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0).result().unwrap();
        sys::cuGraphLaunch(exec, stream.cu_stream()).result().unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), [53], "the fill comes first, though it was added last");
        value = 4;
        kernel.kernelParams = params.as_mut_ptr();
        sys::cuGraphExecKernelNodeSetParams_v2(exec, add, &kernel).result().unwrap();
        sys::cuGraphLaunch(exec, stream.cu_stream()).result().unwrap();
        assert_eq!((value, stream.clone_dtoh(&y).unwrap()), (4, vec![54]));
        sys::cuGraphAddDependencies_v2(graph, &add, &set, std::ptr::null(), 1).result().unwrap();
        let cyclic = sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0);
        assert_eq!(cyclic, CUresult::CUDA_ERROR_INVALID_VALUE);
        sys::cuGraphDestroy(graph).result().unwrap();
        assert_eq!(sys::cuGraphDestroyNode(add), CUresult::CUDA_ERROR_INVALID_HANDLE);
    }
}

#[test]
fn shared_memory_beyond_the_default_needs_the_attribute() {
    let (_context, stream, module) = device();
    let function = module.load_function("uses_shared").unwrap();
    let y = stream.alloc_zeros::<u32>(1).unwrap();
    let bytes = 100 << 10;
    let launch = || {
        let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: bytes };
        // SAFETY: `y` holds a word.
        unsafe { stream.launch_builder(&function).arg(&y).arg(&bytes).launch(config) }.map(|_| ())
    };
    assert_eq!(launch().unwrap_err().0, CUresult::CUDA_ERROR_INVALID_VALUE);
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    assert!(function.set_attribute(attribute, 164 << 10).is_err(), "more than a block can have");
    function.set_attribute(attribute, bytes as i32).unwrap();
    launch().unwrap();
    assert_eq!(stream.clone_dtoh(&y).unwrap(), [bytes]);
    assert_eq!(function.occupancy_max_active_blocks_per_multiprocessor(32, bytes as usize, None).unwrap(), 1);
}

#[test]
fn impossible_launches_are_refused_and_harmless() {
    let (_context, stream, module) = device();
    let function = module.load_function("small_blocks").unwrap();
    assert_eq!(function.max_threads_per_block().unwrap(), 64);
    let launch = |grid: u32, block: u32| {
        let config = LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the kernel does nothing.
        unsafe { stream.launch_builder(&function).launch(config) }.map(|_| ()).map_err(|e| e.0)
    };
    assert_eq!(launch(0, 32), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    assert_eq!(launch(1, 2048), Err(CUresult::CUDA_ERROR_INVALID_VALUE));
    assert_eq!(launch(1, 65), Err(CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES));
    let config = LaunchConfig { grid_dim: (1 << 20, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: as above.
    let cooperative = unsafe { stream.launch_builder(&function).launch_cooperative(config) };
    assert_eq!(cooperative.err().unwrap().0, CUresult::CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_eq!(launch(1, 64), Ok(()));
    stream.synchronize().unwrap();
}

#[test]
fn a_module_that_is_wrong_says_where() {
    let (context, _stream, module) = device();
    assert_eq!(module.load_function("nothing").err().unwrap().0, CUresult::CUDA_ERROR_NOT_FOUND);
    let broken = PTX.replace("mad.lo.s32 %r9", "mad.lo.s32 %r99");
    let code = context.load_module(Ptx::from_src(broken.clone())).err().unwrap();
    assert_eq!(code.0, CUresult::CUDA_ERROR_INVALID_PTX);
    let line = 1 + broken.lines().position(|l| l.contains("%r99")).unwrap();
    let mut image = broken.into_bytes();
    image.push(0);
    let mut log = [0u8; 256];
    let mut options =
        [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), log.len() as *mut c_void];
    let mut out = std::ptr::null_mut();
    // SAFETY: a NUL-terminated text, and a buffer of the size that is said.
    let code = unsafe {
        let image = image.as_ptr().cast();
        sys::cuModuleLoadDataEx(&mut out, image, 2, options.as_mut_ptr(), values.as_mut_ptr())
    };
    assert_eq!(code, CUresult::CUDA_ERROR_INVALID_PTX);
    let text = CStr::from_bytes_until_nul(&log).unwrap().to_str().unwrap();
    assert!(text.contains(&format!("line {line}, column 13: `%r99` is not declared")), "{text}");
    for (from, to, error) in [
        (".target sm_80", ".target sm_90", CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU),
        (".version 8.0", ".version 9.9", CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION),
        (".maxntid 64, 1, 1", ".reqnctapercluster 2, 1, 1", CUresult::CUDA_ERROR_INVALID_PTX),
    ] {
        let code = context.load_module(Ptx::from_src(PTX.replace(from, to))).err().unwrap();
        assert_eq!(code.0, error, "{to}");
    }
}

#[test]
fn an_empty_kernel_runs() {
    let (context, stream, _module) = device();
    let text = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry empty() {}\n";
    let module = context.load_module(Ptx::from_src(text)).unwrap();
    let function = module.load_function("empty").unwrap();
    let config = LaunchConfig { grid_dim: (3, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: it has no parameters and touches nothing.
    unsafe { stream.launch_builder(&function).launch(config) }.unwrap();
    stream.synchronize().unwrap();
}

#[test]
fn a_function_s_address_can_be_asked_for() {
    let (_context, _stream, _module) = device();
    let mut address = std::ptr::null_mut();
    let mut found = sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    let mut version = 0;
    // SAFETY: the address is that of cuDriverGetVersion, whose type is the one it is called with.
    unsafe {
        sys::cuGetProcAddress_v2(c"cuDriverGetVersion".as_ptr(), &mut address, 13000, 0, &mut found).result().unwrap();
        let function: extern "C" fn(*mut i32) -> u32 = std::mem::transmute(address);
        assert_eq!((function(&mut version), version), (0, 13000));
        sys::cuGetProcAddress_v2(c"cuNothing".as_ptr(), &mut address, 13000, 0, &mut found).result().unwrap();
    }
    assert_eq!(found, sys::CUdriverProcAddressQueryResult::CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Damaged PTX is refused with an error of its own, or loads; it never breaks the driver.
    #[test]
    fn damaged_modules_do_no_harm(edits in prop::collection::vec((any::<Index>(), 0usize..12, "[ -~]{0,4}"), 1..4)) {
        let (_context, _stream, _module) = device();
        let mut text = PTX.to_string();
        for (at, length, insert) in edits {
            let start = at.index(text.len());
            let end = (start + length).min(text.len());
            text.replace_range(start..end, &insert);
        }
        text.push('\0');
        let mut module = std::ptr::null_mut();
        let mut log = [0u8; 64];
        let mut options = [sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values: [*mut c_void; 2] = [log.as_mut_ptr().cast(), log.len() as *mut c_void];
        // SAFETY: a NUL-terminated text, and a buffer of the size that is said.
        let code = unsafe {
            let image = text.as_ptr().cast();
            sys::cuModuleLoadDataEx(&mut module, image, 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        prop_assert_ne!(code, CUresult::CUDA_ERROR_UNKNOWN, "{}", text);
        if code == CUresult::CUDA_SUCCESS {
            // SAFETY: loaded just now.
            unsafe { sys::cuModuleUnload(module) }.result().unwrap();
        } else {
            prop_assert_ne!(log[0], 0, "no reason is given");
        }
    }
}
