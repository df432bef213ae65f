//! What can go wrong in the cache and its tools. Messages say what cures it.
use std::path::PathBuf;

/// Result of the cache's fallible calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be used.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line of a trace is not a request.
    #[error(
        "line {line} of the trace: {reason}; a line is {{\"timestamp\": ms, \"input_length\": n, \"output_length\": n, \"hash_ids\": [..]}}"
    )]
    Trace {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such policy.
    #[error("there is no policy {name:?}; use one of {known}")]
    Policy {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Error {
    /// An I/O error with its path.
    pub fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), source }
    }
}
