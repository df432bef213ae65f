//! Logic, shifts, fields, counts and permutations, bit by bit as PTX's pseudocode has them.

use crate::harness::{Case, Kind, Reg, Want, case, lines};

use Kind::{I16, I32, I64, Shift};

fn bit(x: u64, i: u64) -> u64 {
    if i < 64 { x >> i & 1 } else { 0 }
}

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    logic(&mut all);
    shifts(&mut all);
    fields(&mut all);
    counts(&mut all);
    permutations(&mut all);
    all
}

fn logic(all: &mut Vec<Case>) {
    for (suffix, kind, mask) in
        [("b16", I16, 0xffff), ("b32", I32, 0xffff_ffff), ("b64", I64, !0u64), ("pred", Kind::Pred, 1)]
    {
        let r = kind.reg();
        all.push(case(&format!("and.{suffix}"), r, &[kind; 2], |x| x[0] & x[1]));
        all.push(case(&format!("or.{suffix}"), r, &[kind; 2], |x| x[0] | x[1]));
        all.push(case(&format!("xor.{suffix}"), r, &[kind; 2], |x| x[0] ^ x[1]));
        all.push(case(&format!("not.{suffix}"), r, &[kind], move |x| !x[0] & mask));
        if kind != Kind::Pred {
            all.push(case(&format!("cnot.{suffix}"), r, &[kind], move |x| u64::from(x[0] & mask == 0)));
        }
    }
    for table in [0x00u64, 0xff, 0xc0, 0xfc, 0x3c, 0x96, 0xea, 0xca, 0xe8, 0x80, 0xfe, 0x6a, 0x78, 0xd8, 0x1b, 0x01] {
        let name = format!("lop3.b32 {table:#x}");
        let line = format!("lop3.b32 {{d0}}, {{a0}}, {{a1}}, {{a2}}, {table};");
        all.push(lines(&name, &[&line], &[Reg::B32], &[I32; 3], move |x| vec![Want::Bits(lop3(table, x))]));
    }
    for boolean in ["or", "and"] {
        let line = format!("lop3.{boolean}.b32 {{d0}}|{{d1}}, {{a0}}, {{a1}}, {{a2}}, 0x1b, {{a3}};");
        let kinds = [I32, I32, I32, Kind::Pred];
        all.push(lines(&format!("lop3.{boolean}.b32"), &[&line], &[Reg::B32, Reg::Pred], &kinds, move |x| {
            let d = lop3(0x1b, x);
            let p = u64::from(d != 0);
            vec![Want::Bits(d), Want::Bits(if boolean == "or" { p | x[3] } else { p & x[3] })]
        }));
    }
}

fn lop3(table: u64, x: &[u64]) -> u64 {
    (0..32).map(|i| (table >> (4 * bit(x[0], i) + 2 * bit(x[1], i) + bit(x[2], i)) & 1) << i).sum()
}

fn shifts(all: &mut Vec<Case>) {
    for (bits, kind) in [(16u64, I16), (32, I32), (64, I64)] {
        let r = kind.reg();
        let sign = move |x: u64| bit(x, bits - 1);
        all.push(case(&format!("shl.b{bits}"), r, &[kind, Shift], move |x| {
            (0..bits).filter(|&i| i >= x[1]).map(|i| bit(x[0], i - x[1]) << i).sum()
        }));
        for ty in ['b', 'u', 's'] {
            all.push(case(&format!("shr.{ty}{bits}"), r, &[kind, Shift], move |x| {
                let fill = if ty == 's' { sign(x[0]) } else { 0 };
                (0..bits).map(|i| if i + x[1] < bits { bit(x[0], i + x[1]) << i } else { fill << i }).sum()
            }));
        }
    }
    for (wrap, mode) in [(false, "clamp"), (true, "wrap")] {
        let amount = move |n: u64| if wrap { n & 31 } else { n.min(32) };
        let both = |x: &[u64]| u128::from(x[1] << 32 | x[0]);
        let low = 0xffff_ffff;
        all.push(case(&format!("shf.l.{mode}.b32"), Reg::B32, &[I32, I32, Shift], move |x| {
            ((both(x) << amount(x[2])) >> 32) as u64 & low
        }));
        all.push(case(&format!("shf.r.{mode}.b32"), Reg::B32, &[I32, I32, Shift], move |x| {
            (both(x) >> amount(x[2])) as u64 & low
        }));
    }
}

fn fields(all: &mut Vec<Case>) {
    for (bits, kind) in [(32u64, I32), (64, I64)] {
        let r = kind.reg();
        for ty in ['u', 's'] {
            all.push(case(&format!("bfe.{ty}{bits}"), r, &[kind, Shift, Shift], move |x| {
                let (pos, len) = (x[1] & 255, x[2] & 255);
                let sign = if ty == 'u' || len == 0 { 0 } else { bit(x[0], (pos + len - 1).min(bits - 1)) };
                (0..bits).map(|i| if i < len && pos + i < bits { bit(x[0], pos + i) << i } else { sign << i }).sum()
            }));
        }
        all.push(case(&format!("bfi.b{bits}"), r, &[kind, kind, Shift, Shift], move |x| {
            let (pos, len) = (x[2] & 255, x[3] & 255);
            let inside = |i: u64| i >= pos && i - pos < len;
            (0..bits).map(|i| if inside(i) { bit(x[0], i - pos) << i } else { bit(x[1], i) << i }).sum()
        }));
    }
    for (wrap, mode) in [(false, "clamp"), (true, "wrap")] {
        let amount = move |n: u64| if wrap { n & 31 } else { n.min(32) };
        for ty in ['u', 's'] {
            all.push(case(&format!("szext.{mode}.{ty}32"), Reg::B32, &[I32, Shift], move |x| {
                let n = amount(x[1]);
                let sign = if ty == 's' && n > 0 { bit(x[0], n - 1) } else { 0 };
                (0..32).map(|i| if i < n { bit(x[0], i) << i } else { sign << i }).sum()
            }));
        }
        all.push(case(&format!("bmsk.{mode}.b32"), Reg::B32, &[Shift, Shift], move |x| {
            let (pos, width) = (amount(x[0]), amount(x[1]));
            (0..32).filter(|&i| i >= pos && i < pos + width).map(|i| 1 << i).sum()
        }));
    }
}

