//! Tensors of a file to weights on a device.
//!
//! Invariants: every tensor's shape is checked against the configuration; every tensor of the file is used, or the model is
//! refused, so that a part that kvick does not know (a bias, an expert) cannot be left out in silence; rows of half-split
//! heads are permuted to adjacent pairs.
use super::config::ModelConfig;
use super::registry::{Layout, Names};
use super::rope::adjacent_pairs;
use crate::backend::{Backend, Buffer, Fuse, HostWeight, Weight};
use crate::error::{Error, Result};
use crate::weights::{ModelFile, Tensor};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Takes tensors out of a file.
pub(super) struct Loader<'a> {
    backend: &'a dyn Backend,
    file: &'a ModelFile,
    pub names: &'static Names,
    layout: &'static Layout,
    head_dim: usize,
    rope_dims: usize,
    used: RefCell<BTreeSet<String>>,
}

/// A matrix by name and shape.
pub(super) struct Matrix {
    pub name: String,
    pub rows: usize,
    pub cols: usize,
    /// Whether its rows are heads that RoPE rotates.
    pub rotated: bool,
}

impl<'a> Loader<'a> {
    pub fn new(
        backend: &'a dyn Backend,
        file: &'a ModelFile,
        config: &ModelConfig,
        layout: &'static Layout,
    ) -> Result<Self> {
        let rope_dims = config.groups[0].rope.dims;
        if config.groups.iter().any(|g| g.rope.dims != rope_dims) {
            return Err(Error::Unsupported("layers that rotate different numbers of elements".into()));
        }
        let (head_dim, used) = (config.head_dim, RefCell::default());
        Ok(Loader { backend, file, names: layout.names, layout, head_dim, rope_dims, used })
    }

    /// The name of a layer's tensor.
    pub fn in_layer(&self, layer: usize, name: &str) -> String {
        format!("{}{layer}.{name}", self.names.layer)
    }

    fn find(&self, name: &str) -> Option<Tensor<'a>> {
        let tensor = self.file.find(name)?;
        self.used.borrow_mut().insert(name.to_owned());
        Some(tensor)
    }

    fn check(&self, tensor: &Tensor<'_>, shape: &[usize]) -> Result<()> {
        if tensor.shape == shape {
            return Ok(());
        }
        let message = format!("tensor {} has shape {:?}; the configuration says {shape:?}", tensor.name, tensor.shape);
        Err(Error::model_file(self.file.path(), message))
    }

    fn host(&self, m: &Matrix) -> Result<HostWeight<'a>> {
        let tensor = self.find(&m.name).map_or_else(|| self.file.tensor(&m.name), Ok)?;
        self.check(&tensor, &[m.rows, m.cols])?;
        let bytes = if m.rotated && self.layout.half_split {
            let row_bytes = tensor.bytes.len() / m.rows;
            let mut out = Vec::with_capacity(tensor.bytes.len());
            for source in adjacent_pairs(m.rows, self.head_dim, self.rope_dims) {
                out.extend_from_slice(&tensor.bytes[source * row_bytes..][..row_bytes]);
            }
            Cow::Owned(out)
        } else {
            Cow::Borrowed(tensor.bytes)
        };
        Ok(HostWeight { name: m.name.clone(), dtype: tensor.dtype, rows: m.rows, cols: m.cols, bytes })
    }

    /// Loads matrices as one weight.
    pub fn matrices(&self, parts: &[Matrix], fuse: Fuse) -> Result<Weight> {
        let hosts: Vec<HostWeight<'_>> = parts.iter().map(|m| self.host(m)).collect::<Result<_>>()?;
        let weight = self.backend.load_weight(&hosts, fuse)?;
        // Else the file would stay in memory beside the device's copy (which may be in the same memory).
        parts.iter().for_each(|m| self.file.release(&m.name));
        Ok(weight)
    }

    /// Loads one matrix.
    pub fn matrix(&self, name: String, rows: usize, cols: usize) -> Result<Weight> {
        self.matrices(&[Matrix { name, rows, cols, rotated: false }], Fuse::Concat)
    }

    fn upload(&self, name: &str, values: &[f32]) -> Result<Buffer> {
        let buffer = self.backend.alloc(name, values.len() * 4)?;
        self.backend.upload(&buffer, 0, bytemuck::cast_slice(values))?;
        Ok(buffer)
    }

    /// A norm's weight as f32; `rotated` if its elements follow the rows of Q and K.
    pub fn norm(&self, name: &str, width: usize, rotated: bool) -> Result<Buffer> {
        let tensor = self.find(name).map_or_else(|| self.file.tensor(name), Ok)?;
        self.check(&tensor, &[width])?;
        let mut values = tensor.to_f32();
        if self.layout.norms_less_one {
            values.iter_mut().for_each(|x| *x += 1.0);
        }
        if rotated && self.layout.half_split {
            values = adjacent_pairs(width, self.head_dim, self.rope_dims).map(|source| values[source]).collect();
        }
        self.upload(name, &values)
    }

    /// The biases of fused matrices, if the file has any; one that is missing counts as zero.
    pub fn bias(&self, parts: &[Matrix]) -> Result<Option<Buffer>> {
        let mut all = Vec::new();
        let mut any = false;
        for m in parts {
            let name = m.name.replace(".weight", ".bias");
            let Some(tensor) = self.find(&name) else {
                all.resize(all.len() + m.rows, 0.0);
                continue;
            };
            self.check(&tensor, &[m.rows])?;
            let values = tensor.to_f32();
            any = true;
            if m.rotated && self.layout.half_split {
                all.extend(adjacent_pairs(m.rows, self.head_dim, self.rope_dims).map(|source| values[source]));
            } else {
                all.extend(values);
            }
        }
        if any { self.upload("bias", &all).map(Some) } else { Ok(None) }
    }

    /// Whether a tensor is there.
    pub fn has(&self, name: &str) -> bool {
        self.file.find(name).is_some()
    }

    /// Refuses a file of which something was not loaded.
    pub fn finish(&self, tied_head: bool) -> Result<()> {
        let used = self.used.borrow();
        let ignored = |name: &str| {
            self.names.ignored.iter().any(|end| name.ends_with(end)) || tied_head && name == self.names.head
        };
        let left = self.file.tensors().find(|t| !used.contains(t.name) && !ignored(t.name));
        match left.map(|t| t.name.to_owned()) {
            None => Ok(()),
            Some(name) => Err(Error::Unsupported(format!(
                "{}: tensor {name} is of a kind that kvick does not compute with for this architecture",
                self.file.path().display()
            ))),
        }
    }
}
