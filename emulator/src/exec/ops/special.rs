//! Lane functions and handlers of single instructions that need more than an expression.
use crate::exec::cx::Cx;
use crate::exec::lane::{LANES, Lane, Ternary, ternary};
use crate::exec::op::{Flow, Op};
use crate::exec::ops::access::WINDOW;
use crate::num::fp8::{self, Fp8};
use crate::num::half::{Bf16, F16, Half};
use crate::num::{Lanes, Rn, Rz, bits, float, int, lanes as lanes_of, packed};

/// Bits of the immediate of half-precision operations.
pub mod flag {
    /// `.ftz`
    pub const FTZ: i64 = 1;
    /// `.sat`
    pub const SAT: i64 = 2;
    /// `.relu`
    pub const RELU: i64 = 4;
    /// `.NaN`
    pub const NAN: i64 = 8;
    /// `.xorsign.abs`
    pub const XORSIGN: i64 = 16;
    /// max instead of min
    pub const MAX: i64 = 32;
}

macro_rules! half_binary {
    ($name:ident, $f:ident) => {
        /// The operation with the immediate's `.ftz` and `.sat`.
        #[inline(always)]
        pub fn $name<H: Half>(a: u16, b: u16, imm: i64) -> u16 {
            match imm & 3 {
                0 => packed::$f::<H, false, false>(a, b),
                1 => packed::$f::<H, true, false>(a, b),
                2 => packed::$f::<H, false, true>(a, b),
                _ => packed::$f::<H, true, true>(a, b),
            }
        }
    };
}
half_binary!(hadd, add);
half_binary!(hsub, sub);
half_binary!(hmul, mul);

/// `fma` with the immediate's `.ftz`, `.sat` and `.relu`.
#[inline(always)]
pub fn hfma<H: Half>(a: u16, b: u16, c: u16, imm: i64) -> u16 {
    match imm & 7 {
        0 => packed::fma::<H, false, false, false>(a, b, c),
        1 => packed::fma::<H, true, false, false>(a, b, c),
        2 => packed::fma::<H, false, true, false>(a, b, c),
        3 => packed::fma::<H, true, true, false>(a, b, c),
        4 => packed::fma::<H, false, false, true>(a, b, c),
        _ => packed::fma::<H, true, false, true>(a, b, c),
    }
}

/// A half format with whole-register arithmetic.
pub trait Packed: Half {
    /// Two ones.
    const ONES: u32 = (Self::ONE as u32) << 16 | Self::ONE as u32;
    /// `fma.rn` of packed pairs.
    fn fma(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes;
    /// `add.rn` of packed pairs.
    #[inline(always)]
    fn sum(a: &Lanes, b: &Lanes) -> Lanes {
        Self::fma(a, &[Self::ONES; LANES], b)
    }
    /// `sub.rn` of packed pairs.
    #[inline(always)]
    fn difference(a: &Lanes, b: &Lanes) -> Lanes {
        Self::fma(b, &[Self::ONES ^ 0x8000_8000; LANES], a)
    }
    /// `mul.rn` of packed pairs.
    #[inline(always)]
    fn products(a: &Lanes, b: &Lanes) -> Lanes {
        Self::fma(a, b, &[0x8000_8000; LANES])
    }
}

impl Packed for F16 {
    #[inline(always)]
    fn fma(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
        lanes_of::fma_f16x2(a, b, c)
    }
    #[inline(always)]
    fn sum(a: &Lanes, b: &Lanes) -> Lanes {
        lanes_of::add_f16x2(a, b)
    }
    #[inline(always)]
    fn difference(a: &Lanes, b: &Lanes) -> Lanes {
        lanes_of::sub_f16x2(a, b)
    }
    #[inline(always)]
    fn products(a: &Lanes, b: &Lanes) -> Lanes {
        lanes_of::mul_f16x2(a, b)
    }
}

impl Packed for Bf16 {
    #[inline(always)]
    fn fma(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
        lanes_of::fma_bf16x2(a, b, c)
    }
}

/// `fma` of packed pairs, with the immediate's `.ftz`, `.sat` and `.relu`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn packed_fma<H: Packed>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let (a, b, c) = (&*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b), &*cx.reg::<u32>(op.c));
        let out = match op.imm {
            0 => H::fma(a, b, c),
            imm => std::array::from_fn(|l| packed::map3(a[l], b[l], c[l], |a, b, c| hfma::<H>(a, b, c, imm))),
        };
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

macro_rules! packed_binary {
    ($name:ident, $scalar:ident, $whole:ident) => {
        /// The operation on packed pairs, with the immediate's `.ftz` and `.sat`.
        ///
        /// # Safety
        /// As [`crate::exec::op::Handler`].
        #[inline(always)]
        pub unsafe fn $name<H: Packed>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
            // SAFETY: 32-bit registers by lowering.
            unsafe {
                let (a, b) = (&*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b));
                let out = match op.imm {
                    0 => H::$whole(a, b),
                    imm => std::array::from_fn(|l| packed::map2(a[l], b[l], |a, b| $scalar::<H>(a, b, imm))),
                };
                cx.set(op.d, mask, &out);
            }
            Flow::Next
        }
    };
}
packed_binary!(packed_add, hadd, sum);
packed_binary!(packed_sub, hsub, difference);
packed_binary!(packed_mul, hmul, products);

