//! Loads and stores: addresses, checks, and the moves between memory and registers.
//!
//! Every access is checked for bounds and alignment before a byte moves. Patterns that rule real kernels have paths of
//! their own: lanes side by side (one block move), and all lanes at one address. Device memory may be accessed by
//! several workers at once, so its bytes move by volatile accesses or assembly, never by plain Rust loads and stores.
use crate::exec::cx::{Cx, lanes};
use crate::exec::fault::{Cause, FaultKind};
use crate::exec::lane::{LANES, Lane, Store};
use crate::exec::op::{Flow, Op, Stop};
use crate::mem::Range;

/// Generic addresses of shared memory begin here.
pub const SHARED_WINDOW: u64 = 0x1000_0000_0000;
/// Generic addresses of local memory begin here.
pub const LOCAL_WINDOW: u64 = 0x1100_0000_0000;
/// Generic addresses of kernel parameters begin here.
pub const PARAM_WINDOW: u64 = 0x1200_0000_0000;
/// Size of each window.
pub const WINDOW: u64 = 0x0100_0000_0000;

/// A state space, as a type.
pub trait Space {
    /// Which one.
    const KIND: Kind;
}

/// State spaces that handlers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Global, constant and generic addresses.
    Global,
    /// Offsets into the block's shared memory.
    Shared,
    /// Offsets into the thread's local memory.
    Local,
}

/// `.global`, `.const` and generic.
pub struct Global;
/// `.shared`
pub struct Shared;
/// `.local` and the parameters of device functions.
pub struct Local;

impl Space for Global {
    const KIND: Kind = Kind::Global;
}
impl Space for Shared {
    const KIND: Kind = Kind::Shared;
}
impl Space for Local {
    const KIND: Kind = Kind::Local;
}

/// Where the lanes of an access lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// All 32 lanes side by side in lane order, from the first pointer.
    Contiguous,
    /// All active lanes at the first active lane's pointer.
    Uniform,
    /// Anything else.
    Scattered,
}

/// Host addresses of an access, by lane; those of inactive lanes mean nothing.
pub type Pointers = [usize; LANES];

/// An element that memory holds.
pub trait Element: Lane {
    /// Unsigned bits of its size.
    type Bits: Copy;
    /// As the register holds it.
    fn widen(bits: Self::Bits) -> Self::In;
    /// The low bits of a register.
    fn narrow(value: Self::In) -> Self::Bits;
}

macro_rules! element {
    ($t:ty, $bits:ty) => {
        impl Element for $t {
            type Bits = $bits;
            #[inline(always)]
            fn widen(bits: $bits) -> Self::In {
                (bits as $t).put()
            }
            #[inline(always)]
            fn narrow(value: Self::In) -> $bits {
                value as $bits
            }
        }
    };
}
element!(u8, u8);
element!(i8, u8);
element!(u16, u16);
element!(u32, u32);
element!(u64, u64);

impl Element for i16 {
    type Bits = u16;
    #[inline(always)]
    fn widen(bits: u16) -> u32 {
        // To the whole register, which may be declared with 32 bits.
        bits as i16 as i32 as u32
    }
    #[inline(always)]
    fn narrow(value: u32) -> u16 {
        value as u16
    }
}

/// Addresses of all lanes: register plus displacement.
#[inline(always)]
unsafe fn addresses<S: Space>(cx: &Cx<'_>, reg: u32, displacement: i64) -> [u64; LANES] {
    let mut out = [0; LANES];
    // SAFETY: lowering gives 32-bit address registers to shared accesses and 64-bit ones to all others.
    unsafe {
        if S::KIND == Kind::Shared {
            let a = &*cx.reg::<u32>(reg);
            for l in 0..LANES {
                out[l] = u64::from(a[l].wrapping_add(displacement as u32));
            }
        } else {
            let a = &*cx.reg::<u64>(reg);
            for l in 0..LANES {
                out[l] = a[l].wrapping_add(displacement as u64);
            }
        }
    }
    out
}

