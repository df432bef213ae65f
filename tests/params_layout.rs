//! `kernels/params.h` means the same on the device as in Rust: a kernel returns sizeof and offsetof of everything in it,
//! compared with the mirror (whose own numbers bindgen asserts at compile time).
#![cfg(feature = "engine")]
use kvick::device::{Gpu, select};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// `(struct, field)` -> offset and `(struct, "")` -> size, from the assertions that bindgen wrote beside the mirror.
fn rust_layout() -> BTreeMap<(String, String), u32> {
    let text = include_str!(concat!(env!("OUT_DIR"), "/params.rs"));
    let mut found = BTreeMap::new();
    let number = |assertion: &str| -> u32 {
        let tail = assertion.rsplit("- ").next().unwrap();
        tail.trim().trim_end_matches("usize").parse().unwrap()
    };
    // One assertion may span lines.
    for assertion in text.split("];") {
        if let Some((_, rest)) = assertion.split_once("[\"Size of ") {
            found.insert((rest.split('"').next().unwrap().to_string(), String::new()), number(assertion));
        } else if let Some((_, rest)) = assertion.split_once("[\"Offset of field: ") {
            let (name, field) = rest.split('"').next().unwrap().split_once("::").unwrap();
            // bindgen appends `_` to a field whose name is a keyword of Rust.
            let field = field.strip_suffix('_').unwrap_or(field);
            found.insert((name.to_string(), field.to_string()), number(assertion));
        }
    }
    found
}

fn compile(source: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (cu, ptx) = (dir.path().join("layout.cu"), dir.path().join("layout.ptx"));
    std::fs::write(&cu, source).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut nvcc = Command::new(env!("KVICK_BUILD_NVCC"));
    nvcc.args(["-ptx", "-std=c++17", "-arch=compute_80", "-I"]).arg(include).arg("-o").arg(&ptx).arg(&cu);
    let done = nvcc.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read_to_string(ptx).unwrap()
}

#[test]
fn device_and_host_agree() {
    let expected = rust_layout();
    assert!(expected.len() > 10, "bindgen's assertions were not found: {expected:?}");
    let values = expected.keys().enumerate().map(|(i, (name, field))| match field.as_str() {
        "" => format!("  out[{i}] = sizeof({name});\n"),
        field => format!("  out[{i}] = offsetof({name}, {field});\n"),
    });
    let source = format!(
        "#include <stddef.h>\n#include \"params.h\"\nstruct P {{ uint64_t out; }};\n\
         extern \"C\" __global__ void layout(const __grid_constant__ P p) {{\n  uint32_t* out = (uint32_t*)p.out;\n{}}}\n",
        values.collect::<String>()
    );
    let (driver, _) = select("auto").unwrap();
    let gpu = Gpu::open(&driver).unwrap();
    gpu.replace_ptx("layout", compile(&source));
    let out = gpu.alloc("layout", expected.len() * 4).unwrap();
    let kernel = gpu.kernel("layout", "layout").unwrap();
    gpu.launch(&kernel, [1, 1, 1], 1, 0, &gpu.address(&out).unwrap()).unwrap();
    let mut seen = vec![0u32; expected.len()];
    gpu.download(&out, 0, bytemuck::cast_slice_mut(&mut seen)).unwrap();
    for ((name, value), seen) in expected.iter().zip(seen) {
        assert_eq!(*value, seen, "{name:?}: host, then device");
    }
}