/// `prmt` in index mode.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn permute(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let out = lanes_of::prmt(&*cx.reg::<u32>(op.a), &*cx.reg::<u32>(op.b), &*cx.reg::<u32>(op.c));
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// The immediate of [`permute_fixed`] for a selector without sign replication: for each byte of the result, where it
/// comes from in `a` in the lower word and in `b` in the upper one, 0x80 where it comes from the other.
pub fn byte_indices(selector: u32) -> i64 {
    let (mut from_a, mut from_b) = (0u64, 0u64);
    for i in 0..4 {
        let nibble = u64::from(selector >> (4 * i) & 7);
        let (a, b) = if nibble < 4 { (nibble, 0x80) } else { (0x80, nibble - 4) };
        from_a |= a << (8 * i);
        from_b |= b << (8 * i);
    }
    (from_a | from_b << 32) as i64
}

/// `prmt` by a constant selector, given as [`byte_indices`].
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn permute_fixed(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: 32-bit registers by lowering.
    unsafe {
        let (from_a, from_b) = (op.imm as u32, (op.imm as u64 >> 32) as u32);
        let out = lanes_of::shuffle_bytes(&*cx.reg::<u32>(op.a), from_a, &*cx.reg::<u32>(op.b), from_b);
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// `lop3`: the immediate is the table.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn logic3(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    struct Table(u8);
    impl Ternary for Table {
        type A = u32;
        type B = u32;
        type C = u32;
        type D = u32;
        #[inline(always)]
        fn f(&self, a: u32, b: u32, c: u32) -> u32 {
            bits::lop3(a, b, c, self.0)
        }
    }
    // SAFETY: passed on. The usual tables as constants, which leave an instruction or two of the eight terms.
    unsafe {
        match op.imm as u8 {
            0xea => ternary(cx, op, mask, Table(0xea)),
            0xf8 => ternary(cx, op, mask, Table(0xf8)),
            0x96 => ternary(cx, op, mask, Table(0x96)),
            table => ternary(cx, op, mask, Table(table)),
        }
    }
}

macro_rules! half_min_max {
    ($name:ident, $f:ident) => {
        /// With the immediate's `.ftz`, `.NaN` and `.xorsign.abs`.
        #[inline(always)]
        pub fn $name<H: Half>(a: u16, b: u16, imm: i64) -> u16 {
            let (x, y) = if imm & flag::XORSIGN != 0 { (a & 0x7fff, b & 0x7fff) } else { (a, b) };
            let chosen = match imm & (flag::FTZ | flag::NAN) {
                0 => packed::$f::<H, false, false>(x, y),
                flag::FTZ => packed::$f::<H, true, false>(x, y),
                flag::NAN => packed::$f::<H, false, true>(x, y),
                _ => packed::$f::<H, true, true>(x, y),
            };
            if imm & flag::XORSIGN != 0 { packed::xorsign(a, b, chosen) } else { chosen }
        }
    };
}
half_min_max!(hmin, min);
half_min_max!(hmax, max);

/// `min` and `max` with any of `.ftz`, `.NaN`, `.xorsign.abs`.
#[inline(always)]
pub fn min_max_f32(a: f32, b: f32, imm: i64) -> f32 {
    let (x, y) = if imm & flag::XORSIGN != 0 { (a.abs(), b.abs()) } else { (a, b) };
    let (ftz, nan, max) = (imm & flag::FTZ != 0, imm & flag::NAN != 0, imm & flag::MAX != 0);
    let chosen = match (max, ftz, nan) {
        (false, false, false) => float::min_f32::<false, false>(x, y),
        (false, false, true) => float::min_f32::<false, true>(x, y),
        (false, true, false) => float::min_f32::<true, false>(x, y),
        (false, true, true) => float::min_f32::<true, true>(x, y),
        (true, false, false) => float::max_f32::<false, false>(x, y),
        (true, false, true) => float::max_f32::<false, true>(x, y),
        (true, true, false) => float::max_f32::<true, false>(x, y),
        (true, true, true) => float::max_f32::<true, true>(x, y),
    };
    if imm & flag::XORSIGN != 0 { float::xorsign_f32(a, b, chosen) } else { chosen }
}

/// `ex2.approx` of a half.
#[inline(always)]
pub fn hex2<H: Half>(a: u16, imm: i64) -> u16 {
    use crate::num::approx::ex2;
    if imm != 0 { packed::apply::<H, true>(a, ex2::<false>) } else { packed::apply::<H, false>(a, ex2::<false>) }
}

/// Two f32 to a packed pair: immediate bit 0 is `.rz`, bit 2 `.relu`.
#[inline(always)]
pub fn pack_halves<H: Half>(high: f32, low: f32, imm: i64) -> u32 {
    let one = |x: f32| {
        let h = if imm & 1 != 0 { H::from_f32::<Rz>(x) } else { H::from_f32::<Rn>(x) };
        if imm & flag::RELU != 0 { packed::relu(h) } else { h }
    };
    u32::from(one(high)) << 16 | u32::from(one(low))
}

/// Two f32 to two fp8.
#[inline(always)]
pub fn fp8_pack<F: Fp8>(high: f32, low: f32, imm: i64) -> u16 {
    if imm != 0 { fp8::pack::<F, true>(high, low) } else { fp8::pack::<F, false>(high, low) }
}

/// Two halves to two fp8.
#[inline(always)]
pub fn fp8_pack_halves<F: Fp8, H: Half>(a: u32, imm: i64) -> u16 {
    if imm != 0 { fp8::pack_halves::<F, H, true>(a) } else { fp8::pack_halves::<F, H, false>(a) }
}

/// Two fp8 to two f16.
#[inline(always)]
pub fn fp8_unpack<F: Fp8>(a: u16, imm: i64) -> u32 {
    if imm != 0 { fp8::unpack::<F, true>(a) } else { fp8::unpack::<F, false>(a) }
}

/// `dp2a`: immediate bit 0: A signed, 1: B signed, 2: the high bytes of B.
#[inline(always)]
pub fn dp2a(a: u32, b: u32, c: u32, imm: i64) -> u32 {
    match imm & 7 {
        0 => int::dp2a::<false, false, false>(a, b, c),
        1 => int::dp2a::<true, false, false>(a, b, c),
        2 => int::dp2a::<false, true, false>(a, b, c),
        3 => int::dp2a::<true, true, false>(a, b, c),
        4 => int::dp2a::<false, false, true>(a, b, c),
        5 => int::dp2a::<true, false, true>(a, b, c),
        6 => int::dp2a::<false, true, true>(a, b, c),
        _ => int::dp2a::<true, true, true>(a, b, c),
    }
}

/// `prmt` modes by number, in PTX's order.
pub const PRMT_MODES: [&str; 6] = ["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"];

/// The mode of an immediate: an index into [`PRMT_MODES`].
#[inline(always)]
pub fn prmt_mode(imm: i64) -> bits::Prmt {
    use bits::Prmt;
    [Prmt::F4e, Prmt::B4e, Prmt::Rc8, Prmt::Ecl, Prmt::Ecr, Prmt::Rc16][imm as usize % 6]
}

/// Clamps a signed value to an integer type: the immediate is its width, negative if it is signed.
#[inline(always)]
pub fn clamp_s64(a: i64, imm: i64) -> i64 {
    match imm {
        64 => a.max(0),
        1..64 => a.clamp(0, (1 << imm) - 1),
        -64 => a,
        _ => a.clamp(-1 << (-imm - 1), (1 << (-imm - 1)) - 1),
    }
}

/// As [`clamp_s64`], of an unsigned value.
#[inline(always)]
pub fn clamp_u64(a: u64, imm: i64) -> i64 {
    match imm {
        64 => a as i64,
        1..64 => a.min((1 << imm) - 1) as i64,
        _ => a.min((1 << (-imm - 1)) - 1) as i64,
    }
}

/// Words with a carry.
pub trait Word: Lane {
    /// Sum (or difference) and carry (or borrow) out.
    fn carry(a: Self, b: Self, carry: bool, subtract: bool) -> (Self, bool);
    /// `bfi`.
    fn insert(a: Self, b: Self, pos: u32, len: u32) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn carry(a: u32, b: u32, carry: bool, subtract: bool) -> (u32, bool) {
        if subtract { int::subc_u32(a, b, carry) } else { int::addc_u32(a, b, carry) }
    }
    #[inline(always)]
    fn insert(a: u32, b: u32, pos: u32, len: u32) -> u32 {
        bits::bfi_b32(a, b, pos, len)
    }
}

impl Word for u64 {
    #[inline(always)]
    fn carry(a: u64, b: u64, carry: bool, subtract: bool) -> (u64, bool) {
        if subtract { int::subc_u64(a, b, carry) } else { int::addc_u64(a, b, carry) }
    }
    #[inline(always)]
    fn insert(a: u64, b: u64, pos: u32, len: u32) -> u64 {
        bits::bfi_b64(a, b, pos, len)
    }
}

/// `add{c}{.cc}` and `sub{c}{.cc}`: destinations sum and carry, sources a, b and carry in.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn carry<T: Word, const SUB: bool>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (a, b, carry) = (*cx.reg::<T::In>(op.a), *cx.reg::<T::In>(op.b), cx.pred(op.c));
        let (mut sum, mut out) = (a, 0);
        for l in 0..LANES {
            let (s, c) = T::carry(T::get(a[l]), T::get(b[l]), carry >> l & 1 != 0, SUB);
            sum[l] = s.put();
            out |= u32::from(c) << l;
        }
        cx.set(op.d, mask, &sum);
        cx.set_pred(cx.more(op, 1), mask, out);
    }
    Flow::Next
}

