//! Every function of the driver API, called as no program should: before `cuInit`, and with null for every argument.

use std::ffi::c_void;

type Any = extern "C" fn(usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize, usize) -> u32;

const NOT_SUPPORTED: u32 = 801;
const UNKNOWN: u32 = 999;

/// Calls that need no initialisation.
const ALWAYS: [&str; 7] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuGetProcAddress",
    "cuGetProcAddress_v2",
    "cuThreadExchangeStreamCaptureMode",
];

#[test]
fn nothing_crashes_on_null_and_nothing_works_before_init() {
    kvick_emulator::install().unwrap();
    // SAFETY: the forwarder is loaded; the name is a C string.
    let library = unsafe { libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
    assert!(!library.is_null(), "the soname is not found");
    let names: Vec<&str> = include_str!("../src/driver/symbols.txt").lines().collect();
    let functions: Vec<(&str, Any)> = names.iter().map(|name| (*name, function(library, name))).collect();
    let call = |f: Any| f(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    let (mut implemented, mut early) = (0, vec![]);
    for &(name, f) in functions.iter().filter(|(name, _)| !ALWAYS.contains(name)) {
        let code = call(f);
        if code == 0 {
            early.push(name);
        }
        implemented += usize::from(code != NOT_SUPPORTED);
    }
    assert!(early.is_empty(), "these worked before cuInit: {early:?}");
    assert!(implemented > 150, "only {implemented} functions are implemented");
    call(function(library, "cuInit"));
    for round in ["without a context", "with one"] {
        for &(name, f) in &functions {
            assert_ne!(call(f), UNKNOWN, "{name} {round}");
        }
        let mut context = 0usize;
        let out = (&raw mut context) as usize;
        assert_eq!(function(library, "cuDevicePrimaryCtxRetain")(out, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
        assert_eq!(function(library, "cuCtxSetCurrent")(context, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), 0);
    }
}

/// A driver function as one that takes twelve words: more arguments than it has are ignored by the C conventions.
fn function(library: *mut c_void, name: &str) -> Any {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: an open library and a C string.
    let address = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!address.is_null(), "{name:?} is not exported");
    // SAFETY: a C function; on x86-64 and aarch64 surplus arguments are the caller's business alone.
    unsafe { std::mem::transmute(address) }
}
