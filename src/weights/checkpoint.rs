//! A Hugging Face checkpoint: `config.json` and one or several safetensors files.
//!
//! Invariants: as for GGUF, every tensor's range is checked when its file is opened (by the crate `safetensors`), and
//! tensors stay in the mapped files.
use super::data::Data;
use super::tensor::{Tensor, TensorEntry};
use crate::backend::DType;
use crate::error::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Headers above this are refused: real ones have a few hundred kilobytes, and a JSON tree takes several times its text.
const MAX_HEADER: u64 = 8 << 20;

/// An opened checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    config: serde_json::Value,
    files: Vec<Data>,
    /// Name -> file and place.
    tensors: BTreeMap<String, (usize, TensorEntry)>,
}

impl Checkpoint {
    /// Opens a folder with `config.json` and `*.safetensors` (or one of these two files in it).
    pub fn open(path: &Path) -> Result<Self> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
            let path = entry.map_err(|e| Error::io(folder, e))?.path();
            if path.extension().is_some_and(|e| e == "safetensors") {
                names.push(path);
            }
        }
        names.sort();
        let config = folder.join("config.json");
        let text = std::fs::read(&config).map_err(|e| Error::io(&config, e))?;
        let files = names.into_iter().map(|name| Ok((Data::map(&name)?, name))).collect::<Result<_>>()?;
        Self::parse(folder, &text, files)
    }

    /// Checks the text of `config.json` and the safetensors files of a folder; paths are for messages.
    pub fn parse(folder: &Path, config: &[u8], files: Vec<(Data, PathBuf)>) -> Result<Self> {
        let not_json = |e| Error::model_file(folder.join("config.json"), format!("not JSON: {e}"));
        let config = serde_json::from_slice(config).map_err(not_json)?;
        if files.is_empty() {
            return Err(Error::model_file(folder, "no .safetensors file beside config.json"));
        }
        let mut checkpoint = Checkpoint { folder: folder.into(), config, files: Vec::new(), tensors: BTreeMap::new() };
        for (data, path) in files {
            checkpoint.add(data, &path)?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, data: Data, path: &Path) -> Result<()> {
        let entries = read_header(&data).map_err(|message| Error::model_file(path, message))?;
        for (name, entry) in entries {
            if self.tensors.contains_key(&name) {
                return Err(Error::model_file(path, format!("tensor {name} is in two files")));
            }
            self.tensors.insert(name, (self.files.len(), entry));
        }
        self.files.push(data);
        Ok(())
    }

    /// `config.json`.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Says that a tensor has been copied.
    pub fn release(&self, name: &str) {
        if let Some((file, entry)) = self.tensors.get(name) {
            self.files[*file].release(entry.range.clone());
        }
    }

    /// All tensors in name order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|(name, (file, entry))| entry.view(name, &self.files[*file]))
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.get_key_value(name).map(|(name, (file, entry))| entry.view(name, &self.files[*file]))
    }
}

/// Tensors of a safetensors file, with ranges in the file.
fn read_header(data: &[u8]) -> Result<Vec<(String, TensorEntry)>, String> {
    let damaged = |e: safetensors::SafeTensorError| format!("not a sound safetensors file: {e}");
    let declared = data.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
    if declared > MAX_HEADER {
        return Err(format!("its header is said to have {declared} bytes; more than {MAX_HEADER} are not believed"));
    }
    let (header, metadata) = SafeTensors::read_metadata(data).map_err(damaged)?;
    let base = header + 8;
    let mut out = Vec::new();
    for (name, info) in metadata.tensors() {
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(format!("tensor {name} has type {other:?}; kvick reads F32, F16 and BF16")),
        };
        let (start, end) = info.data_offsets;
        let range = base + start..base + end;
        if TensorEntry::bytes(dtype, &info.shape) != Some(range.len()) || range.end > data.len() {
            return Err(format!("tensor {name} has shape {:?} but {} bytes", info.shape, range.len()));
        }
        out.push((name, TensorEntry { dtype, shape: info.shape.clone(), range }));
    }
    Ok(out)
}