/// Checks an access of `size` bytes a lane at register + displacement and finds its host addresses. `None`: a fault was recorded.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn locate<S: Space>(
    cx: &mut Cx<'_>,
    op: &Op,
    (reg, displacement): (u32, i64),
    mask: u32,
    size: usize,
    out: &mut Pointers,
) -> Option<Pattern> {
    // SAFETY: passed on.
    let addr = unsafe { addresses::<S>(cx, reg, displacement) };
    let first = addr[mask.trailing_zeros() as usize & 31];
    if S::KIND == Kind::Local {
        return locate_local(cx, op, mask, size, &addr, out);
    }
    let range = match S::KIND {
        Kind::Shared => Range { base: 0, size: cx.shared_len, host: cx.shared as usize },
        _ => cx.sites[op.site as usize],
    };
    let aligned = first & (size as u64 - 1) == 0;
    if mask == !0 && aligned && range.contains(first, LANES * size) {
        let mut apart = 0;
        for l in 0..LANES {
            apart |= addr[l] ^ first.wrapping_add((l * size) as u64);
        }
        if apart == 0 {
            out[0] = range.host + (first - range.base) as usize;
            return Some(Pattern::Contiguous);
        }
    }
    let limit = (range.size as u64).saturating_sub(size as u64);
    let delta = (range.host as u64).wrapping_sub(range.base);
    let (mut bad, mut apart) = (u64::from(range.size < size), 0);
    for l in 0..LANES {
        let active = u64::spread(mask >> l & 1);
        let outside = u64::from(addr[l].wrapping_sub(range.base) > limit);
        bad |= active & (outside | (addr[l] & (size as u64 - 1)));
        apart |= active & (addr[l] ^ first);
        out[l] = addr[l].wrapping_add(delta) as usize;
    }
    if bad != 0 {
        return locate_slowly::<S>(cx, op, mask, size, &addr, out);
    }
    out[0] = if apart == 0 { first.wrapping_add(delta) as usize } else { out[0] };
    Some(if apart == 0 { Pattern::Uniform } else { Pattern::Scattered })
}

/// Local memory: each lane has its own.
#[inline(always)]
fn locate_local(
    cx: &mut Cx<'_>,
    op: &Op,
    mask: u32,
    size: usize,
    addr: &[u64; LANES],
    out: &mut Pointers,
) -> Option<Pattern> {
    let (base, stride) = (cx.local as usize, cx.local_len);
    for l in lanes(mask) {
        let a = addr[l];
        if a & (size as u64 - 1) != 0 || a.checked_add(size as u64).is_none_or(|end| end > stride as u64) {
            bad_access(cx, op, l, a, size, "local");
            return None;
        }
        out[l] = base + l * stride + a as usize;
    }
    Some(Pattern::Scattered)
}

/// Lane by lane, with the whole table of allocations and windows: a first access of a site, several allocations in one
/// access, or a fault.
#[cold]
#[inline(never)]
fn locate_slowly<S: Space>(
    cx: &mut Cx<'_>,
    op: &Op,
    mask: u32,
    size: usize,
    addr: &[u64; LANES],
    out: &mut Pointers,
) -> Option<Pattern> {
    for l in lanes(mask) {
        if addr[l] & (size as u64 - 1) != 0 {
            bad_access(cx, op, l, addr[l], size, if S::KIND == Kind::Shared { "shared" } else { "global" });
            return None;
        }
        out[l] = match S::KIND {
            Kind::Shared => {
                let inside = addr[l] as usize + size <= cx.shared_len;
                if !inside {
                    bad_access(cx, op, l, addr[l], size, "shared");
                    return None;
                }
                cx.shared as usize + addr[l] as usize
            }
            _ => locate_generic(cx, op, l, addr[l], size)?,
        };
    }
    Some(Pattern::Scattered)
}

