//! `libcuda.so.1` for programs of others: a shared library with every function of the CUDA driver API, executed by the
//! emulated GPU.
//!
//! ```text
//! mkdir emulated && ln -s $PWD/target/release/libkvick_emulated_cuda.so emulated/libcuda.so.1
//! LD_LIBRARY_PATH=emulated some-cuda-program
//! ```
//!
//! Invariant: each exported function is one jump through [`TABLE`], which the dynamic loader has filled (by the
//! constructor [`FILL`]) before anybody can call.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::sync::atomic::{AtomicPtr, Ordering};

static TABLE: [AtomicPtr<()>; COUNT] = [const { AtomicPtr::new(std::ptr::null_mut()) }; COUNT];

extern "C" fn fill() {
    for (slot, address) in TABLE.iter().zip(kvick_emulator::driver::function_table()) {
        slot.store(address.cast_mut(), Ordering::Release);
    }
}

#[used]
// SAFETY: the section holds pointers to functions of this signature, which the loader calls once.
#[unsafe(link_section = ".init_array")]
static FILL: extern "C" fn() = fill;

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    ($index:literal) => {
        std::arch::naked_asm!("jmp qword ptr [rip + {table} + 8 * {index}]", table = sym TABLE, index = const $index)
    };
}

#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    ($index:literal) => {
        std::arch::naked_asm!(
            "adrp x16, {table} + 8 * {index}",
            "ldr x16, [x16, :lo12:{table} + 8 * {index}]",
            "br x16",
            table = sym TABLE,
            index = const $index
        )
    };
}

macro_rules! exports {
    ($($name:ident = $index:literal;)*) => {
        $(
            // SAFETY: the names are the driver API's own, which this library stands in for; the jump leaves registers
            // and stack as the caller made them.
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            #[allow(non_snake_case, reason = "the C API's name")]
            unsafe extern "C" fn $name() {
                jump!($index)
            }
        )*
    };
}

include!(concat!(env!("OUT_DIR"), "/exports.rs"));
