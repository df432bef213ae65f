//! stdout and stderr: a closed reader is an outcome, not a panic.
use kvick::store;
use std::io::{self, Write};

/// stdout's reader has gone; the program ends quietly.
#[derive(Debug, thiserror::Error)]
#[error("stdout is closed")]
pub struct Closed;

/// Arguments that are fine one by one and not together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Writes text to stdout at once.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(e) => Err(anyhow::anyhow!("stdout: {e}")),
    }
}

/// Writes a line to stdout.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Writes a value as one line of JSON to stdout.
pub fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Writes a line to stderr; nobody needs to read it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A bar on a terminal, else a line per file.
pub struct Progress {
    bar: indicatif::ProgressBar,
    what: String,
}

impl Progress {
    pub fn new() -> Self {
        let bar = indicatif::ProgressBar::hidden();
        Progress { bar, what: String::new() }
    }
}

impl store::Progress for Progress {
    fn start(&mut self, what: &str, bytes: u64) {
        let bar = indicatif::ProgressBar::new(bytes);
        if bar.is_hidden() && self.what != what {
            note(&format!("kvick: fetching {what}, {} MB", bytes.div_ceil(1_000_000)));
        }
        let style = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec}";
        if let Ok(style) = indicatif::ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_string());
        self.what = what.to_string();
        self.bar = bar;
    }

    fn position(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn finish(&mut self) {
        self.bar.finish_and_clear();
    }
}
