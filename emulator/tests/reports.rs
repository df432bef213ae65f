//! Programs that must fail: the kind of fault, and a report that names cause and place.
mod probes;

use kvick_emulator::exec::{Fault, FaultKind, Launch};
use probes::{Arg, Device};

fn device() -> Device {
    Device::new(include_str!("probes/broken.ptx"), 1)
}

/// Checks the kind, the kernel's name, and that all parts are in the report.
fn check(kernel: &str, result: Result<(), Fault>, kind: FaultKind, parts: &[&str]) {
    let fault = result.expect_err(kernel);
    assert_eq!(fault.kind, kind, "{kernel}: {fault}");
    // A shuffle's line is that of the toolkit's header, into which it was inlined.
    let file = if kernel == "wrong_mask" { "sm_30_intrinsics.hpp:" } else { "broken.cu:" };
    for part in parts.iter().chain(&[kernel, file, "ptx line "]) {
        assert!(fault.report.contains(part), "{kernel}: no {part:?} in:\n{fault}");
    }
}

#[test]
fn global_memory() {
    let d = device();
    let x = d.put(&[0f32; 64]);
    let result = d.run("past_the_end", 2, 32, &[Arg::Ptr(x), Arg::Int(40)]);
    let near = format!("0 bytes past the end of the 256-byte allocation at {x:#x}");
    check("past_the_end", result, FaultKind::IllegalAddress, &["4-byte", &near, "thread (24,0,0) of block (0,0,0)"]);

    let (stale, out) = (d.put(&[1f32; 32]), d.put(&[0f32; 32]));
    d.gpu.memory().free(stale).unwrap();
    let result = d.run("read_stale", 1, 32, &[Arg::Ptr(stale), Arg::Ptr(out)]);
    let near = format!("0 bytes into the freed 128-byte allocation at {stale:#x}");
    check("read_stale", result, FaultKind::IllegalAddress, &[&near, "thread (0,0,0)"]);

    let result = d.run("misaligned", 1, 32, &[Arg::Ptr(x), Arg::Ptr(out)]);
    check("misaligned", result, FaultKind::Misaligned, &["16-byte", &format!("{:#x}", x + 4)]);

    let result = d.run("read_stale", 1, 32, &[Arg::Ptr(0), Arg::Ptr(out)]);
    check("read_stale", result, FaultKind::IllegalAddress, &["global address 0x0"]);
}

#[test]
fn shared_and_local_memory() {
    let d = device();
    let out = d.put(&[0i32; 64]);
    let config = Launch { grid: [1, 1, 1], block: [64, 1, 1], dynamic_shared: 256, ..Launch::default() };
    let result = d.launch("past_shared", config, &[Arg::Ptr(out), Arg::Int(1)]);
    let parts = ["shared address 0x100", "the block has 256 bytes of shared memory", "thread (63,0,0)"];
    check("past_shared", result, FaultKind::IllegalAddress, &parts);
    let result = d.run("past_local", 1, 32, &[Arg::Ptr(out), Arg::Int(1)]);
    check("past_local", result, FaultKind::IllegalAddress, &["local", "thread (8,0,0)"]);
}

#[test]
fn asserts_and_traps() {
    let d = device();
    let result = d.run("failed_assert", 3, 64, &[Arg::Int(33)]);
    let parts = ["assertion `threadIdx.x < n` failed in", "thread (33,0,0) of block (0,0,0)"];
    check("failed_assert", result, FaultKind::Assert, &parts);
    check("trapped", d.run("trapped", 1, 64, &[]), FaultKind::IllegalInstruction, &["trap", "thread (40,0,0)"]);
}

#[test]
fn barriers_and_masks() {
    let d = device();
    let out = d.put(&[0i32; 128]);
    let result = d.run("divergent_barrier", 1, 32, &[Arg::Ptr(out)]);
    let parts = ["divergent lanes wait for each other", "lanes 0x0000ffff", "lanes 0xffff0000", "BarSync"];
    check("divergent_barrier", result, FaultKind::LaunchFailed, &parts);
    let result = d.run("missing_warp", 1, 128, &[Arg::Ptr(out)]);
    let parts = ["deadlock", "warp 0 waits at barrier 3", "warp 2 waits at barrier 0"];
    check("missing_warp", result, FaultKind::Deadlock, &parts);
    let result = d.run("wrong_mask", 1, 32, &[Arg::Ptr(out)]);
    check("wrong_mask", result, FaultKind::LaunchFailed, &["lanes 0x000000ff", "Shfl", "lanes 0xffffff00", "WarpSync"]);
}

#[test]
fn a_grid_that_waits_for_nobody() {
    for threads in [1, 2] {
        let d = Device::new(include_str!("probes/broken.ptx"), threads);
        let flag = d.put(&[0i32]);
        let result = d.run("forever", 3, 64, &[Arg::Ptr(flag)]);
        check("forever", result, FaultKind::Deadlock, &["no thread of the grid makes progress", "lanes 0xffffffff"]);
    }
}

#[test]
fn impossible_launches() {
    let d = device();
    let kind = |grid: u32, block: u32, shared: u32, cooperative: bool| {
        let config = Launch {
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            dynamic_shared: shared,
            cooperative,
            ..Launch::default()
        };
        d.launch("trapped", config, &[]).map_err(|fault| fault.kind)
    };
    assert_eq!(kind(0, 32, 0, false), Err(FaultKind::InvalidValue));
    assert_eq!(kind(1, 1025, 0, false), Err(FaultKind::OutOfResources));
    assert_eq!(kind(1, 32, 200 << 10, false), Err(FaultKind::InvalidValue));
    assert_eq!(kind(1 << 20, 32, 0, true), Err(FaultKind::CooperativeTooLarge));
    assert_eq!(kind(4, 32, 0, true), Ok(()));
}

#[test]
fn printf_formats_as_c_does() {
    let d = device();
    let output = d.output();
    d.must("prints", 1, 32, &[Arg::Ptr(0xabc), Arg::Int(-7)]);
    assert_eq!(output.text(), "-7  0.33|ab    |ff z -5000000000 1.234568e+04 % 0xabc\n");
}
