//! Whole-register forms of what a loop over lanes would make slow: packed half arithmetic and byte permutation.
//!
//! Results have the same bits as the scalar functions of [`packed`] and [`bits`], which serve hosts without AVX2.
//! Sums, differences and products of `f16` are taken in `f32`, where a product is exact and a sum's second rounding
//! harmless; for `bf16` a fused multiply-add carries them: `a + b` is `a * 1 + b`, `a * b` is `a * b + -0`.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::half::{Bf16, F16};
use super::{Lanes, bits, packed};

/// `fma.rn.f16x2`.
#[inline(always)]
pub fn fma_f16x2(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        unsafe {
            // Part by part, so that the parts become part of the caller.
            let parts = [0, 1, 2, 3].map(|i| x86::fma_f16x2_exact(a, b, c, i));
            if x86::nothing_left(parts.map(|(_, left)| left)) {
                return x86::lanes(parts.map(|(part, _)| part));
            }
            return x86::fma_f16x2_rounded(a, b, c);
        }
    }
    each(a, b, c, |a, b, c| packed::map3(a, b, c, packed::fma::<F16, false, false, false>))
}

macro_rules! binary_f16x2 {
    ($name:ident, $scalar:ident) => {
        /// The operation in `.rn`, on packed pairs of `f16`.
        #[inline(always)]
        pub fn $name(a: &Lanes, b: &Lanes) -> Lanes {
            #[cfg(target_arch = "x86_64")]
            if able() {
                // SAFETY: the features were just seen.
                return unsafe { x86::$name(a, b) };
            }
            std::array::from_fn(|l| packed::map2(a[l], b[l], packed::$scalar::<F16, false, false>))
        }
    };
}
binary_f16x2!(add_f16x2, add);
binary_f16x2!(sub_f16x2, sub);
binary_f16x2!(mul_f16x2, mul);

/// `fma.rn.bf16x2`.
#[inline(always)]
pub fn fma_bf16x2(a: &Lanes, b: &Lanes, c: &Lanes) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        if let Some(d) = unsafe { x86::fma_bf16x2(a, b, c) } {
            return d;
        }
    }
    each(a, b, c, |a, b, c| packed::map3(a, b, c, packed::fma::<Bf16, false, false, false>))
}

/// `prmt.b32` in index mode.
#[inline(always)]
pub fn prmt(a: &Lanes, b: &Lanes, selector: &Lanes) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        return unsafe { x86::prmt(a, b, selector) };
    }
    each(a, b, selector, bits::prmt)
}

/// Bytes of `a` and `b`: byte `i` of a word of the result is that which byte `i` of `from_a` or `from_b` names, the other
/// one being 0x80.
#[inline(always)]
pub fn shuffle_bytes(a: &Lanes, from_a: u32, b: &Lanes, from_b: u32) -> Lanes {
    #[cfg(target_arch = "x86_64")]
    if able() {
        // SAFETY: the features were just seen.
        return unsafe { x86::shuffle_bytes(a, from_a, b, from_b) };
    }
    let byte = |x: u32, from: u8| if from < 4 { x.to_le_bytes()[usize::from(from)] } else { 0 };
    let (from_a, from_b) = (from_a.to_le_bytes(), from_b.to_le_bytes());
    std::array::from_fn(|l| u32::from_le_bytes(std::array::from_fn(|i| byte(a[l], from_a[i]) | byte(b[l], from_b[i]))))
}

fn each(a: &Lanes, b: &Lanes, c: &Lanes, f: impl Fn(u32, u32, u32) -> u32) -> Lanes {
    std::array::from_fn(|l| f(a[l], b[l], c[l]))
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn able() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c") && is_x86_feature_detected!("fma")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: &mut u64) -> Lanes {
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 32) as u32
        })
    }

    fn check_f16x2(a: &Lanes, b: &Lanes, c: &Lanes, seed: u64) {
        let want = each(a, b, c, |a, b, c| packed::map3(a, b, c, packed::fma::<F16, false, false, false>));
        assert_eq!(fma_f16x2(a, b, c), want, "f16x2, seed {seed}");
    }

    #[test]
    fn codes_times_a_scale_are_exact_before_they_are_rounded() {
        for start in 0..5000u64 {
            let mut seed = start;
            // Integers of four bits, any scale and minimum, subnormal ones and zeros included.
            let codes: Lanes = random(&mut seed)
                .map(|x| packed::map2(x & 0x000f_000f, 0, |x, _| half::f16::from_f32(f32::from(x)).to_bits()));
            let (scales, minima) =
                (random(&mut seed).map(|x| x & 0xbbff_bbff), random(&mut seed).map(|x| x & 0xbbff_bbff));
            check_f16x2(&codes, &scales, &minima, start);
        }
    }

    #[test]
    fn halves_near_one_are_rounded_once() {
        for start in 0..20_000u64 {
            let mut seed = start;
            // Exponents of 2^-7 to 2^8, so that the short way is taken unless a sum is halfway.
            let [a, b, c] = [(); 3].map(|()| random(&mut seed).map(|x| x & 0x9fff_9fff | 0x2000_2000));
            check_f16x2(&a, &b, &c, start);
        }
    }

    type Whole = fn(&Lanes, &Lanes) -> Lanes;
    type Scalar = fn(u16, u16) -> u16;
    const BINARY: [(&str, Whole, Scalar); 3] = [
        ("add.f16x2", add_f16x2, packed::add::<F16, false, false>),
        ("sub.f16x2", sub_f16x2, packed::sub::<F16, false, false>),
        ("mul.f16x2", mul_f16x2, packed::mul::<F16, false, false>),
    ];

    #[test]
    fn vector_forms_give_the_bits_of_the_scalar_ones() {
        for start in 0..5000u64 {
            let mut seed = start;
            let (mut a, mut b, mut c) = (random(&mut seed), random(&mut seed), random(&mut seed));
            assert_eq!(prmt(&a, &b, &c), each(&a, &b, &c, bits::prmt), "prmt, seed {start}");
            for (name, whole, scalar) in BINARY {
                let want: Lanes = std::array::from_fn(|l| packed::map2(a[l], b[l], scalar));
                assert_eq!(whole(&a, &b), want, "{name}, seed {start}");
            }
            check_f16x2(&a, &b, &c, start);
            if start % 2 == 0 {
                // Near 1.0, where the short way is taken; the last bits make ties.
                for x in [&mut a, &mut b, &mut c] {
                    x.iter_mut().for_each(|x| *x = *x & 0x81ff_8187 | 0x3e00_3e00);
                }
            }
            let want = each(&a, &b, &c, |a, b, c| packed::map3(a, b, c, packed::fma::<Bf16, false, false, false>));
            assert_eq!(fma_bf16x2(&a, &b, &c), want, "bf16x2, seed {start}");
        }
    }
}
