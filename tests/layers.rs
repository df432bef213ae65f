//! The layers of DESIGN: a module of `src/` imports only from layers below its own (`use crate::...`, `crate::...` paths).
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bottom first: name -> what it may name besides itself. Listed whole, so that a new module must take its place.
const MAY_USE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("params", &[]),
    ("checksum", &[]),
    ("text", &["error", "weights"]),
    ("quant", &["error", "backend"]),
    ("backend", &["error"]),
    ("device", &["error", "backend"]),
    ("launch", &["error", "backend", "params", "quant", "device"]),
    ("cpu", &["error", "backend", "quant", "checksum"]),
    ("open", &["error", "backend", "device", "launch", "cpu"]),
    ("weights", &["error", "backend", "quant"]),
    ("store", &["error"]),
    ("kv", &["checksum"]),
    ("models", &["error", "backend", "quant", "text", "weights"]),
    ("engine", &["error", "backend", "text", "weights", "kv", "models", "open", "store"]),
    ("capi", &["error", "backend", "text", "engine"]),
    ("cli", &["error", "backend", "text", "weights", "store", "kv", "models", "engine", "open"]),
];

fn rust_files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The first path segments after every `crate::` in code (comments and doc lines excluded).
fn named_modules(source: &str) -> BTreeSet<String> {
    let code = source.lines().filter(|l| !l.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in code {
        for rest in line.split("crate::").skip(1) {
            let inside = rest.strip_prefix('{').and_then(|r| r.split('}').next()).unwrap_or(rest);
            let parts = if rest.starts_with('{') { inside.split(',').collect::<Vec<_>>() } else { vec![rest] };
            for part in parts {
                let name: String = part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn modules_import_only_from_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 10, "only {} files found under {}", files.len(), src.display());
    let mut broken = Vec::new();
    for path in files {
        let inner = path.strip_prefix(&src).unwrap();
        let top = inner.iter().next().unwrap().to_string_lossy();
        let module = top.strip_suffix(".rs").unwrap_or(&top).to_string();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let Some(allowed) = rules.get(module.as_str()) else {
            broken.push(format!("{module} has no layer: give it one in MAY_USE"));
            continue;
        };
        for name in named_modules(&std::fs::read_to_string(&path).unwrap()) {
            if name != module && rules.contains_key(name.as_str()) && !allowed.contains(&name.as_str()) {
                broken.push(format!("{}: {module} must not use {name}", inner.display()));
            }
        }
    }
    assert!(broken.is_empty(), "layers broken:\n{}", broken.join("\n"));
}

#[test]
fn only_device_names_cudarc_and_the_emulator() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    let outside = files.into_iter().filter(|p| !p.starts_with(src.join("device")));
    for path in outside {
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
        for name in ["cudarc::", "kvick_emulator"] {
            assert!(!code.contains(name), "{} names {name}; only src/device may", path.display());
        }
    }
}

#[test]
fn the_scanner_sees_imports() {
    let found = named_modules("use crate::{kv, engine::Engine};\nlet x = crate::weights::open();\n// crate::cli\n");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["engine", "kv", "weights"]);
}
