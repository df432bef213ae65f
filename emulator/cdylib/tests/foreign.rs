//! The library as a foreign program sees it: found by the dynamic loader as `libcuda.so.1`.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;

const CHILD: &str = "KVICK_CDYLIB_CHILD";

fn symbol(library: *mut c_void, name: &str) -> *mut c_void {
    let name = CString::new(name).unwrap();
    // SAFETY: an open library and a C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!address.is_null(), "{name:?} is not exported");
    address
}

/// What the foreign program does.
fn child() {
    // SAFETY: loading the library under test; the signatures are the driver API's.
    unsafe {
        let library = libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null(), "{:?}", CStr::from_ptr(libc::dlerror()));
        let count: extern "C" fn(*mut c_int) -> u32 = std::mem::transmute(symbol(library, "cuDeviceGetCount"));
        let init: extern "C" fn(u32) -> u32 = std::mem::transmute(symbol(library, "cuInit"));
        let name: extern "C" fn(*mut c_char, c_int, c_int) -> u32 =
            std::mem::transmute(symbol(library, "cuDeviceGetName"));
        let texture: extern "C" fn(*mut u64) -> u32 = std::mem::transmute(symbol(library, "cuTexObjectCreate"));
        let (mut devices, mut text) = (0, [0 as c_char; 64]);
        assert_eq!(count(&mut devices), 3, "not initialised yet");
        assert_eq!(init(0), 0);
        assert_eq!((count(&mut devices), devices), (0, 1));
        assert_eq!(name(text.as_mut_ptr(), 64, 0), 0);
        assert!(CStr::from_ptr(text.as_ptr()).to_string_lossy().contains("emulated"));
        assert_eq!(texture(std::ptr::null_mut()), 801, "not supported");
    }
}

/// Builds the library (cargo does not for a test of it) and returns its path.
fn build(target: &Path) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline", "--package", "kvick-emulator-cdylib", "--target-dir"]).arg(target);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug/libkvick_emulated_cuda.so")
}

#[test]
fn the_loader_finds_it() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let this = std::env::current_exe().unwrap();
    let built = build(this.ancestors().nth(3).unwrap());
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&built, folder.path().join("libcuda.so.1")).unwrap();
    let mut program = Command::new(this);
    program.args(["--exact", "the_loader_finds_it"]).env(CHILD, "1").env("LD_LIBRARY_PATH", folder.path());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
