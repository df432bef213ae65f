//! The bytes of a model file: mapped, or owned by a test.
use crate::error::{Error, Result};
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::Path;

/// Immutable bytes.
pub enum Data {
    /// A file, paged in on demand.
    Mapped(Mmap),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl Data {
    /// Maps a file.
    pub fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, e))?;
        if !meta.is_file() {
            return Err(Error::model_file(path, "not a file"));
        }
        if meta.len() == 0 {
            return Ok(Data::Owned(Vec::new()));
        }
        // SAFETY: the mapping is read-only. As with every reader that maps its input, a file that another process
        // truncates or rewrites meanwhile is outside what can be guarded against; fetched models are written to a new
        // name and renamed, never changed in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Data::Mapped(map))
    }

    /// Gives the memory of a range back to the system; it is read from the file again when it is next used. Best effort.
    pub fn release(&self, range: Range<usize>) {
        if let Data::Mapped(map) = self {
            // SAFETY: the mapping is of a file and read-only, so pages that are dropped come back with the same bytes.
            let advised = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
            if let Err(e) = advised {
                tracing::debug!("a mapped file keeps its memory: {e}");
            }
        }
    }
}

impl Deref for Data {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Data::Mapped(map) => map,
            Data::Owned(bytes) => bytes,
        }
    }
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Data({} bytes)", self.len())
    }
}
