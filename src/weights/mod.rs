//! Model files: GGUF, and safetensors beside a `config.json`. Mapped, checked when opened, never trusted.
mod checkpoint;
mod data;
mod gguf;
mod tensor;

pub use checkpoint::Checkpoint;
pub use data::Data;
pub use gguf::Gguf;
pub use tensor::Tensor;

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// An opened model.
#[derive(Debug)]
pub enum ModelFile {
    /// One file with everything in it.
    Gguf(Gguf),
    /// A folder in the layout of Hugging Face.
    Checkpoint(Checkpoint),
}

/// Where a model's tokenizer is described.
#[derive(Debug)]
pub enum TokenizerSource<'a> {
    /// In the metadata under `tokenizer.*`.
    Gguf(&'a Gguf),
    /// In files of a folder.
    Files {
        /// `tokenizer.json`.
        tokenizer: PathBuf,
        /// `tokenizer_config.json`, if it is there.
        config: Option<PathBuf>,
        /// `chat_template.jinja`, if it is there.
        chat_template: Option<PathBuf>,
    },
}

/// Opens a GGUF file, a folder with `config.json` and safetensors, or a file of such a folder.
pub fn open(path: &Path) -> Result<ModelFile> {
    if path.is_dir() {
        return Checkpoint::open(path).map(ModelFile::Checkpoint);
    }
    let mut magic = Vec::new();
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    file.take(4).read_to_end(&mut magic).map_err(|e| Error::io(path, e))?;
    let part_of_folder = path.extension().is_some_and(|e| e == "safetensors" || e == "json");
    if part_of_folder && !Gguf::recognises(&magic) {
        return Checkpoint::open(path).map(ModelFile::Checkpoint);
    }
    Gguf::open(path).map(ModelFile::Gguf)
}

impl ModelFile {
    /// All tensors in name order.
    pub fn tensors(&self) -> Box<dyn Iterator<Item = Tensor<'_>> + '_> {
        match self {
            ModelFile::Gguf(file) => Box::new(file.tensors()),
            ModelFile::Checkpoint(file) => Box::new(file.tensors()),
        }
    }

    /// A tensor that may be missing.
    pub fn find(&self, name: &str) -> Option<Tensor<'_>> {
        match self {
            ModelFile::Gguf(file) => file.tensor(name),
            ModelFile::Checkpoint(file) => file.tensor(name),
        }
    }

    /// A tensor that must be there.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>> {
        self.find(name).ok_or_else(|| Error::model_file(self.path(), format!("tensor {name} is missing")))
    }

    /// Says that a tensor has been copied: its part of the mapped file need not stay in memory.
    pub fn release(&self, name: &str) {
        match self {
            ModelFile::Gguf(file) => file.release(name),
            ModelFile::Checkpoint(file) => file.release(name),
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            ModelFile::Gguf(file) => file.path(),
            ModelFile::Checkpoint(file) => file.path(),
        }
    }

    /// Where the tokenizer is described. Whether it really is there is found out by reading it.
    pub fn tokenizer(&self) -> TokenizerSource<'_> {
        match self {
            ModelFile::Gguf(file) => TokenizerSource::Gguf(file),
            ModelFile::Checkpoint(file) => {
                let existing = |name: &str| Some(file.path().join(name)).filter(|path| path.is_file());
                TokenizerSource::Files {
                    tokenizer: file.path().join("tokenizer.json"),
                    config: existing("tokenizer_config.json"),
                    chat_template: existing("chat_template.jinja"),
                }
            }
        }
    }
}
