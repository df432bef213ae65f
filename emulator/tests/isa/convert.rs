//! `cvt` of every pair of types with every modifier.

use crate::harness::{Case, Kind, Reg, Want, case, general, lines};
use crate::integer::{INTS, Int};
use crate::model::{Bf16, F16, F32, F64, Format, ROUNDS};
use rustc_apfloat::ieee::{Float8E4M3FN, Float8E5M2, Single};
use rustc_apfloat::{Float, FloatConvert, Round};

const NEAREST: Round = Round::NearestTiesToEven;
const BYTES: [Int; 2] = [Int { name: "u8", bits: 8, signed: false }, Int { name: "s8", bits: 8, signed: true }];
const FORMATS: [Format; 4] = [F16, Bf16, F32, F64];

/// 8-bit values live in 16-bit registers.
fn kind(t: Int) -> Kind {
    if t.bits == 8 { Kind::I16 } else { t.kind() }
}

fn all_ints() -> impl Iterator<Item = Int> {
    BYTES.into_iter().chain(INTS)
}

/// The value of a narrow result extended to its register.
fn extended(t: Int, bits: u64) -> u64 {
    if t.bits == 8 && t.signed { bits as i8 as u16 as u64 } else { bits }
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for to in all_ints() {
        for from in all_ints() {
            integers(&mut all, to, from);
        }
        // There is no conversion between bf16 and 8-bit integers.
        for f in FORMATS.into_iter().filter(|&f| f != Bf16 || to.bits > 8) {
            float_to_int(&mut all, to, f);
            int_to_float(&mut all, f, to);
        }
    }
    wide_registers(&mut all);
    for from in FORMATS {
        for to in FORMATS {
            floats(&mut all, to, from);
        }
        integral(&mut all, from);
    }
    packs(&mut all);
    tf32(&mut all);
    fp8(&mut all);
    all
}

fn integers(all: &mut Vec<Case>, to: Int, from: Int) {
    let types = format!("{}.{}", to.name, from.name);
    let r = kind(to).reg();
    all.push(case(&format!("cvt.{types}"), r, &[kind(from)], move |x| extended(to, to.wrap(from.value(x[0])))));
    if from.within(to) {
        return; // PTX allows `.sat` only where it can clamp
    }
    all.push(case(&format!("cvt.sat.{types}"), r, &[kind(from)], move |x| extended(to, to.clamp(from.value(x[0])))));
}

/// Narrow types in 32-bit and 64-bit registers: the source's low bits count, the result is extended.
fn wide_registers(all: &mut Vec<Case>) {
    for t in all_ints().filter(|t| t.bits < 32) {
        let extend = move |bits: u64, to: u32| Int { name: "", bits: to, signed: false }.wrap(t.value(bits));
        let line = format!("cvt.{0}.{0} {{d0}}, {{a0}};", t.name);
        all.push(lines(&format!("cvt.{0}.{0} in 32 bits", t.name), &[&line], &[Reg::B32], &[Kind::I32], move |x| {
            vec![Want::Bits(extend(x[0], 32))]
        }));
        let line = format!("cvt.{}.u64 {{d0}}, {{a0}};", t.name);
        all.push(lines(&format!("cvt.{}.u64 in 64 bits", t.name), &[&line], &[Reg::B64], &[Kind::I64], move |x| {
            vec![Want::Bits(extend(x[0], 64))]
        }));
    }
}

fn float_to_int(all: &mut Vec<Case>, to: Int, f: Format) {
    let source = match f {
        F32 => Kind::F32Int,
        F64 => Kind::F64Int,
        _ => f.kind(),
    };
    let flags: &[(&str, bool)] =
        if f == F32 { &[("", false), (".ftz", true), (".sat", false)] } else { &[("", false)] };
    for (mode, round) in ROUNDS {
        for &(flag, ftz) in flags {
            let op = format!("cvt.{mode}i{flag}.{}.{}", to.name, f.name());
            all.push(case(&op, kind(to).reg(), &[source], move |x| {
                let x = if ftz { f.flush(x[0]) } else { x[0] };
                extended(
                    to,
                    match f.to_int(x, round) {
                        Some(n) => to.clamp(n),
                        None if f == F64 || to.bits == 64 => 1 << (to.bits - 1),
                        None => 0,
                    },
                )
            }));
        }
    }
}