/// Host address of one lane's global or generic address.
pub fn locate_generic(cx: &mut Cx<'_>, op: &Op, lane: usize, addr: u64, size: usize) -> Option<usize> {
    let range = match addr {
        LOCAL_WINDOW..PARAM_WINDOW => {
            let base = cx.local as usize + lane * cx.local_len;
            Range { base: LOCAL_WINDOW, size: cx.local_len, host: base }
        }
        SHARED_WINDOW..LOCAL_WINDOW => Range { base: SHARED_WINDOW, size: cx.shared_len, host: cx.shared as usize },
        PARAM_WINDOW..0x1300_0000_0000 => {
            let params = cx.launch.params;
            Range { base: PARAM_WINDOW, size: params.len(), host: params.as_ptr() as usize }
        }
        _ => match cx.launch.gpu.memory().range(addr, size) {
            Ok(range) => range,
            Err(_) => {
                bad_access(cx, op, lane, addr, size, "global");
                return None;
            }
        },
    };
    if !range.contains(addr, size) {
        let space = if addr < LOCAL_WINDOW { "shared" } else { "local or parameter" };
        bad_access(cx, op, lane, addr, size, space);
        return None;
    }
    // Local memory differs from lane to lane, so its range serves this lane only.
    if !(LOCAL_WINDOW..PARAM_WINDOW).contains(&addr) {
        cx.sites[op.site as usize] = range;
    }
    Some(range.host + (addr - range.base) as usize)
}

/// Records the fault of an access that is out of bounds or misaligned.
#[cold]
#[inline(never)]
pub fn bad_access(cx: &mut Cx<'_>, op: &Op, lane: usize, addr: u64, size: usize, space: &str) {
    let verb = op.code.entry().name;
    let (kind, what) = if addr & (size as u64 - 1) != 0 {
        (FaultKind::Misaligned, format!("misaligned {size}-byte access ({verb}) to {space} address {addr:#x}"))
    } else {
        let near = match space {
            "global" => match cx.launch.gpu.memory().range(addr, size) {
                Err(e) => e.near,
                Ok(_) => "the access crosses the end of the allocation".to_string(),
            },
            "shared" => format!("the block has {} bytes of shared memory", cx.shared_len),
            _ => format!("the thread has {} bytes of local memory", cx.local_len),
        };
        (FaultKind::IllegalAddress, format!("invalid {size}-byte access ({verb}) to {space} address {addr:#x}: {near}"))
    };
    cx.fault = Some(Cause { kind, lane: Some(lane), what });
    cx.stop = Stop::Fault;
}

/// Copies `bytes` (a multiple of 32) that other threads may be changing, or reading while they are changed.
///
/// # Safety
/// Both ranges are valid and do not overlap; `wide` only on a CPU with AVX.
#[inline(always)]
pub unsafe fn racing_copy(wide: bool, dst: *mut u8, src: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    if wide {
        for i in (0..bytes).step_by(32) {
            // SAFETY: within the ranges; the assembly touches nothing else. Being assembly, it is no data race of Rust's.
            unsafe {
                std::arch::asm!(
                    "vmovdqu ymm15, [{s}]",
                    "vmovdqu [{d}], ymm15",
                    s = in(reg) src.add(i),
                    d = in(reg) dst.add(i),
                    out("xmm15") _,
                    options(nostack, preserves_flags),
                );
            }
        }
        return;
    }
    let _ = wide;
    for i in 0..bytes {
        // SAFETY: within the ranges.
        unsafe { dst.add(i).write_volatile(src.add(i).read_volatile()) };
    }
}