/// `bfi`: sources a, b, position, length.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn insert<T: Word>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let (a, b) = (&*cx.reg::<T::In>(op.a), &*cx.reg::<T::In>(op.b));
        let (pos, len) = (&*cx.reg::<u32>(op.c), &*cx.reg::<u32>(cx.more(op, 4)));
        let mut out = *a;
        for l in 0..LANES {
            out[l] = T::insert(T::get(a[l]), T::get(b[l]), pos[l], len[l]).put();
        }
        cx.set(op.d, mask, &out);
    }
    Flow::Next
}

/// `isspacep`: the immediate is the window's start, 0 for global (no window).
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn in_window(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let start = op.imm as u64;
    // SAFETY: registers of these kinds by lowering.
    unsafe {
        let a = &*cx.reg::<u64>(op.a);
        let mut bits = 0;
        for l in 0..LANES {
            let inside = |start: u64| a[l].wrapping_sub(start) < WINDOW;
            let any = (0..3).any(|i| inside(super::access::SHARED_WINDOW + i * WINDOW));
            bits |= u32::from(if start == 0 { !any } else { inside(start) }) << l;
        }
        cx.set_pred(op.d, mask, bits);
    }
    Flow::Next
}

/// `%clock`, `%clock64`: SM cycles since the launch, by the host's clock.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn clock<T: Lane>(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow
where
    T::In: Cycles,
{
    let nanoseconds = cx.launch.started.elapsed().as_nanos() as u64;
    let now = nanoseconds.wrapping_mul(u64::from(cx.launch.gpu.spec().clock_khz)) / 1_000_000;
    // SAFETY: a register of this kind by lowering.
    unsafe { cx.set(op.d, mask, &[T::In::low(now); LANES]) };
    Flow::Next
}

