//! Where models come from: a path, a name that kvick knows, or `hf:owner/name[:file]`; and the cache folder they are kept in.
//!
//! Invariants: a file appears under its final name only when it is whole and its hash was right; an interrupted fetch goes
//! on where it stopped; two processes that want the same model fetch it once.
mod hub;
mod named;
mod wheels;

pub use named::{MODELS, NamedModel};

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Told about a fetch while it runs.
pub trait Progress {
    /// Something of `bytes` bytes (0 if unknown) begins.
    fn start(&mut self, what: &str, bytes: u64);
    /// So many bytes of it are here now.
    fn position(&mut self, bytes: u64);
    /// It is complete.
    fn finish(&mut self);
}

/// Silence.
impl Progress for () {
    fn start(&mut self, _: &str, _: u64) {}
    fn position(&mut self, _: u64) {}
    fn finish(&mut self) {}
}

/// `$KVICK_CACHE`, else `kvick` in the user's cache folder. Created if missing.
pub fn cache_dir() -> Result<PathBuf> {
    let dir = std::env::var_os("KVICK_CACHE").filter(|v| !v.is_empty()).map(PathBuf::from);
    let dir = dir
        .or_else(|| dirs::cache_dir().map(|d| d.join("kvick")))
        .ok_or_else(|| Error::Fetch("this user has no cache folder; set KVICK_CACHE to a folder for models".into()))?;
    create_dir(&dir)?;
    Ok(dir)
}

fn create_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| unwritable(dir, &e))
}

/// The cure for what goes wrong while writing to the cache.
fn unwritable(path: &Path, e: &std::io::Error) -> Error {
    let cure = match e.kind() {
        std::io::ErrorKind::StorageFull => "free some space there, or set KVICK_CACHE to a folder on another disk",
        _ => "make it writable, or set KVICK_CACHE to another folder",
    };
    Error::Fetch(format!("{}: {e}; {cure}", path.display()))
}

/// The local path of a model: fetches it first if it is a name or an `hf:` address that is not in the cache.
///
/// # Errors
/// [`Error::Fetch`] with the cure: no such name or file, no network, no pip, a wrong hash, a full or read-only disk.
pub fn resolve(model: &str, progress: &mut dyn Progress) -> Result<PathBuf> {
    if let Some(address) = model.strip_prefix("hf:") {
        return hub::fetch(address, &cache_dir()?.join("hub"), progress);
    }
    if let Some(named) = MODELS.iter().find(|m| m.name == model) {
        return named.fetch(&cache_dir()?, progress);
    }
    let path = PathBuf::from(model);
    if path.exists() {
        return Ok(path);
    }
    let names: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
    Err(Error::Fetch(format!(
        "{model:?} is neither a file or folder, nor one of the models that kvick fetches by name ({}), nor hf:owner/name[:file]",
        names.join(", ")
    )))
}
