//! Logic, shifts, bit fields, bit counts and byte permutation.

/// `lop3.b32`: any function of three inputs; bit `4a + 2b + c` of `lut` is the result for the bits a, b, c.
#[inline(always)]
pub fn lop3(a: u32, b: u32, c: u32, lut: u8) -> u32 {
    // A tree of selections over the eight table bits, each spread over a word.
    let t = |i: u32| 0u32.wrapping_sub(u32::from(lut) >> i & 1);
    let by_c = |lo: u32, hi: u32| lo ^ (c & (lo ^ hi));
    let by_b = |lo: u32, hi: u32| lo ^ (b & (lo ^ hi));
    let a0 = by_b(by_c(t(0), t(1)), by_c(t(2), t(3)));
    let a1 = by_b(by_c(t(4), t(5)), by_c(t(6), t(7)));
    a0 ^ (a & (a0 ^ a1))
}

/// Modes of `prmt.b32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prmt {
    /// Four selectors of four bits; bit 3 replicates the byte's sign.
    Index,
    /// `.f4e`: forward 4 extract.
    F4e,
    /// `.b4e`: backward 4 extract.
    B4e,
    /// `.rc8`: replicate a byte.
    Rc8,
    /// `.ecl`: edge clamp left.
    Ecl,
    /// `.ecr`: edge clamp right.
    Ecr,
    /// `.rc16`: replicate a half.
    Rc16,
}

impl Prmt {
    /// The selector of [`Prmt::Index`] that does what this mode does for `c`.
    #[inline(always)]
    pub fn selector(self, c: u32) -> u32 {
        let table: [u32; 4] = match self {
            Prmt::Index => return c,
            Prmt::F4e => [0x3210, 0x4321, 0x5432, 0x6543],
            Prmt::B4e => [0x5670, 0x6701, 0x7012, 0x0123],
            Prmt::Rc8 => [0x0000, 0x1111, 0x2222, 0x3333],
            Prmt::Ecl => [0x3210, 0x3211, 0x3222, 0x3333],
            Prmt::Ecr => [0x0000, 0x1110, 0x2210, 0x3210],
            Prmt::Rc16 => [0x1010, 0x3232, 0x1010, 0x3232],
        };
        table[(c & 3) as usize]
    }
}

/// `prmt.b32` in index mode: four bytes out of the eight of `b:a`.
#[inline(always)]
pub fn prmt(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let pick = |i: u32| {
        let s = selector >> (4 * i) & 15;
        let byte = (bytes >> (8 * (s & 7))) as u8;
        let sign = ((byte as i8) >> 7) as u8;
        u32::from(if s & 8 != 0 { sign } else { byte }) << (8 * i)
    };
    pick(0) | pick(1) | pick(2) | pick(3)
}

macro_rules! fields {
    ($u:ty, $s:ty, $bits:literal, $shl:ident, $shr:ident, $sar:ident, $bfe_u:ident, $bfe_s:ident, $bfi:ident, $find_u:ident, $find_s:ident) => {
        /// `shl`: an amount of the width or more gives 0.
        #[inline(always)]
        pub fn $shl(a: $u, n: u32) -> $u {
            if n < $bits { a << (n & ($bits - 1)) } else { 0 }
        }

        /// `shr` of unsigned or untyped bits: an amount of the width or more gives 0.
        #[inline(always)]
        pub fn $shr(a: $u, n: u32) -> $u {
            if n < $bits { a >> (n & ($bits - 1)) } else { 0 }
        }

        /// `shr` of signed bits: an amount of the width or more gives copies of the sign.
        #[inline(always)]
        pub fn $sar(a: $s, n: u32) -> $s {
            a >> n.min($bits - 1)
        }

        /// `bfe` unsigned: `len` bits of `a` from `pos`, both taken modulo 256.
        #[inline(always)]
        pub fn $bfe_u(a: $u, pos: u32, len: u32) -> $u {
            let (pos, len) = (pos & 255, len & 255);
            let mask = if len < $bits { ((1 as $u) << (len & ($bits - 1))).wrapping_sub(1) } else { !0 };
            $shr(a, pos) & mask
        }

        /// `bfe` signed: the field is extended by its top bit, or by the sign of `a` where it reaches past it.
        #[inline(always)]
        pub fn $bfe_s(a: $s, pos: u32, len: u32) -> $s {
            let (pos, len) = (pos & 255, len & 255);
            let shifted = $sar(a, pos);
            let unused = ($bits - len.clamp(1, $bits)) & ($bits - 1);
            if len == 0 { 0 } else { (shifted << unused) >> unused }
        }

        /// `bfi`: `b` with the low `len` bits of `a` put at `pos`, both taken modulo 256.
        #[inline(always)]
        pub fn $bfi(a: $u, b: $u, pos: u32, len: u32) -> $u {
            let (pos, len) = (pos & 255, len & 255);
            let field = if len < $bits { ((1 as $u) << (len & ($bits - 1))).wrapping_sub(1) } else { !0 };
            let mask = $shl(field, pos);
            ($shl(a, pos) & mask) | (b & !mask)
        }

        /// `bfind` unsigned: place of the top set bit, or its distance from the top with `shiftamt`; none: all ones.
        #[inline(always)]
        pub fn $find_u(a: $u, shiftamt: bool) -> u32 {
            let zeros = a.leading_zeros();
            let found = if shiftamt { zeros } else { ($bits - 1u32).wrapping_sub(zeros) };
            if a == 0 { !0 } else { found }
        }

        /// `bfind` signed: as unsigned, of the bits that differ from the sign.
        #[inline(always)]
        pub fn $find_s(a: $s, shiftamt: bool) -> u32 {
            $find_u((a ^ (a >> ($bits - 1))) as $u, shiftamt)
        }
    };
}
fields!(u32, i32, 32, shl_b32, shr_u32, shr_s32, bfe_u32, bfe_s32, bfi_b32, bfind_u32, bfind_s32);
fields!(u64, i64, 64, shl_b64, shr_u64, shr_s64, bfe_u64, bfe_s64, bfi_b64, bfind_u64, bfind_s64);