/// `ld` of `N` elements a lane.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn load<S: Space, T: Element, const N: usize>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let size = size_of::<T::Bits>() * N;
    let mut at = [0; LANES];
    // SAFETY: `locate` checked that `size` bytes lie at every active lane's pointer, or `32 * size` at the first one;
    // the destinations are registers of T's width by lowering.
    unsafe {
        let Some(pattern) = locate::<S>(cx, op, (op.a, op.imm), mask, size, &mut at) else { return Flow::Stop };
        count::<S>(cx, op, mask, size, pattern, &at, false);
        match pattern {
            Pattern::Contiguous => {
                let mut block = std::mem::MaybeUninit::<[[T::Bits; N]; LANES]>::uninit();
                let src = at[0] as *const u8;
                if S::KIND == Kind::Shared {
                    std::ptr::copy_nonoverlapping(src, block.as_mut_ptr().cast(), LANES * size);
                } else {
                    racing_copy(cx.wide, block.as_mut_ptr().cast(), src, LANES * size);
                }
                spread_out::<T, N>(cx, op, &block.assume_init());
            }
            Pattern::Uniform => {
                let first = *at.first().unwrap_or(&0);
                for n in 0..N {
                    let bits = (first as *const T::Bits).add(n).read_volatile();
                    cx.set(dest(cx, op, n, N), mask, &[T::widen(bits); LANES]);
                }
            }
            Pattern::Scattered => {
                for n in 0..N {
                    let d = &mut *cx.reg::<T::In>(dest(cx, op, n, N));
                    if mask == !0 {
                        for l in 0..LANES {
                            d[l] = T::widen((at[l] as *const T::Bits).add(n).read_volatile());
                        }
                    } else {
                        for l in lanes(mask) {
                            d[l] = T::widen((at[l] as *const T::Bits).add(n).read_volatile());
                        }
                    }
                }
            }
        }
    }
    poll::<S>(cx, op)
}

/// A load by which a thread may be waiting for another one counts as a poll.
#[inline(always)]
fn poll<S: Space>(cx: &mut Cx<'_>, op: &Op) -> Flow {
    if op.target != 0 {
        cx.polls += 1;
        if cx.polls >= super::control::PATIENCE {
            cx.stop = Stop::Yield;
            return Flow::Stop;
        }
    }
    Flow::Next
}

/// Offset of destination `n` of `count`.
#[inline(always)]
fn dest(cx: &Cx<'_>, op: &Op, n: usize, count: usize) -> u32 {
    if count == 1 { op.d } else { cx.more(op, n) }
}

/// Distributes lane-major elements to the destination registers.
#[inline(always)]
unsafe fn spread_out<T: Element, const N: usize>(cx: &mut Cx<'_>, op: &Op, block: &[[T::Bits; N]; LANES]) {
    // SAFETY: distinct destination registers of T's width.
    unsafe {
        let mut d = [std::ptr::null_mut::<[T::In; LANES]>(); N];
        for n in 0..N {
            d[n] = cx.reg(dest(cx, op, n, N));
        }
        for l in 0..LANES {
            for n in 0..N {
                (*d[n])[l] = T::widen(block[l][n]);
            }
        }
    }
}

/// `st` of `N` elements a lane; of lanes with one address the highest wins.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn store<S: Space, T: Element, const N: usize>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let size = size_of::<T::Bits>() * N;
    let mut at = [0; LANES];
    // SAFETY: as in `load`; sources follow the address in the operand list.
    unsafe {
        let Some(pattern) = locate::<S>(cx, op, (op.a, op.imm), mask, size, &mut at) else { return Flow::Stop };
        count::<S>(cx, op, mask, size, pattern, &at, true);
        let mut s = [std::ptr::null_mut::<[T::In; LANES]>(); N];
        for n in 0..N {
            s[n] = cx.reg(if N < 3 { [op.b, op.c][n] } else { cx.more(op, n + 1) });
        }
        if pattern == Pattern::Contiguous {
            let mut block = std::mem::MaybeUninit::<[[T::Bits; N]; LANES]>::uninit();
            let b = block.as_mut_ptr();
            for l in 0..LANES {
                for n in 0..N {
                    (*b)[l][n] = T::narrow((*s[n])[l]);
                }
            }
            let dst = at[0] as *mut u8;
            if S::KIND == Kind::Shared {
                std::ptr::copy_nonoverlapping(b.cast(), dst, LANES * size);
            } else {
                racing_copy(cx.wide, dst, b.cast(), LANES * size);
            }
        } else {
            if pattern == Pattern::Uniform {
                at = [at[0]; LANES];
            }
            for l in lanes(mask) {
                for n in 0..N {
                    (at[l] as *mut T::Bits).add(n).write_volatile(T::narrow((*s[n])[l]));
                }
            }
        }
    }
    if S::KIND == Kind::Global {
        cx.progress += 1;
    }
    Flow::Next
}

