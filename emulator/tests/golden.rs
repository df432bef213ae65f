//! Golden programs: `pass/*.ptx` must leave the memory and the output that `*.expected` says, `fail/*.ptx` must be refused
//! or stopped with the report that it says.
//!
//! A program's launch stands in comments at its top: `//@ grid N`, `//@ block N`, `//@ shared BYTES`, `//@ cooperative`,
//! and its parameters in order: `//@ buffer TYPE COUNT [iota]`, `//@ freed TYPE COUNT` (freed before the launch),
//! `//@ fresh TYPE COUNT` (never written), `//@ value TYPE X`; `//@ check race,init` and `//@ budget N` turn checks on. The first entry is run. Addresses of buffers show as `$0`, `$1+0x40`. `KVICK_BLESS=1` rewrites
//! the expectations; read the difference before you keep it.

use kvick_emulator::check::Checks;
use kvick_emulator::exec::{Launch, Program, launch};
use kvick_emulator::gpu::{DeviceSpec, Gpu};
use kvick_emulator::ptx;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A device buffer of a program.
struct Buffer {
    ty: String,
    count: usize,
    addr: u64,
    initial: Vec<u8>,
    freed: bool,
}

impl Buffer {
    fn bytes(&self) -> usize {
        self.count * width(&self.ty)
    }
}

/// Bytes of a type like `u32` or `x64` (printed in hexadecimal).
fn width(ty: &str) -> usize {
    ty[1..].parse::<usize>().unwrap_or_else(|_| panic!("type {ty}")) / 8
}

/// What kernels print.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic while printing").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The directives of a program, carried out.
struct Setup {
    config: Launch,
    buffers: Vec<Buffer>,
}

