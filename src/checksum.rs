//! The sum over a half page that the device computes before the half leaves it, and the host on every hop after.
//!
//! `sum = Σ mix(i) * w[i] mod 2^64` over the half's 32-bit little-endian words, `mix(i)` odd and keyed by position. It is
//! free of order, so that thousands of GPU threads (`kernels/page_checksum.cu`) and a SIMD loop compute the same; every
//! change within one word is seen (an odd factor is invertible), other damage slips through once in about 2^32 or less.

/// Position 0's multiplier comes from here; 2^64 / golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The odd multiplier of word `i`.
#[inline(always)]
fn mix(k: u64) -> u64 {
    (k ^ (k >> 29)) | 1
}

/// The order-free sum over whole words; trailing bytes count as a word padded with zeros.
pub fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 was just found.
        return unsafe { sum_avx2(bytes) };
    }
    sum_words(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_words(bytes)
}

/// Eight independent lanes, so that the compiler keeps them in vectors.
#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    const LANES: usize = 8;
    let (blocks, rest) = bytes.as_chunks::<{ 4 * LANES }>();
    let mut sums = [0u64; LANES];
    let mut keys: [u64; LANES] = std::array::from_fn(|i| STEP.wrapping_mul(i as u64 + 1));
    for block in blocks {
        for i in 0..LANES {
            let word = u32::from_le_bytes([block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]]);
            let m = mix(keys[i]);
            let low = (m & 0xffff_ffff) * u64::from(word);
            let high = (m >> 32) * u64::from(word);
            sums[i] = sums[i].wrapping_add(low).wrapping_add(high << 32);
            keys[i] = keys[i].wrapping_add(STEP.wrapping_mul(LANES as u64));
        }
    }
    let mut total = sums.iter().fold(0u64, |a, &b| a.wrapping_add(b));
    for (i, part) in rest.chunks(4).enumerate() {
        let mut word = [0; 4];
        word[..part.len()].copy_from_slice(part);
        let k = STEP.wrapping_mul((blocks.len() * LANES + i) as u64 + 1);
        total = total.wrapping_add(mix(k).wrapping_mul(u64::from(u32::from_le_bytes(word))));
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, word by word.
    fn plain(bytes: &[u8]) -> u64 {
        let mut total = 0u64;
        for (i, part) in bytes.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            let k = (i as u64 + 1).wrapping_mul(STEP);
            total = total.wrapping_add(((k ^ (k >> 29)) | 1).wrapping_mul(u32::from_le_bytes(word).into()));
        }
        total
    }

    fn noise(n: usize, seed: u64) -> Vec<u8> {
        let mut x = seed.wrapping_mul(2).wrapping_add(1);
        let mut next = || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn is_its_definition_at_every_length() {
        for n in (0..200).chain([4096, 4097, 4127]) {
            let bytes = noise(n, n as u64);
            assert_eq!(sum(&bytes), plain(&bytes), "length {n}");
            assert_eq!(sum_words(&bytes), plain(&bytes), "length {n}, portable");
        }
    }

    #[test]
    fn every_flipped_bit_and_swapped_word_is_seen() {
        let bytes = noise(512, 7);
        let right = sum(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum(&bad), right, "bit {bit}");
        }
        for i in (0..512).step_by(4) {
            let mut bad = bytes.clone();
            let j = (i + 36) % 512;
            for b in 0..4 {
                bad.swap(i + b, j + b);
            }
            assert_ne!(sum(&bad), right, "words at {i} and {j} swapped");
        }
    }
}
