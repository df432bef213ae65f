//! `hf:owner/name[:file]`: models of a hub that speaks Hugging Face's layout, by the crate hf-hub (which resumes by byte).
//!
//! Without a file name: the safetensors checkpoint with its config and tokenizer if there is one, else the only GGUF file. The
//! hub is asked which revision is the newest; what is here of it is not fetched again, and where the hub cannot be reached the
//! last revision that is here whole is taken.
use super::wheels::hash_file;
use super::{Progress, create_dir};
use crate::error::{Error, Result};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tries after the first, 0.3 s, 0.6 s ... apart.
const TRIES: u32 = 3;
/// Stands beside the files of a revision that is here whole, and names the first of them.
const WHOLE: &str = ".whole";
/// What a checkpoint's folder may hold besides the weights.
const EXTRAS: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "generation_config.json",
];

/// Fetches what is missing; returns the file, or the checkpoint's folder.
pub fn fetch(address: &str, cache: &Path, progress: &mut dyn Progress) -> Result<PathBuf> {
    let (repo, file) = split(address)?;
    create_dir(cache)?;
    let kept = Cache::new(cache.to_path_buf()).repo(Repo::model(repo.into()));
    if let Some(file) = file
        && let Some(path) = kept.get(file)
    {
        return Ok(path);
    }
    let mut builder = ApiBuilder::new().with_cache_dir(cache.to_path_buf()).with_progress(false).with_retries(0);
    if let Ok(endpoint) = std::env::var("HF_ENDPOINT") {
        builder = builder.with_endpoint(endpoint);
    }
    if let Ok(token) = std::env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let failed = |e: &dyn std::fmt::Display| {
        Error::Fetch(format!(
            "hf:{repo} could not be fetched: {e}; check the name and the network (HF_ENDPOINT names another hub, HF_TOKEN \
             opens private models); what is already here is kept"
        ))
    };
    let hub = builder.build().map_err(|e| failed(&e))?;
    let api = hub.model(repo.to_string());
    if let Some(file) = file {
        return get(&api, file, progress).map_err(|e| failed(&e));
    }
    let info = match api.info() {
        Ok(info) => info,
        Err(e) => return last_whole(&kept).ok_or_else(|| failed(&e)),
    };
    let names: Vec<String> = info.siblings.into_iter().map(|s| s.rfilename).collect();
    let (wanted, folder) = (choose(repo, &names)?, kept.pointer_path(&info.sha));
    // By its hash: the branch may move on while it is fetched.
    let api = hub.repo(Repo::with_revision(repo.into(), RepoType::Model, info.sha.clone()));
    for name in wanted.iter().filter(|name| !folder.join(name).exists()) {
        get(&api, name, progress).map_err(|e| failed(&e))?;
    }
    kept.create_ref(&info.sha).and_then(|()| std::fs::write(folder.join(WHOLE), &wanted[0])).map_err(|e| failed(&e))?;
    Ok(place(&folder, &wanted[0]))
}

/// What is loaded: the folder of a checkpoint, or the file.
fn place(folder: &Path, first: &str) -> PathBuf {
    if first == "config.json" { folder.to_path_buf() } else { folder.join(first) }
}

/// The revision that was fetched last, if all of it is here.
fn last_whole(kept: &CacheRepo) -> Option<PathBuf> {
    let folder = kept.get(WHOLE)?.parent()?.to_path_buf();
    let first = std::fs::read_to_string(folder.join(WHOLE)).ok()?;
    Some(place(&folder, &first)).filter(|path| path.exists())
}

