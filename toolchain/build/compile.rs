//! Compiles every entry file `kernels/*.cu` to PTX for compute_80 and compute_90a, in parallel, only what changed.
//!
//! PTX is cached by the content of all that went into it: compiler, flags, and the files named by the depfile of the
//! last compilation. The cache lies beside the compiler, so debug, release and other clones compile a kernel once.
use crate::fetch::Tools;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// compute_90a runs on compute capability 9.0 alone; everything else takes compute_80.
const ARCHITECTURES: [&str; 2] = ["compute_80", "compute_90a"];
const FLAGS: [&str; 4] = ["-ptx", "-std=c++17", "-lineinfo", "-O3"];

struct Job<'a> {
    source: &'a Path,
    name: String,
    arch: &'static str,
}

/// Compiles all and writes `OUT_DIR/ptx.rs`.
pub fn all(root: &Path, out: &Path, tools: &Tools) -> Result<(), String> {
    let sources = entry_files(&root.join("kernels"))?;
    let jobs: Vec<Job<'_>> =
        sources.iter().flat_map(|s| ARCHITECTURES.map(|arch| Job { source: s, name: stem(s), arch })).collect();
    let next = AtomicUsize::new(0);
    let errors = Mutex::new(Vec::new());
    let threads = std::env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(2usize).min(jobs.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(e) = compile(root, out, tools, job) {
                        errors.lock().unwrap_or_else(|e| e.into_inner()).push(e);
                    }
                }
            });
        }
    });
    let errors = errors.into_inner().unwrap_or_else(|e| e.into_inner());
    if !errors.is_empty() {
        return Err(errors.join("\n\n"));
    }
    write_index(out, &sources)
}

fn entry_files(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "cu")).collect();
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The table of modules. Code that is the same for both architectures is embedded once: every GPU takes compute_80.
fn write_index(out: &Path, sources: &[PathBuf]) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", out.display());
    let mut text = String::from("&[\n");
    for source in sources {
        let [base, hopper] = ARCHITECTURES.map(|arch| format!("{}.{arch}.ptx", stem(source)));
        let code = |name: &str| fs::read_to_string(out.join(name)).map(|ptx| without_target(&ptx)).map_err(failed);
        let hopper = if code(&base)? == code(&hopper)? { &base } else { &hopper };
        let name = stem(source);
        text += &format!("    ({name:?}, include_str!({base:?}), include_str!({hopper:?})),\n");
    }
    fs::write(out.join("ptx.rs"), text + "]\n").map_err(failed)
}

fn without_target(ptx: &str) -> String {
    ptx.lines().filter(|l| !l.starts_with(".target")).map(|l| format!("{l}\n")).collect()
}

/// One file for one architecture: from the cache, else by nvcc.
fn compile(root: &Path, out: &Path, tools: &Tools, job: &Job<'_>) -> Result<(), String> {
    let target = out.join(format!("{}.{}.ptx", job.name, job.arch));
    let store = tools.cache.join("ptx");
    let io = |e: std::io::Error| format!("{}: {e}; free some space or set KVICK_CACHE", store.display());
    fs::create_dir_all(&store).map_err(io)?;
    let recipe = recipe_key(root, tools, job)?;
    let dependencies = store.join(format!("{recipe}.deps"));
    if let Ok(list) = fs::read_to_string(&dependencies)
        && let Some(key) = content_key(root, &recipe, &list)
        && let Ok(ptx) = fs::read(store.join(format!("{key}.ptx")))
    {
        return fs::write(&target, ptx).map_err(io);
    }
    let (ptx, list) = nvcc(root, out, tools, job)?;
    let key = content_key(root, &recipe, &list).ok_or("a kernel's include vanished while it was compiled")?;
    write_atomically(&store.join(format!("{key}.ptx")), ptx.as_bytes()).map_err(io)?;
    write_atomically(&dependencies, list.as_bytes()).map_err(io)?;
    fs::write(&target, ptx).map_err(io)
}

/// Names the entry file's own content, the compiler and the flags.
fn recipe_key(root: &Path, tools: &Tools, job: &Job<'_>) -> Result<String, String> {
    let source = fs::read(job.source).map_err(|e| format!("{}: {e}", job.source.display()))?;
    let place = job.source.strip_prefix(root).unwrap_or(job.source).to_string_lossy().into_owned();
    Ok(hash(&[tools.version.as_bytes(), FLAGS.join(" ").as_bytes(), job.arch.as_bytes(), place.as_bytes(), &source]))
}

/// Adds the content of every file of ours that the last compilation included; `None` if one is gone.
fn content_key(root: &Path, recipe: &str, list: &str) -> Option<String> {
    let mut parts = vec![recipe.as_bytes().to_vec()];
    for line in list.lines() {
        parts.push(line.as_bytes().to_vec());
        parts.push(fs::read(root.join(line)).ok()?);
    }
    Some(hash(&parts))
}

fn hash(parts: &[impl AsRef<[u8]>]) -> String {
    let mut h = Sha256::new();
    for p in parts {
        h.update((p.as_ref().len() as u64).to_le_bytes());
        h.update(p.as_ref());
    }
    h.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    fs::write(&part, bytes)?;
    fs::rename(&part, path)
}

/// Runs nvcc; returns the PTX, free of this machine's paths, and our own files that it includes, one per line.
fn nvcc(root: &Path, out: &Path, tools: &Tools, job: &Job<'_>) -> Result<(String, String), String> {
    let base = format!("{}.{}", job.name, job.arch);
    let (ptx, depfile) = (out.join(format!("{base}.tmp.ptx")), out.join(format!("{base}.d")));
    let mut command = Command::new(&tools.nvcc);
    command.args(FLAGS).arg(format!("-arch={}", job.arch)).arg("-MD").arg("-MF").arg(&depfile);
    command.arg("-o").arg(&ptx).arg(job.source).current_dir(root);
    let done = command.output().map_err(|e| format!("{} could not be started: {e}", tools.nvcc.display()))?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned());
    }
    let read = |p: &Path| fs::read_to_string(p).map_err(|e| format!("{}: {e}", p.display()));
    let prefix = format!("{}/", root.display());
    let list = our_includes(&read(&depfile)?, root, job.source);
    let text = read(&ptx)?.replace(&prefix, "");
    fs::remove_file(&ptx).map_err(|e| format!("{}: {e}", ptx.display()))?;
    Ok((text, list))
}

/// The files under `root/kernels` that a makefile rule names, relative to `root`.
fn our_includes(rule: &str, root: &Path, source: &Path) -> String {
    let mut files: Vec<String> = rule
        .replace("\\\n", " ")
        .split_whitespace()
        .map(|word| root.join(word.trim_end_matches(':')))
        .filter(|p| p.starts_with(root.join("kernels")) && p != source && p.is_file())
        .filter_map(|p| p.strip_prefix(root).ok().map(|p| p.to_string_lossy().into_owned()))
        .collect();
    files.sort();
    files.dedup();
    files.join("\n")
}
