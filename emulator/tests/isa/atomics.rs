//! `atom` and `red`: what they return and what they leave, each lane on a cell of its own.
//!
//! A lane's cell is its own result slot in global memory, or a word of the block's shared memory. What happens when lanes
//! meet on one cell is a matter of the golden programs.

use crate::harness::{Case, Kind, Reg, Want, lines};
use crate::integer::{INTS, Int};
use crate::model::{Bf16, F16, F32, F64, Format};
use rustc_apfloat::Round;
use std::rc::Rc;

type Model = dyn Fn(&[u64]) -> Want;

/// An operation: its name, type, operand kind, number of operands, and the cell's new value.
struct Op {
    name: &'static str,
    ty: &'static str,
    kind: Kind,
    operands: usize,
    new: Rc<Model>,
    /// Has `red` it too?
    red: bool,
}

fn op(name: &'static str, ty: &'static str, kind: Kind, new: impl Fn(u64, u64) -> u64 + 'static) -> Op {
    let red = name != "exch";
    Op { name, ty, kind, operands: 1, red, new: model(move |x| Want::Bits(new(x[0], x[1]))) }
}

fn model(new: impl Fn(&[u64]) -> Want + 'static) -> Rc<Model> {
    Rc::new(new)
}

pub fn cases() -> Vec<Case> {
    let mut ops = Vec::new();
    integers(&mut ops);
    swaps(&mut ops);
    floats(&mut ops);
    ops.into_iter().flat_map(forms).collect()
}

fn integers(ops: &mut Vec<Op>) {
    for t in INTS.into_iter().filter(|t| t.bits > 16) {
        if t.name != "s64" {
            ops.push(op("add", t.name, t.kind(), move |a, b| t.wrap(t.value(a) + t.value(b))));
        }
        let by_value = move |t: Int, a: u64, b: u64| t.value(a).cmp(&t.value(b));
        ops.push(op("min", t.name, t.kind(), move |a, b| if by_value(t, a, b).is_le() { a } else { b }));
        ops.push(op("max", t.name, t.kind(), move |a, b| if by_value(t, a, b).is_ge() { a } else { b }));
    }
    for (ty, kind) in [("b32", Kind::I32), ("b64", Kind::I64)] {
        ops.push(op("and", ty, kind, |a, b| a & b));
        ops.push(op("or", ty, kind, |a, b| a | b));
        ops.push(op("xor", ty, kind, |a, b| a ^ b));
    }
    ops.push(op("inc", "u32", Kind::I32, |a, b| if a >= b { 0 } else { a + 1 }));
    ops.push(op("dec", "u32", Kind::I32, |a, b| if a == 0 || a > b { b } else { a - 1 }));
}

fn swaps(ops: &mut Vec<Op>) {
    for (ty, kind) in [("b32", Kind::I32), ("b64", Kind::I64)] {
        ops.push(op("exch", ty, kind, |_, b| b));
    }
    for (ty, kind) in [("b16", Kind::I16), ("b32", Kind::I32), ("b64", Kind::I64)] {
        let new = model(|x| Want::Bits(if x[0] == x[1] { x[2] } else { x[0] }));
        ops.push(Op { name: "cas", ty, kind, operands: 2, new, red: false });
    }
}

fn floats(ops: &mut Vec<Op>) {
    let nearest = Round::NearestTiesToEven;
    // Whether subnormals of f32 are flushed depends on the chip: a result may be off by less than the least normal.
    let single = move |x: &[u64]| {
        let sum = F32.canon(F32.add(x[0], x[1], nearest));
        match f64::from(f32::from_bits(sum as u32)) {
            v if v.is_finite() => Want::Near { value: v, ulps: 0.0, absolute: 2f64.powi(-126), relative: 0.0 },
            _ => Want::Bits(sum),
        }
    };
    ops.push(Op { name: "add", ty: "f32", kind: Kind::F32, operands: 1, new: model(single), red: true });
    let double = move |x: &[u64]| {
        let sum = F64.add(x[0], x[1], nearest);
        if F64.is_nan(sum) { Want::NanF64 } else { Want::Bits(sum) }
    };
    ops.push(Op { name: "add", ty: "f64", kind: Kind::F64, operands: 1, new: model(double), red: true });
    let half = move |f: Format, a: u64, b: u64| f.canon(f.add(a & 0xffff, b & 0xffff, nearest));
    for (f, packed, ty, both) in [(F16, Kind::F16x2, "f16", "f16x2"), (Bf16, Kind::Bf16x2, "bf16", "bf16x2")] {
        ops.push(op("add.noftz", ty, f.kind(), move |a, b| half(f, a, b)));
        ops.push(op("add.noftz", both, packed, move |a, b| half(f, a, b) | half(f, a >> 16, b >> 16) << 16));
    }
}

/// The operation on both memories, as `atom` and as `red`, and once each with an order and a scope.
fn forms(op: Op) -> Vec<Case> {
    let mut all = Vec::new();
    let names =
        [("atom", ""), ("red", ""), ("atom", ".relaxed.gpu"), ("red", ".release.sys"), ("atom", ".acq_rel.cta")];
    for (i, (base, order)) in names.into_iter().enumerate() {
        for space in ["global", "shared", ""] {
            if base == "red" && !op.red || i > 1 && (space != "global" || op.name == "inc") {
                continue;
            }
            all.push(form(&op, base, order, space));
        }
    }
    all
}

fn form(op: &Op, base: &str, order: &str, space: &str) -> Case {
    let new = op.new.clone();
    let bits = match op.kind.reg() {
        Reg::B16 => 16,
        Reg::B64 => 64,
        _ => 32,
    };
    let dot = if space.is_empty() { String::new() } else { format!(".{space}") };
    let mnemonic = format!("{base}{order}{dot}.{}.{}", op.name, op.ty);
    let operands = (1..=op.operands).map(|i| format!("{{a{i}}}")).collect::<Vec<_>>().join(", ");
    // Generic addresses point to global memory.
    let (memory, address) = if space == "shared" { ("shared", "%r6") } else { ("global", "%rd0") };
    let result = if base == "atom" { "{d0}, " } else { "" };
    let mut text = vec![];
    if space == "shared" {
        text.extend([".shared .align 8 .b8 cells[1024];".to_string(), "shl.b32 %r5, %r2, 3;".to_string()]);
        text.extend(["mov.u32 %r6, cells;".to_string(), "add.u32 %r6, %r6, %r5;".to_string()]);
    }
    text.push(format!("st.{memory}.b{bits} [{address}], {{a0}};"));
    text.push(format!("{mnemonic} {result}[{address}], {operands};"));
    if base == "red" {
        text.push("mov.b64 %rd5, 0;".to_string());
        text.push(format!("cvt.u{bits}.u64 {{d0}}, %rd5;"));
    }
    text.push(format!("ld.{memory}.b{bits} {{d1}}, [{address}];"));
    let text: Vec<&str> = text.iter().map(String::as_str).collect();
    let returns = base == "atom";
    lines(&mnemonic, &text, &[op.kind.reg(); 2], &vec![op.kind; op.operands + 1], move |x| {
        vec![Want::Bits(if returns { x[0] } else { 0 }), new(x)]
    })
}
