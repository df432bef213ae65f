//! `f16`, `bf16` and their packed forms.

use crate::harness::{Case, Kind, Reg, case};
use crate::model::{Bf16, F16, F32, Format};
use rustc_apfloat::Round;

const NEAREST: Round = Round::NearestTiesToEven;

/// The scalar case and the packed one, whose elements follow the same model.
fn both(all: &mut Vec<Case>, op: &str, f: Format, operands: usize, model: impl Fn(&[u64]) -> u64 + Clone + 'static) {
    let scalar = model.clone();
    all.push(case(&format!("{op}.{}", f.name()), Reg::B16, &vec![f.kind(); operands], move |x| scalar(x)));
    let packed = if f == F16 { Kind::F16x2 } else { Kind::Bf16x2 };
    all.push(case(&format!("{op}.{}x2", f.name()), Reg::B32, &vec![packed; operands], move |x| {
        let element = |i: u32| model(&x.iter().map(|x| x >> (16 * i) & 0xffff).collect::<Vec<_>>());
        element(0) | element(1) << 16
    }));
}

/// Flushes operands, applies `op`, makes NaN canonical, flushes and clamps.
fn modified(f: Format, x: &[u64], ftz: bool, sat: bool, op: impl Fn(&[u64]) -> u64) -> u64 {
    let flush = |x: u64| if ftz { f.flush(x) } else { x };
    let r = flush(f.canon(op(&x.iter().map(|&x| flush(x)).collect::<Vec<_>>())));
    if sat { f.saturate(r) } else { r }
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for f in [F16, Bf16] {
        arithmetic(&mut all, f);
        signs(&mut all, f);
        extremes(&mut all, f);
    }
    all
}

fn arithmetic(all: &mut Vec<Case>, f: Format) {
    let flags: &[(&str, bool, bool)] = match f {
        F16 => &[("", false, false), (".ftz", true, false), (".sat", false, true), (".ftz.sat", true, true)],
        _ => &[("", false, false)],
    };
    for &(flag, ftz, sat) in flags {
        for mode in ["", ".rn"] {
            let op = |name: &str| format!("{name}{mode}{flag}");
            both(all, &op("add"), f, 2, move |x| modified(f, x, ftz, sat, |x| f.add(x[0], x[1], NEAREST)));
            both(all, &op("sub"), f, 2, move |x| modified(f, x, ftz, sat, |x| f.sub(x[0], x[1], NEAREST)));
            both(all, &op("mul"), f, 2, move |x| modified(f, x, ftz, sat, |x| f.mul(x[0], x[1], NEAREST)));
        }
        let fused = move |x: &[u64]| modified(f, x, ftz, sat, |x| f.fma(x[0], x[1], x[2], NEAREST));
        both(all, &format!("fma.rn{flag}"), f, 3, fused);
        if !sat {
            both(all, &format!("fma.rn{flag}.relu"), f, 3, move |x| {
                let r = fused(x);
                if f.sign_of(r) != 0 { 0 } else { r }
            });
        }
    }
}

fn signs(all: &mut Vec<Case>, f: Format) {
    let flushes: &[(&str, bool)] = if f == F16 { &[("", false), (".ftz", true)] } else { &[("", false)] };
    for &(flag, ftz) in flushes {
        let input = move |x: u64| if ftz { f.flush(x) } else { x };
        both(all, &format!("neg{flag}"), f, 1, move |x| f.negate(input(x[0])));
        both(all, &format!("abs{flag}"), f, 1, move |x| f.magnitude(input(x[0])));
    }
}

fn extremes(all: &mut Vec<Case>, f: Format) {
    for (name, max) in [("min", false), ("max", true)] {
        for (flags, ftz, nan, xorsign) in [
            ("", false, false, false),
            (".ftz", true, false, false),
            (".NaN", false, true, false),
            (".xorsign.abs", false, false, true),
            (".NaN.xorsign.abs", false, true, true),
        ] {
            if ftz && f == Bf16 {
                continue;
            }
            both(all, &format!("{name}{flags}"), f, 2, move |x| {
                modified(f, x, ftz, false, |x| {
                    if !xorsign {
                        return f.extreme(x[0], x[1], max, nan);
                    }
                    let r = f.extreme(f.magnitude(x[0]), f.magnitude(x[1]), max, nan);
                    if f.is_nan(r) { r } else { r | f.sign_of(x[0] ^ x[1]) }
                })
            });
        }
    }
}

/// The value of a half as an `f64`, and back with one rounding.
pub fn through_f64(f: Format, x: u64, op: impl Fn(f64) -> f64) -> u64 {
    let y = op(f.value(x));
    f.canon(crate::model::F64.convert(y.to_bits(), f, NEAREST))
}

/// The `f32` with the value of a half.
pub fn widened(f: Format, x: u64) -> u64 {
    F32.canon(f.convert(x, F32, NEAREST))
}
