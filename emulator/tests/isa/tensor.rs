//! `mma.sync` of every form against the layouts and the sum that PTX defines, in exact arithmetic.
//!
//! Small integers give exact sums in any order, so bits must agree; random values may differ by the rounding of the sum.

#![allow(clippy::needless_range_loop, reason = "lanes and registers are numbered as in PTX's figures")]

use crate::convert::from_fp8;
use crate::harness::gpu;
use crate::model::{Bf16, F16};
use crate::values::Rng;
use crate::warp::{Lanes, kernel, run};

/// A form: shape, types of A and B, type of C and D, and `.satfinite`.
struct Form {
    m: usize,
    k: usize,
    a: &'static str,
    b: &'static str,
    d: &'static str,
    saturate: bool,
}

const fn form(m: usize, k: usize, a: &'static str, b: &'static str, d: &'static str) -> Form {
    Form { m, k, a, b, d, saturate: false }
}

fn forms() -> Vec<Form> {
    let mut all = vec![
        form(16, 8, "f16", "f16", "f32"),
        form(16, 16, "f16", "f16", "f32"),
        form(16, 8, "f16", "f16", "f16"),
        form(16, 16, "f16", "f16", "f16"),
        form(16, 8, "bf16", "bf16", "f32"),
        form(16, 16, "bf16", "bf16", "f32"),
        form(16, 4, "tf32", "tf32", "f32"),
        form(16, 8, "tf32", "tf32", "f32"),
    ];
    for a in ["e4m3", "e5m2"] {
        for b in ["e4m3", "e5m2"] {
            all.push(form(16, 32, a, b, "f32"));
        }
    }
    for a in ["s8", "u8"] {
        for b in ["s8", "u8"] {
            for (m, k) in [(8, 16), (16, 16), (16, 32)] {
                all.push(form(m, k, a, b, "s32"));
                all.push(Form { saturate: true, ..form(m, k, a, b, "s32") });
            }
        }
    }
    all
}

/// Elements of a type in a register.
fn per_register(ty: &str) -> usize {
    match ty {
        "f16" | "bf16" => 2,
        "f32" | "tf32" | "s32" => 1,
        _ => 4,
    }
}

impl Form {
    fn name(&self) -> String {
        let sat = if self.saturate { ".satfinite" } else { "" };
        format!("mma.sync.aligned.m{}n8k{}.row.col{sat}.{}.{}.{}.{}", self.m, self.k, self.d, self.a, self.b, self.d)
    }

    /// Registers of A, B, and of C and D.
    fn registers(&self) -> [usize; 3] {
        let per = per_register(self.a);
        [self.m * self.k / 32 / per, self.k * 8 / 32 / per, self.m * 8 / 32 / per_register(self.d)]
    }

    fn text(&self) -> String {
        let [a, b, c] = self.registers();
        let list = |prefix: &str, from: usize, n: usize| {
            let names: Vec<String> = (from..from + n).map(|i| format!("%{prefix}{i}")).collect();
            format!("{{{}}}", names.join(", "))
        };
        let (d, a0, b0, c0) = (list("d", 0, c), list("a", 0, a), list("a", a, b), list("a", a + b, c));
        kernel(&format!("{} {d}, {a0}, {b0}, {c0};", self.name()), a + b + c, c)
    }
}

/// Value of element `i` of a register.
fn value(ty: &str, register: u32, i: usize) -> f64 {
    let bits = u64::from(register >> (32 / per_register(ty) * i));
    match ty {
        "f16" => F16.value(bits & 0xffff),
        "bf16" => Bf16.value(bits & 0xffff),
        "f32" => f64::from(f32::from_bits(register)),
        "tf32" => f64::from(f32::from_bits(register & 0xffff_e000)),
        "s32" => f64::from(register as i32),
        "s8" => f64::from(bits as i8),
        "u8" => f64::from(bits as u8),
        _ => F16.value(from_fp8(ty == "e4m3", bits)),
    }
}

/// Bits of a small integer in a type.
fn small(ty: &str, x: i32) -> u32 {
    let float = x as f32;
    match ty {
        "f16" => u32::from(::half::f16::from_f32(float).to_bits()),
        "bf16" => u32::from(::half::bf16::from_f32(float).to_bits()),
        "f32" | "tf32" => float.to_bits(),
        "s32" => x as u32,
        "s8" => u32::from(x as i8 as u8),
        "u8" => x.unsigned_abs() & 0xff,
        // Powers of two and their halves are the same in both formats: 0, 1, 2, -1, -2, 0.5.
        "e4m3" => [0x00, 0x38, 0x40, 0xb8, 0xc0, 0x30][x.rem_euclid(6) as usize],
        _ => [0x00, 0x3c, 0x40, 0xbc, 0xc0, 0x38][x.rem_euclid(6) as usize],
    }
}

