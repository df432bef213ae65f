//! Finds the CUDA compiler and libclang, or fetches NVIDIA's wheels, pinned by hash, into a cache shared by all builds.
//!
//! Order: `$KVICK_NVCC`; `$CUDA_HOME` or `$CUDA_PATH`; nvcc on PATH; /usr/local/cuda; else the wheels of
//! `toolchain/requirements.txt` (about 129 MB, once per machine, no root). A half-fetched toolchain is never seen: it is
//! unpacked beside its place and renamed, under a file lock.
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the build calls.
pub struct Tools {
    /// nvcc.
    pub nvcc: PathBuf,
    /// Folder with libclang.so, if it is not the system's to find.
    pub libclang: Option<PathBuf>,
    /// Where compiled PTX is kept.
    pub cache: PathBuf,
    /// What the compiler says of itself, part of every cache key.
    pub version: String,
}

impl Tools {
    /// Finds or fetches.
    pub fn find(root: &Path) -> Result<Self, String> {
        need_cxx()?;
        let cache = cache_dir()?;
        let system = system_nvcc()?;
        let clang = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
        let (nvcc, libclang) = match (system, clang) {
            (Some(nvcc), Some(clang)) => (nvcc, Some(clang)),
            (system, clang) => {
                let wheels = fetch(root, &cache, system.is_some())?;
                let nvcc = system.unwrap_or_else(|| wheels.join("nvidia/cu13/bin/nvcc"));
                (nvcc, clang.or_else(|| Some(wheels.join("libclang-18.1.1.data/platlib/clang/native"))))
            }
        };
        let version = output(Command::new(&nvcc).arg("--version"), "nvcc --version")?;
        println!("cargo:rustc-env=KVICK_BUILD_NVCC={}", nvcc.display());
        Ok(Tools { nvcc, libclang, cache, version })
    }
}

