//! The one error type of the library's edge. Every message says what was wrong and what cures it; the library never
//! prints, exits or panics across its API.
use std::path::PathBuf;

/// Result of every fallible call of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The device or its driver failed. After a fault of a kernel every later call fails the same way.
    #[error("device: {0}")]
    Device(String),
    /// Device memory does not suffice.
    #[error("out of device memory: {what} needs {needed} bytes, {free} are free; use a smaller --kv-memory or model")]
    OutOfMemory {
        /// What was being allocated.
        what: String,
        /// Bytes asked for.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// A value left the range of f16 where it is the compute type.
    #[error("a value overflowed f16 in {0}; run again with --dtype bf16")]
    Overflow(String),
    /// A model file is damaged or lies about itself.
    #[error("{path}: {message}")]
    ModelFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
    /// An architecture, tensor type or option that kvick does not have; the message lists what it has.
    #[error("{0}")]
    Unsupported(String),
    /// A request that cannot be served (empty prompt, longer than the context, ...).
    #[error("{0}")]
    Request(String),
    /// Arguments of a backend operation do not fit each other: a bug of the caller.
    #[error("{op}: {message}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// What does not fit.
        message: String,
    },
    /// A file or directory could not be used.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model could not be fetched.
    #[error("{0}")]
    Fetch(String),
    /// The request was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// An I/O error with its path.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }

    /// A damaged model file.
    pub fn model_file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Error::ModelFile { path: path.into(), message: message.into() }
    }
}
