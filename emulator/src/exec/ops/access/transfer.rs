//! `ld` and `st`.
use super::locate::whole;
use super::traffic::{cost, count, regular_cost};
use super::{Element, Kind, Pattern, Space, locate};
use crate::exec::cx::{Cx, lanes};
use crate::exec::lane::LANES;
use crate::exec::op::{Flow, Op, Stop};
use crate::exec::ops::control::PATIENCE;

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
    // SAFETY: `whole` and `locate` checked that `size` bytes lie at every active lane's pointer, or `32 * size` at the
    // first one; the destinations are registers of T's width by lowering.
    unsafe {
        if S::KIND != Kind::Local
            && mask == !0
            && let Some((pattern, first)) = whole::<S>(cx, op, size)
        {
            count::<S>(cx, mask, size, regular_cost::<S>(size, pattern, first), false);
            match pattern {
                Pattern::Contiguous => load_block::<S, T, N>(cx, op, first as *const u8),
                _ => load_one::<T, N>(cx, op, mask, first as *const T::Bits),
            }
            return poll(cx, op);
        }
        let mut at = [0; LANES];
        let Some(pattern) = locate::<S>(cx, op, (op.a, op.imm), mask, size, &mut at) else { return Flow::Stop };
        let cost = cost::<S>(cx, op, mask, size, pattern, &at);
        count::<S>(cx, mask, size, cost, false);
        match pattern {
            Pattern::Contiguous => load_block::<S, T, N>(cx, op, at[0] as *const u8),
            Pattern::Uniform => load_one::<T, N>(cx, op, mask, at[0] as *const T::Bits),
            #[cfg(target_arch = "x86_64")]
            Pattern::Scattered if N == 4 && size == 16 && mask == !0 && cx.wide => {
                let d = std::array::from_fn(|n| cx.reg(dest(cx, op, n, N)));
                x86::load_fours(|l| at[l] as *const u8, d);
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
    poll(cx, op)
}

/// A load by which a thread may be waiting for another one counts as a poll.
#[inline(always)]
fn poll(cx: &mut Cx<'_>, op: &Op) -> Flow {
    if op.target != 0 {
        cx.polls += 1;
        if cx.polls >= PATIENCE {
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

/// All lanes of `mask` load the same elements.
///
/// # Safety
/// `N` elements at `src`; destinations of T's width.
#[inline(always)]
unsafe fn load_one<T: Element, const N: usize>(cx: &mut Cx<'_>, op: &Op, mask: u32, src: *const T::Bits) {
    for n in 0..N {
        // SAFETY: as the caller says.
        unsafe {
            let bits = src.add(n).read_volatile();
            cx.set(dest(cx, op, n, N), mask, &[T::widen(bits); LANES]);
        }
    }
}

/// All 32 lanes load side by side.
///
/// # Safety
/// `32 * N` elements at `src`; distinct destinations of T's width.
#[inline(always)]
unsafe fn load_block<S: Space, T: Element, const N: usize>(cx: &mut Cx<'_>, op: &Op, src: *const u8) {
    let bytes = size_of::<T::Bits>() * N * LANES;
    // SAFETY: as the caller says; elements of 32 and 64 bits lie in registers as in memory.
    unsafe {
        let mut d = [std::ptr::null_mut::<[T::In; LANES]>(); N];
        for n in 0..N {
            d[n] = cx.reg(dest(cx, op, n, N));
        }
        if N == 1 && size_of::<T::Bits>() >= 4 {
            return copy::<S>(cx.wide, d[0].cast(), src, bytes);
        }
        #[cfg(target_arch = "x86_64")]
        if size_of::<T::Bits>() == 4 && cx.wide {
            match N {
                2 => return x86::load_pairs(src, [d[0].cast(), d[1].cast()]),
                4 => return x86::load_fours(|l| src.add(16 * l), [d[0].cast(), d[1].cast(), d[2].cast(), d[3].cast()]),
                _ => {}
            }
        }
        let mut block = std::mem::MaybeUninit::<[[T::Bits; N]; LANES]>::uninit();
        copy::<S>(cx.wide, block.as_mut_ptr().cast(), src, bytes);
        let block = block.assume_init();
        for l in 0..LANES {
            for n in 0..N {
                (*d[n])[l] = T::widen(block[l][n]);
            }
        }
    }
}

/// Copies a block from or to memory of a space; shared memory belongs to this worker alone.
///
/// # Safety
/// As [`racing_copy`].
#[inline(always)]
unsafe fn copy<S: Space>(wide: bool, dst: *mut u8, src: *const u8, bytes: usize) {
    // SAFETY: passed on.
    unsafe {
        if S::KIND == Kind::Shared {
            std::ptr::copy_nonoverlapping(src, dst, bytes);
        } else {
            racing_copy(wide, dst, src, bytes);
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
    // SAFETY: as in `load`; sources follow the address in the operand list.
    unsafe {
        let mut s = [std::ptr::null_mut::<[T::In; LANES]>(); N];
        for n in 0..N {
            s[n] = cx.reg(if N < 3 { [op.b, op.c][n] } else { cx.more(op, n + 1) });
        }
        let found = if S::KIND != Kind::Local && mask == !0 { whole::<S>(cx, op, size) } else { None };
        if let Some((Pattern::Contiguous, first)) = found {
            count::<S>(cx, mask, size, regular_cost::<S>(size, Pattern::Contiguous, first), true);
            store_block::<S, T, N>(cx, &s, first as *mut u8);
        } else {
            let mut at = [0; LANES];
            let Some(pattern) = locate::<S>(cx, op, (op.a, op.imm), mask, size, &mut at) else { return Flow::Stop };
            let cost = cost::<S>(cx, op, mask, size, pattern, &at);
            count::<S>(cx, mask, size, cost, true);
            if pattern == Pattern::Contiguous {
                store_block::<S, T, N>(cx, &s, at[0] as *mut u8);
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
    }
    if S::KIND == Kind::Global {
        cx.progress += 1;
    }
    Flow::Next
}

/// All 32 lanes store side by side.
///
/// # Safety
/// Room for `32 * N` elements at `dst`; sources of T's width.
#[inline(always)]
unsafe fn store_block<S: Space, T: Element, const N: usize>(cx: &Cx<'_>, s: &[*mut [T::In; LANES]; N], dst: *mut u8) {
    let bytes = size_of::<T::Bits>() * N * LANES;
    // SAFETY: as the caller says; elements of 32 and 64 bits lie in registers as in memory.
    unsafe {
        if N == 1 && size_of::<T::Bits>() >= 4 {
            return copy::<S>(cx.wide, dst, s[0].cast(), bytes);
        }
        let mut block = std::mem::MaybeUninit::<[[T::Bits; N]; LANES]>::uninit();
        let b = block.as_mut_ptr();
        for l in 0..LANES {
            for n in 0..N {
                (*b)[l][n] = T::narrow((*s[n])[l]);
            }
        }
        copy::<S>(cx.wide, dst, b.cast(), bytes);
    }
}

/// Vector loads, transposed on the way from memory to registers.
#[cfg(target_arch = "x86_64")]
pub mod x86 {
    use crate::exec::lane::LANES;
    use std::arch::asm;
    use std::arch::x86_64::*;

    /// A register of the file.
    pub type Register = *mut [u32; LANES];

    /// 16 bytes at each of two places, which others may be changing: by assembly, which is no data race of Rust's.
    ///
    /// # Safety
    /// 16 readable bytes at each.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn pieces(low: *const u8, high: *const u8) -> __m256 {
        let x: __m256;
        // SAFETY: the caller gives readable bytes; nothing else is touched.
        unsafe {
            asm!(
                "vmovdqu {x:x}, [{low}]",
                "vinserti128 {x}, {x}, [{high}], 1",
                x = out(ymm_reg) x,
                low = in(reg) low,
                high = in(reg) high,
                options(nostack, preserves_flags, readonly),
            );
        }
        x
    }

    /// Eight rows of 16 bytes one after the other, stored two at a time: an operation that reads 32 bytes of the register
    /// would wait for two smaller stores.
    ///
    /// # Safety
    /// 16 readable bytes at each row; a writable register.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn join_rows(row: impl Fn(usize) -> *const u8, d: Register) {
        for i in 0..4 {
            // SAFETY: as the caller says, and within the register.
            unsafe { _mm256_storeu_ps(d.cast::<f32>().add(8 * i), pieces(row(2 * i), row(2 * i + 1))) };
        }
    }

    /// Lane `l`'s two words from `src + 8 * l`.
    ///
    /// # Safety
    /// 256 readable bytes; writable registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn load_pairs(src: *const u8, d: [Register; 2]) {
        for i in 0..4 {
            // SAFETY: within the 256 bytes, and within the registers.
            unsafe {
                let src = src.add(64 * i);
                let (x, y) = (pieces(src, src.add(32)), pieces(src.add(16), src.add(48)));
                _mm256_storeu_ps(d[0].cast::<f32>().add(8 * i), _mm256_shuffle_ps(x, y, 0b10_00_10_00));
                _mm256_storeu_ps(d[1].cast::<f32>().add(8 * i), _mm256_shuffle_ps(x, y, 0b11_01_11_01));
            }
        }
    }

    /// Each lane's four words from where `at` says.
    ///
    /// # Safety
    /// 16 readable bytes for each lane; writable registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn load_fours(at: impl Fn(usize) -> *const u8, d: [Register; 4]) {
        for i in 0..4 {
            // SAFETY: as the caller says, and within the registers.
            unsafe {
                let piece = |l: usize| pieces(at(8 * i + l), at(8 * i + l + 4));
                let (a, b, c, e) = (piece(0), piece(1), piece(2), piece(3));
                let pd = |x| _mm256_castps_pd(x);
                let (ab, ce) = (pd(_mm256_unpacklo_ps(a, b)), pd(_mm256_unpacklo_ps(c, e)));
                _mm256_storeu_pd(d[0].cast::<f64>().add(4 * i), _mm256_unpacklo_pd(ab, ce));
                _mm256_storeu_pd(d[1].cast::<f64>().add(4 * i), _mm256_unpackhi_pd(ab, ce));
                let (ab, ce) = (pd(_mm256_unpackhi_ps(a, b)), pd(_mm256_unpackhi_ps(c, e)));
                _mm256_storeu_pd(d[2].cast::<f64>().add(4 * i), _mm256_unpacklo_pd(ab, ce));
                _mm256_storeu_pd(d[3].cast::<f64>().add(4 * i), _mm256_unpackhi_pd(ab, ce));
            }
        }
    }
}
