//! Memory for native code: first written, then executed, never both at a time; where the system allows no executable
//! memory, handlers do the work. Each in a process of its own, for which a filter of system calls says what is allowed.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod probes;

use probes::{Arg, Device};
use std::process::Command;

const CHILD: &str = "KVICK_EXECUTABLE_CHILD";

const KERNEL: &str = "
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [out];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %rd2, %r1, 4;
    add.s64 %rd3, %rd1, %rd2;
    mad.lo.s32 %r2, %r1, %r1, %r1;
    add.s32 %r3, %r2, 7;
    st.global.u32 [%rd3], %r3;
    ret;
}";

/// From now on, this thread and those it starts get no memory with all of these protections.
fn forbid(protections: i32) {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
    // Offsets in what a filter sees of a call: its number, and the low half of its third argument.
    const NUMBER: u32 = 0;
    const THIRD: u32 = 32;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let and = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
    let end = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [
        (load, 0, 0, NUMBER),
        (equal, 2, 0, libc::SYS_mprotect as u32),
        (equal, 1, 0, libc::SYS_mmap as u32),
        (end, 0, 0, ALLOW),
        (load, 0, 0, THIRD),
        (and, 0, 0, protections as u32),
        (equal, 0, 1, protections as u32),
        (end, 0, 0, REFUSE),
        (end, 0, 0, ALLOW),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k });
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter is a valid program, which the kernel copies.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) == 0
    };
    assert!(done, "no filter of system calls: {}", std::io::Error::last_os_error());
}

/// Runs a kernel where these protections are forbidden; how many mappings are executable that no file lies behind.
fn executable_mappings(forbidden: i32, native: bool) -> usize {
    forbid(forbidden);
    let mut device = Device::new(KERNEL, 1);
    device.gpu.set_native(native);
    let out = device.put(&[0u32; 64]);
    device.must("k", 1, 64, &[Arg::Ptr(out)]);
    let want: Vec<u32> = (0..64).map(|i| i * i + i + 7).collect();
    assert_eq!(device.get::<u32>(out, 64), want);
    let maps = std::fs::read_to_string("/proc/self/maps").expect("this process's mappings");
    let fields = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Address, protection, offset, device, inode, and a name if there is one.
    fields.filter(|f| f[1].contains('x') && f.len() == 5).count()
}

/// Runs the test `name` again as a process of its own.
fn in_a_process(name: &str) {
    let mut program = Command::new(std::env::current_exe().expect("this program"));
    program.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let output = program.env(CHILD, "1").output().expect("a process");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}{}", text(&output.stderr), text(&output.stdout));
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

#[test]
fn code_is_executed_from_memory_that_was_never_writable_too() {
    if !is_child() {
        return in_a_process("code_is_executed_from_memory_that_was_never_writable_too");
    }
    let able = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    assert_eq!(executable_mappings(libc::PROT_WRITE | libc::PROT_EXEC, true), usize::from(able));
}

#[test]
fn handlers_do_the_work_where_no_memory_is_executable() {
    if !is_child() {
        return in_a_process("handlers_do_the_work_where_no_memory_is_executable");
    }
    assert_eq!(executable_mappings(libc::PROT_EXEC, true), 0);
}

#[test]
fn nothing_is_compiled_where_native_code_is_turned_off() {
    if !is_child() {
        return in_a_process("nothing_is_compiled_where_native_code_is_turned_off");
    }
    assert_eq!(executable_mappings(libc::PROT_WRITE | libc::PROT_EXEC, false), 0);
}
