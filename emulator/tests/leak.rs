//! `KVICK_EMU_CHECK=leak`: what a program did not free when its context ended is said once, and nothing where all is freed.
//! Each in a process of its own: checks are chosen when the process first uses the device.
use cudarc::driver::{CudaContext, DevicePtr};
use std::process::Command;

const CHILD: &str = "KVICK_LEAK_CHILD";

/// Runs the test `name` again as a process of its own, with these checks; what it wrote to stderr.
fn in_a_process(name: &str, checks: &str) -> String {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = program.env(CHILD, "1").env("KVICK_EMU_CHECK", checks).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{name}: {stderr}{}", String::from_utf8_lossy(&output.stdout));
    stderr
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Allocates, copies and ends the context with `leaked` buffers of 4,096 bytes left; their addresses go to stderr.
fn work(leaked: usize) {
    kvick_emulator::install().unwrap();
    let context = CudaContext::new(0).unwrap();
    let stream = context.new_stream().unwrap();
    let freed = stream.alloc_zeros::<u8>(1 << 16).unwrap();
    for _ in 0..leaked {
        let buffer = stream.alloc_zeros::<u8>(4096).unwrap();
        eprintln!("leaving {:#x}", buffer.device_ptr(&stream).0);
        // The handle is forgotten, as a program would that loses a pointer.
        let _address = buffer.leak();
    }
    drop(freed);
    stream.synchronize().unwrap();
}

#[test]
fn what_is_not_freed_is_said_with_its_size_and_place() {
    if is_child() {
        return work(2);
    }
    let stderr = in_a_process("what_is_not_freed_is_said_with_its_size_and_place", "leak");
    assert!(stderr.contains("leak: 2 allocations of 8192 bytes"), "{stderr}");
    let places: Vec<&str> = stderr.lines().filter_map(|line| line.strip_prefix("leaving ")).collect();
    assert_eq!(places.len(), 2, "{stderr}");
    for place in places {
        assert!(stderr.contains(&format!("4096 bytes at {place}")), "{place} is not in {stderr}");
    }
    let unasked = in_a_process("what_is_not_freed_is_said_with_its_size_and_place", "race");
    assert!(!unasked.contains("leak"), "nobody asked for leaks: {unasked}");
}

#[test]
fn nothing_is_said_where_all_is_freed() {
    if is_child() {
        return work(0);
    }
    let stderr = in_a_process("nothing_is_said_where_all_is_freed", "leak");
    assert!(!stderr.contains("leak:"), "{stderr}");
}
