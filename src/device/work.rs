//! What the emulated GPU counts of each kernel.
use super::driver::is_emulated;

/// Work of one kernel since the last reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelWork {
    /// Its name.
    pub name: String,
    /// Launches.
    pub launches: u64,
    /// Instructions of warps.
    pub warp_instructions: u64,
    /// Bytes that its threads read from and wrote to global memory.
    pub bytes: u64,
    /// 32-byte sectors of global memory that warps touched.
    pub sectors: u64,
}

/// Work of every kernel, `None` where the process does not use the emulated GPU, which alone counts.
pub fn work() -> Option<Vec<KernelWork>> {
    let read = |k: kvick_emulator::KernelCounters| KernelWork {
        name: k.name,
        launches: k.launches,
        warp_instructions: k.warp_instructions,
        bytes: k.load_bytes + k.store_bytes,
        sectors: k.load_sectors + k.store_sectors,
    };
    is_emulated().then(|| kvick_emulator::counters().into_iter().map(read).collect())
}

/// Counts from zero again.
pub fn reset_work() {
    if is_emulated() {
        kvick_emulator::reset_counters();
    }
}
