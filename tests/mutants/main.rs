//! Can the suite fail? Each planted mistake in a kernel must be caught by the checks that the property tests run.
//!
//! A mistake is a textual replacement in a `.cu` file. The mutated file is compiled for the few instances that the checks
//! use, and a child process (this program again, since a device fault ends the device for its process) runs the checks with
//! that PTX in place of the embedded one. The unchanged files must pass in the same way.
#[path = "../common/mod.rs"]
mod common;
mod list;
mod suites;

use list::{MUTANTS, Mutant};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A mistake may make a kernel run for ever; the checks take a few seconds.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, flag, file, ptx] = args.as_slice()
        && flag == "--run-suite-of"
    {
        suites::run(file, &std::fs::read_to_string(ptx).expect("the mutated PTX"));
        return ExitCode::SUCCESS;
    }
    let files: BTreeSet<&str> = MUTANTS.iter().map(|m| m.file).collect();
    let controls = files.iter().map(|&file| Mutant { file, place: "", what: "nothing", from: "", to: "" });
    let trials: Vec<Mutant> = controls.chain(MUTANTS.iter().copied()).collect();
    let dir = tempfile::tempdir().expect("a folder for PTX");
    let failures = run_all(&trials, dir.path());
    failures.iter().for_each(|f| eprintln!("{f}"));
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {} passed; {} failed", trials.len() - failures.len(), failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Complaints, in no order.
fn run_all(trials: &[Mutant], dir: &Path) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(mutant) = trials.get(i) else { break };
            let failure = compile(mutant, dir, i).and_then(|ptx| judge(mutant, &ptx)).err();
            println!("test {}: {} ... {}", mutant.file, mutant.what, if failure.is_some() { "FAILED" } else { "ok" });
            failures.lock().unwrap().extend(failure);
        }
    };
    std::thread::scope(|scope| {
        (0..std::thread::available_parallelism().map_or(2, |n| n.get())).for_each(|_| drop(scope.spawn(worker)));
    });
    failures.into_inner().unwrap()
}

/// PTX of the mutated file.
fn compile(mutant: &Mutant, dir: &Path, i: usize) -> Result<PathBuf, String> {
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let dir = dir.join(i.to_string());
    std::fs::create_dir(&dir).map_err(|e| e.to_string())?;
    let mut places = usize::from(mutant.from.is_empty());
    for entry in std::fs::read_dir(&kernels).map_err(|e| e.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut text = std::fs::read_to_string(entry.path()).map_err(|e| e.to_string())?;
        if name == mutant.place {
            places = text.matches(mutant.from).count();
            text = text.replacen(mutant.from, mutant.to, 1);
        }
        if name == format!("{}.cu", mutant.file) {
            text = suites::only_tested_instances(&text);
        }
        std::fs::write(dir.join(name), text).map_err(|e| e.to_string())?;
    }
    if places != 1 {
        return Err(format!("{}: {}: {places} places match {:?}", mutant.file, mutant.what, mutant.from));
    }
    let ptx = dir.join("mutant.ptx");
    let mut nvcc = Command::new(env!("KVICK_BUILD_NVCC"));
    nvcc.args(["-ptx", "-std=c++17", "-lineinfo", "-O3", "-arch=compute_80", "-o"]).arg(&ptx);
    let done = nvcc.arg(dir.join(format!("{}.cu", mutant.file))).output().map_err(|e| e.to_string())?;
    if !done.status.success() {
        return Err(format!("{}: {}: {}", mutant.file, mutant.what, String::from_utf8_lossy(&done.stderr)));
    }
    Ok(ptx)
}

/// Runs the checks in a child: they must fail for a mistake and pass without one.
fn judge(mutant: &Mutant, ptx: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .args(["--run-suite-of", mutant.file])
        .arg(ptx)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(ptx.with_extension("log")).map_err(|e| e.to_string())?)
        .spawn()
        .map_err(|e| e.to_string())?;
    let start = Instant::now();
    let passed = loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            Some(status) => break status.success(),
            None if start.elapsed() > PATIENCE => {
                child.kill().and_then(|()| child.wait()).map_err(|e| e.to_string())?;
                break false;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let log = || std::fs::read_to_string(ptx.with_extension("log")).unwrap_or_default();
    match (mutant.from.is_empty(), passed) {
        (true, true) | (false, false) => Ok(()),
        (true, false) => Err(format!("{}.cu unchanged fails its checks:\n{}", mutant.file, log())),
        (false, true) => Err(format!("{}.cu: {:?} was not caught", mutant.file, mutant.what)),
    }
}