/// The low bits of a cycle count.
pub trait Cycles: crate::exec::lane::Store {
    /// As many as fit.
    fn low(cycles: u64) -> Self;
}

impl Cycles for u32 {
    fn low(cycles: u64) -> u32 {
        cycles as u32
    }
}

impl Cycles for u64 {
    fn low(cycles: u64) -> u64 {
        cycles
    }
}

/// `%globaltimer`: nanoseconds since the launch.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn global_timer(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let now = cx.launch.started.elapsed().as_nanos() as u64;
    // SAFETY: a 64-bit register by lowering.
    unsafe { cx.set(op.d, mask, &[now; LANES]) };
    Flow::Next
}

/// `activemask`.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
#[inline(always)]
pub unsafe fn active_mask(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    // SAFETY: a 32-bit register by lowering.
    unsafe { cx.set(op.d, mask, &[mask; LANES]) };
    Flow::Next
}

/// Special registers by number, the immediate of [`special_register`].
pub const SPECIAL: [&str; 37] = [
    "%tid.x",
    "%tid.y",
    "%tid.z",
    "%ntid.x",
    "%ntid.y",
    "%ntid.z",
    "%ctaid.x",
    "%ctaid.y",
    "%ctaid.z",
    "%nctaid.x",
    "%nctaid.y",
    "%nctaid.z",
    "%laneid",
    "%warpid",
    "%nwarpid",
    "%smid",
    "%nsmid",
    "%lanemask_eq",
    "%lanemask_lt",
    "%lanemask_le",
    "%lanemask_gt",
    "%lanemask_ge",
    "%dynamic_smem_size",
    "%total_smem_size",
    "%cluster_ctaid.x",
    "%cluster_ctaid.y",
    "%cluster_ctaid.z",
    "%cluster_nctaid.x",
    "%cluster_nctaid.y",
    "%cluster_nctaid.z",
    "%cluster_ctarank",
    "%cluster_nctarank",
    "WARP_SZ",
    "%clusterid.x",
    "%nclusterid.x",
    "%envreg1",
    "%envreg2",
];