fn counts(all: &mut Vec<Case>) {
    for (bits, kind) in [(32u64, I32), (64, I64)] {
        all.push(case(&format!("popc.b{bits}"), Reg::B32, &[kind], move |x| (0..bits).map(|i| bit(x[0], i)).sum()));
        all.push(case(&format!("clz.b{bits}"), Reg::B32, &[kind], move |x| {
            (0..bits).take_while(|i| bit(x[0], bits - 1 - i) == 0).count() as u64
        }));
        all.push(case(&format!("brev.b{bits}"), kind.reg(), &[kind], move |x| {
            (0..bits).map(|i| bit(x[0], bits - 1 - i) << i).sum()
        }));
        for ty in ['u', 's'] {
            for shiftamt in [false, true] {
                let op = format!("bfind{}.{ty}{bits}", if shiftamt { ".shiftamt" } else { "" });
                all.push(case(&op, Reg::B32, &[kind], move |x| {
                    let a = if ty == 's' && bit(x[0], bits - 1) == 1 { !x[0] } else { x[0] };
                    match (0..bits).rev().find(|&i| bit(a, i) == 1) {
                        None => 0xffff_ffff,
                        Some(i) if shiftamt => bits - 1 - i,
                        Some(i) => i,
                    }
                }));
            }
        }
    }
    let line = "and.b32 {a1}, {a1}, 31;";
    all.push(lines("fns.b32", &[line, "fns.b32 {d0}, {a0}, {a1}, {a2};"], &[Reg::B32], &[I32, I32, I32], |x| {
        let (base, offset) = ((x[1] & 31) as i64, i64::from(x[2] as u32 as i32));
        let step = if offset < 0 { -1 } else { 1 };
        let mut set = (0..32).map(|i| base + step * i).filter(|i| (0..32).contains(i) && bit(x[0], *i as u64) == 1);
        let found = match offset {
            0 => (bit(x[0], base as u64) == 1).then_some(base),
            _ => set.nth(offset.unsigned_abs() as usize - 1),
        };
        vec![Want::Bits(found.map_or(0xffff_ffff, |i| i as u64))]
    }));
}

fn permutations(all: &mut Vec<Case>) {
    let bytes = |x: &[u64]| -> [u64; 8] { std::array::from_fn(|i| (x[1] << 32 | x[0]) >> (8 * i) & 255) };
    all.push(case("prmt.b32", Reg::B32, &[I32; 3], move |x| {
        let pick = |i: u64| {
            let (index, replicate) = (x[2] >> (4 * i) & 7, bit(x[2], 4 * i + 3) == 1);
            let byte = bytes(x)[index as usize];
            if replicate { 255 * (byte >> 7) } else { byte }
        };
        (0..4).map(|i| pick(i) << (8 * i)).sum()
    }));
    // Constant selectors, with and without a sign, as numbers and as registers that only ever hold one.
    for selector in [0x3210u64, 0x7654, 0x0123, 0x4140, 0x6275, 0x1010, 0x5555, 0x00c4_2531, 0x8421, 0xfa50] {
        let model = move |x: &[u64]| {
            let byte = |i: u64| bytes(x)[(selector >> (4 * i) & 7) as usize];
            let pick = |i: u64| if bit(selector, 4 * i + 3) == 1 { 255 * (byte(i) >> 7) } else { byte(i) };
            vec![Want::Bits((0..4).map(|i| pick(i) << (8 * i)).sum())]
        };
        let name = format!("prmt.b32 {selector:#x}");
        let line = format!("prmt.b32 {{d0}}, {{a0}}, {{a1}}, {selector:#x};");
        all.push(lines(&name, &[&line], &[Reg::B32], &[I32; 2], model));
        let moved = [
            "{ .reg .b32 selector;",
            &format!("mov.u32 selector, {selector:#x};"),
            "prmt.b32 {d0}, {a0}, {a1}, selector; }",
        ];
        all.push(lines(&format!("{name}, moved"), &moved, &[Reg::B32], &[I32; 2], model));
    }
    // Byte indexes of the result, most significant first, for the four values of the selector.
    let tables: [(&str, [[usize; 4]; 4]); 6] = [
        ("f4e", [[3, 2, 1, 0], [4, 3, 2, 1], [5, 4, 3, 2], [6, 5, 4, 3]]),
        ("b4e", [[5, 6, 7, 0], [6, 7, 0, 1], [7, 0, 1, 2], [0, 1, 2, 3]]),
        ("rc8", [[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecl", [[3, 2, 1, 0], [3, 2, 1, 1], [3, 2, 2, 2], [3, 3, 3, 3]]),
        ("ecr", [[0, 0, 0, 0], [1, 1, 1, 0], [2, 2, 1, 0], [3, 2, 1, 0]]),
        ("rc16", [[1, 0, 1, 0], [3, 2, 3, 2], [1, 0, 1, 0], [3, 2, 3, 2]]),
    ];
    for (mode, table) in tables {
        all.push(case(&format!("prmt.b32.{mode}"), Reg::B32, &[I32, I32, I32], move |x| {
            table[(x[2] & 3) as usize].iter().fold(0, |word, &i| word << 8 | bytes(x)[i])
        }));
    }
}
