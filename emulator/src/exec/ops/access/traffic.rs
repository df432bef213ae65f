//! What an access costs: 32-byte sectors of device memory, wavefronts of shared memory.
use super::{Kind, Pattern, Pointers, Space};
use crate::exec::cx::{Cx, lanes};
use crate::exec::lane::LANES;
use crate::exec::op::Op;

/// What an access costs: sectors of global memory, or wavefronts of shared memory.
#[inline(always)]
pub fn cost<S: Space>(cx: &mut Cx<'_>, op: &Op, mask: u32, size: usize, pattern: Pattern, at: &Pointers) -> u64 {
    match (S::KIND, pattern) {
        (_, Pattern::Contiguous | Pattern::Uniform) => regular_cost::<S>(size, pattern, at[0]),
        (Kind::Shared, _) => wavefronts(cx, op, mask, size, &std::array::from_fn(|l| at[l] as u32)),
        (Kind::Global, _) => rising(mask, at).unwrap_or_else(|| sectors(mask, at)),
        (Kind::Local, _) => 0,
    }
}

/// As [`cost`], of lanes side by side or at one address.
#[inline(always)]
pub fn regular_cost<S: Space>(size: usize, pattern: Pattern, first: usize) -> u64 {
    match (S::KIND, pattern) {
        (_, Pattern::Uniform) => 1,
        (Kind::Shared, _) => (size as u64).div_ceil(4),
        _ => ((first & 31) + LANES * size).div_ceil(32) as u64,
    }
}

/// Counts an access of the lanes of `mask`.
#[inline(always)]
pub fn count<S: Space>(cx: &mut Cx<'_>, mask: u32, size: usize, cost: u64, write: bool) {
    let bytes = u64::from(mask.count_ones()) * size as u64;
    match (S::KIND, write) {
        (Kind::Local, _) => {}
        (Kind::Shared, _) => {
            cx.count.shared_accesses += 1;
            cx.count.shared_wavefronts += cost;
        }
        (Kind::Global, true) => {
            cx.count.global_stores += 1;
            cx.count.store_sectors += cost;
            cx.count.store_bytes += bytes;
        }
        (Kind::Global, false) => {
            cx.count.global_loads += 1;
            cx.count.load_sectors += cost;
            cx.count.load_bytes += bytes;
        }
    }
}

/// As [`sectors`], of 32 lanes whose addresses do not fall.
#[inline(always)]
fn rising(mask: u32, at: &Pointers) -> Option<u64> {
    let (mut changes, mut falls) = (0u64, mask != !0);
    for l in 1..LANES {
        let (before, sector) = ((at[l - 1] >> 5) as i64, (at[l] >> 5) as i64);
        changes += u64::from(sector != before);
        falls |= sector < before;
    }
    (!falls).then_some(1 + changes)
}

/// Distinct 32-byte sectors that the lanes touch. Accesses are aligned to their size, at most 16 bytes: one sector each.
#[inline(never)]
fn sectors(mask: u32, at: &Pointers) -> u64 {
    let (mut seen, mut n, mut last, mut rising) = ([0usize; LANES], 0, 0, true);
    for l in lanes(mask) {
        let sector = at[l] >> 5;
        if n == 0 || sector != last {
            rising &= n == 0 || sector > last;
            seen[n] = sector;
            n += 1;
            last = sector;
        }
    }
    if !rising {
        let seen = &mut seen[..n];
        seen.sort_unstable();
        return 1 + seen.windows(2).filter(|w| w[0] != w[1]).count() as u64;
    }
    n as u64
}

/// The bank conflicts of a site's last access, for the next one like it.
#[derive(Clone)]
pub struct Banks {
    mask: u32,
    /// Addresses relative to the first lane's 128-byte line, of which only differences matter to the banks.
    places: [u32; LANES],
    passes: u64,
}

impl Banks {
    /// Of no access.
    pub const NONE: Banks = Banks { mask: 0, places: [0; LANES], passes: 0 };
}

/// Passes over the 32 banks that the lanes need: the largest number of distinct words in one bank, for 8- and 16-byte
/// accesses summed over the half and quarter warps that the hardware serves one after the other. Of an address, the
/// low bits are enough.
#[inline(always)]
pub fn wavefronts(cx: &mut Cx<'_>, op: &Op, mask: u32, size: usize, at: &[u32; LANES]) -> u64 {
    let line = at[mask.trailing_zeros() as usize & 31] & !127;
    let known = &mut cx.banks[op.site as usize];
    let mut differ = known.mask ^ mask;
    for l in 0..LANES {
        differ |= at[l].wrapping_sub(line) ^ known.places[l];
    }
    if differ != 0 {
        let places = std::array::from_fn(|l| at[l].wrapping_sub(line));
        *known = Banks { mask, places, passes: passes(mask, size, at) };
    }
    known.passes
}

/// As [`wavefronts`], counted anew.
#[inline(never)]
fn passes(mask: u32, size: usize, at: &[u32; LANES]) -> u64 {
    // An access is aligned to its size, so it takes one slot of as many banks as it is words wide.
    let shift = size.max(4).trailing_zeros();
    let slots = 128usize >> shift;
    let mut passes = 0;
    for (phase, at) in at.chunks(slots).enumerate() {
        let mask = mask >> (phase * slots);
        let (mut conflicts, mut last) = ([0u8; LANES], [u32::MAX; LANES]);
        for (l, at) in at.iter().enumerate() {
            let unit = at >> shift;
            let slot = unit as usize & (slots - 1);
            let new = mask >> l & 1 != 0 && last[slot] != unit;
            conflicts[slot] += u8::from(new);
            last[slot] = if new { unit } else { last[slot] };
        }
        passes += u64::from(conflicts.iter().copied().max().unwrap_or(0));
    }
    passes.max(1)
}