fn set_up(gpu: &Gpu, text: &str) -> Setup {
    let mut setup =
        Setup { config: Launch { grid: [1; 3], block: [32, 1, 1], ..Launch::default() }, buffers: Vec::new() };
    for line in text.lines().filter_map(|l| l.strip_prefix("//@ ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |i: usize| words[i].parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
        match words[0] {
            "grid" => setup.config.grid[0] = number(1) as u32,
            "block" => setup.config.block[0] = number(1) as u32,
            "shared" => setup.config.dynamic_shared = number(1) as u32,
            "cooperative" => setup.config.cooperative = true,
            "buffer" | "freed" | "fresh" => setup.buffer(gpu, &words),
            "check" | "budget" => {}
            "value" => setup.param(width(words[1]), number(2)),
            other => panic!("unknown directive {other}"),
        }
    }
    setup
}

impl Setup {
    fn buffer(&mut self, gpu: &Gpu, words: &[&str]) {
        let (ty, count) = (words[1].to_string(), words[2].parse().expect("a count"));
        let freed = words[0] == "freed";
        let addr = gpu.memory().alloc(count * width(&ty)).expect("device memory");
        let element = |i| if words.get(3) == Some(&"iota") { number_as(&ty, i) } else { 0 };
        let initial: Vec<u8> = (0..count).flat_map(|i| element(i).to_le_bytes()[..width(&ty)].to_vec()).collect();
        let host = gpu.memory().host_ptr(addr, initial.len()).expect("a fresh allocation");
        // SAFETY: the allocation has this size, and no kernel runs.
        unsafe { std::ptr::copy_nonoverlapping(initial.as_ptr(), host, initial.len()) };
        if words[0] != "fresh" {
            gpu.memory().mark_written(addr, initial.len());
        }
        let buffer = Buffer { ty, count, addr, initial, freed };
        if freed {
            gpu.memory().free(addr).expect("a live allocation");
        }
        self.param(8, addr);
        self.buffers.push(buffer);
    }

    /// Appends a parameter at its natural alignment.
    fn param(&mut self, size: usize, bits: u64) {
        let params = &mut self.config.params;
        params.resize(params.len().next_multiple_of(size), 0);
        params.extend(&bits.to_le_bytes()[..size]);
    }

    /// The text with addresses in and beside buffers as `$n+offset`.
    fn symbolic(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("0x") {
            let digits = rest[at + 2..].chars().take_while(char::is_ascii_hexdigit).count();
            let (number, end) = (u64::from_str_radix(&rest[at + 2..at + 2 + digits], 16), at + 2 + digits);
            let beside = |b: &Buffer, x: u64| x >= b.addr - 64 && x < b.addr + b.bytes() as u64 + 4096;
            let near = number.ok().and_then(|x| self.buffers.iter().rposition(|b| beside(b, x)).map(|i| (i, x)));
            out.push_str(&rest[..at]);
            match near {
                Some((i, x)) if x == self.buffers[i].addr => write!(out, "${i}"),
                Some((i, x)) if x < self.buffers[i].addr => write!(out, "${i}-{:#x}", self.buffers[i].addr - x),
                Some((i, x)) => write!(out, "${i}+{:#x}", x - self.buffers[i].addr),
                None => write!(out, "{}", &rest[at..end]),
            }
            .expect("a String takes all");
            rest = &rest[end..];
        }
        out + rest
    }

    /// The buffers' contents, eight elements to a line.
    fn contents(&self, gpu: &Gpu) -> String {
        let mut out = String::new();
        for (i, buffer) in self.buffers.iter().enumerate().filter(|(_, b)| !b.freed) {
            let host = gpu.memory().host_ptr(buffer.addr, buffer.bytes()).expect("a live allocation");
            // SAFETY: the allocation has this size, and no kernel runs.
            let bytes = unsafe { std::slice::from_raw_parts(host, buffer.bytes()) };
            let unchanged = if bytes == buffer.initial { " unchanged" } else { "" };
            let _ = writeln!(out, "${i} {}[{}]:{unchanged}", buffer.ty, buffer.count);
            if !unchanged.is_empty() {
                continue;
            }
            let elements: Vec<String> = bytes.chunks(width(&buffer.ty)).map(|b| shown(&buffer.ty, b)).collect();
            elements.chunks(8).for_each(|line| out += &format!("{}\n", line.join(" ")));
        }
        out
    }
}

/// Bits of a small number in a type.
fn number_as(ty: &str, i: usize) -> u64 {
    match ty {
        "f32" => u64::from((i as f32).to_bits()),
        "f64" => (i as f64).to_bits(),
        "f16" => u64::from(half::f16::from_f32(i as f32).to_bits()),
        _ => i as u64,
    }
}

fn shown(ty: &str, bytes: &[u8]) -> String {
    let bits = bytes.iter().rev().fold(0u64, |x, &b| x << 8 | u64::from(b));
    match (&ty[..1], bytes.len()) {
        ("f", 2) => half::f16::from_bits(bits as u16).to_string(),
        ("f", 4) => f32::from_bits(bits as u32).to_string(),
        ("f", _) => f64::from_bits(bits).to_string(),
        ("s", 4) => (bits as i32).to_string(),
        ("x", n) => format!("{bits:#0w$x}", w = 2 + 2 * n),
        _ => bits.to_string(),
    }
}

/// Loads and runs a program, as native code and by handlers; what it leaves, or why it does not.
fn run(text: &str) -> Result<String, String> {
    let (native, interpreted) = (run_on(text, true), run_on(text, false));
    assert_eq!(native, interpreted, "native code and handlers differ:\n{text}");
    native
}

fn run_on(text: &str, native: bool) -> Result<String, String> {
    let directive = |name: &str| text.lines().find_map(|l| l.strip_prefix("//@ ")?.strip_prefix(name));
    let checks = Checks::parse(directive("check ").unwrap_or_default()).expect("known checks");
    let budget = directive("budget ").map(|n| n.parse().expect("a number"));
    let mut gpu = Gpu::with_checks(DeviceSpec::H100, 2, 64 << 20, checks, budget).expect("an emulated GPU");
    gpu.set_native(native);
    let output = Output::default();
    gpu.set_output(Box::new(output.clone()));
    let module = ptx::parse(text).map_err(|e| format!("{e}\n"))?;
    let program = Program::load(&module, gpu.memory(), gpu.spec())
        .map_err(|errors| errors.iter().map(|e| format!("{e}\n")).collect::<String>())?;
    let entry = module.functions.iter().find(|f| f.entry).expect("an entry");
    let setup = set_up(&gpu, text);
    let result = launch(&program, program.kernel(&entry.name).expect("an entry"), &setup.config, &gpu);
    let printed = String::from_utf8_lossy(&output.0.lock().expect("no panic while printing")).into_owned();
    match result {
        Ok(()) => Ok(setup.contents(&gpu) + &printed),
        Err(fault) => Err(setup.symbolic(&format!("{printed}{:?}: {}\n", fault.kind, fault.report))),
    }
}

/// Compares with the file beside the program, or rewrites it; the difference as text.
fn compare(path: &Path, got: &str) -> Result<(), String> {
    let expected = path.with_extension("expected");
    if std::env::var_os("KVICK_BLESS").is_some() {
        return std::fs::write(&expected, got).map_err(|e| format!("{}: {e}", expected.display()));
    }
    let want = std::fs::read_to_string(&expected).unwrap_or_default();
    if got == want {
        return Ok(());
    }
    Err(format!("{}:\n--- expected\n{want}--- got\n{got}", path.display()))
}

/// Runs every program of a folder and panics with all that differ.
fn check(folder: &str, verdict: fn(&str) -> Result<String, String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = std::fs::read_dir(&folder).expect("the folder of the programs");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "ptx"));
    paths.sort();
    assert!(!paths.is_empty(), "no programs in {}", folder.display());
    let failures: Vec<String> = paths
        .iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(path).expect("a program");
            let result = verdict(&text).map_err(|e| format!("{}: {e}", path.display()));
            result.and_then(|got| compare(path, &got)).err()
        })
        .collect();
    assert!(failures.is_empty(), "{} of {} programs differ:\n{}", failures.len(), paths.len(), failures.join("\n"));
}

#[test]
fn programs_that_pass() {
    check("pass", run);
}

#[test]
fn programs_that_fail() {
    check("fail", |text| match run(text) {
        Ok(left) => Err(format!("did not fail, but left\n{left}")),
        Err(report) => Ok(report),
    });
}
