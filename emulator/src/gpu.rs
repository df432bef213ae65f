//! The emulated GPU as a whole: what chip it pretends to be, its memory, its worker threads and its counters.
//!
//! Invariant: counters only grow between two calls of [`Gpu::reset_counters`] and depend on the work alone, never on
//! the number of worker threads or on timing.
use crate::check::Checks;
use crate::mem::Memory;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The figures of a chip that programs can ask for or that limit a launch.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceSpec {
    /// Marketing name, as `cuDeviceGetName` returns it.
    pub name: &'static str,
    /// Compute capability (major, minor).
    pub compute: (u32, u32),
    /// Streaming multiprocessors.
    pub sms: u32,
    /// Boost clock in kHz.
    pub clock_khz: u32,
    /// Memory clock in kHz.
    pub memory_clock_khz: u32,
    /// Memory bus in bits.
    pub bus_bits: u32,
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// DRAM bandwidth in bytes a second.
    pub bandwidth: u64,
    /// L2 cache in bytes.
    pub l2_bytes: u32,
    /// Shared memory of a block without opt-in, in bytes.
    pub shared_per_block: u32,
    /// Shared memory of a block after opt-in, in bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory of a multiprocessor in bytes.
    pub shared_per_sm: u32,
    /// Shared memory that the system keeps per block, in bytes.
    pub shared_reserved: u32,
    /// Resident threads of a multiprocessor.
    pub threads_per_sm: u32,
    /// Resident blocks of a multiprocessor.
    pub blocks_per_sm: u32,
    /// 32-bit registers of a multiprocessor.
    pub registers_per_sm: u32,
    /// Dense f16/bf16 tensor-core rate with f32 accumulation, in FLOP a second.
    pub tensor_flops: u64,
}

const GIB: u64 = 1 << 30;

impl DeviceSpec {
    /// NVIDIA A100-SXM4-80GB.
    pub const A100: DeviceSpec = DeviceSpec {
        name: "NVIDIA A100-SXM4-80GB (emulated)",
        compute: (8, 0),
        sms: 108,
        clock_khz: 1_410_000,
        memory_clock_khz: 1_593_000,
        bus_bits: 5120,
        memory_bytes: 80 * GIB,
        bandwidth: 2_039_000_000_000,
        l2_bytes: 40 << 20,
        shared_per_block: 48 << 10,
        shared_per_block_optin: 163 << 10,
        shared_per_sm: 164 << 10,
        shared_reserved: 1024,
        threads_per_sm: 2048,
        blocks_per_sm: 32,
        registers_per_sm: 65536,
        tensor_flops: 312_000_000_000_000,
    };

    /// NVIDIA H100 80GB HBM3 (SXM).
    pub const H100: DeviceSpec = DeviceSpec {
        name: "NVIDIA H100 80GB HBM3 (emulated)",
        compute: (9, 0),
        sms: 132,
        clock_khz: 1_980_000,
        memory_clock_khz: 2_619_000,
        bus_bits: 5120,
        memory_bytes: 80 * GIB,
        bandwidth: 3_352_000_000_000,
        l2_bytes: 50 << 20,
        shared_per_block: 48 << 10,
        shared_per_block_optin: 227 << 10,
        shared_per_sm: 228 << 10,
        shared_reserved: 1024,
        threads_per_sm: 2048,
        blocks_per_sm: 32,
        registers_per_sm: 65536,
        tensor_flops: 989_000_000_000_000,
    };

    /// NVIDIA GeForce RTX 4090.
    pub const RTX4090: DeviceSpec = DeviceSpec {
        name: "NVIDIA GeForce RTX 4090 (emulated)",
        compute: (8, 9),
        sms: 128,
        clock_khz: 2_520_000,
        memory_clock_khz: 10_501_000,
        bus_bits: 384,
        memory_bytes: 24 * GIB,
        bandwidth: 1_008_000_000_000,
        l2_bytes: 72 << 20,
        shared_per_block: 48 << 10,
        shared_per_block_optin: 99 << 10,
        shared_per_sm: 100 << 10,
        shared_reserved: 1024,
        threads_per_sm: 1536,
        blocks_per_sm: 24,
        registers_per_sm: 65536,
        tensor_flops: 165_000_000_000_000,
    };

    /// The chip by its short name: `a100`, `h100` or `rtx4090`.
    pub fn by_name(name: &str) -> Option<DeviceSpec> {
        match name.to_ascii_lowercase().as_str() {
            "a100" => Some(Self::A100),
            "h100" => Some(Self::H100),
            "rtx4090" => Some(Self::RTX4090),
            _ => None,
        }
    }