/// A register of small integers, or of random finite values near 1.
fn register(ty: &str, exact: bool, rng: &mut Rng) -> Lanes {
    let per = per_register(ty);
    let element = |rng: &mut Rng| {
        if exact {
            return small(ty, rng.below(17) as i32 - 8);
        }
        let r = rng.next() as u32;
        match ty {
            "f16" => r & 0x87ff | 0x3800,
            "bf16" => r & 0x80ff | 0x3f00,
            "f32" | "tf32" => r & 0x80ff_ffff | 0x3f00_0000,
            "e4m3" | "e5m2" => r & 0x87 | 0x38,
            "s32" => r,
            _ => r & 0xff,
        }
    };
    std::array::from_fn(|_| (0..per).fold(0, |word, i| word | element(rng) << (32 / per * i)))
}

/// Row and column of element `i` (counted over the registers) of A in a lane, by PTX's figures.
fn place_a(form: &Form, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread, per) = (lane / 4, lane % 4, per_register(form.a));
    let register = i / per;
    let row = if form.m == 16 && register % 2 == 1 { group + 8 } else { group };
    let block = if form.m == 16 { register / 2 } else { register };
    (row, per * thread + i % per + 4 * per * block)
}

/// Row (k) and column of element `i` of B in a lane.
fn place_b(form: &Form, lane: usize, i: usize) -> (usize, usize) {
    let per = per_register(form.b);
    (per * (lane % 4) + i % per + 4 * per * (i / per), lane / 4)
}

/// Row and column of element `i` of C and D in a lane.
fn place_c(lane: usize, i: usize) -> (usize, usize) {
    (lane / 4 + 8 * (i / 2), 2 * (lane % 4) + i % 2)
}

fn check(form: &Form, exact: bool, input: &[Lanes], got: &[Lanes], seed: u64) {
    let [ra, rb, rc] = form.registers();
    let (mut a, mut b) = (vec![vec![0.0; form.k]; form.m], vec![[0.0; 8]; form.k]);
    for lane in 0..32 {
        let per = per_register(form.a);
        for i in 0..ra * per {
            let (row, k) = place_a(form, lane, i);
            a[row][k] = value(form.a, input[i / per][lane], i % per);
        }
        for i in 0..rb * per {
            let (k, column) = place_b(form, lane, i);
            b[k][column] = value(form.b, input[ra + i / per][lane], i % per);
        }
    }
    let per = per_register(form.d);
    for lane in 0..32 {
        for i in 0..rc * per {
            let (row, column) = place_c(lane, i);
            let c = value(form.d, input[ra + rb + i / per][lane], i % per);
            let products: Vec<f64> = (0..form.k).map(|k| a[row][k] * b[k][column]).collect();
            let sum = c + products.iter().sum::<f64>();
            let found = value(form.d, got[i / per][lane], i % per);
            let place = format!("{} seed {seed}: row {row} column {column}", form.name());
            if form.d == "s32" {
                let wide = sum as i64;
                let want =
                    if form.saturate { wide.clamp(i32::MIN.into(), i32::MAX.into()) } else { i64::from(wide as i32) };
                assert_eq!(found as i64, want, "{place}");
            } else if exact {
                assert_eq!(found, sum, "{place}");
            } else {
                let size = c.abs() + products.iter().map(|p| p.abs()).sum::<f64>();
                let unit = if form.d == "f16" { 2f64.powi(-11) } else { 2f64.powi(-20) };
                assert!((found - sum).abs() <= size * unit, "{place}: {found} not {sum}");
            }
        }
    }
}

/// The kernels, for the coverage of the op table.
pub fn kernels() -> Vec<String> {
    forms().iter().map(Form::text).collect()
}

#[test]
fn products_of_matrices() {
    let gpu = gpu();
    for form in forms() {
        let [ra, rb, rc] = form.registers();
        for seed in 0..6u64 {
            let exact = seed % 2 == 0;
            let mut rng = Rng::new(&format!("{} {seed}", form.name()));
            let types = [vec![form.a; ra], vec![form.b; rb], vec![form.d; rc]].concat();
            let input: Vec<Lanes> = types.iter().map(|ty| register(ty, exact, &mut rng)).collect();
            let got = run(&gpu, &form.name(), &form.text(), !0, &input, rc);
            check(&form, exact, &input, &got, seed);
        }
    }
}
