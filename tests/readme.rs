//! Every command of the README is run, but for `cargo test`, `.ci/run`, benches, and what needs a server or a trace.
#![cfg(feature = "cli")]
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Lines of the `sh` blocks.
fn commands(readme: &str) -> Vec<String> {
    let blocks = readme.split("```sh\n").skip(1).map(|b| b.split("```").next().unwrap());
    blocks.flat_map(|b| b.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from)).collect()
}

/// What a shell would pass: words, with double quotes.
fn words(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => out.push(String::new()),
            c => out.last_mut().unwrap().push(c),
        }
    }
    out
}

#[test]
fn every_command_runs() {
    let lines = commands(&std::fs::read_to_string(root().join("README.md")).unwrap());
    let mut ran = 0;
    for line in &lines {
        let rest = match line.strip_prefix("cargo run --release -- ").or_else(|| line.strip_prefix("kvick ")) {
            Some(rest) => rest,
            None => {
                // What the C example says of itself; `capi/tests/c.rs` compiles, links and runs it so.
                let example = std::fs::read_to_string(root().join("examples/generate.c")).unwrap();
                let of_c = example.lines().any(|l| l.trim_start_matches(" *     ").starts_with(line.as_str()));
                assert!(of_c || line == "cargo test", "the README has a command that no test runs: {line}");
                continue;
            }
        };
        let cache = kvick::store::cache_dir().unwrap();
        let default = kvick::store::MODELS[0].path(&cache);
        let rest = rest.replace("~/.cache/kvick/models/smollm2-135m.gguf", default.to_str().unwrap());
        let done = Command::new(env!("CARGO_BIN_EXE_kvick")).args(words(&rest)).current_dir(root()).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "{line}: {}\n{err}", done.status);
        assert!(!out.trim().is_empty(), "{line} printed nothing");
        if rest.contains("--json") {
            for object in out.lines() {
                serde_json::from_str::<serde_json::Value>(object).unwrap_or_else(|e| panic!("{line}: {e}: {object}"));
            }
        }
        if line.contains("The capital of France is") && line.contains("generate") {
            assert!(out.contains("Paris"), "{line}: {out}");
        }
        ran += 1;
    }
    assert!(ran >= 8, "only {ran} of {} lines were commands of kvick: {lines:?}", lines.len());
}

#[test]
fn what_it_links_to_is_there() {
    for file in ["README.md", "CONTRIBUTING.md"] {
        let text = std::fs::read_to_string(root().join(file)).unwrap();
        let links = text.split("](").skip(1).filter_map(|r| r.split(')').next()).filter(|l| !l.contains("://"));
        for link in links {
            assert!(Path::new(&root().join(link)).exists(), "{file} links to {link}, which is not there");
        }
    }
    for path in
        ["src/kv/policy", "src/kv/tier", "tests/fixtures/tiny/make.py", "emulator/README.md", "examples/batch.rs"]
    {
        assert!(root().join(path).exists(), "{path}");
    }
}
