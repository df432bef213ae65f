//! Faults end the use of the device: each in a process of its own.

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, DevicePtr, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::process::Command;

const CHILD: &str = "KVICK_FAULT_CHILD";

/// Runs the test `name` again as a process of its own, which must succeed; what it wrote to stderr.
fn in_a_process(name: &str) -> String {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let output = program.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {stderr}{}", String::from_utf8_lossy(&output.stdout));
    stderr
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Launches `kernel` with the address that `address` makes of a 64-byte allocation's; all calls afterwards must fail
/// with `code`.
fn provoke(kernel: &str, arguments: usize, address: fn(u64) -> u64, code: CUresult) {
    kvick_emulator::install().unwrap();
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let module = context.load_module(Ptx::from_src(include_str!("fixtures/driver.ptx"))).unwrap();
    let function = module.load_function(kernel).unwrap();
    let buffer = stream.alloc_zeros::<u8>(64).unwrap();
    let address = address(buffer.device_ptr(&stream).0);
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
    let mut launch = stream.launch_builder(&function);
    if arguments == 1 {
        launch.arg(&address);
    }
    // SAFETY: a wrong address is what is tested; the emulator checks it.
    unsafe { launch.launch(config) }.unwrap();
    assert_eq!(stream.synchronize().unwrap_err().0, code);
    // SAFETY: pointers to locals; the calls fail.
    unsafe {
        let (mut fresh, mut event, mut other) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        assert_eq!(sys::cuMemAlloc_v2(&mut fresh, 16), code);
        assert_eq!(sys::cuEventCreate(&mut event, 0), code);
        assert_eq!(sys::cuStreamCreate(&mut other, 0), code);
        assert_eq!(sys::cuMemsetD8Async(address, 0, 1, stream.cu_stream()), code);
        assert_eq!(sys::cuCtxSynchronize(), code);
    }
    let fault = kvick_emulator::driver::fault().unwrap();
    assert_eq!(fault.kind.code(), code as u32);
    assert!(fault.report.contains(kernel), "{}", fault.report);
    eprintln!("the report again: {}", fault.report);
}

#[test]
fn beyond_an_allocation() {
    if is_child() {
        return provoke("poke", 1, |base| base + 64, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    let stderr = in_a_process("beyond_an_allocation");
    let report = stderr.split("the report again: ").nth(1).unwrap().trim();
    assert_eq!(stderr.matches(report).count(), 2, "told once, and once more by this test: {stderr}");
    assert!(report.contains("64-byte allocation"), "{report}");
}

#[test]
fn misaligned() {
    if is_child() {
        return provoke("poke", 1, |base| base + 2, CUresult::CUDA_ERROR_MISALIGNED_ADDRESS);
    }
    in_a_process("misaligned");
}

#[test]
fn a_null_pointer() {
    if is_child() {
        return provoke("poke", 1, |_| 0, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
    in_a_process("a_null_pointer");
}

#[test]
fn a_trap() {
    if is_child() {
        return provoke("traps", 0, |base| base, CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION);
    }
    in_a_process("a_trap");
}

#[test]
fn a_double_free_in_stream_order() {
    if !is_child() {
        in_a_process("a_double_free_in_stream_order");
        return;
    }
    kvick_emulator::install().unwrap();
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    // SAFETY: a pending free is queued twice on purpose; the second one is refused when it is reached, or at the call.
    unsafe {
        let address = cudarc::driver::result::malloc_async(stream.cu_stream(), 64).unwrap();
        cudarc::driver::result::free_async(address, stream.cu_stream()).unwrap();
        let again = sys::cuMemFreeAsync(address, stream.cu_stream());
        let after = sys::cuStreamSynchronize(stream.cu_stream());
        assert!(again == CUresult::CUDA_ERROR_INVALID_VALUE || after == CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}
