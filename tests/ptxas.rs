//! The pinned assembler takes every kernel for every GPU it is meant for, without a spill or a warning.
//!
//! compute_80 PTX must run on everything from sm_80 on; compute_90a PTX runs on sm_90a alone.
#![cfg(feature = "engine")]
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const BASE_TARGETS: [&str; 6] = ["sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_120"];

fn ptxas() -> PathBuf {
    let path = Path::new(env!("KVICK_BUILD_NVCC")).with_file_name("ptxas");
    assert!(path.is_file(), "{} is missing: build again to fetch the compiler", path.display());
    path
}

/// Complaints about one assembly: failures, warnings, spills.
fn complaints(dir: &Path, file: &str, ptx: &str, target: &str) -> Vec<String> {
    let source = dir.join(format!("{file}.{target}.ptx"));
    std::fs::write(&source, ptx).unwrap();
    let mut command = Command::new(ptxas());
    command.args(["-v", &format!("-arch={target}"), "-o", "/dev/null"]).arg(&source);
    let done = command.output().unwrap();
    let log = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    std::fs::remove_file(&source).unwrap();
    let spills = |l: &str| l.contains("spill stores") && !l.contains("0 bytes spill stores, 0 bytes spill loads");
    let bad = |l: &&str| l.contains("warning") || l.contains("error") || spills(l);
    let mut found: Vec<String> = log.lines().filter(bad).map(|l| format!("{file} for {target}: {l}")).collect();
    if !done.status.success() && found.is_empty() {
        found.push(format!("{file} for {target}: {}: {log}", done.status));
    }
    found
}

#[test]
fn every_kernel_assembles_without_spills_or_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let mut jobs = Vec::new();
    for (file, base, hopper) in kvick::device::PTX {
        jobs.extend(BASE_TARGETS.map(|target| (*file, *base, target, format!("{file}_80"))));
        if hopper != base {
            jobs.push((*file, *hopper, "sm_90a", format!("{file}_90a")));
        }
    }
    assert!(!jobs.is_empty(), "no kernel was compiled into this program");
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get()) {
            scope.spawn(|| {
                while let Some((_, ptx, target, name)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    found.lock().unwrap().extend(complaints(dir.path(), name, ptx, target));
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{} complaints of {} assemblies:\n{}", found.len(), jobs.len(), found.join("\n"));
}

#[test]
fn a_spill_and_an_error_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let broken = ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k() { bogus.op; ret; }\n";
    assert!(!complaints(dir.path(), "broken", broken, "sm_80").is_empty());
    let fine = ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k() { ret; }\n";
    assert_eq!(complaints(dir.path(), "fine", fine, "sm_80"), Vec::<String>::new());
}
