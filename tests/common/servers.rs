//! Servers of shared tiers, started for a test and ended with it: Redis (`redis-server` or `valkey-server` on PATH), and moto
//! (PyPI, in a virtual environment) for S3.
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
fn listening(port: u16, who: &str) {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "{who} does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A process that ends with its owner.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Redis {
    pub process: Running,
    pub port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    pub fn start(port: u16, extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spawn = |program: &str| {
            let mut command = Command::new(program);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
            command.args(["--port", &port.to_string(), "--dir"]).arg(dir.path()).args(extra);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let child = spawn("redis-server").or_else(|_| spawn("valkey-server"));
        let child = child.expect("redis-server is needed for this test (Debian: apt-get install redis-server)");
        let server = Redis { process: Running(child), port, _dir: dir };
        listening(port, "redis-server");
        server
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.process.0.id().to_string()]).status().unwrap().success());
    }
}

fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// moto's server, installed once beside the build.
fn moto() -> PathBuf {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto");
    let server = venv.join("bin/moto_server");
    if !server.is_file() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let mut pip = Command::new(venv.join("bin/python"));
        run(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "moto[server]==5.2.5"]));
    }
    server
}

/// moto, and the variables with which this process and its children find it. One for a test program: the variables are the
/// process's.
pub fn s3(port: u16) -> Running {
    let mut command = Command::new(moto());
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Running(command.spawn().unwrap());
    listening(port, "moto_server");
    // SAFETY: the caller's test program starts it before any other thread reads the environment.
    unsafe {
        std::env::set_var("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"));
        std::env::set_var("AWS_REGION", "us-east-1");
        std::env::set_var("AWS_ACCESS_KEY_ID", "an-id");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "a-secret");
    }
    server
}

/// moto answers a PUT of the bucket's path without a signature.
pub fn create_bucket(port: u16, name: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!("PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
