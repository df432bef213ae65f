//! The libraries as C programs see them: compiled against the header, linked both ways, and run on a tiny model.
#![cfg(target_os = "linux")]
use kvick::{Engine, EngineConfig, Request};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where cargo has put the libraries: beside this program.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

fn tiny() -> PathBuf {
    root().join("tests/fixtures/tiny/llama")
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn compiler() -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread", "-I"]).arg(root().join("include"));
    cc
}

/// Compiles a C program against the shared library.
fn compile(source: &Path, to: &Path) {
    let lib = libraries();
    let rpath = format!("-Wl,-rpath,{}", lib.display());
    run(compiler().arg(source).arg("-o").arg(to).arg("-L").arg(&lib).args([&rpath, "-lkvick_c"]));
}

#[test]
fn the_example_says_what_the_rust_engine_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = EngineConfig { device: "cpu".into(), ..EngineConfig::new(tiny().to_str().unwrap()) };
    let expected = Engine::load(config).unwrap().complete(Request { max_tokens: 16, ..Request::text("abc") }).unwrap();
    assert!(!expected.text.is_empty());

    let shared = folder.path().join("shared");
    compile(&root().join("examples/generate.c"), &shared);
    let from = folder.path().join("static");
    let archive = libraries().join("libkvick_c.a");
    let source = root().join("examples/generate.c");
    run(compiler().arg(source).arg("-o").arg(&from).arg(archive).args(["-lm", "-ldl"]));
    for program in [shared, from] {
        let output = run(Command::new(program).arg("abc").arg(tiny()).arg("cpu"));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("abc{}\n", expected.text));
        let tokens = format!("{} tokens, ", expected.ids.len());
        assert!(String::from_utf8(output.stderr).unwrap().starts_with(&tokens));
    }
}

#[test]
fn the_example_tells_its_errors() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("generate");
    compile(&root().join("examples/generate.c"), &program);
    for (args, words) in [(["abc", "/no/such"], "/no/such"), (["", tiny().to_str().unwrap()], "no token")] {
        let output = Command::new(&program).args(args).arg("cpu").output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(words), "{words}");
    }
}

#[test]
fn good_and_bad_calls_and_threads() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("abi");
    compile(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/abi.c"), &program);
    run(Command::new(program).arg(tiny()));
}

#[test]
fn the_library_exports_the_functions_of_the_header() {
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(libraries().join("libkvick_c.so")));
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let ours = symbols.lines().filter_map(|l| l.split(' ').next_back()).filter(|s| s.starts_with("kvick_"));
    let header = std::fs::read_to_string(root().join("include/kvick.h")).unwrap();
    let returns = ["kvick_status ", "const char *", "void "].map(|r| format!("{r}kvick_"));
    let calls = header.lines().filter(|line| returns.iter().any(|r| line.starts_with(r)));
    let name = |l: &str| l.split('(').next().unwrap().rsplit([' ', '*']).next().unwrap().to_string();
    assert_eq!(ours.map(str::to_string).collect::<BTreeSet<_>>(), calls.map(name).collect());
}

#[test]
fn the_header_is_also_cplusplus() {
    let mut cc = Command::new("g++");
    cc.args(["-std=c++11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", "c++"]);
    run(cc.arg(root().join("include/kvick.h")));
}