fn int_to_float(all: &mut Vec<Case>, f: Format, from: Int) {
    for (mode, round) in ROUNDS {
        let op = format!("cvt.{mode}.{}.{}", f.name(), from.name);
        all.push(case(&op, f.kind().reg(), &[kind(from)], move |x| f.of_int(from.value(x[0]), round)));
    }
    if matches!(f, F32 | F16) {
        let op = format!("cvt.rn.sat.{}.{}", f.name(), from.name);
        all.push(case(&op, f.kind().reg(), &[kind(from)], move |x| f.saturate(f.of_int(from.value(x[0]), NEAREST))));
    }
}

/// `.satfinite`: infinity becomes the largest finite value.
fn finite(f: Format, x: u64) -> u64 {
    if f.magnitude(x) == f.infinity() { x - 1 } else { x }
}

fn want(f: Format, bits: u64) -> Want {
    if f == F64 && f.is_nan(bits) { Want::NanF64 } else { Want::Bits(f.canon(bits)) }
}

fn floats(all: &mut Vec<Case>, to: Format, from: Format) {
    let types = format!("{}.{}", to.name(), from.name());
    let (d, a) = (to.kind().reg(), if from == F32 { Kind::F32Small } else { from.kind() });
    let width = |f: Format| {
        if f == F64 {
            64
        } else if f == F32 {
            32
        } else {
            16
        }
    };
    let exact = width(to) > width(from) || (to == from && to != F64 && to != F32);
    if to == from {
        return;
    }
    if exact {
        all.push(general(&format!("cvt.{types}"), &[d], &[a], move |x| {
            vec![want(to, from.convert(x[0], to, NEAREST))]
        }));
    }
    for (mode, round) in if exact { &ROUNDS[..0] } else { &ROUNDS[..] } {
        let (mode, round) = (*mode, *round);
        let op = format!("cvt.{mode}.{types}");
        all.push(general(&op, &[d], &[a], move |x| vec![want(to, from.convert(x[0], to, round))]));
        if from == F32 && to != F64 && matches!(mode, "rn" | "rz") {
            let op = format!("cvt.{mode}.satfinite.{types}");
            all.push(general(&op, &[d], &[a], move |x| {
                vec![Want::Bits(finite(to, to.canon(from.convert(x[0], to, round))))]
            }));
            let op = format!("cvt.{mode}.relu.{types}");
            all.push(general(&op, &[d], &[a], move |x| {
                let r = to.canon(from.convert(x[0], to, round));
                vec![Want::Bits(if to.sign_of(r) != 0 { 0 } else { r })]
            }));
        }
    }
    if [to, from].contains(&F32) && ![to, from].contains(&Bf16) {
        let mode = if exact { "" } else { ".rn" };
        let op = format!("cvt{mode}.ftz.{types}");
        all.push(general(&op, &[d], &[a], move |x| {
            let input = if from == F32 { F32.flush(x[0]) } else { x[0] };
            let r = from.convert(input, to, NEAREST);
            vec![want(to, if to == F32 { F32.flush(r) } else { r })]
        }));
        let op = format!("cvt{mode}.sat.{types}");
        all.push(general(&op, &[d], &[a], move |x| vec![Want::Bits(to.saturate(from.convert(x[0], to, NEAREST)))]));
    }
}

/// Rounding to integral values within a type, and the plain copy with `.ftz` and `.sat`.
fn integral(all: &mut Vec<Case>, f: Format) {
    let (n, kind) = (f.name(), f.kind());
    for (mode, round) in ROUNDS {
        all.push(general(&format!("cvt.{mode}i.{n}.{n}"), &[kind.reg()], &[kind], move |x| {
            vec![want(f, f.integral(x[0], round))]
        }));
    }
    if f == Bf16 {
        return;
    }
    all.push(general(&format!("cvt.sat.{n}.{n}"), &[kind.reg()], &[kind], move |x| vec![Want::Bits(f.saturate(x[0]))]));
    if f == F32 {
        all.push(general("cvt.rpi.ftz.f32.f32", &[kind.reg()], &[kind], move |x| {
            vec![want(f, f.integral(f.flush(x[0]), Round::TowardPositive))]
        }));
        all.push(general("cvt.rni.sat.f32.f32", &[kind.reg()], &[kind], move |x| {
            vec![Want::Bits(f.saturate(f.integral(x[0], NEAREST)))]
        }));
    }
}

