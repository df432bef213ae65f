//! The S3 tier against a real S3 server on loopback (moto, from PyPI, in a virtual environment): sharing, and errors that
//! say what to do. One test, since the endpoint is a variable of the process.
#[path = "common/pages.rs"]
mod pages;

use kvick::kv::tier::s3::S3Store;
use kvick::kv::tier::{RealClock, Tiers};
use pages::{fingerprint, hits, keep};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Generous: a busy machine must not look like a dead server, and a dead one refuses at once.
const TIMEOUT: Duration = Duration::from_secs(20);

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

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(port: u16) -> Server {
    let mut command = Command::new(moto());
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().unwrap());
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(60), "moto_server does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// moto answers a PUT of the bucket's path without a signature.
fn create_bucket(port: u16, name: &str) {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "PUT /{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn engine(address: &str, model: &str) -> Tiers {
    let mut tiers = Tiers::new(fingerprint(model), None, Arc::new(RealClock::default()));
    tiers.push(Box::new(S3Store::open(address, &fingerprint(model), TIMEOUT).unwrap()));
    tiers
}

fn refusal(address: &str) -> String {
    S3Store::open(address, &fingerprint("m"), TIMEOUT)
        .err()
        .unwrap_or_else(|| panic!("{address} was opened"))
        .to_string()
}

#[test]
fn engines_share_pages_and_errors_say_what_to_do() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = start(port);
    // SAFETY: no other thread of this process reads the environment yet.
    unsafe {
        std::env::set_var("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"));
        std::env::set_var("AWS_REGION", "us-east-1");
        std::env::set_var("AWS_ACCESS_KEY_ID", "an-id");
        std::env::set_var("AWS_SECRET_ACCESS_KEY", "a-secret");
    }
    create_bucket(port, "pages");
    let (a, b, other) = (engine("s3://pages/x", "m"), engine("s3://pages/x", "m"), engine("s3://pages/x", "n"));
    assert_eq!(keep(&a, fingerprint("m"), 0..40), 40);
    assert_eq!(hits(&b, fingerprint("m"), 0..40), 40, "from another engine");
    assert_eq!(hits(&b, fingerprint("m"), 40..44), 0, "not there is a miss");
    assert_eq!(b.counters()[0].failed, 0, "and no failure");
    assert_eq!(hits(&other, fingerprint("n"), 0..4), 0);
    assert_eq!(hits(&engine("s3://pages/y", "m"), fingerprint("m"), 0..4), 0, "another prefix");

    let missing = refusal("s3://nobucket/x");
    assert!(missing.contains("no such bucket") && missing.contains("create"), "{missing}");
    for bad in ["pages", "s3://", "s3:///x"] {
        assert!(refusal(bad).contains("s3://bucket"), "{bad}");
    }

    drop(server);
    for _ in 0..6 {
        assert_eq!(hits(&b, fingerprint("m"), 0..2), 0, "a dead server served");
    }
    assert!(b.counters()[0].left_alone > 0, "the breaker never opened");
    let dead = refusal("s3://pages/x");
    assert!(dead.contains("AWS_ENDPOINT") && !dead.contains("a-secret"), "{dead}");
}
