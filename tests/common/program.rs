//! The real program, run as a user runs it, on a tiny model.
use super::gguf::{GgufWriter, Value, tiny_llama};
use serde_json::Value as Json;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// A folder with a tiny model, which every command uses on the device `cpu`.
pub struct Program {
    pub dir: tempfile::TempDir,
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

const CHAT: &str = "{% for m in messages %}{{ '@>' + m.content + '@>' }}{% endfor %}Z";

/// The model of [`Program`]: `@>` is its control token.
pub fn tiny(context: u32) -> GgufWriter {
    let mut types = vec![1; 32];
    let mut tokens: Vec<String> = (0..32u8).map(|i| char::from(b'A' + i).to_string()).collect();
    (tokens[26], types[26]) = ("@>".into(), 3);
    tiny_llama(7)
        .replace("llama.context_length", Some(Value::U32(context)))
        .replace("tokenizer.ggml.tokens", Some(Value::Strs(tokens)))
        .replace("tokenizer.ggml.token_type", Some(Value::I32s(types)))
        .key("tokenizer.chat_template", CHAT)
}

impl Program {
    pub fn new() -> Self {
        Self::with_context(64)
    }

    pub fn with_context(context: u32) -> Self {
        let program = Program { dir: tempfile::tempdir().unwrap() };
        program.write("tiny.gguf", tiny(context).finish().1);
        program
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// A command in the folder; `model` goes before the user's arguments, so that these may name another.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kvick"));
        command.current_dir(self.dir.path()).args(args).stdin(Stdio::null());
        command.env("KVICK_CACHE", self.path("cache"));
        command
    }

    /// Runs `kvick COMMAND --model tiny.gguf --device cpu ARGS`.
    pub fn model<S: AsRef<OsStr>>(&self, name: &str, args: &[S]) -> Run {
        let mut all: Vec<&OsStr> = vec![name.as_ref(), "--model".as_ref(), "tiny.gguf".as_ref()];
        if name != "tokenize" {
            all.extend([OsStr::new("--device"), OsStr::new("cpu")]);
        }
        all.extend(args.iter().map(AsRef::as_ref));
        self.run(&all)
    }

    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }
}

impl Run {
    pub fn of(output: Output) -> Self {
        Run {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// stdout of a run that must have worked.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Its JSON lines.
    pub fn json(self) -> Vec<Json> {
        let stdout = self.ok();
        stdout.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect()
    }

    /// Checks the exit code, that all of `words` are on stderr and nothing on stdout, and that nothing panicked.
    pub fn fails(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stdout, "");
    }
}

/// Sends SIGINT.
pub fn interrupt(child: &std::process::Child) {
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}
