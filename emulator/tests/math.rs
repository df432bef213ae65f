//! The CUDA math library and the instructions under it, against the host's arithmetic.
mod probes;

use probes::{Arg, Device, Random};

const N: usize = 1000;

fn device() -> Device {
    Device::new(include_str!("probes/math.ptx"), 1)
}

/// Runs `kernel` on two arrays.
fn apply<T: Copy + Default>(d: &Device, kernel: &str, a: &[T], b: &[T]) -> Vec<T> {
    let out = d.put(&[T::default(); N]);
    d.must(kernel, 4, 256, &[Arg::Ptr(d.put(a)), Arg::Ptr(d.put(b)), Arg::Ptr(out), Arg::Int(N as i32)]);
    d.get(out, N)
}

/// Checks an f32 kernel to `ulp` units in the last place (and an absolute error below the smallest normal number).
fn check_f32(d: &Device, kernel: &str, range: f64, ulp: f64, expect: impl Fn(f64, f64) -> f64) {
    let mut random = Random(7);
    let a: Vec<f32> = (0..N).map(|_| random.real(range) as f32).collect();
    let b: Vec<f32> = (0..N).map(|_| random.real(range) as f32).collect();
    for (i, got) in apply(d, kernel, &a, &b).into_iter().enumerate() {
        let want = expect(f64::from(a[i]), f64::from(b[i]));
        let unit = (want.abs() * f64::from(f32::EPSILON)).max(f64::from(f32::MIN_POSITIVE));
        let error = (f64::from(got) - want).abs();
        assert!(error <= ulp * unit, "{kernel}({}, {}) = {got}, not {want}", a[i], b[i]);
    }
}

fn check_f64(d: &Device, kernel: &str, range: f64, ulp: f64, expect: impl Fn(f64, f64) -> f64) {
    let mut random = Random(8);
    let a: Vec<f64> = (0..N).map(|_| random.real(range)).collect();
    let b: Vec<f64> = (0..N).map(|_| random.real(range)).collect();
    for (i, got) in apply(d, kernel, &a, &b).into_iter().enumerate() {
        let want = expect(a[i], b[i]);
        assert!(
            (got - want).abs() <= ulp * want.abs() * f64::EPSILON,
            "{kernel}({}, {}) = {got}, not {want}",
            a[i],
            b[i]
        );
    }
}

/// Error function by its series.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

#[test]
fn single_precision_functions() {
    let d = device();
    check_f32(&d, "exp_f32", 80.0, 2.0, |x, _| x.exp());
    check_f32(&d, "log_f32", 1e6, 2.0, |x, _| x.abs().ln());
    // Beyond 105615 the argument is reduced with the local-memory path.
    check_f32(&d, "sin_f32", 1e6, 4.0, |x, _| x.sin());
    check_f32(&d, "cos_f32", 1e6, 4.0, |x, _| x.cos());
    check_f32(&d, "pow_f32", 9.0, 8.0, |x, y| x.abs().powf(y));
    check_f32(&d, "tanh_f32", 4.0, 2.0, |x, _| x.tanh());
    check_f32(&d, "erf_f32", 3.0, 3.0, |x, _| erf(x));
    check_f32(&d, "div_f32", 1e9, 0.5001, |x, y| x / y);
    check_f32(&d, "sqrt_f32", 1e9, 0.5001, |x, _| x.abs().sqrt());
    check_f32(&d, "rsqrt_f32", 1e9, 2.0, |x, _| 1.0 / x.abs().sqrt());
    check_f32(&d, "fmod_f32", 1e4, 0.0, |x, y| x % y);
    check_f32(&d, "fast_exp_f32", 1.0, 4.0, |x, _| x.exp());
    check_f32(&d, "f32_to_s32", 1.0, 2.0, |x, y| {
        let (x, y) = (x as f32 * 1000.0, (y as f32).abs() * 3e9);
        f64::from(x.round_ties_even()) + f64::from(y.trunc() as u32)
    });
    check_f32(&d, "round_f32", 9.0, 4.0, |x, y| {
        let (x, y) = (x as f32, y as f32);
        f64::from((x * 10.0).round_ties_even() + (y * 10.0).floor() * 100.0 + x.ceil() * 3.0 + (y * 7.0).trunc())
    });
}

#[test]
fn double_precision_functions() {
    let d = device();
    check_f64(&d, "exp_f64", 300.0, 2.0, |x, _| x.exp());
    check_f64(&d, "log_f64", 1e9, 2.0, |x, _| x.abs().ln());
    check_f64(&d, "sin_f64", 1e4, 4.0, |x, _| x.sin());
    check_f64(&d, "div_f64", 1e9, 0.0, |x, y| x / y);
    check_f64(&d, "sqrt_f64", 1e9, 0.0, |x, _| x.abs().sqrt());
    check_f64(&d, "cbrt_f64", 1e9, 2.0, |x, _| x.cbrt());
}