/// Runs a command and returns its stdout, or says what failed.
pub fn output(command: &mut Command, what: &str) -> Result<String, String> {
    let done = command.output().map_err(|e| format!("{what} could not be started: {e}"))?;
    if !done.status.success() {
        let all = [done.stdout, done.stderr].concat();
        return Err(format!("{what} failed ({}):\n{}", done.status, String::from_utf8_lossy(&all)));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn need_cxx() -> Result<(), String> {
    output(Command::new("g++").arg("--version"), "g++")
        .map(drop)
        .map_err(|_| "g++ was not found; nvcc preprocesses with it. Install it (Debian: apt-get install g++).".into())
}

/// `$KVICK_CACHE`, else `$XDG_CACHE_HOME/kvick`, else `~/.cache/kvick`.
fn cache_dir() -> Result<PathBuf, String> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = var("KVICK_CACHE")
        .or_else(|| var("XDG_CACHE_HOME").map(|d| d.join("kvick")))
        .or_else(|| var("HOME").map(|d| d.join(".cache/kvick")))
        .ok_or("neither KVICK_CACHE, XDG_CACHE_HOME nor HOME is set; set KVICK_CACHE to a folder for the compiler")?;
    fs::create_dir_all(&dir).map_err(|e| {
        format!("the cache folder {} cannot be written ({e}); set KVICK_CACHE to another", dir.display())
    })?;
    Ok(dir)
}

fn system_nvcc() -> Result<Option<PathBuf>, String> {
    if let Some(path) = std::env::var_os("KVICK_NVCC").map(PathBuf::from) {
        let there = path.is_file();
        return if there { Ok(Some(path)) } else { Err(format!("KVICK_NVCC is {}, which is no file", path.display())) };
    }
    let homes =
        ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(|d| PathBuf::from(d).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = homes.chain(std::env::split_paths(&path)).chain([PathBuf::from("/usr/local/cuda/bin")]);
    Ok(dirs.map(|d| d.join("nvcc")).find(|p| p.is_file()))
}

/// Fetches the wheels (only libclang's where a compiler is there) unless an earlier build did; returns their folder.
fn fetch(root: &Path, cache: &Path, only_libclang: bool) -> Result<PathBuf, String> {
    let list = root.join("toolchain/requirements.txt");
    let text = fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    let wanted: String =
        text.lines().filter(|l| !only_libclang || l.starts_with("libclang")).map(|l| format!("{l}\n")).collect();
    let mut hasher = DefaultHasher::new();
    (&wanted, std::env::consts::ARCH).hash(&mut hasher);
    let place = cache.join(format!("toolchain-{:016x}", hasher.finish()));
    if place.is_dir() {
        return Ok(place);
    }
    let lock = fs::File::create(cache.join("toolchain.lock")).map_err(|e| write_error(cache, &e))?;
    lock.lock().map_err(|e| format!("cannot lock {}: {e}", cache.display()))?;
    if place.is_dir() {
        return Ok(place);
    }
    if std::env::var_os("KVICK_OFFLINE").is_some_and(|v| v != "0") {
        return Err("no CUDA compiler was found and KVICK_OFFLINE forbids fetching one. Install CUDA 13.0 and set \
                    CUDA_HOME, or unset KVICK_OFFLINE."
            .into());
    }
    let part = cache.join("toolchain.part");
    let _ = fs::remove_dir_all(&part);
    download(&wanted, &part, only_libclang)?;
    unpack(&part)?;
    fs::rename(&part, &place).map_err(|e| write_error(cache, &e))?;
    Ok(place)
}

fn write_error(cache: &Path, e: &std::io::Error) -> String {
    format!("{}: {e}; free some space (400 MB are needed) or set KVICK_CACHE to another folder", cache.display())
}

fn python() -> String {
    std::env::var("PYTHON").unwrap_or_else(|_| "python3".into())
}

fn download(wanted: &str, part: &Path, only_libclang: bool) -> Result<(), String> {
    fs::create_dir_all(part).map_err(|e| write_error(part, &e))?;
    let list = part.join("requirements.txt");
    fs::write(&list, wanted).map_err(|e| write_error(part, &e))?;
    output(Command::new(python()).args(["-m", "pip", "--version"]), "pip").map_err(|_| {
        "no CUDA compiler was found, and python3 with pip, which fetches one, was not found either. Install it (Debian: \
         apt-get install python3-pip), or install CUDA 13.0 and set CUDA_HOME."
            .to_string()
    })?;
    let size = if only_libclang { "libclang (25 MB)" } else { "NVIDIA's CUDA compiler 13.0 and libclang (129 MB)" };
    progress(&format!("kvick: fetching {size}, once per machine, into {}", part.with_extension("").display()));
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "download", "--isolated", "--disable-pip-version-check", "--quiet", "--no-deps"]);
    pip.args(["--require-hashes", "--only-binary", ":all:", "--dest"]).arg(part).arg("-r").arg(&list);
    output(&mut pip, "pip download").map(drop).map_err(|e| {
        let cure = if e.contains("HASHES") || e.contains("hash") {
            "A fetched file does not match its pinned hash: do not use it; look for a proxy that alters downloads."
        } else if e.contains("No space left") {
            "Free some space (400 MB are needed) or set KVICK_CACHE to another folder."
        } else {
            "Check the network, or install CUDA 13.0 and set CUDA_HOME."
        };
        format!("{e}\n{cure}")
    })
}

/// One line to the person who waits: cargo hides a build script's output, so it goes to the terminal if there is one.
fn progress(line: &str) {
    use std::io::Write;
    match fs::OpenOptions::new().write(true).open("/dev/tty") {
        Ok(mut tty) => drop(writeln!(tty, "{line}")),
        Err(_) => eprintln!("{line}"),
    }
}

fn unpack(part: &Path) -> Result<(), String> {
    for entry in fs::read_dir(part).map_err(|e| write_error(part, &e))?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "whl") {
            let mut zip = Command::new(python());
            output(zip.args(["-m", "zipfile", "-e"]).arg(&path).arg(part), "unpacking a wheel")
                .map_err(|e| format!("{e}\nIs the disk full? 400 MB are needed; KVICK_CACHE names another folder."))?;
            fs::remove_file(&path).map_err(|e| write_error(part, &e))?;
        }
    }
    for dir in ["nvidia/cu13/bin", "nvidia/cu13/nvvm/bin"] {
        for entry in fs::read_dir(part.join(dir)).into_iter().flatten().flatten() {
            make_executable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(|e| write_error(path, &e))
}

#[cfg(not(unix))]
fn make_executable(_: &Path) -> Result<(), String> {
    Ok(())
}