    /// Blocks of `threads` threads with `registers` registers a thread and `shared` bytes of shared memory that one
    /// multiprocessor can hold; 0 if not even one fits.
    pub fn occupancy(&self, threads: u32, registers: u32, shared: u32) -> u32 {
        let warps = threads.div_ceil(32).max(1);
        if threads > 1024 || shared > self.shared_per_block_optin {
            return 0;
        }
        let by_registers = self.registers_per_sm / 256 / (warps * (registers.max(1) * 32).div_ceil(256)).max(1);
        let by_shared = self.shared_per_sm / (shared + self.shared_reserved);
        self.blocks_per_sm.min(self.threads_per_sm / (warps * 32)).min(by_registers).min(by_shared)
    }
}

/// What one kernel did, summed over its launches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounters {
    /// Kernel name as in the module.
    pub name: String,
    /// Launches.
    pub launches: u64,
    /// Warp instructions, all classes.
    pub warp_instructions: u64,
    /// Warp instructions by class, in the order of [`crate::exec::Class::ALL`].
    pub by_class: Vec<u64>,
    /// Lanes that took part in those instructions.
    pub lane_instructions: u64,
    /// Global load instructions of warps.
    pub global_loads: u64,
    /// Global store instructions of warps.
    pub global_stores: u64,
    /// 32-byte sectors that the global loads touched.
    pub load_sectors: u64,
    /// 32-byte sectors that the global stores touched.
    pub store_sectors: u64,
    /// Bytes that lanes asked for by global loads.
    pub load_bytes: u64,
    /// Bytes that lanes wrote by global stores.
    pub store_bytes: u64,
    /// Shared-memory instructions of warps (loads, stores, ldmatrix).
    pub shared_accesses: u64,
    /// Shared-memory wavefronts (passes over the 32 banks) that they took.
    pub shared_wavefronts: u64,
    /// Lanes' atomic operations on global memory.
    pub global_atomics: u64,
    /// Multiply-adds of mma instructions (m * n * k each).
    pub tensor_macs: u64,
    /// Block barriers, counted once per block.
    pub barriers: u64,
}

/// The process's emulated GPU, or one of a test's own.
pub struct Gpu {
    spec: DeviceSpec,
    memory: Arc<Memory>,
    pool: rayon::ThreadPool,
    counters: Mutex<BTreeMap<String, KernelCounters>>,
    output: Mutex<Box<dyn Write + Send>>,
    budget: Option<u64>,
    native: bool,
}

impl Gpu {
    /// A GPU with `threads` worker threads (0 = one per core) and at most `memory_bytes` of device memory.
    ///
    /// # Errors
    /// When the address range cannot be reserved or the threads cannot be started.
    pub fn new(spec: DeviceSpec, threads: usize, memory_bytes: u64) -> std::io::Result<Gpu> {
        Gpu::with_checks(spec, threads, memory_bytes, Checks::default(), None)
    }