#[test]
fn narrow_formats() {
    let d = device();
    let f16 = |x: f64| f64::from(half::f16::from_f64(x).to_f32());
    let bf16 = |x: f64| f64::from(half::bf16::from_f64(x).to_f32());
    check_f32(&d, "half_math", 9.0, 0.0, |x, y| f16(f16(x) * f16(y) + 1.5));
    check_f32(&d, "bf16_math", 9.0, 0.0, |x, y| bf16(bf16(x) * bf16(y)));
    // Steps of a half of the last of 3 (2) fraction bits, and the formats' limits.
    check_f32(&d, "fp8_e4m3", 9.0, f64::INFINITY, |x, _| x);
    let nearest = |kernel: &str, largest: f64, fraction: i32| {
        let a: Vec<f32> = (0..N).map(|i| (i as f32 - 500.0) * 0.0123).collect();
        for (x, got) in a.iter().zip(apply(&d, kernel, &a, &a)) {
            let want = (f64::from(*x) * 100.0).clamp(-largest, largest);
            let step = 2f64.powi((want.abs().max(1.0).log2().floor() as i32) - fraction);
            assert!((f64::from(got) - want).abs() <= step / 2.0 * 1.0001, "{kernel}({x}) = {got}, not {want}");
        }
    };
    nearest("fp8_e4m3", 448.0, 3);
    nearest("fp8_e5m2", 57344.0, 2);
}

#[test]
fn integer_functions() {
    let d = device();
    let mut random = Random(9);
    let mut wide = |i: usize| (random.bits() as i64) >> (i % 60);
    let (a, b): (Vec<i64>, Vec<i64>) = (0..N).map(|i| (wide(i), wide(i / 2) | 1)).unzip();
    let check = |kernel: &str, f: &dyn Fn(i64, i64) -> i64| {
        for (i, got) in apply(&d, kernel, &a, &b).into_iter().enumerate() {
            assert_eq!(got, f(a[i], b[i]), "{kernel}({}, {})", a[i], b[i]);
        }
    };
    check("div_s64", &i64::wrapping_div);
    check("rem_s64", &i64::wrapping_rem);
    check("div_u64", &|x, y| (x as u64 / y as u64) as i64);
    check("mulhi_s64", &|x, y| ((i128::from(x) * i128::from(y)) >> 64) as i64);
    let (a, b): (Vec<i32>, Vec<i32>) = a.iter().zip(&b).map(|(x, y)| (*x as i32, *y as i32 | 1)).unzip();
    let check = |kernel: &str, f: &dyn Fn(i32, i32) -> i32| {
        for (i, got) in apply(&d, kernel, &a, &b).into_iter().enumerate() {
            assert_eq!(got, f(a[i], b[i]), "{kernel}({}, {})", a[i], b[i]);
        }
    };
    check("div_s32", &i32::wrapping_div);
    check("rem_s32", &i32::wrapping_rem);
    check("bits_s32", &|x, y| {
        let first = if x == 0 { 0 } else { x.trailing_zeros() as i32 + 1 };
        let bytes = (x as u32 & 0xffff) | (y as u32) << 16;
        (x.count_ones() as i32)
            .wrapping_add(64 * y.leading_zeros() as i32)
            .wrapping_add(4096 * first)
            .wrapping_add((x as u32).reverse_bits() as i32 ^ bytes as i32)
    });
}

#[test]
fn jump_tables_calls_and_local_arrays() {
    let d = device();
    let kind: Vec<i32> = (0..N as i32).map(|i| i * 7 % 23).collect();
    let out = d.put(&vec![0f32; N]);
    d.must("control", 4, 256, &[Arg::Ptr(d.put(&kind)), Arg::Ptr(out), Arg::Int(N as i32)]);
    for (i, got) in d.get::<f32>(out, N).into_iter().enumerate() {
        let (mut v, mut slots) = (i as f32, [0.0f64, 1.0, 2.0, 3.0]);
        let call = |x: f32, k: i32, slot: &mut f64| {
            *slot += f64::from(x);
            if k == 0 { x } else { x * 2.0 + k as f32 }
        };
        for r in 0..3 {
            match (kind[i] + r) % 9 {
                0 => v = call(v, r, &mut slots[i & 3]),
                1 => v += 3.0,
                2 => v *= 0.5,
                3 => v = -v,
                4 => v = call(v, 7, &mut slots[(i + 1) & 3]),
                5 => v *= v,
                6 => v -= 11.0,
                7 => continue,
                _ => break,
            }
            v += (half::f16::from_f32(1.0) + half::f16::from_f32(1.0)).to_f32();
        }
        let want = v + slots.iter().sum::<f64>() as f32;
        assert!((got - want).abs() <= want.abs() * 1e-6, "thread {i}: {got}, not {want}");
    }
}