/// Two `f32` into one register of halves, the first operand into the upper one.
fn packs(all: &mut Vec<Case>) {
    for f in [F16, Bf16] {
        for (mode, round) in &ROUNDS[..2] {
            for (flags, relu, saturate) in [("", false, false), (".relu", true, false), (".satfinite", false, true)] {
                let op = format!("cvt.{mode}{flags}.{}x2.f32", f.name());
                let round = *round;
                all.push(case(&op, Reg::B32, &[Kind::F32Small; 2], move |x| {
                    let half = |x: u64| {
                        let r = f.canon(F32.convert(x, f, round));
                        let r = if saturate { finite(f, r) } else { r };
                        if relu && f.sign_of(r) != 0 { 0 } else { r }
                    };
                    half(x[0]) << 16 | half(x[1])
                }));
            }
        }
    }
}

fn tf32(all: &mut Vec<Case>) {
    for (mode, ties_away) in [("rna", true), ("rn", false), ("rz", false), ("rna.satfinite", true)] {
        all.push(case(&format!("cvt.{mode}.tf32.f32"), Reg::B32, &[Kind::F32], move |x| {
            let x = x[0];
            if F32.is_nan(x) {
                return 0x7fff_ffff;
            }
            let saturate = mode.ends_with("satfinite");
            if F32.magnitude(x) == 0x7f80_0000 {
                return if saturate { x - 0x2000 } else { x };
            }
            // A tf32 keeps 10 of the 23 fraction bits.
            let (kept, lost) = (x & !0x1fff, x & 0x1fff);
            let up = match mode {
                "rz" => false,
                _ => lost > 0x1000 || lost == 0x1000 && (ties_away || kept & 0x2000 != 0),
            };
            let r = kept + if up { 0x2000 } else { 0 };
            if saturate && F32.magnitude(r) == 0x7f80_0000 { r - 0x2000 } else { r }
        }));
    }
}

/// `.satfinite` narrowing of a value to an fp8 format, by the crate's rounding and then PTX's saturation.
fn to_fp8(e4m3: bool, x: u64, relu: bool) -> u64 {
    let value = Single::from_bits(u128::from(x));
    let (bits, largest, infinity): (u128, u128, u128) = match e4m3 {
        true => {
            let narrow: Float8E4M3FN = value.convert_r(NEAREST, &mut false).value;
            (narrow.to_bits(), 0x7e, 0x7f)
        }
        false => {
            let narrow: Float8E5M2 = value.convert_r(NEAREST, &mut false).value;
            (narrow.to_bits(), 0x7b, 0x7c)
        }
    };
    if F32.is_nan(x) {
        return 0x7f;
    }
    if relu && F32.sign_of(x) != 0 {
        return 0;
    }
    let magnitude = bits & 0x7f;
    let magnitude = if magnitude >= infinity { largest } else { magnitude };
    magnitude as u64 | F32.sign_of(x) >> 24
}

pub fn from_fp8(e4m3: bool, x: u64) -> u64 {
    let x = u128::from(x & 0xff);
    let half: rustc_apfloat::ieee::Half = match e4m3 {
        true => Float8E4M3FN::from_bits(x).convert_r(NEAREST, &mut false).value,
        false => Float8E5M2::from_bits(x).convert_r(NEAREST, &mut false).value,
    };
    F16.canon(half.to_bits() as u64)
}

fn fp8(all: &mut Vec<Case>) {
    for (name, e4m3) in [("e4m3x2", true), ("e5m2x2", false)] {
        for (flag, relu) in [("", false), (".relu", true)] {
            let op = format!("cvt.rn.satfinite{flag}.{name}.f32");
            all.push(case(&op, Reg::B16, &[Kind::F32Small; 2], move |x| {
                to_fp8(e4m3, x[0], relu) << 8 | to_fp8(e4m3, x[1], relu)
            }));
            let op = format!("cvt.rn.satfinite{flag}.{name}.f16x2");
            all.push(case(&op, Reg::B16, &[Kind::F16x2], move |x| {
                let part = |x: u64| to_fp8(e4m3, crate::half::widened(F16, x & 0xffff), relu);
                part(x[0] >> 16) << 8 | part(x[0])
            }));
            let op = format!("cvt.rn{flag}.f16x2.{name}");
            all.push(case(&op, Reg::B32, &[Kind::Fp8x2], move |x| {
                let part = |x: u64| {
                    let h = from_fp8(e4m3, x);
                    if relu && F16.sign_of(h) != 0 { 0 } else { h }
                };
                part(x[0] >> 8) << 16 | part(x[0])
            }));
        }
    }
}
