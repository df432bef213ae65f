//! `f32` and `f64` arithmetic in every rounding mode, with `.ftz` and `.sat`.

use crate::harness::{Case, Want, case, general};
use crate::model::{F32, F64, Format, ROUNDS};
use rustc_apfloat::Round;

/// Bits, or any NaN of an `f64`.
fn want(f: Format, bits: u64) -> Want {
    if f == F64 && f.is_nan(bits) { Want::NanF64 } else { Want::Bits(f.canon(bits)) }
}

/// A case over one float type.
fn float(op: &str, f: Format, operands: usize, model: impl Fn(&[u64]) -> u64 + 'static) -> Case {
    general(op, &[f.kind().reg()], &vec![f.kind(); operands], move |x| vec![want(f, model(x))])
}

type Binary = fn(Format, u64, u64, Round) -> u64;

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    single(&mut all);
    double(&mut all);
    for f in [F32, F64] {
        signs(&mut all, f);
        classes(&mut all, f);
    }
    extremes(&mut all);
    all
}

/// `.ftz` and `.sat` in all combinations, as (text, ftz, sat).
const FLAGS: [(&str, bool, bool); 4] =
    [("", false, false), (".ftz", true, false), (".sat", false, true), (".ftz.sat", true, true)];

/// Flushes operands, applies `op`, flushes and clamps.
fn modified(x: &[u64], ftz: bool, sat: bool, op: impl Fn(&[u64]) -> u64) -> u64 {
    let x: Vec<u64> = x.iter().map(|&x| if ftz { F32.flush(x) } else { x }).collect();
    let r = op(&x);
    let r = if ftz { F32.flush(r) } else { r };
    if sat { F32.saturate(r) } else { r }
}

fn single(all: &mut Vec<Case>) {
    let binary: [(&str, Binary); 3] = [("add", Format::add), ("sub", Format::sub), ("mul", Format::mul)];
    for (mode, round) in ROUNDS {
        for (flags, ftz, sat) in FLAGS {
            for (name, op) in binary {
                all.push(float(&format!("{name}.{mode}{flags}.f32"), F32, 2, move |x| {
                    modified(x, ftz, sat, |x| op(F32, x[0], x[1], round))
                }));
            }
            for name in ["fma", "mad"] {
                all.push(float(&format!("{name}.{mode}{flags}.f32"), F32, 3, move |x| {
                    modified(x, ftz, sat, |x| F32.fma(x[0], x[1], x[2], round))
                }));
            }
            if !sat {
                all.push(float(&format!("div.{mode}{flags}.f32"), F32, 2, move |x| {
                    modified(x, ftz, sat, |x| F32.div(x[0], x[1], round))
                }));
                all.push(float(&format!("rcp.{mode}{flags}.f32"), F32, 1, move |x| {
                    modified(x, ftz, sat, |x| F32.div(0x3f80_0000, x[0], round))
                }));
                all.push(float(&format!("sqrt.{mode}{flags}.f32"), F32, 1, move |x| {
                    modified(x, ftz, sat, |x| F32.sqrt(x[0], round))
                }));
            }
        }
    }
    let nearest = Round::NearestTiesToEven;
    for (name, op) in binary {
        all.push(float(&format!("{name}.f32"), F32, 2, move |x| op(F32, x[0], x[1], nearest)));
    }
}

fn double(all: &mut Vec<Case>) {
    let binary: [(&str, Binary); 4] =
        [("add", Format::add), ("sub", Format::sub), ("mul", Format::mul), ("div", Format::div)];
    for (mode, round) in ROUNDS {
        for (name, op) in binary {
            all.push(float(&format!("{name}.{mode}.f64"), F64, 2, move |x| op(F64, x[0], x[1], round)));
        }
        for name in ["fma", "mad"] {
            all.push(float(&format!("{name}.{mode}.f64"), F64, 3, move |x| F64.fma(x[0], x[1], x[2], round)));
        }
        all.push(float(&format!("rcp.{mode}.f64"), F64, 1, move |x| F64.div(0x3ff0_0000_0000_0000, x[0], round)));
        all.push(float(&format!("sqrt.{mode}.f64"), F64, 1, move |x| F64.sqrt(x[0], round)));
    }
}

fn signs(all: &mut Vec<Case>, f: Format) {
    let (n, kind) = (f.name(), f.kind());
    let flushes: &[(&str, bool)] = if f == F32 { &[("", false), (".ftz", true)] } else { &[("", false)] };
    for &(flag, ftz) in flushes {
        let input = move |x: u64| if ftz { f.flush(x) } else { x };
        all.push(case(&format!("neg{flag}.{n}"), kind.reg(), &[kind], move |x| f.negate(input(x[0]))));
        all.push(case(&format!("abs{flag}.{n}"), kind.reg(), &[kind], move |x| f.magnitude(input(x[0]))));
    }
    all.push(case(&format!("copysign.{n}"), kind.reg(), &[kind; 2], move |x| f.magnitude(x[1]) | f.sign_of(x[0])));
}

fn classes(all: &mut Vec<Case>, f: Format) {
    use std::num::FpCategory::{Infinite, Nan, Normal, Subnormal, Zero};
    let class = move |x: u64| match f {
        F32 => f32::from_bits(x as u32).classify(),
        _ => f64::from_bits(x).classify(),
    };
    for name in ["finite", "infinite", "number", "notanumber", "normal", "subnormal"] {
        let op = format!("testp.{name}.{}", f.name());
        all.push(case(&op, crate::harness::Reg::Pred, &[f.kind()], move |x| {
            let class = class(x[0]);
            u64::from(match name {
                "finite" => !matches!(class, Infinite | Nan),
                "infinite" => class == Infinite,
                "number" => class != Nan,
                "notanumber" => class == Nan,
                "normal" => matches!(class, Normal | Zero),
                _ => class == Subnormal,
            })
        }));
    }
}

fn extremes(all: &mut Vec<Case>) {
    for (name, max) in [("min", false), ("max", true)] {
        for (flags, ftz, nan, xorsign) in [
            ("", false, false, false),
            (".ftz", true, false, false),
            (".NaN", false, true, false),
            (".ftz.NaN", true, true, false),
            (".xorsign.abs", false, false, true),
            (".ftz.NaN.xorsign.abs", true, true, true),
        ] {
            all.push(float(&format!("{name}{flags}.f32"), F32, 2, move |x| {
                modified(x, ftz, false, |x| {
                    if !xorsign {
                        return F32.extreme(x[0], x[1], max, nan);
                    }
                    let r = F32.extreme(F32.magnitude(x[0]), F32.magnitude(x[1]), max, nan);
                    if F32.is_nan(r) { r } else { r | F32.sign_of(x[0] ^ x[1]) }
                })
            }));
        }
        all.push(float(&format!("{name}.f64"), F64, 2, move |x| F64.extreme(x[0], x[1], max, false)));
    }
}
