//! `setp`, `set`, `selp`, `slct` and predicate logic.

use crate::half::widened;
use crate::harness::{Case, Kind, Reg, Want, case, lines};
use crate::integer::INTS;
use crate::model::{Bf16, F16, F32, F64, Format};
use std::cmp::Ordering::{Equal, Greater, Less};

/// Result of a comparison of ordered operands, `None` for unordered ones.
fn holds(op: &str, order: Option<std::cmp::Ordering>) -> bool {
    let Some(order) = order else {
        return matches!(op, "equ" | "neu" | "ltu" | "leu" | "gtu" | "geu" | "nan");
    };
    match op {
        "eq" | "equ" => order == Equal,
        "ne" | "neu" => order != Equal,
        "lt" | "ltu" | "lo" => order == Less,
        "le" | "leu" | "ls" => order != Greater,
        "gt" | "gtu" | "hi" => order == Greater,
        "ge" | "geu" | "hs" => order != Less,
        "num" => true,
        _ => false,
    }
}

const FLOAT_OPS: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    integers(&mut all);
    floats(&mut all);
    packed(&mut all);
    combined(&mut all);
    sets(&mut all);
    selections(&mut all);
    all
}

fn integers(all: &mut Vec<Case>) {
    for t in INTS {
        let ops: &[&str] = if t.signed {
            &["eq", "ne", "lt", "le", "gt", "ge"]
        } else {
            &["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"]
        };
        for &op in ops {
            all.push(case(&format!("setp.{op}.{}", t.name), Reg::Pred, &[t.kind(); 2], move |x| {
                u64::from(holds(op, Some(t.value(x[0]).cmp(&t.value(x[1])))))
            }));
        }
    }
    for (bits, kind) in [(16, Kind::I16), (32, Kind::I32), (64, Kind::I64)] {
        for op in ["eq", "ne"] {
            all.push(case(&format!("setp.{op}.b{bits}"), Reg::Pred, &[kind; 2], move |x| {
                u64::from(holds(op, Some(x[0].cmp(&x[1]))))
            }));
        }
    }
}

fn floats(all: &mut Vec<Case>) {
    for f in [F16, Bf16, F32, F64] {
        for op in FLOAT_OPS {
            let name = format!("setp.{op}.{}", f.name());
            all.push(case(&name, Reg::Pred, &[f.kind(); 2], move |x| u64::from(holds(op, f.compare(x[0], x[1])))));
            if matches!(f, F16 | F32) {
                let name = format!("setp.{op}.ftz.{}", f.name());
                all.push(case(&name, Reg::Pred, &[f.kind(); 2], move |x| {
                    u64::from(holds(op, f.compare(f.flush(x[0]), f.flush(x[1]))))
                }));
            }
        }
    }
}

/// `setp` of packed halves gives a predicate for each.
fn packed(all: &mut Vec<Case>) {
    for (f, kind) in [(F16, Kind::F16x2), (Bf16, Kind::Bf16x2)] {
        for op in ["lt", "neu", "num"] {
            let name = format!("setp.{op}.{}x2", f.name());
            let line = format!("{name} {{d0}}|{{d1}}, {{a0}}, {{a1}};");
            all.push(lines(&name, &[&line], &[Reg::Pred; 2], &[kind; 2], move |x| {
                let half = |i: u32| holds(op, f.compare(x[0] >> (16 * i) & 0xffff, x[1] >> (16 * i) & 0xffff));
                vec![Want::Bits(half(0).into()), Want::Bits(half(1).into())]
            }));
        }
    }
}

/// `setp` with a second predicate and a boolean operation.
fn combined(all: &mut Vec<Case>) {
    for boolean in ["and", "or", "xor"] {
        for (not, negated) in [("", false), ("!", true)] {
            let combine = move |c: bool, p: u64| {
                let p = (p == 1) != negated;
                u64::from(match boolean {
                    "and" => c & p,
                    "or" => c | p,
                    _ => c ^ p,
                })
            };
            for (ty, kind) in [("s32", Kind::I32), ("f32", Kind::F32)] {
                let less = move |x: &[u64]| match ty {
                    "s32" => (x[0] as i32) < (x[1] as i32),
                    _ => holds("lt", F32.compare(x[0], x[1])),
                };
                let op = format!("setp.lt.{boolean}.{ty}");
                let line = format!("{op} {{d0}}|{{d1}}, {{a0}}, {{a1}}, {not}{{a2}};");
                all.push(lines(
                    &format!("{op} {not}"),
                    &[&line],
                    &[Reg::Pred; 2],
                    &[kind, kind, Kind::Pred],
                    move |x| vec![Want::Bits(combine(less(x), x[2])), Want::Bits(combine(!less(x), x[2]))],
                ));
            }
        }
    }
}

