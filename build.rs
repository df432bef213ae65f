//! Compiles the entry files of `kernels/` to PTX and mirrors `kernels/params.h` and `include/kvick.h` in Rust.
//!
//! Everything it needs and does not find it fetches once per machine (`toolchain/build/fetch.rs`). Without the feature
//! `engine` there is nothing to do. Errors are printed whole and name their cure.
#[cfg(feature = "engine")]
#[path = "toolchain/build/bindings.rs"]
mod bindings;
#[cfg(feature = "engine")]
#[path = "toolchain/build/compile.rs"]
mod compile;
#[cfg(feature = "engine")]
#[path = "toolchain/build/fetch.rs"]
mod fetch;

#[cfg(not(feature = "engine"))]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

#[cfg(feature = "engine")]
fn main() {
    if let Err(message) = run() {
        eprintln!("\nkvick cannot build its CUDA kernels: {message}\n");
        std::process::exit(1);
    }
}

#[cfg(feature = "engine")]
fn run() -> Result<(), String> {
    let root = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    for path in ["build.rs", "toolchain", "kernels", "include"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for name in ["KVICK_NVCC", "CUDA_HOME", "CUDA_PATH", "KVICK_OFFLINE", "KVICK_CACHE", "LIBCLANG_PATH", "PYTHON"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let tools = fetch::Tools::find(&root)?;
    bindings::generate(&root, &out, &tools)?;
    compile::all(&root, &out, &tools)
}