/// Counts an access.
#[inline(always)]
pub fn count<S: Space>(cx: &mut Cx<'_>, op: &Op, mask: u32, size: usize, pattern: Pattern, at: &Pointers, write: bool) {
    match S::KIND {
        Kind::Local => {}
        Kind::Shared => {
            cx.count.shared_accesses += 1;
            cx.count.shared_wavefronts += match pattern {
                Pattern::Contiguous => (size as u64).div_ceil(4),
                Pattern::Uniform => 1,
                Pattern::Scattered => wavefronts(cx, op, mask, size, at),
            };
        }
        Kind::Global => {
            let sectors = match pattern {
                Pattern::Contiguous => ((at[0] & 31) + LANES * size).div_ceil(32) as u64,
                Pattern::Uniform => 1,
                Pattern::Scattered => sectors(mask, size, at),
            };
            let bytes = u64::from(mask.count_ones()) * size as u64;
            if write {
                cx.count.global_stores += 1;
                cx.count.store_sectors += sectors;
                cx.count.store_bytes += bytes;
            } else {
                cx.count.global_loads += 1;
                cx.count.load_sectors += sectors;
                cx.count.load_bytes += bytes;
            }
        }
    }
}

/// Distinct 32-byte sectors that the lanes touch. Accesses are aligned to their size, at most 16 bytes: one sector each.
#[inline(never)]
pub fn sectors(mask: u32, _size: usize, at: &Pointers) -> u64 {
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
/// accesses summed over the half and quarter warps that the hardware serves one after the other.
#[inline(never)]
pub fn wavefronts(cx: &mut Cx<'_>, op: &Op, mask: u32, size: usize, at: &Pointers) -> u64 {
    let line = at[mask.trailing_zeros() as usize & 31] & !127;
    let known = &mut cx.banks[op.site as usize];
    let (mut places, mut differ) = ([0; LANES], known.mask ^ mask);
    for l in 0..LANES {
        places[l] = (at[l] as u32).wrapping_sub(line as u32);
        differ |= places[l] ^ known.places[l];
    }
    if differ != 0 {
        *known = Banks { mask, places, passes: passes(mask, size, at) };
    }
    known.passes
}

/// As [`wavefronts`], counted anew.
#[inline(never)]
fn passes(mask: u32, size: usize, at: &Pointers) -> u64 {
    // An access is aligned to its size, so it takes one slot of as many banks as it is words wide.
    let shift = size.max(4).trailing_zeros();
    let slots = 128usize >> shift;
    let mut passes = 0;
    for (phase, at) in at.chunks(slots).enumerate() {
        let mask = mask >> (phase * slots);
        let (mut conflicts, mut last) = ([0u8; LANES], [usize::MAX; LANES]);
        for (l, at) in at.iter().enumerate() {
            let unit = at >> shift;
            let slot = unit & (slots - 1);
            let new = mask >> l & 1 != 0 && last[slot] != unit;
            conflicts[slot] += u8::from(new);
            last[slot] = if new { unit } else { last[slot] };
        }
        passes += u64::from(conflicts.iter().copied().max().unwrap_or(0));
    }
    passes.max(1)
}