fn sets(all: &mut Vec<Case>) {
    let one = 0x3f80_0000;
    for f in [F32, F64, F16] {
        for op in ["lt", "geu", "nan"] {
            let test = move |x: &[u64]| holds(op, f.compare(x[0], x[1]));
            let n = f.name();
            all.push(case(&format!("set.{op}.u32.{n}"), Reg::B32, &[f.kind(); 2], move |x| {
                0xffff_ffff * u64::from(test(x))
            }));
            if f != F16 {
                all.push(case(&format!("set.{op}.f32.{n}"), Reg::B32, &[f.kind(); 2], move |x| {
                    one * u64::from(test(x))
                }));
            }
        }
    }
    all.push(case("set.gt.s32.s32", Reg::B32, &[Kind::I32; 2], |x| 0xffff_ffff * u64::from(x[0] as i32 > x[1] as i32)));
    all.push(case("set.hi.u32.u64", Reg::B32, &[Kind::I64; 2], |x| 0xffff_ffff * u64::from(x[0] > x[1])));
    let line = "set.le.and.u32.s32 {d0}, {a0}, {a1}, {a2};";
    all.push(lines("set.le.and.u32.s32", &[line], &[Reg::B32], &[Kind::I32, Kind::I32, Kind::Pred], |x| {
        vec![Want::Bits(0xffff_ffff * u64::from(x[0] as i32 <= x[1] as i32 && x[2] == 1))]
    }));
    half_sets(all);
}

/// `set` whose result is a half, or two.
fn half_sets(all: &mut Vec<Case>) {
    let f32_of = |f: Format, x: u64| f32::from_bits(widened(f, x & 0xffff) as u32);
    for (f, packed, one) in [(F16, Kind::F16x2, 0x3c00), (Bf16, Kind::Bf16x2, 0x3f80)] {
        let n = f.name();
        all.push(case(&format!("set.gt.{n}.{n}"), Reg::B16, &[f.kind(); 2], move |x| {
            one * u64::from(f32_of(f, x[0]) > f32_of(f, x[1]))
        }));
        all.push(case(&format!("set.gt.{n}x2.{n}x2"), Reg::B32, &[packed; 2], move |x| {
            let half = |i: u32| one * u64::from(f32_of(f, x[0] >> (16 * i)) > f32_of(f, x[1] >> (16 * i)));
            half(0) | half(1) << 16
        }));
        all.push(case(&format!("set.leu.u32.{n}x2"), Reg::B32, &[packed; 2], move |x| {
            let greater = |i: u32| f32_of(f, x[0] >> (16 * i)) > f32_of(f, x[1] >> (16 * i));
            let half = |i: u32| 0xffff * u64::from(!greater(i));
            half(0) | half(1) << 16
        }));
    }
}

fn selections(all: &mut Vec<Case>) {
    for (ty, kind) in
        [("b16", Kind::I16), ("b32", Kind::I32), ("b64", Kind::I64), ("f32", Kind::F32), ("f64", Kind::F64)]
    {
        all.push(case(&format!("selp.{ty}"), kind.reg(), &[kind, kind, Kind::Pred], |x| {
            if x[2] == 1 { x[0] } else { x[1] }
        }));
        all.push(case(&format!("slct.{ty}.s32"), kind.reg(), &[kind, kind, Kind::I32], |x| {
            if x[2] as i32 >= 0 { x[0] } else { x[1] }
        }));
        all.push(case(&format!("slct.{ty}.f32"), kind.reg(), &[kind, kind, Kind::F32], |x| {
            if f32::from_bits(x[2] as u32) >= 0.0 { x[0] } else { x[1] }
        }));
        all.push(case(&format!("slct.ftz.{ty}.f32"), kind.reg(), &[kind, kind, Kind::F32], |x| {
            if f32::from_bits(F32.flush(x[2]) as u32) >= 0.0 { x[0] } else { x[1] }
        }));
    }
}
