//! bindgen over our C headers: `kernels/params.h`, the launch parameters, and `include/kvick.h`, the C ABI.
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

/// Writes `OUT_DIR/params.rs`, and `OUT_DIR/kvick_h.rs` for the feature `capi`.
pub fn generate(root: &Path, out: &Path, tools: &Tools) -> Result<(), String> {
    if let Some(dir) = &tools.libclang {
        // SAFETY: build scripts are single-threaded here; clang-sys reads the variable later in this process.
        unsafe { std::env::set_var("LIBCLANG_PATH", dir) };
    }
    // bytemuck's `Pod` is derived, so a struct with padding does not compile: no uninitialised byte reaches a kernel.
    let params = header(root, "kernels/params.h", &["-x", "c++", "-std=c++17"])?;
    write(params.derive_default(true).parse_callbacks(Box::new(Derives)), &out.join("params.rs"))?;
    if cfg!(feature = "capi") {
        write(header(root, "include/kvick.h", &["-x", "c", "-std=c99"])?, &out.join("kvick_h.rs"))?;
    }
    Ok(())
}

fn header(root: &Path, path: &str, args: &[&str]) -> Result<bindgen::Builder, String> {
    // The wheel of libclang has no headers of its own: stdint.h is gcc's.
    let include = output(Command::new("g++").arg("-print-file-name=include"), "g++ -print-file-name=include")?;
    Ok(bindgen::Builder::default()
        .header(root.join(path).to_string_lossy())
        .clang_args(args)
        .clang_args(["-isystem", include.trim()])
        .allowlist_file(format!(".*{}", path.replace('.', "\\.")))
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .generate_comments(true))
}

fn write(builder: bindgen::Builder, path: &Path) -> Result<(), String> {
    let bindings = builder.generate().map_err(|e| format!("bindgen for {}: {e}", path.display()))?;
    bindings.write_to_file(path).map_err(|e| format!("{}: {e}", path.display()))
}