fn split(address: &str) -> Result<(&str, Option<&str>)> {
    let (repo, file) = match address.split_once(':') {
        Some((repo, file)) => (repo, Some(file)),
        None => (address, None),
    };
    let plain = |part: &str| {
        !part.is_empty() && part != ".." && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let good_repo = repo.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
    let good_file = file.is_none_or(|f| f.split('/').all(plain));
    if good_repo && good_file {
        return Ok((repo, file));
    }
    Err(Error::Fetch(format!("hf:{address} is not of the form hf:owner/name or hf:owner/name:file")))
}

/// The files to fetch, config.json first where it is a checkpoint.
fn choose(repo: &str, names: &[String]) -> Result<Vec<String>> {
    let weights: Vec<&String> = names.iter().filter(|n| n.ends_with(".safetensors") && !n.contains('/')).collect();
    let has = |name: &str| names.iter().any(|n| n == name);
    if has("config.json") && !weights.is_empty() {
        let mut wanted = vec!["config.json".to_string()];
        wanted.extend(EXTRAS.iter().filter(|n| has(n)).map(|n| n.to_string()));
        wanted.extend(weights.into_iter().cloned());
        return Ok(wanted);
    }
    let files: Vec<&String> = names.iter().filter(|n| n.ends_with(".gguf")).collect();
    match files.as_slice() {
        [] => Err(Error::Fetch(format!("hf:{repo} has neither config.json with *.safetensors nor a .gguf file"))),
        [one] => Ok(vec![one.to_string()]),
        many => {
            let list: Vec<String> = many.iter().map(|f| format!("hf:{repo}:{f}")).collect();
            Err(Error::Fetch(format!("hf:{repo} has several GGUF files, name one: {}", list.join(" "))))
        }
    }
}

/// Downloads a file, trying again from where it broke. The crate's own retries can append bytes twice to a resumed file,
/// so each try opens it anew, and what arrived is checked against what the hub said of it.
fn get(api: &ApiRepo, file: &str, progress: &mut dyn Progress) -> Result<PathBuf, String> {
    let mut tries = 0;
    loop {
        let mut size = 0;
        let adapter = Adapter { inner: &mut *progress, bytes: 0, size: &mut size };
        let done = api.download_with_progress(file, adapter).map_err(|e| e.to_string());
        match done.and_then(|path| check(&path, size).map(|()| path)) {
            Ok(path) => return Ok(path),
            Err(e) if tries == TRIES => return Err(e),
            Err(_) => std::thread::sleep(Duration::from_millis(300 << tries)),
        }
        tries += 1;
    }
}

/// Size, and SHA-256 where the hub names its blobs by it (every large file). What is too short becomes a partial file
/// again, what is wrong is removed.
fn check(path: &Path, size: u64) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let blob = path.canonicalize().map_err(text)?;
    let length = blob.metadata().map_err(text)?.len();
    let name = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hashed = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    if length == size && (!hashed || hash_file(&blob).map_err(|e| e.to_string())? == name) {
        return Ok(());
    }
    std::fs::remove_file(path).map_err(text)?;
    if length < size {
        std::fs::rename(&blob, blob.with_extension("part")).map_err(text)?;
        return Err(format!("the connection broke after {length} of {size} bytes"));
    }
    std::fs::remove_file(&blob).map_err(text)?;
    Err(format!("what arrived ({length} bytes) is not what the hub promised ({size} bytes) and was not kept"))
}

struct Adapter<'a> {
    inner: &'a mut dyn Progress,
    bytes: u64,
    size: &'a mut u64,
}

impl hf_hub::api::Progress for Adapter<'_> {
    fn init(&mut self, size: usize, filename: &str) {
        *self.size = size as u64;
        self.bytes = 0;
        self.inner.start(filename, size as u64);
    }
    fn update(&mut self, size: usize) {
        self.bytes += size as u64;
        self.inner.position(self.bytes);
    }
    fn finish(&mut self) {
        self.inner.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(split("a/b").unwrap(), ("a/b", None));
        assert_eq!(split("a/b.c:d/e.gguf").unwrap(), ("a/b.c", Some("d/e.gguf")));
        for bad in ["", "a", "a/b/c", "a/b:", "a/b:../x", "../b", "a /b", "a/b:x y", "/b"] {
            assert!(split(bad).unwrap_err().to_string().contains("hf:owner/name"), "{bad}");
        }
    }

    #[test]
    fn what_is_chosen() {
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let checkpoint =
            names(&["README.md", "model.safetensors", "config.json", "tokenizer.json", "onnx/model.safetensors"]);
        assert_eq!(choose("a/b", &checkpoint).unwrap(), ["config.json", "tokenizer.json", "model.safetensors"]);
        assert_eq!(choose("a/b", &names(&["x.gguf", "README.md"])).unwrap(), ["x.gguf"]);
        let message = choose("a/b", &names(&["x.gguf", "y.gguf"])).unwrap_err().to_string();
        assert!(message.contains("hf:a/b:y.gguf"), "{message}");
        assert!(choose("a/b", &names(&["pytorch_model.bin"])).is_err());
    }
}
