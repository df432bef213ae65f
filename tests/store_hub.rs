//! `hf:owner/name[:file]` against a local server that speaks the hub's layout: whole files, ranges, and a connection that
//! breaks in the middle. One test, since the endpoint is a variable of the process.
#![cfg(feature = "engine")]
use kvick::store::{Progress, resolve};
use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::sync::{Arc, Mutex};
use tiny_http::{Header, Response, Server, StatusCode};

/// What the server was asked: (path, first byte of the range).
type Log = Arc<Mutex<Vec<(String, u64)>>>;

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name.as_bytes(), value.as_bytes()).unwrap()
}

fn range(request: &tiny_http::Request) -> (u64, Option<u64>) {
    let value = request.headers().iter().find(|h| h.field.equiv("Range")).map(|h| h.value.as_str().to_string());
    let Some(value) = value else { return (0, None) };
    let (from, to) = value.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    (from.parse().unwrap(), to.parse().ok())
}

/// As the hub does it: SHA-256 for large files, a git object's name for small ones.
fn etag(name: &str, bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
    if bytes.len() > 1000 {
        format!("\"{}\"", hex(&Sha256::digest(bytes)))
    } else {
        format!("\"{:0>40}\"", hex(name.as_bytes()))
    }
}

/// Serves `files` of repository `o/n`; `cut` names a file whose first whole download breaks half-way.
fn serve(server: Arc<Server>, files: HashMap<&'static str, Vec<u8>>, cut: &'static str, log: Log) {
    let mut to_cut = true;
    for request in server.incoming_requests() {
        let url = request.url().to_string();
        if url.starts_with("/api/models/o/n") {
            let siblings: Vec<String> = files.keys().map(|f| format!("{{\"rfilename\":\"{f}\"}}")).collect();
            let body = format!("{{\"sha\":\"c0ffee\",\"siblings\":[{}]}}", siblings.join(","));
            request.respond(Response::from_string(body)).unwrap();
            continue;
        }
        let Some((name, bytes)) =
            files.iter().find(|(n, _)| ["main", "c0ffee"].iter().any(|r| url == format!("/o/n/resolve/{r}/{n}")))
        else {
            request.respond(Response::from_string("no such file").with_status_code(404)).unwrap();
            continue;
        };
        let (from, to) = range(&request);
        let end = to.map_or(bytes.len() as u64, |t| (t + 1).min(bytes.len() as u64));
        let part = bytes[from as usize..end as usize].to_vec();
        let headers = vec![
            header("ETag", &etag(name, bytes)),
            header("x-repo-commit", "c0ffee"),
            header("Content-Range", &format!("bytes {from}-{}/{}", end - 1, bytes.len())),
        ];
        let length = part.len();
        let is_body = to != Some(0);
        if is_body {
            log.lock().unwrap().push((name.to_string(), from));
        }
        if is_body && *name == cut && to_cut {
            to_cut = false;
            // Promises everything and sends half: the connection closes early.
            let body = part[..length / 2].to_vec();
            let broken: Box<dyn Read + Send> = Box::new(Cursor::new(body).chain(Broken));
            let _ = request.respond(Response::new(StatusCode(206), headers, broken, Some(length), None));
            continue;
        }
        request.respond(Response::new(StatusCode(206), headers, Cursor::new(part), Some(length), None)).unwrap();
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::ConnectionReset.into())
    }
}

#[derive(Default)]
struct Seen(Vec<(String, u64)>);

impl Progress for Seen {
    fn start(&mut self, what: &str, bytes: u64) {
        self.0.push((what.to_string(), bytes));
    }
    fn position(&mut self, _: u64) {}
    fn finish(&mut self) {}
}

#[test]
fn fetches_resumes_and_explains() {
    let weights: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let files = HashMap::from([
        ("config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{\"t\":1}".to_vec()),
        ("model.safetensors", weights.clone()),
        ("small.gguf", b"GGUF".to_vec()),
    ]);
    let server = Arc::new(Server::http("127.0.0.1:0").unwrap());
    let address = format!("http://{}", server.server_addr().to_ip().unwrap());
    let log = Log::default();
    let (for_thread, log2) = (server.clone(), log.clone());
    let thread = std::thread::spawn(move || serve(for_thread, files, "model.safetensors", log2));
    let cache = tempfile::tempdir().unwrap();
    // SAFETY: no other thread of this process reads the environment yet.
    unsafe {
        std::env::set_var("HF_ENDPOINT", &address);
        std::env::set_var("KVICK_CACHE", cache.path());
    }

    let mut seen = Seen::default();
    let folder = resolve("hf:o/n", &mut seen).or_else(|_| resolve("hf:o/n", &mut seen)).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    assert_eq!(std::fs::read(folder.join("tokenizer.json")).unwrap(), b"{\"t\":1}");
    assert!(seen.0.contains(&("model.safetensors".to_string(), 3_000_000)), "{:?}", seen.0);
    let starts: Vec<u64> =
        log.lock().unwrap().iter().filter(|(n, _)| n == "model.safetensors").map(|(_, from)| *from).collect();
    assert!(starts.len() >= 2 && starts[0] == 0 && *starts.last().unwrap() > 0, "not resumed: {starts:?}");

    let before = log.lock().unwrap().len();
    assert_eq!(resolve("hf:o/n", &mut ()).unwrap(), folder);
    assert_eq!(log.lock().unwrap().len(), before, "a checkpoint that is here was fetched again");

    let file = resolve("hf:o/n:small.gguf", &mut ()).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), b"GGUF");
    resolve("hf:o/n:small.gguf", &mut ()).unwrap();
    assert_eq!(log.lock().unwrap().len(), before + 1, "a cached file was fetched again");

    for (model, says) in [
        ("hf:o/n:none.gguf", "could not be fetched"),
        ("hf:o/other", "could not be fetched"),
        ("hf:o", "hf:owner/name"),
    ] {
        let message = resolve(model, &mut ()).unwrap_err().to_string();
        assert!(message.contains(says), "{model}: {message}");
    }
    server.unblock();
    thread.join().unwrap();
    drop(server);
    assert_eq!(resolve("hf:o/n", &mut ()).unwrap(), folder, "without the hub");
    let message = resolve("hf:o/other", &mut ()).unwrap_err().to_string();
    assert!(message.contains("the network"), "{message}");
}
