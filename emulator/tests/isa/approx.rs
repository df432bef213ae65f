//! The `.approx` functions, within the errors that PTX documents.

use crate::half::through_f64;
use crate::harness::{Case, Kind, Reg, Want, general, lines};
use crate::model::{Bf16, F16, F32, Format};

const NAN: Want = Want::Bits(0x7fff_ffff);
/// Below this, `.ftz` results are zero.
const LEAST_NORMAL: f64 = 1.1754943508222875e-38;

/// What a function computes.
type Function = fn(f64) -> f64;
/// An error bound: ulps, absolute, relative.
type Bound = (f64, f64, f64);

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    unary(&mut all, "ex2.approx", (2.0, 0.0, 0.0), f64::exp2);
    unary(&mut all, "lg2.approx", (0.0, 2f64.powi(-22), 2f64.powi(-22)), f64::log2);
    unary(&mut all, "rcp.approx", (1.0, 0.0, 0.0), |x| 1.0 / x);
    unary(&mut all, "sqrt.approx", (1.0, 0.0, 2f64.powi(-23)), f64::sqrt);
    unary(&mut all, "rsqrt.approx", (0.5, 0.0, 2f64.powf(-22.9)), |x| 1.0 / x.sqrt());
    unary(&mut all, "sin.approx", (0.0, 2f64.powf(-20.5), 0.0), f64::sin);
    unary(&mut all, "cos.approx", (0.0, 2f64.powf(-20.5), 0.0), f64::cos);
    all.push(general("tanh.approx.f32", &[Reg::B32], &[Kind::F32], |x| {
        vec![near(f64::from(f32::from_bits(x[0] as u32)).tanh(), false, (1.0, 0.0, 2f64.powi(-11)))]
    }));
    divisions(&mut all);
    doubles(&mut all);
    halves(&mut all);
    all
}

/// What to expect of a function's value.
fn near(value: f64, ftz: bool, (ulps, absolute, relative): Bound) -> Want {
    match value {
        v if v.is_nan() => NAN,
        v if v.is_infinite() || v == 0.0 => Want::Bits(u64::from((v as f32).to_bits())),
        v if ftz && v.abs() < LEAST_NORMAL => Want::Near { value, ulps, absolute: LEAST_NORMAL, relative },
        _ => Want::Near { value, ulps, absolute, relative },
    }
}

fn unary(all: &mut Vec<Case>, name: &str, bound: Bound, f: fn(f64) -> f64) {
    for (flag, ftz) in [("", false), (".ftz", true)] {
        let wave = name.starts_with("sin") || name.starts_with("cos");
        all.push(general(&format!("{name}{flag}.f32"), &[Reg::B32], &[Kind::F32], move |x| {
            let x = if ftz { F32.flush(x[0]) } else { x[0] };
            let x = f64::from(f32::from_bits(x as u32));
            // PTX bounds the error only for arguments of a few turns; beyond, any value of a sine will do.
            if wave && x.is_finite() && x.abs() > 100.0 {
                return vec![Want::Near { value: 0.0, ulps: 0.0, absolute: 1.0, relative: 0.0 }];
            }
            vec![near(f(x), ftz, bound)]
        }));
    }
}

fn divisions(all: &mut Vec<Case>) {
    for (flag, ftz) in [("", false), (".ftz", true)] {
        for approx in [true, false] {
            let op = format!("div.{}{flag}.f32", if approx { "approx" } else { "full" });
            all.push(general(&op, &[Reg::B32], &[Kind::F32; 2], move |x| {
                let value = |x: u64| f64::from(f32::from_bits(if ftz { F32.flush(x) } else { x } as u32));
                let (a, b) = (value(x[0]), value(x[1]));
                if approx && b.abs() > 2f64.powi(126) && b.is_finite() {
                    let zero = (a * b).signum() * 0.0;
                    return vec![if a.is_infinite() || a.is_nan() {
                        NAN
                    } else {
                        Want::Bits(u64::from((zero as f32).to_bits()))
                    }];
                }
                vec![near(a / b, ftz, (2.0, 0.0, 0.0))]
            }));
        }
    }
}

/// `f64` results, of which only the upper words count: 2^-20 is one unit of them.
fn doubles(all: &mut Vec<Case>) {
    let functions: [(&str, Function); 3] = [
        ("rcp.approx.ftz.f64", |x| 1.0 / x),
        ("rsqrt.approx.ftz.f64", |x| 1.0 / x.sqrt()),
        ("rsqrt.approx.f64", |x| 1.0 / x.sqrt()),
    ];
    for (op, f) in functions {
        let line = format!("{op} {{d0}}, {{a0}};");
        all.push(lines(op, &[&line, "shr.b64 {d0}, {d0}, 32;"], &[Reg::B64], &[Kind::F64], move |x| {
            let a = f64::from_bits(x[0] & !0xffff_ffff);
            let flush = |x: f64| if x.is_subnormal() { 0.0f64.copysign(x) } else { x };
            let y = flush(f(flush(a)));
            let nan = y.is_nan() || f64::from_bits(x[0]).is_nan();
            let upper = if nan { 0x7fff_ffff } else { y.to_bits() >> 32 };
            vec![Want::Units { bits: upper, units: 2 }]
        }));
    }
}

fn halves(all: &mut Vec<Case>) {
    let functions: [(&str, Format, Function, bool); 4] = [
        ("ex2.approx", F16, f64::exp2, false),
        ("tanh.approx", F16, f64::tanh, false),
        ("ex2.approx.ftz", Bf16, f64::exp2, true),
        ("tanh.approx", Bf16, f64::tanh, false),
    ];
    for (op, f, function, ftz) in functions {
        // Correctly rounded is what the emulator promises; PTX allows a few units more.
        let model = move |x: u64| {
            let flush = |x: u64| if ftz { f.flush(x) } else { x };
            flush(through_f64(f, flush(x & 0xffff), function))
        };
        let allowed = |want: u64| Want::Units { bits: want, units: 1 };
        all.push(general(&format!("{op}.{}", f.name()), &[Reg::B16], &[f.kind()], move |x| vec![allowed(model(x[0]))]));
        let packed = if f == F16 { Kind::F16x2 } else { Kind::Bf16x2 };
        for half in [0, 16] {
            let line = format!("{op}.{}x2 {{d0}}, {{a0}};", f.name());
            let select = format!("bfe.u32 {{d0}}, {{d0}}, {half}, 16;");
            let name = format!("{op}.{}x2 at {half}", f.name());
            all.push(lines(&name, &[&line, &select], &[Reg::B32], &[packed], move |x| {
                vec![allowed(model(x[0] >> half))]
            }));
        }
    }
}
