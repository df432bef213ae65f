//! `mov` with packing and unpacking, and address spaces.

use crate::harness::{Case, Kind, Reg, Want, case, lines};

fn exact(bits: &[u64]) -> Vec<Want> {
    bits.iter().map(|&b| Want::Bits(b)).collect()
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (ty, kind) in
        [("b16", Kind::I16), ("u32", Kind::I32), ("f32", Kind::F32), ("b64", Kind::I64), ("pred", Kind::Pred)]
    {
        all.push(case(&format!("mov.{ty}"), kind.reg(), &[kind], |x| x[0]));
    }
    packs(&mut all);
    unpacks(&mut all);
    bytes(&mut all);
    all.push(lines(
        "mov of immediates",
        &[
            "mov.u32 {d0}, 0x80000001;",
            "mov.f32 {d1}, 0f3F800000;",
            "mov.b64 {d2}, -2;",
            "mov.f64 {d3}, 0d4000000000000000;",
        ],
        &[Reg::B32, Reg::B32, Reg::B64, Reg::B64],
        &[Kind::I32],
        |_| exact(&[0x8000_0001, 0x3f80_0000, -2i64 as u64, 0x4000_0000_0000_0000]),
    ));
    all
}

fn packs(all: &mut Vec<Case>) {
    all.push(lines("mov.b32 {16, 16}", &["mov.b32 {d0}, {{a0}, {a1}};"], &[Reg::B32], &[Kind::I16; 2], |x| {
        exact(&[x[0] | x[1] << 16])
    }));
    all.push(lines("mov.b64 {32, 32}", &["mov.b64 {d0}, {{a0}, {a1}};"], &[Reg::B64], &[Kind::I32; 2], |x| {
        exact(&[x[0] | x[1] << 32])
    }));
    all.push(lines(
        "mov.b64 {16, 16, 16, 16}",
        &["mov.b64 {d0}, {{a0}, {a1}, {a2}, {a3}};"],
        &[Reg::B64],
        &[Kind::I16; 4],
        |x| exact(&[x[0] | x[1] << 16 | x[2] << 32 | x[3] << 48]),
    ));
}

/// Bytes have registers of their own type.
fn bytes(all: &mut Vec<Case>) {
    let text = [
        ".reg .b8 %b<4>;",
        "mov.b32 {%b0, %b1, %b2, %b3}, {a0};",
        "mov.b16 {d0}, {%b3, %b0};",
        "mov.b32 {d1}, {%b3, %b2, %b1, %b0};",
        "mov.b16 {%b1, %b2}, {d0};",
        "mov.b32 {d2}, {%b1, %b1, %b2, %b2};",
    ];
    all.push(lines("mov of bytes", &text, &[Reg::B16, Reg::B32, Reg::B32], &[Kind::I32], |x| {
        let [a, b, c, d] = (x[0] as u32).to_le_bytes().map(u64::from);
        exact(&[d | a << 8, d | c << 8 | b << 16 | a << 24, d | d << 8 | a << 16 | a << 24])
    }));
}

fn unpacks(all: &mut Vec<Case>) {
    all.push(lines("mov.b32 to {16, 16}", &["mov.b32 {{d0}, {d1}}, {a0};"], &[Reg::B16; 2], &[Kind::I32], |x| {
        exact(&[x[0] & 0xffff, x[0] >> 16])
    }));
    all.push(lines("mov.b32 to {_, 16}", &["mov.b32 {_, {d0}}, {a0};"], &[Reg::B16], &[Kind::I32], |x| {
        exact(&[x[0] >> 16])
    }));
    all.push(lines("mov.b64 to {32, 32}", &["mov.b64 {{d0}, {d1}}, {a0};"], &[Reg::B32; 2], &[Kind::I64], |x| {
        exact(&[x[0] & 0xffff_ffff, x[0] >> 32])
    }));
    all.push(lines(
        "mov.b64 to {16, 16, 16, 16}",
        &["mov.b64 {{d0}, {d1}, {d2}, {d3}}, {a0};"],
        &[Reg::B16; 4],
        &[Kind::I64],
        |x| exact(&[x[0] & 0xffff, x[0] >> 16 & 0xffff, x[0] >> 32 & 0xffff, x[0] >> 48]),
    ));
}