/// `shl.b16`.
#[inline(always)]
pub fn shl_b16(a: u16, n: u32) -> u16 {
    shl_b32(u32::from(a), n) as u16
}

/// `shr.u16`, `shr.b16`.
#[inline(always)]
pub fn shr_u16(a: u16, n: u32) -> u16 {
    shr_u32(u32::from(a), n) as u16
}

/// `shr.s16`.
#[inline(always)]
pub fn shr_s16(a: i16, n: u32) -> i16 {
    shr_s32(i32::from(a), n) as i16
}

/// Amount of a funnel shift: `.wrap` takes it modulo 32, `.clamp` takes at most 32.
#[inline(always)]
fn amount<const WRAP: bool>(n: u32) -> u32 {
    if WRAP { n & 31 } else { n.min(32) }
}

/// `shf.l.b32`: the high word of `b:a` shifted left.
#[inline(always)]
pub fn shf_l<const WRAP: bool>(a: u32, b: u32, n: u32) -> u32 {
    (((u64::from(b) << 32 | u64::from(a)) << amount::<WRAP>(n)) >> 32) as u32
}

/// `shf.r.b32`: the low word of `b:a` shifted right.
#[inline(always)]
pub fn shf_r<const WRAP: bool>(a: u32, b: u32, n: u32) -> u32 {
    ((u64::from(b) << 32 | u64::from(a)) >> amount::<WRAP>(n)) as u32
}

/// `szext`: `a` extended from its low `n` bits; no bits give 0.
#[inline(always)]
pub fn szext_u32<const WRAP: bool>(a: u32, n: u32) -> u32 {
    bfe_u32(a, 0, amount::<WRAP>(n))
}

/// `szext.s32`.
#[inline(always)]
pub fn szext_s32<const WRAP: bool>(a: i32, n: u32) -> i32 {
    bfe_s32(a, 0, amount::<WRAP>(n))
}

/// `bmsk.b32`: `width` ones from bit `pos` up, cut off at bit 31.
#[inline(always)]
pub fn bmsk<const WRAP: bool>(pos: u32, width: u32) -> u32 {
    let (pos, width) = (amount::<WRAP>(pos), amount::<WRAP>(width));
    shl_b32(((1u64 << width) - 1) as u32, pos)
}

/// `fns.b32`: place of the `offset`-th set bit of `mask` counted from `base` upwards (or downwards, if negative; 0: bit
/// `base` itself); none: all ones.
#[inline(always)]
pub fn fns(mask: u32, base: u32, offset: i32) -> u32 {
    if offset == 0 {
        return if base < 32 && mask >> base & 1 == 1 { base } else { !0 };
    }
    let mut left = offset.unsigned_abs();
    let mut pos = i64::from(base);
    while (0..32).contains(&pos) {
        left -= mask >> pos & 1;
        if left == 0 {
            return pos as u32;
        }
        pos += i64::from(offset.signum());
    }
    !0
}