    /// As [`Gpu::new`], with checks, and with a limit to the warp operations of a launch, against endless loops.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub fn with_checks(
        spec: DeviceSpec,
        threads: usize,
        memory_bytes: u64,
        checks: Checks,
        budget: Option<u64>,
    ) -> std::io::Result<Gpu> {
        let memory = Arc::new(Memory::with_checks(memory_bytes.min(spec.memory_bytes) as usize, checks)?);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("emulated-sm-{i}"))
            .build()
            .map_err(std::io::Error::other)?;
        let output: Box<dyn Write + Send> = Box::new(std::io::stdout());
        Ok(Gpu { spec, memory, pool, counters: Mutex::default(), output: Mutex::new(output), budget, native: true })
    }

    /// The GPU that the environment asks for: `KVICK_EMU_GPU` (`a100`, `h100`, `rtx4090`; default `a100`),
    /// `KVICK_EMU_THREADS` (default one per core), `KVICK_EMU_MEMORY` in MiB (default what the host has available),
    /// `KVICK_EMU_CHECK` (see [`Checks`]), `KVICK_EMU_BUDGET` (warp instructions of a launch, default no limit),
    /// `KVICK_EMU_NATIVE=0` (no native code: see [`Gpu::set_native`]).
    ///
    /// # Errors
    /// As [`Gpu::new`], and for a value that is not understood.
    pub fn from_env() -> std::io::Result<Gpu> {
        let var = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let bad = |name: &str, cure: &str| std::io::Error::other(format!("{name}: expected {cure}"));
        let spec = match var("KVICK_EMU_GPU") {
            None => DeviceSpec::A100,
            Some(name) => DeviceSpec::by_name(&name).ok_or_else(|| bad("KVICK_EMU_GPU", "a100, h100 or rtx4090"))?,
        };
        let number = |name: &str| var(name).map(|v| v.parse::<usize>().map_err(|_| bad(name, "a number"))).transpose();
        let threads = number("KVICK_EMU_THREADS")?.unwrap_or(0);
        let memory = number("KVICK_EMU_MEMORY")?.map_or_else(available_memory, |mib| (mib as u64) << 20);
        let checks = Checks::parse(&var("KVICK_EMU_CHECK").unwrap_or_default())
            .map_err(|_| bad("KVICK_EMU_CHECK", "a list of race, init, leak, or all"))?;
        let budget = number("KVICK_EMU_BUDGET")?.map(|n| n as u64);
        let native = match var("KVICK_EMU_NATIVE").as_deref() {
            None | Some("1") => true,
            Some("0") => false,
            Some(_) => return Err(bad("KVICK_EMU_NATIVE", "0 or 1")),
        };
        let mut gpu = Gpu::with_checks(spec, threads, memory, checks, budget)?;
        gpu.set_native(native);
        Ok(gpu)
    }

    /// Whether kernels are compiled to native code where the host can execute it (they are at first), or interpreted:
    /// slower, with the same results, counts and reports.
    pub fn set_native(&mut self, native: bool) {
        self.native = native;
    }

    /// May kernels run as native code?
    pub(crate) fn native(&self) -> bool {
        self.native
    }

    /// The chip it pretends to be.
    pub fn spec(&self) -> &DeviceSpec {
        &self.spec
    }

    /// Its device memory.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Warp instructions that a launch may execute.
    pub fn budget(&self) -> Option<u64> {
        self.budget
    }

    /// The worker threads that run blocks.
    pub fn pool(&self) -> &rayon::ThreadPool {
        &self.pool
    }

    /// Sends what kernels print (`printf`, failed asserts) to `sink`; stdout at first.
    pub fn set_output(&self, sink: Box<dyn Write + Send>) {
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = sink;
    }

    /// Writes a kernel's output. A sink that fails loses the text, as a closed stdout does.
    pub(crate) fn print(&self, text: &[u8]) {
        let mut sink = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = sink.write_all(text).and_then(|()| sink.flush());
    }

    /// Counters of every kernel launched since the last reset, by name.
    pub fn counters(&self) -> Vec<KernelCounters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Sets all counters to zero.
    pub fn reset_counters(&self) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Adds one launch's counters to the kernel's.
    pub(crate) fn count(&self, launch: &KernelCounters) {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(launch.name.clone()).or_default().add(launch);
    }
}

impl KernelCounters {
    /// Adds another launch's or another worker's counts.
    pub fn add(&mut self, other: &KernelCounters) {
        self.name.clone_from(&other.name);
        self.by_class.resize(self.by_class.len().max(other.by_class.len()), 0);
        for (sum, n) in self.by_class.iter_mut().zip(&other.by_class) {
            *sum += n;
        }
        self.launches += other.launches;
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.global_loads += other.global_loads;
        self.global_stores += other.global_stores;
        self.load_sectors += other.load_sectors;
        self.store_sectors += other.store_sectors;
        self.load_bytes += other.load_bytes;
        self.store_bytes += other.store_bytes;
        self.shared_accesses += other.shared_accesses;
        self.shared_wavefronts += other.shared_wavefronts;
        self.global_atomics += other.global_atomics;
        self.tensor_macs += other.tensor_macs;
        self.barriers += other.barriers;
    }
}

/// The process's GPU, made on first use as [`Gpu::from_env`] says.
///
/// # Errors
/// The text of what [`Gpu::from_env`] met; the same one on every call.
pub fn process_gpu() -> Result<&'static Arc<Gpu>, &'static str> {
    static GPU: OnceLock<Result<Arc<Gpu>, String>> = OnceLock::new();
    GPU.get_or_init(|| Gpu::from_env().map(Arc::new).map_err(|e| e.to_string())).as_ref().map_err(String::as_str)
}

/// Counters of the process's GPU; empty if it could not be made.
pub fn counters() -> Vec<KernelCounters> {
    process_gpu().map(|gpu| gpu.counters()).unwrap_or_default()
}

/// Resets the counters of the process's GPU.
pub fn reset_counters() {
    if let Ok(gpu) = process_gpu() {
        gpu.reset_counters();
    }
}

/// Memory that the host can still give, in bytes: what a device may promise.
fn available_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    // SAFETY: sysconf only reads its argument.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    kib.map_or((pages.max(0) as u64) * (size.max(0) as u64) / 2, |kib| kib << 10)
}
