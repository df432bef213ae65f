//! GGUF: a reader that trusts nothing.
//!
//! Invariants:
//! * Opening validates every length, count, offset and type against the file before it is used, and keeps only ranges:
//!   strings and arrays stay in the (mapped) file, so memory is bounded by the number of keys and tensors, not by what the
//!   file claims.
//! * A tensor's range lies in the file, is aligned, has exactly the bytes of its shape, and overlaps no other.
mod parse;

use super::data::Data;
use super::tensor::{Tensor, TensorEntry};
use crate::error::{Error, Result};
use parse::{Cursor, kind};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A metadata value; strings and arrays are ranges of the file.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    String(Range<usize>),
    Array { kind: u32, count: usize, range: Range<usize> },
}

/// An opened GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    data: Data,
    meta: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorEntry>,
}

impl Gguf {
    /// Maps and checks a file.
    pub fn open(path: &Path) -> Result<Self> {
        Self::parse(Data::map(path)?, path)
    }

    /// Checks `data` as a GGUF file; `path` is for messages.
    pub fn parse(data: Data, path: &Path) -> Result<Self> {
        let (meta, tensors) = parse::parse(&data).map_err(|message| Error::model_file(path, message))?;
        Ok(Gguf { path: path.into(), data, meta, tensors })
    }

    /// Whether these bytes begin like a GGUF file.
    pub fn recognises(bytes: &[u8]) -> bool {
        bytes.starts_with(b"GGUF")
    }

    /// All tensors in name order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.tensors.iter().map(|(name, entry)| entry.view(name, &self.data))
    }

    /// A tensor by its name.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.tensors.get_key_value(name).map(|(name, entry)| entry.view(name, &self.data))
    }

    /// Says that a tensor has been copied.
    pub fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            self.data.release(entry.range.clone());
        }
    }

    /// Whether a key is there.
    pub fn has(&self, key: &str) -> bool {
        self.meta.contains_key(key)
    }

    /// A non-negative integer, `None` if the key is missing.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.get(key, "an unsigned integer", |v| match *v {
            Value::Unsigned(n) => Some(n),
            Value::Signed(n) => u64::try_from(n).ok(),
            _ => None,
        })
    }

    /// A number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.get(key, "a number", |v| match *v {
            Value::Float(x) => Some(x),
            Value::Unsigned(n) => Some(n as f64),
            Value::Signed(n) => Some(n as f64),
            _ => None,
        })
    }

    /// A truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "a bool", |v| match *v {
            Value::Bool(b) => Some(b),
            _ => None,
        })
    }

    /// A string.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.get(key, "a string", |v| match v {
            Value::String(range) => std::str::from_utf8(&self.data[range.clone()]).ok(),
            _ => None,
        })
    }

    /// An array of strings, without copying them.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.get(key, "an array of UTF-8 strings", |v| {
            let (count, mut cursor) = self.array(v, &[kind::STRING])?;
            let mut out = Vec::with_capacity(count);
            for _ in 0..count {
                let range = cursor.string().ok()?;
                out.push(std::str::from_utf8(&self.data[range]).ok()?);
            }
            Some(out)
        })
    }

    /// An array of f32.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.get(key, "an array of f32", |v| {
            let (count, mut cursor) = self.array(v, &[kind::F32])?;
            (0..count).map(|_| cursor.u32().ok().map(f32::from_bits)).collect()
        })
    }

    /// An array of integers or bools, as i64.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.get(key, "an array of integers", |v| {
            let Value::Array { kind, .. } = *v else { return None };
            let (count, mut cursor) = self.array(v, &[kind])?;
            (0..count)
                .map(|_| match cursor.scalar(kind).ok()? {
                    Value::Unsigned(n) => i64::try_from(n).ok(),
                    Value::Signed(n) => Some(n),
                    Value::Bool(b) => Some(b.into()),
                    _ => None,
                })
                .collect()
        })
    }

    fn array(&self, value: &Value, kinds: &[u32]) -> Option<(usize, Cursor<'_>)> {
        match value {
            Value::Array { kind, count, range } if kinds.contains(kind) => {
                Some((*count, Cursor { data: &self.data[..range.end], at: range.start }))
            }
            _ => None,
        }
    }

    fn get<'a, T>(&'a self, key: &str, what: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.meta.get(key) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::model_file(&self.path, format!("metadata {key} is not {what}"))),
        }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
