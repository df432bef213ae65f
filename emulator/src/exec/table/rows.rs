//! The rows of the op table, by class. The macro hands them to the macro that makes something of them.

macro_rules! rows {
    ($with:ident) => {
        $with! {
Integer {
    Mov32 { (a: u32) -> u32 { a } }
    Mov64 { (a: u64) -> u64 { a } }
    Add16 { (a: u16, b: u16) -> u16 { a.wrapping_add(b) } }
    Add32 { (a: u32, b: u32) -> u32 { a.wrapping_add(b) } }
    Add64 { (a: u64, b: u64) -> u64 { a.wrapping_add(b) } }
    AddSatS32 { (a: i32, b: i32) -> i32 { a.saturating_add(b) } }
    Sub16 { (a: u16, b: u16) -> u16 { a.wrapping_sub(b) } }
    Sub32 { (a: u32, b: u32) -> u32 { a.wrapping_sub(b) } }
    Sub64 { (a: u64, b: u64) -> u64 { a.wrapping_sub(b) } }
    SubSatS32 { (a: i32, b: i32) -> i32 { a.saturating_sub(b) } }
    AddCarry32 { raw words::carry::<u32, false> }
    AddCarry64 { raw words::carry::<u64, false> }
    SubBorrow32 { raw words::carry::<u32, true> }
    SubBorrow64 { raw words::carry::<u64, true> }
    MulLo16 { (a: u16, b: u16) -> u16 { a.wrapping_mul(b) } }
    MulLo32 { (a: u32, b: u32) -> u32 { a.wrapping_mul(b) } }
    MulLo64 { (a: u64, b: u64) -> u64 { a.wrapping_mul(b) } }
    MulHiU16 { (a: u16, b: u16) -> u16 { int::mul_hi_u16(a, b) } }
    MulHiS16 { (a: i16, b: i16) -> i16 { int::mul_hi_s16(a, b) } }
    MulHiU32 { (a: u32, b: u32) -> u32 { int::mul_hi_u32(a, b) } }
    MulHiS32 { (a: i32, b: i32) -> i32 { int::mul_hi_s32(a, b) } }
    MulHiU64 { (a: u64, b: u64) -> u64 { int::mul_hi_u64(a, b) } }
    MulHiS64 { (a: i64, b: i64) -> i64 { int::mul_hi_s64(a, b) } }
    MulWideU16 { (a: u16, b: u16) -> u32 { u32::from(a) * u32::from(b) } }
    MulWideS16 { (a: i16, b: i16) -> i32 { i32::from(a) * i32::from(b) } }
    MulWideU32 { (a: u32, b: u32) -> u64 { u64::from(a) * u64::from(b) } }
    MulWideS32 { (a: i32, b: i32) -> i64 { i64::from(a) * i64::from(b) } }
    MadLo16 { (a: u16, b: u16, c: u16) -> u16 { a.wrapping_mul(b).wrapping_add(c) } }
    MadLo32 { (a: u32, b: u32, c: u32) -> u32 { a.wrapping_mul(b).wrapping_add(c) } }
    MadLo64 { (a: u64, b: u64, c: u64) -> u64 { a.wrapping_mul(b).wrapping_add(c) } }
    MadWideU16 { (a: u16, b: u16, c: u32) -> u32 { (u32::from(a) * u32::from(b)).wrapping_add(c) } }
    MadWideS16 { (a: i16, b: i16, c: i32) -> i32 { (i32::from(a) * i32::from(b)).wrapping_add(c) } }
    MadWideU32 { (a: u32, b: u32, c: u64) -> u64 { (u64::from(a) * u64::from(b)).wrapping_add(c) } }
    MadWideS32 { (a: i32, b: i32, c: i64) -> i64 { (i64::from(a) * i64::from(b)).wrapping_add(c) } }
    MadHiSatS32 { (a: i32, b: i32, c: i32) -> i32 { int::mad_hi_sat_s32(a, b, c) } }
    Mul24Lo { (a: u32, b: u32) -> u32 { int::mul24_lo(a, b) } }
    Mul24LoS32 { (a: i32, b: i32) -> i32 { int::mul24_lo_s32(a, b) } }
    Mul24HiU32 { (a: u32, b: u32) -> u32 { int::mul24_hi_u32(a, b) } }
    Mul24HiS32 { (a: i32, b: i32) -> i32 { int::mul24_hi_s32(a, b) } }
    Mad24HiSatS32 { (a: i32, b: i32, c: i32) -> i32 { int::mad24_hi_sat_s32(a, b, c) } }
    SadU16 { (a: u16, b: u16, c: u16) -> u16 { int::sad_u16(a, b, c) } }
    SadS16 { (a: i16, b: i16, c: i16) -> i16 { int::sad_s16(a, b, c) } }
    SadU32 { (a: u32, b: u32, c: u32) -> u32 { int::sad_u32(a, b, c) } }
    SadS32 { (a: i32, b: i32, c: i32) -> i32 { int::sad_s32(a, b, c) } }
    SadU64 { (a: u64, b: u64, c: u64) -> u64 { int::sad_u64(a, b, c) } }
    SadS64 { (a: i64, b: i64, c: i64) -> i64 { int::sad_s64(a, b, c) } }
    DivU16 { (a: u16, b: u16) -> u16 { int::div_u16(a, b) } }
    DivS16 { (a: i16, b: i16) -> i16 { int::div_s16(a, b) } }
    DivU32 { (a: u32, b: u32) -> u32 { int::div_u32(a, b) } }
    DivS32 { (a: i32, b: i32) -> i32 { int::div_s32(a, b) } }
    DivU64 { (a: u64, b: u64) -> u64 { int::div_u64(a, b) } }
    DivS64 { (a: i64, b: i64) -> i64 { int::div_s64(a, b) } }
    RemU16 { (a: u16, b: u16) -> u16 { int::rem_u16(a, b) } }
    RemS16 { (a: i16, b: i16) -> i16 { int::rem_s16(a, b) } }
    RemU32 { (a: u32, b: u32) -> u32 { int::rem_u32(a, b) } }
    RemS32 { (a: i32, b: i32) -> i32 { int::rem_s32(a, b) } }
    RemU64 { (a: u64, b: u64) -> u64 { int::rem_u64(a, b) } }
    RemS64 { (a: i64, b: i64) -> i64 { int::rem_s64(a, b) } }
    Abs16 { (a: i16) -> i16 { a.wrapping_abs() } }
    Abs32 { (a: i32) -> i32 { a.wrapping_abs() } }
    Abs64 { (a: i64) -> i64 { a.wrapping_abs() } }
    Neg16 { (a: u16) -> u16 { a.wrapping_neg() } }
    Neg32 { (a: u32) -> u32 { a.wrapping_neg() } }
    Neg64 { (a: u64) -> u64 { a.wrapping_neg() } }
    MinU16 { (a: u16, b: u16) -> u16 { a.min(b) } }
    MinS16 { (a: i16, b: i16) -> i16 { a.min(b) } }
    MinU32 { (a: u32, b: u32) -> u32 { a.min(b) } }
    MinS32 { (a: i32, b: i32) -> i32 { a.min(b) } }
    MinU64 { (a: u64, b: u64) -> u64 { a.min(b) } }
    MinS64 { (a: i64, b: i64) -> i64 { a.min(b) } }
    MaxU16 { (a: u16, b: u16) -> u16 { a.max(b) } }
    MaxS16 { (a: i16, b: i16) -> i16 { a.max(b) } }
    MaxU32 { (a: u32, b: u32) -> u32 { a.max(b) } }
    MaxS32 { (a: i32, b: i32) -> i32 { a.max(b) } }
    MaxU64 { (a: u64, b: u64) -> u64 { a.max(b) } }
    MaxS64 { (a: i64, b: i64) -> i64 { a.max(b) } }
    ReluS32 { (a: i32) -> i32 { a.max(0) } }
    And32 { (a: u32, b: u32) -> u32 { a & b } }
    And64 { (a: u64, b: u64) -> u64 { a & b } }
    Or32 { (a: u32, b: u32) -> u32 { a | b } }
    Or64 { (a: u64, b: u64) -> u64 { a | b } }
    Xor32 { (a: u32, b: u32) -> u32 { a ^ b } }
    Xor64 { (a: u64, b: u64) -> u64 { a ^ b } }
    Not32 { (a: u32) -> u32 { !a } }
    Not64 { (a: u64) -> u64 { !a } }
    Cnot16 { (a: u16) -> u16 { u16::from(a == 0) } }
    Cnot32 { (a: u32) -> u32 { u32::from(a == 0) } }
    Cnot64 { (a: u64) -> u64 { u64::from(a == 0) } }
    Lop3 { raw words::logic3 }
    Shl16 { (a: u16, n: u32) -> u16 { bits::shl_b16(a, n) } }
    Shl32 { (a: u32, n: u32) -> u32 { bits::shl_b32(a, n) } }
    Shl64 { (a: u64, n: u32) -> u64 { bits::shl_b64(a, n) } }
    ShrU16 { (a: u16, n: u32) -> u16 { bits::shr_u16(a, n) } }
    ShrS16 { (a: i16, n: u32) -> i16 { bits::shr_s16(a, n) } }
    ShrU32 { (a: u32, n: u32) -> u32 { bits::shr_u32(a, n) } }
    ShrS32 { (a: i32, n: u32) -> i32 { bits::shr_s32(a, n) } }
    ShrU64 { (a: u64, n: u32) -> u64 { bits::shr_u64(a, n) } }
    ShrS64 { (a: i64, n: u32) -> i64 { bits::shr_s64(a, n) } }
    ShfLClamp { (a: u32, b: u32, n: u32) -> u32 { bits::shf_l::<false>(a, b, n) } }
    ShfLWrap { (a: u32, b: u32, n: u32) -> u32 { bits::shf_l::<true>(a, b, n) } }
    ShfRClamp { (a: u32, b: u32, n: u32) -> u32 { bits::shf_r::<false>(a, b, n) } }
    ShfRWrap { (a: u32, b: u32, n: u32) -> u32 { bits::shf_r::<true>(a, b, n) } }
    Prmt { raw words::permute }
    PrmtFixed { raw words::permute_fixed }
    PrmtMode { (a: u32, b: u32, c: u32; imm) -> u32 { bits::prmt(a, b, words::prmt_mode(imm).selector(c)) } }
    BfeU32 { (a: u32, b: u32, c: u32) -> u32 { bits::bfe_u32(a, b, c) } }
    BfeS32 { (a: i32, b: u32, c: u32) -> i32 { bits::bfe_s32(a, b, c) } }
    BfeU64 { (a: u64, b: u32, c: u32) -> u64 { bits::bfe_u64(a, b, c) } }
    BfeS64 { (a: i64, b: u32, c: u32) -> i64 { bits::bfe_s64(a, b, c) } }
    Bfi32 { raw words::insert::<u32> }
    Bfi64 { raw words::insert::<u64> }
    BfindU32 { (a: u32; imm) -> u32 { bits::bfind_u32(a, imm != 0) } }
    BfindS32 { (a: i32; imm) -> u32 { bits::bfind_s32(a, imm != 0) } }
    BfindU64 { (a: u64; imm) -> u32 { bits::bfind_u64(a, imm != 0) } }
    BfindS64 { (a: i64; imm) -> u32 { bits::bfind_s64(a, imm != 0) } }
    Fns { (a: u32, b: u32, c: i32) -> u32 { bits::fns(a, b, c) } }
    SzextU32 { (a: u32, n: u32; imm) -> u32 {
        if imm != 0 { bits::szext_u32::<true>(a, n) } else { bits::szext_u32::<false>(a, n) } } }
    SzextS32 { (a: i32, n: u32; imm) -> i32 {
        if imm != 0 { bits::szext_s32::<true>(a, n) } else { bits::szext_s32::<false>(a, n) } } }
    Bmsk { (a: u32, n: u32; imm) -> u32 { if imm != 0 { bits::bmsk::<true>(a, n) } else { bits::bmsk::<false>(a, n) } } }
    Brev32 { (a: u32) -> u32 { a.reverse_bits() } }
    Brev64 { (a: u64) -> u64 { a.reverse_bits() } }
    Popc32 { (a: u32) -> u32 { a.count_ones() } }
    Popc64 { (a: u64) -> u32 { a.count_ones() } }
    Clz32 { (a: u32) -> u32 { a.leading_zeros() } }
    Clz64 { (a: u64) -> u32 { a.leading_zeros() } }
    Dp4aUU { (a: u32, b: u32, c: u32) -> u32 { int::dp4a::<false, false>(a, b, c) } }
    Dp4aUS { (a: u32, b: u32, c: u32) -> u32 { int::dp4a::<false, true>(a, b, c) } }
    Dp4aSU { (a: u32, b: u32, c: u32) -> u32 { int::dp4a::<true, false>(a, b, c) } }
    Dp4aSS { (a: u32, b: u32, c: u32) -> u32 { int::dp4a::<true, true>(a, b, c) } }
    Dp2a { (a: u32, b: u32, c: u32; imm) -> u32 { words::dp2a(a, b, c, imm) } }
    Pack16 { (low: u16, high: u16) -> u32 { u32::from(high) << 16 | u32::from(low) } }
    Pack8 { (low: u8, high: u8) -> u16 { u16::from(high) << 8 | u16::from(low) } }
    Pack32 { (low: u32, high: u32) -> u64 { u64::from(high) << 32 | u64::from(low) } }
    High16 { (a: u32) -> u16 { (a >> 16) as u16 } }
    High8 { (a: u16) -> u8 { (a >> 8) as u8 } }
    Low32 { (a: u64) -> u32 { a as u32 } }
    High32 { (a: u64) -> u32 { (a >> 32) as u32 } }
    InWindow { raw special::in_window }
    Clock32 { raw special::clock::<u32> }
    Clock64 { raw special::clock::<u64> }
    GlobalTimer { raw special::global_timer }
    LaneMask { raw special::active_mask }
    SpecialReg { raw special::special_register }
}
Half {
    HAddF16 { (a: u16, b: u16; imm) -> u16 { halves::hadd::<F16>(a, b, imm) } }
    HAddBf16 { (a: u16, b: u16; imm) -> u16 { halves::hadd::<Bf16>(a, b, imm) } }
    HSubF16 { (a: u16, b: u16; imm) -> u16 { halves::hsub::<F16>(a, b, imm) } }
    HSubBf16 { (a: u16, b: u16; imm) -> u16 { halves::hsub::<Bf16>(a, b, imm) } }
    HMulF16 { (a: u16, b: u16; imm) -> u16 { halves::hmul::<F16>(a, b, imm) } }
    HMulBf16 { (a: u16, b: u16; imm) -> u16 { halves::hmul::<Bf16>(a, b, imm) } }
    HFmaF16 { (a: u16, b: u16, c: u16; imm) -> u16 { halves::hfma::<F16>(a, b, c, imm) } }
    HFmaBf16 { (a: u16, b: u16, c: u16; imm) -> u16 { halves::hfma::<Bf16>(a, b, c, imm) } }
    HMinF16 { (a: u16, b: u16; imm) -> u16 { halves::hmin::<F16>(a, b, imm) } }
    HMinBf16 { (a: u16, b: u16; imm) -> u16 { halves::hmin::<Bf16>(a, b, imm) } }
    HMaxF16 { (a: u16, b: u16; imm) -> u16 { halves::hmax::<F16>(a, b, imm) } }
    HMaxBf16 { (a: u16, b: u16; imm) -> u16 { halves::hmax::<Bf16>(a, b, imm) } }
    HNeg { (a: u16; imm) -> u16 { if imm != 0 { packed::neg::<F16, true>(a) } else { packed::neg::<F16, false>(a) } } }
    HAbs { (a: u16; imm) -> u16 { if imm != 0 { packed::abs::<F16, true>(a) } else { packed::abs::<F16, false>(a) } } }
    HAddF16x2 { raw halves::packed_add::<F16> }
    HAddBf16x2 { raw halves::packed_add::<Bf16> }
    HSubF16x2 { raw halves::packed_sub::<F16> }
    HSubBf16x2 { raw halves::packed_sub::<Bf16> }
    HMulF16x2 { raw halves::packed_mul::<F16> }
    HMulBf16x2 { raw halves::packed_mul::<Bf16> }
    HFmaF16x2 { raw halves::packed_fma::<F16> }
    HFmaBf16x2 { raw halves::packed_fma::<Bf16> }
    HMinF16x2 { (a: u32, b: u32; imm) -> u32 { packed::map2(a, b, |a, b| halves::hmin::<F16>(a, b, imm)) } }
    HMinBf16x2 { (a: u32, b: u32; imm) -> u32 { packed::map2(a, b, |a, b| halves::hmin::<Bf16>(a, b, imm)) } }
    HMaxF16x2 { (a: u32, b: u32; imm) -> u32 { packed::map2(a, b, |a, b| halves::hmax::<F16>(a, b, imm)) } }
    HMaxBf16x2 { (a: u32, b: u32; imm) -> u32 { packed::map2(a, b, |a, b| halves::hmax::<Bf16>(a, b, imm)) } }
    HNegx2 { (a: u32; imm) -> u32 {
        packed::map1(a, |a| if imm != 0 { packed::neg::<F16, true>(a) } else { packed::neg::<F16, false>(a) }) } }
    HAbsx2 { (a: u32; imm) -> u32 {
        packed::map1(a, |a| if imm != 0 { packed::abs::<F16, true>(a) } else { packed::abs::<F16, false>(a) }) } }
}
Single {
    AddF32 { (a: f32, b: f32) -> f32 { float::add_f32::<Rn, false, false>(a, b) } }
    AddFtzF32 { (a: f32, b: f32) -> f32 { float::add_f32::<Rn, true, false>(a, b) } }
    AddRoundF32 { (a: f32, b: f32; imm) -> f32 { rounded!(imm, R => float::add_f32::<R, false, false>(a, b)) } }
    SubF32 { (a: f32, b: f32) -> f32 { float::sub_f32::<Rn, false, false>(a, b) } }
    SubFtzF32 { (a: f32, b: f32) -> f32 { float::sub_f32::<Rn, true, false>(a, b) } }
    SubRoundF32 { (a: f32, b: f32; imm) -> f32 { rounded!(imm, R => float::sub_f32::<R, false, false>(a, b)) } }
    MulF32 { (a: f32, b: f32) -> f32 { float::mul_f32::<Rn, false, false>(a, b) } }
    MulFtzF32 { (a: f32, b: f32) -> f32 { float::mul_f32::<Rn, true, false>(a, b) } }
    MulRoundF32 { (a: f32, b: f32; imm) -> f32 { rounded!(imm, R => float::mul_f32::<R, false, false>(a, b)) } }
    FmaF32 { (a: f32, b: f32, c: f32) -> f32 { float::fma_f32::<Rn, false, false>(a, b, c) } }
    FmaFtzF32 { (a: f32, b: f32, c: f32) -> f32 { float::fma_f32::<Rn, true, false>(a, b, c) } }
    FmaRoundF32 { (a: f32, b: f32, c: f32; imm) -> f32 {
        rounded!(imm, R => float::fma_f32::<R, false, false>(a, b, c)) } }
    DivF32 { (a: f32, b: f32) -> f32 { float::div_f32::<Rn, false>(a, b) } }
    DivFtzF32 { (a: f32, b: f32) -> f32 { float::div_f32::<Rn, true>(a, b) } }
    DivRoundF32 { (a: f32, b: f32; imm) -> f32 { rounded!(imm, R => float::div_f32::<R, false>(a, b)) } }
    RcpF32 { (a: f32; imm) -> f32 { rounded!(imm, R => float::rcp_f32::<R, false>(a)) } }
    SqrtF32 { (a: f32; imm) -> f32 { rounded!(imm, R => float::sqrt_f32::<R, false>(a)) } }
    SqrtFtzF32 { (a: f32) -> f32 { float::sqrt_f32::<Rn, true>(a) } }
    FlushF32 { (a: f32) -> f32 { float::flush(a) } }
    SatF32 { (a: f32) -> f32 { float::saturate(a) } }
    NegF32 { (a: f32) -> f32 { -a } }
    AbsF32 { (a: f32) -> f32 { a.abs() } }
    MinF32 { (a: f32, b: f32) -> f32 { float::min_f32::<false, false>(a, b) } }
    MaxF32 { (a: f32, b: f32) -> f32 { float::max_f32::<false, false>(a, b) } }
    MinMaxF32 { (a: f32, b: f32; imm) -> f32 { halves::min_max_f32(a, b, imm) } }
    CopySignF32 { (a: f32, b: f32) -> f32 { float::copysign_f32(a, b) } }
}
Double {
    AddF64 { (a: f64, b: f64) -> f64 { float::add_f64::<Rn>(a, b) } }
    SubF64 { (a: f64, b: f64) -> f64 { float::add_f64::<Rn>(a, -b) } }
    MulF64 { (a: f64, b: f64) -> f64 { float::mul_f64::<Rn>(a, b) } }
    FmaF64 { (a: f64, b: f64, c: f64) -> f64 { float::fma_f64::<Rn>(a, b, c) } }
    DivF64 { (a: f64, b: f64) -> f64 { float::div_f64::<Rn>(a, b) } }
    AddRoundF64 { (a: f64, b: f64; imm) -> f64 { rounded!(imm, R => float::add_f64::<R>(a, b)) } }
    SubRoundF64 { (a: f64, b: f64; imm) -> f64 { rounded!(imm, R => float::add_f64::<R>(a, -b)) } }
    MulRoundF64 { (a: f64, b: f64; imm) -> f64 { rounded!(imm, R => float::mul_f64::<R>(a, b)) } }
    FmaRoundF64 { (a: f64, b: f64, c: f64; imm) -> f64 { rounded!(imm, R => float::fma_f64::<R>(a, b, c)) } }
    DivRoundF64 { (a: f64, b: f64; imm) -> f64 { rounded!(imm, R => float::div_f64::<R>(a, b)) } }
    RcpF64 { (a: f64; imm) -> f64 { rounded!(imm, R => float::div_f64::<R>(1.0, a)) } }
    SqrtF64 { (a: f64; imm) -> f64 { rounded!(imm, R => float::sqrt_f64::<R>(a)) } }
    SatF64 { (a: f64) -> f64 { if a > 0.0 { a.min(1.0) } else { 0.0 } } }
    NegF64 { (a: f64) -> f64 { -a } }
    AbsF64 { (a: f64) -> f64 { a.abs() } }
    MinF64 { (a: f64, b: f64) -> f64 { float::min_f64(a, b) } }
    MaxF64 { (a: f64, b: f64) -> f64 { float::max_f64(a, b) } }
    CopySignF64 { (a: f64, b: f64) -> f64 { float::copysign_f64(a, b) } }
}
Special {
    Ex2 { (a: f32) -> f32 { approx::ex2::<false>(a) } }
    Ex2Ftz { (a: f32) -> f32 { approx::ex2::<true>(a) } }
    Lg2 { (a: f32) -> f32 { approx::lg2::<false>(a) } }
    Lg2Ftz { (a: f32) -> f32 { approx::lg2::<true>(a) } }
    RcpApprox { (a: f32) -> f32 { approx::rcp::<false>(a) } }
    RcpApproxFtz { (a: f32) -> f32 { approx::rcp::<true>(a) } }
    RsqrtApprox { (a: f32) -> f32 { approx::rsqrt::<false>(a) } }
    RsqrtApproxFtz { (a: f32) -> f32 { approx::rsqrt::<true>(a) } }
    DivApprox { (a: f32, b: f32) -> f32 { approx::div::<false>(a, b) } }
    DivApproxFtz { (a: f32, b: f32) -> f32 { approx::div::<true>(a, b) } }
    RcpApproxF64 { (a: f64) -> f64 { approx::rcp_f64(a) } }
    RsqrtApproxF64 { (a: f64) -> f64 { approx::rsqrt_f64(a) } }
    Sin { (a: f32) -> f32 { approx::sin::<false>(a) } }
    SinFtz { (a: f32) -> f32 { approx::sin::<true>(a) } }
    Cos { (a: f32) -> f32 { approx::cos::<false>(a) } }
    CosFtz { (a: f32) -> f32 { approx::cos::<true>(a) } }
    Tanh { (a: f32) -> f32 { approx::tanh(a) } }
    HEx2F16 { (a: u16; imm) -> u16 { halves::hex2::<F16>(a, imm) } }
    HEx2Bf16 { (a: u16; imm) -> u16 { halves::hex2::<Bf16>(a, imm) } }
    HTanhF16 { (a: u16) -> u16 { packed::apply::<F16, false>(a, approx::tanh) } }
    HTanhBf16 { (a: u16) -> u16 { packed::apply::<Bf16, false>(a, approx::tanh) } }
    HEx2F16x2 { (a: u32; imm) -> u32 { packed::map1(a, |a| halves::hex2::<F16>(a, imm)) } }
    HEx2Bf16x2 { (a: u32; imm) -> u32 { packed::map1(a, |a| halves::hex2::<Bf16>(a, imm)) } }
    HTanhF16x2 { (a: u32) -> u32 { packed::map1(a, |a| packed::apply::<F16, false>(a, approx::tanh)) } }
    HTanhBf16x2 { (a: u32) -> u32 { packed::map1(a, |a| packed::apply::<Bf16, false>(a, approx::tanh)) } }
}
Convert {
    ExtU8 { (a: u8) -> u32 { u32::from(a) } }
    ExtS8 { (a: i8) -> i32 { i32::from(a) } }
    ExtU16 { (a: u16) -> u32 { u32::from(a) } }
    ExtS16 { (a: i16) -> i32 { i32::from(a) } }
    ExtU64 { (a: u32) -> u64 { u64::from(a) } }
    ExtS64 { (a: i32) -> i64 { i64::from(a) } }
    ClampS64 { (a: i64; imm) -> i64 { words::clamp_s64(a, imm) } }
    ClampU64 { (a: u64; imm) -> i64 { words::clamp_u64(a, imm) } }
    CvtF32S32 { (a: i32) -> f32 { cvt::i32_to_f32::<Rn>(a) } }
    CvtF32U32 { (a: u32) -> f32 { cvt::u32_to_f32::<Rn>(a) } }
    CvtRoundF32S32 { (a: i32; imm) -> f32 { rounded!(imm, R => cvt::i32_to_f32::<R>(a)) } }
    CvtRoundF32U32 { (a: u32; imm) -> f32 { rounded!(imm, R => cvt::u32_to_f32::<R>(a)) } }
    CvtF32S64 { (a: i64; imm) -> f32 { rounded!(imm, R => cvt::i64_to_f32::<R>(a)) } }
    CvtF32U64 { (a: u64; imm) -> f32 { rounded!(imm, R => cvt::u64_to_f32::<R>(a)) } }
    CvtF64S64 { (a: i64; imm) -> f64 { rounded!(imm, R => cvt::i64_to_f64::<R>(a)) } }
    CvtF64U64 { (a: u64; imm) -> f64 { rounded!(imm, R => cvt::u64_to_f64::<R>(a)) } }
    StickyF64S64 { (a: i64) -> f64 { cvt::i64_to_f64_sticky(a) } }
    StickyF64U64 { (a: u64) -> f64 { cvt::u64_to_f64_sticky(a) } }
    CvtS32F32 { (a: f32; imm) -> i32 { rounded!(imm, R => <i32 as cvt::Int>::from_f32::<R>(a)) } }
    CvtU32F32 { (a: f32; imm) -> u32 { rounded!(imm, R => <u32 as cvt::Int>::from_f32::<R>(a)) } }
    CvtS64F32 { (a: f32; imm) -> i64 { rounded!(imm, R => <i64 as cvt::Int>::from_f32::<R>(a)) } }
    CvtU64F32 { (a: f32; imm) -> u64 { rounded!(imm, R => <u64 as cvt::Int>::from_f32::<R>(a)) } }
    CvtS16F32 { (a: f32; imm) -> i16 { rounded!(imm, R => <i16 as cvt::Int>::from_f32::<R>(a)) } }
    CvtU16F32 { (a: f32; imm) -> u16 { rounded!(imm, R => <u16 as cvt::Int>::from_f32::<R>(a)) } }
    CvtS8F32 { (a: f32; imm) -> i8 { rounded!(imm, R => <i8 as cvt::Int>::from_f32::<R>(a)) } }
    CvtU8F32 { (a: f32; imm) -> u8 { rounded!(imm, R => <u8 as cvt::Int>::from_f32::<R>(a)) } }
    CvtS32F64 { (a: f64; imm) -> i32 { rounded!(imm, R => <i32 as cvt::Int>::from_f64::<R>(a)) } }
    CvtU32F64 { (a: f64; imm) -> u32 { rounded!(imm, R => <u32 as cvt::Int>::from_f64::<R>(a)) } }
    CvtS64F64 { (a: f64; imm) -> i64 { rounded!(imm, R => <i64 as cvt::Int>::from_f64::<R>(a)) } }
    CvtU64F64 { (a: f64; imm) -> u64 { rounded!(imm, R => <u64 as cvt::Int>::from_f64::<R>(a)) } }
    CvtS16F64 { (a: f64; imm) -> i16 { rounded!(imm, R => <i16 as cvt::Int>::from_f64::<R>(a)) } }
    CvtU16F64 { (a: f64; imm) -> u16 { rounded!(imm, R => <u16 as cvt::Int>::from_f64::<R>(a)) } }
    CvtS8F64 { (a: f64; imm) -> i8 { rounded!(imm, R => <i8 as cvt::Int>::from_f64::<R>(a)) } }
    CvtU8F64 { (a: f64; imm) -> u8 { rounded!(imm, R => <u8 as cvt::Int>::from_f64::<R>(a)) } }
    RoundF32 { (a: f32; imm) -> f32 { rounded!(imm, R => cvt::round_f32::<R>(a)) } }
    RoundF64 { (a: f64; imm) -> f64 { rounded!(imm, R => cvt::round_f64::<R>(a)) } }
    CvtF32F64 { (a: f64; imm) -> f32 { rounded!(imm, R => float::to_f32::<R>(a)) } }
    CvtF64F32 { (a: f32) -> f64 { f64::from(a) } }
    CvtF32F16 { (a: u16) -> f32 { half::f16_to_f32(a) } }
    CvtF32Bf16 { (a: u16) -> f32 { half::bf16_to_f32(a) } }
    CvtF16F32 { (a: f32) -> u16 { half::f32_to_f16::<Rn>(a) } }
    CvtBf16F32 { (a: f32) -> u16 { half::f32_to_bf16::<Rn>(a) } }
    CvtRoundF16F32 { (a: f32; imm) -> u16 { rounded!(imm, R => half::f32_to_f16::<R>(a)) } }
    CvtRoundBf16F32 { (a: f32; imm) -> u16 { rounded!(imm, R => half::f32_to_bf16::<R>(a)) } }
    CvtF16F64 { (a: f64; imm) -> u16 { rounded!(imm, R => half::f64_to_f16::<R>(a)) } }
    CvtBf16F64 { (a: f64; imm) -> u16 { rounded!(imm, R => half::f64_to_bf16::<R>(a)) } }
    CvtF16x2F32 { (high: f32, low: f32; imm) -> u32 { halves::pack_halves::<F16>(high, low, imm) } }
    CvtBf16x2F32 { (high: f32, low: f32; imm) -> u32 { halves::pack_halves::<Bf16>(high, low, imm) } }
    CvtF16Bf16 { (a: u16; imm) -> u16 { rounded!(imm, R => packed::convert::<Bf16, F16, R>(a)) } }
    CvtBf16F16 { (a: u16; imm) -> u16 { rounded!(imm, R => packed::convert::<F16, Bf16, R>(a)) } }
    RoundF16 { (a: u16; imm) -> u16 { rounded!(imm, R => packed::round::<F16, R>(a)) } }
    RoundBf16 { (a: u16; imm) -> u16 { rounded!(imm, R => packed::round::<Bf16, R>(a)) } }
    HRelu { (a: u16) -> u16 { packed::relu(a) } }
    HFiniteF16 { (a: u16) -> u16 { packed::finite::<F16>(a) } }
    HFiniteBf16 { (a: u16) -> u16 { packed::finite::<Bf16>(a) } }
    HFiniteF16x2 { (a: u32) -> u32 { packed::map1(a, packed::finite::<F16>) } }
    HFiniteBf16x2 { (a: u32) -> u32 { packed::map1(a, packed::finite::<Bf16>) } }
    FiniteTf32 { (a: u32) -> u32 { if a & 0x7fff_ffff == 0x7f80_0000 { a - 0x2000 } else { a } } }
    HSatF16 { (a: u16) -> u16 { F16::from_f32::<Rn>(float::saturate(half::f16_to_f32(a))) } }
    Tf32Away { (a: f32) -> u32 { half::f32_to_tf32_away(a) } }
    Tf32Round { (a: f32; imm) -> u32 { if imm == 0 { half::f32_to_tf32::<Rn>(a) } else { half::f32_to_tf32::<Rz>(a) } } }
    CvtE4m3F32 { (high: f32, low: f32; imm) -> u16 { halves::fp8_pack::<fp8::E4m3>(high, low, imm) } }
    CvtE5m2F32 { (high: f32, low: f32; imm) -> u16 { halves::fp8_pack::<fp8::E5m2>(high, low, imm) } }
    CvtE4m3F16x2 { (a: u32; imm) -> u16 { halves::fp8_pack_halves::<fp8::E4m3, F16>(a, imm) } }
    CvtE5m2F16x2 { (a: u32; imm) -> u16 { halves::fp8_pack_halves::<fp8::E5m2, F16>(a, imm) } }
    CvtF16x2E4m3 { (a: u16; imm) -> u32 { halves::fp8_unpack::<fp8::E4m3>(a, imm) } }
    CvtF16x2E5m2 { (a: u16; imm) -> u32 { halves::fp8_unpack::<fp8::E5m2>(a, imm) } }
}
Compare {
    SetpU16 { raw compare::integer::<u16> }
    SetpS16 { raw compare::integer::<i16> }
    SetpU32 { raw compare::integer::<u32> }
    SetpS32 { raw compare::integer::<i32> }
    SetpU64 { raw compare::integer::<u64> }
    SetpS64 { raw compare::integer::<i64> }
    SetpF32 { raw compare::float::<f32> }
    SetpFtzF32 { raw compare::float::<compare::Flushed> }
    SetpF64 { raw compare::float::<f64> }
    SetpF16 { raw compare::float::<compare::Widened<F16, false>> }
    SetpFtzF16 { raw compare::float::<compare::Widened<F16, true>> }
    SetpBf16 { raw compare::float::<compare::Widened<Bf16, false>> }
    TestpF32 { raw compare::class_f32 }
    TestpF64 { raw compare::class_f64 }
    PredMov { raw compare::pred_mov }
    PredNot { raw compare::pred_not }
    PredAnd { raw compare::pred_and }
    PredOr { raw compare::pred_or }
    PredXor { raw compare::pred_xor }
    NonZero32 { (a: u32) -> bool { a != 0 } }
    Select32 { raw compare::select::<u32> }
    Select64 { raw compare::select::<u64> }
    SignS32 { (a: i32) -> bool { a >= 0 } }
    SignF32 { (a: f32) -> bool { a >= 0.0 } }
}
Global {
    LdGlobalU8 { raw access::load::<access::Global, u8, 1> }
    LdGlobalS8 { raw access::load::<access::Global, i8, 1> }
    LdGlobalU16 { raw access::load::<access::Global, u16, 1> }
    LdGlobalS16 { raw access::load::<access::Global, i16, 1> }
    LdGlobal32 { raw access::load::<access::Global, u32, 1> }
    LdGlobal64 { raw access::load::<access::Global, u64, 1> }
    LdGlobalV2U8 { raw access::load::<access::Global, u8, 2> }
    LdGlobalV4U8 { raw access::load::<access::Global, u8, 4> }
    LdGlobalV2S8 { raw access::load::<access::Global, i8, 2> }
    LdGlobalV4S8 { raw access::load::<access::Global, i8, 4> }
    LdGlobalV2U16 { raw access::load::<access::Global, u16, 2> }
    LdGlobalV4U16 { raw access::load::<access::Global, u16, 4> }
    LdGlobalV2S16 { raw access::load::<access::Global, i16, 2> }
    LdGlobalV4S16 { raw access::load::<access::Global, i16, 4> }
    LdGlobalV2x32 { raw access::load::<access::Global, u32, 2> }
    LdGlobalV4x32 { raw access::load::<access::Global, u32, 4> }
    LdGlobalV2x64 { raw access::load::<access::Global, u64, 2> }
    StGlobal8 { raw access::store::<access::Global, u8, 1> }
    StGlobal16 { raw access::store::<access::Global, u16, 1> }
    StGlobal32 { raw access::store::<access::Global, u32, 1> }
    StGlobal64 { raw access::store::<access::Global, u64, 1> }
    StGlobalV2x8 { raw access::store::<access::Global, u8, 2> }
    StGlobalV4x8 { raw access::store::<access::Global, u8, 4> }
    StGlobalV2x16 { raw access::store::<access::Global, u16, 2> }
    StGlobalV4x16 { raw access::store::<access::Global, u16, 4> }
    StGlobalV2x32 { raw access::store::<access::Global, u32, 2> }
    StGlobalV4x32 { raw access::store::<access::Global, u32, 4> }
    StGlobalV2x64 { raw access::store::<access::Global, u64, 2> }
    CopyAsync { raw copy::start }
    CopyCommit { raw copy::commit }
    CopyWait { raw copy::wait }
    CopyMbarrierArrive { raw bulk::arrive_after_copies }
    BulkLoad { raw bulk::load }
    BulkStore { raw bulk::store }
    BulkCommit { raw bulk::commit }
    BulkWait { raw bulk::wait }
    Prefetch { raw control::nothing }
}
Shared {
    LdSharedU8 { raw access::load::<access::Shared, u8, 1> }
    LdSharedS8 { raw access::load::<access::Shared, i8, 1> }
    LdSharedU16 { raw access::load::<access::Shared, u16, 1> }
    LdSharedS16 { raw access::load::<access::Shared, i16, 1> }
    LdShared32 { raw access::load::<access::Shared, u32, 1> }
    LdShared64 { raw access::load::<access::Shared, u64, 1> }
    LdSharedV2U8 { raw access::load::<access::Shared, u8, 2> }
    LdSharedV4U8 { raw access::load::<access::Shared, u8, 4> }
    LdSharedV2S8 { raw access::load::<access::Shared, i8, 2> }
    LdSharedV4S8 { raw access::load::<access::Shared, i8, 4> }
    LdSharedV2U16 { raw access::load::<access::Shared, u16, 2> }
    LdSharedV4U16 { raw access::load::<access::Shared, u16, 4> }
    LdSharedV2S16 { raw access::load::<access::Shared, i16, 2> }
    LdSharedV4S16 { raw access::load::<access::Shared, i16, 4> }
    LdSharedV2x32 { raw access::load::<access::Shared, u32, 2> }
    LdSharedV4x32 { raw access::load::<access::Shared, u32, 4> }
    LdSharedV2x64 { raw access::load::<access::Shared, u64, 2> }
    StShared8 { raw access::store::<access::Shared, u8, 1> }
    StShared16 { raw access::store::<access::Shared, u16, 1> }
    StShared32 { raw access::store::<access::Shared, u32, 1> }
    StShared64 { raw access::store::<access::Shared, u64, 1> }
    StSharedV2x8 { raw access::store::<access::Shared, u8, 2> }
    StSharedV4x8 { raw access::store::<access::Shared, u8, 4> }
    StSharedV2x16 { raw access::store::<access::Shared, u16, 2> }
    StSharedV4x16 { raw access::store::<access::Shared, u16, 4> }
    StSharedV2x32 { raw access::store::<access::Shared, u32, 2> }
    StSharedV4x32 { raw access::store::<access::Shared, u32, 4> }
    StSharedV2x64 { raw access::store::<access::Shared, u64, 2> }
    LdMatrix { raw shared::load_matrix }
    StMatrix { raw shared::store_matrix }
}
Local {
    LdLocalU8 { raw access::load::<access::Local, u8, 1> }
    LdLocalS8 { raw access::load::<access::Local, i8, 1> }
    LdLocalU16 { raw access::load::<access::Local, u16, 1> }
    LdLocalS16 { raw access::load::<access::Local, i16, 1> }
    LdLocal32 { raw access::load::<access::Local, u32, 1> }
    LdLocal64 { raw access::load::<access::Local, u64, 1> }
    LdLocalV2U8 { raw access::load::<access::Local, u8, 2> }
    LdLocalV4U8 { raw access::load::<access::Local, u8, 4> }
    LdLocalV2S8 { raw access::load::<access::Local, i8, 2> }
    LdLocalV4S8 { raw access::load::<access::Local, i8, 4> }
    LdLocalV2U16 { raw access::load::<access::Local, u16, 2> }
    LdLocalV4U16 { raw access::load::<access::Local, u16, 4> }
    LdLocalV2S16 { raw access::load::<access::Local, i16, 2> }
    LdLocalV4S16 { raw access::load::<access::Local, i16, 4> }
    LdLocalV2x32 { raw access::load::<access::Local, u32, 2> }
    LdLocalV4x32 { raw access::load::<access::Local, u32, 4> }
    LdLocalV2x64 { raw access::load::<access::Local, u64, 2> }
    StLocal8 { raw access::store::<access::Local, u8, 1> }
    StLocal16 { raw access::store::<access::Local, u16, 1> }
    StLocal32 { raw access::store::<access::Local, u32, 1> }
    StLocal64 { raw access::store::<access::Local, u64, 1> }
    StLocalV2x8 { raw access::store::<access::Local, u8, 2> }
    StLocalV4x8 { raw access::store::<access::Local, u8, 4> }
    StLocalV2x16 { raw access::store::<access::Local, u16, 2> }
    StLocalV4x16 { raw access::store::<access::Local, u16, 4> }
    StLocalV2x32 { raw access::store::<access::Local, u32, 2> }
    StLocalV4x32 { raw access::store::<access::Local, u32, 4> }
    StLocalV2x64 { raw access::store::<access::Local, u64, 2> }
    LocalCopy { raw host::local_copy }
}
Atomic {
    AtomGlobal32 { raw atomic::run::<access::Global, u32> }
    AtomGlobal64 { raw atomic::run::<access::Global, u64> }
    AtomGlobal16 { raw atomic::run::<access::Global, u16> }
    AtomShared32 { raw atomic::run::<access::Shared, u32> }
    AtomShared64 { raw atomic::run::<access::Shared, u64> }
    AtomShared16 { raw atomic::run::<access::Shared, u16> }
}
Tensor {
    Mma { raw matrix::mma }
    MmaF64 { raw matrix::mma_f64 }
}
Warp {
    Shfl { raw warp::shuffle }
    Vote { raw warp::vote }
    Match { raw warp::match_lanes::<u32> }
    Match64 { raw warp::match_lanes::<u64> }
    Redux { raw warp::redux }
    Elect { raw warp::elect }
    MovMatrix { raw matrix::transpose }
}
Control {
    Bra { raw control::branch }
    BraUni { raw control::jump }
    BrxIdx { raw control::indexed }
    Call { raw control::call }
    Ret { raw control::ret }
    Exit { raw control::exit }
    Trap { raw control::trap }
    NanoSleep { raw control::sleep }
    VPrintf { raw host::vprintf }
    AssertFail { raw host::assert_fail }
}
Barrier {
    BarSync { raw barrier::block }
    WarpSync { raw warp::sync }
    Fence { raw control::nothing }
    MbarrierInit { raw mbarrier::init }
    MbarrierInval { raw mbarrier::invalidate }
    MbarrierExpectTx { raw mbarrier::expect }
    MbarrierCompleteTx { raw mbarrier::complete }
    MbarrierArrive { raw mbarrier::arrive }
    MbarrierWait { raw mbarrier::wait }
    MbarrierPendingCount { raw mbarrier::pending_count }
    Watch { raw watch::access }
    WatchMeet { raw watch::meet }
}
        }
    };
}
pub(super) use rows;
