//! bindgen over `kernels/params.h`: the Rust mirror of every launch parameter struct.
//!
//! bytemuck's `Pod` is derived, so a struct with padding does not compile: no uninitialised byte reaches a kernel.
use crate::fetch::{Tools, output};
use std::path::Path;
use std::process::Command;

#[derive(Debug)]
struct Derives;

impl bindgen::callbacks::ParseCallbacks for Derives {
    fn add_derives(&self, _: &bindgen::callbacks::DeriveInfo<'_>) -> Vec<String> {
        vec!["bytemuck::Zeroable".into(), "bytemuck::Pod".into()]
    }
}

/// Writes `OUT_DIR/params.rs`.
pub fn generate(root: &Path, out: &Path, tools: &Tools) -> Result<(), String> {
    if let Some(dir) = &tools.libclang {
        // SAFETY: build scripts are single-threaded here; clang-sys reads the variable later in this process.
        unsafe { std::env::set_var("LIBCLANG_PATH", dir) };
    }
    // The wheel of libclang has no headers of its own: stdint.h is gcc's.
    let include = output(Command::new("g++").arg("-print-file-name=include"), "g++ -print-file-name=include")?;
    let bindings = bindgen::Builder::default()
        .header(root.join("kernels/params.h").to_string_lossy())
        .clang_args(["-x", "c++", "-std=c++17", "-isystem", include.trim()])
        .allowlist_file(".*params\\.h")
        .derive_default(true)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .generate_comments(true)
        .parse_callbacks(Box::new(Derives))
        .generate()
        .map_err(|e| format!("bindgen over kernels/params.h: {e}"))?;
    bindings.write_to_file(out.join("params.rs")).map_err(|e| format!("{}: {e}", out.display()))
}
