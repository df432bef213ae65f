//! Integer arithmetic beyond what Rust's operators do: high products, 24-bit products, saturation, carries, dot products.

macro_rules! high {
    ($($hi:ident, $t:ty, $wide:ty, $bits:literal;)*) => {$(
        /// `mul.hi`: the upper half of the full product.
        #[inline(always)]
        pub fn $hi(a: $t, b: $t) -> $t {
            ((a as $wide * b as $wide) >> $bits) as $t
        }
    )*};
}
high! {
    mul_hi_u16, u16, u32, 16;
    mul_hi_s16, i16, i32, 16;
    mul_hi_u32, u32, u64, 32;
    mul_hi_s32, i32, i64, 32;
    mul_hi_u64, u64, u128, 64;
    mul_hi_s64, i64, i128, 64;
}

macro_rules! divide {
    ($($div:ident, $rem:ident, $t:ty;)*) => {$(
        /// Quotient towards zero; a zero divisor gives all ones, as on a GPU, and MIN / -1 gives MIN.
        #[inline(always)]
        pub fn $div(a: $t, b: $t) -> $t {
            if b == 0 { !0 } else { a.wrapping_div(b) }
        }

        /// Remainder with the sign of the dividend; a zero divisor gives the dividend.
        #[inline(always)]
        pub fn $rem(a: $t, b: $t) -> $t {
            if b == 0 { a } else { a.wrapping_rem(b) }
        }
    )*};
}
divide! {
    div_u16, rem_u16, u16;
    div_s16, rem_s16, i16;
    div_u32, rem_u32, u32;
    div_s32, rem_s32, i32;
    div_u64, rem_u64, u64;
    div_s64, rem_s64, i64;
}

/// The low 24 bits, sign-extended.
#[inline(always)]
fn low24(a: i32) -> i64 {
    i64::from((a << 8) >> 8)
}

/// `mul24.lo`: low word of the 48-bit product; the same for both signs.
#[inline(always)]
pub fn mul24_lo(a: u32, b: u32) -> u32 {
    (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff)
}

/// `mul24.lo.s32`.
#[inline(always)]
pub fn mul24_lo_s32(a: i32, b: i32) -> i32 {
    (low24(a) * low24(b)) as i32
}

/// `mul24.hi.u32`: bits 16 to 47 of the product.
#[inline(always)]
pub fn mul24_hi_u32(a: u32, b: u32) -> u32 {
    ((u64::from(a & 0xff_ffff) * u64::from(b & 0xff_ffff)) >> 16) as u32
}

/// `mul24.hi.s32`.
#[inline(always)]
pub fn mul24_hi_s32(a: i32, b: i32) -> i32 {
    ((low24(a) * low24(b)) >> 16) as i32
}

macro_rules! sads {
    ($($sad:ident, $t:ty, $u:ty;)*) => {$(
        /// `sad`: `c + |a - b|`, modulo the width.
        #[inline(always)]
        pub fn $sad(a: $t, b: $t, c: $t) -> $t {
            (c as $u).wrapping_add(a.abs_diff(b) as $u) as $t
        }
    )*};
}
sads! {
    sad_u16, u16, u16;
    sad_s16, i16, u16;
    sad_u32, u32, u32;
    sad_s32, i32, u32;
    sad_u64, u64, u64;
    sad_s64, i64, u64;
}

macro_rules! carries {
    ($($add:ident, $sub:ident, $t:ty;)*) => {$(
        /// `addc.cc`: sum and carry out (`add.cc` has no carry in).
        #[inline(always)]
        pub fn $add(a: $t, b: $t, carry: bool) -> ($t, bool) {
            let (s, c0) = a.overflowing_add(b);
            let (s, c1) = s.overflowing_add(carry as $t);
            (s, c0 | c1)
        }

        /// `subc.cc`: difference and borrow out (`sub.cc` has no borrow in).
        #[inline(always)]
        pub fn $sub(a: $t, b: $t, borrow: bool) -> ($t, bool) {
            let (s, c0) = a.overflowing_sub(b);
            let (s, c1) = s.overflowing_sub(borrow as $t);
            (s, c0 | c1)
        }
    )*};
}
carries! {
    addc_u32, subc_u32, u32;
    addc_u64, subc_u64, u64;
}

/// Byte `i` of a word, extended by its sign if `SIGNED`.
#[inline(always)]
fn byte<const SIGNED: bool>(a: u32, i: u32) -> i32 {
    let b = (a >> (8 * i)) as u8;
    if SIGNED { i32::from(b as i8) } else { i32::from(b) }
}

/// `dp4a`: `c` plus the dot product of four bytes; the flags are `.atype` and `.btype`.
#[inline(always)]
pub fn dp4a<const A_SIGNED: bool, const B_SIGNED: bool>(a: u32, b: u32, c: u32) -> u32 {
    let product = |i| byte::<A_SIGNED>(a, i).wrapping_mul(byte::<B_SIGNED>(b, i));
    c.wrapping_add((product(0) + product(1) + product(2) + product(3)) as u32)
}

/// `dp2a`: `c` plus the dot product of two halves of `a` with the low (or high) two bytes of `b`.
#[inline(always)]
pub fn dp2a<const A_SIGNED: bool, const B_SIGNED: bool, const HIGH: bool>(a: u32, b: u32, c: u32) -> u32 {
    let half = |i: u32| {
        let h = (a >> (16 * i)) as u16;
        if A_SIGNED { i32::from(h as i16) } else { i32::from(h) }
    };
    let at = if HIGH { 2 } else { 0 };
    let product = |i| half(i).wrapping_mul(byte::<B_SIGNED>(b, at + i));
    c.wrapping_add(product(0) as u32).wrapping_add(product(1) as u32)
}

/// `mad.hi.sat.s32`: the upper half of the product plus `c`, clamped.
#[inline(always)]
pub fn mad_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul_hi_s32(a, b).saturating_add(c)
}

/// `mad24.hi.sat.s32`.
#[inline(always)]
pub fn mad24_hi_sat_s32(a: i32, b: i32, c: i32) -> i32 {
    mul24_hi_s32(a, b).saturating_add(c)
}