/// A 32-bit special register. A block is a cluster of its own.
///
/// # Safety
/// As [`crate::exec::op::Handler`].
pub unsafe fn special_register(cx: &mut Cx<'_>, op: &Op, mask: u32) -> Flow {
    let out = match op.imm {
        0..=2 => thread_index(cx, op.imm as usize),
        12 => std::array::from_fn(|l| l as u32),
        17 => std::array::from_fn(|l| 1 << l),
        18 => std::array::from_fn(|l| (1 << l) - 1),
        19 => std::array::from_fn(|l| u32::MAX >> (31 - l)),
        20 => std::array::from_fn(|l| !(u32::MAX >> (31 - l))),
        21 => std::array::from_fn(|l| u32::MAX << l),
        number => [uniform(cx, number); LANES],
    };
    // SAFETY: a 32-bit register by lowering.
    unsafe { cx.set(op.d, mask, &out) };
    Flow::Next
}

/// `%tid` in one dimension.
fn thread_index(cx: &Cx<'_>, dimension: usize) -> [u32; LANES] {
    let [x, y, z] = cx.launch.block;
    let first = cx.warp as u32 * 32;
    if y * z == 1 {
        return std::array::from_fn(|l| if dimension == 0 { first + l as u32 } else { 0 });
    }
    std::array::from_fn(|l| {
        let thread = first + l as u32;
        [thread % x, thread / x % y, thread / (x * y)][dimension]
    })
}

/// A special register that is the same in all lanes.
fn uniform(cx: &Cx<'_>, number: i64) -> u32 {
    let launch = cx.launch;
    match number {
        3..=5 => launch.block[number as usize - 3],
        6..=8 => cx.ctaid[number as usize - 6],
        9..=11 => launch.grid[number as usize - 9],
        13 => cx.warp as u32,
        14 => launch.block.iter().product::<u32>().div_ceil(32),
        15 => cx.block_index() as u32 % launch.gpu.spec().sms,
        16 => launch.gpu.spec().sms,
        22 => launch.dynamic_shared,
        23 => cx.shared_len as u32,
        27 | 28 | 29 | 31 => 1,
        32 => 32,
        33 => cx.ctaid[0],
        34 => launch.grid[0],
        35 => (launch.workspace >> 32) as u32,
        36 => launch.workspace as u32,
        _ => 0,
    }
}
