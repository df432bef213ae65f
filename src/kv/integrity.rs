//! The checksum that a half page carries from the device through every tier and back.
//!
//! [`finalise`] binds the order-free [`sum`] to the page's key, half, element type and epoch, so that a right half in the
//! wrong place is seen as well. It is no defence against forgery: that is the record's keyed hash.
use super::key::Key;
pub use crate::checksum::sum;

/// 2^64 / golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Binds a sum to what it is the sum of.
pub fn finalise(sum: u64, bytes: u64, key: &Key, half: u8, element: u8, epoch: u64) -> u64 {
    let mut h = sum ^ bytes.rotate_left(32);
    let mut absorb = |v: u64| {
        h = (h ^ v).wrapping_mul(STEP);
        h ^= h >> 32;
        h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
        h ^= h >> 29;
    };
    for part in key.0.chunks_exact(8) {
        absorb(u64::from_le_bytes(part.try_into().unwrap_or_default()));
    }
    absorb(u64::from(half) | u64::from(element) << 8);
    absorb(epoch);
    h
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_bound_to_its_place() {
        let (a, b) = (Key([1; 32]), Key([2; 32]));
        let base = finalise(9, 100, &a, 0, 1, 5);
        for other in [
            finalise(8, 100, &a, 0, 1, 5),
            finalise(9, 101, &a, 0, 1, 5),
            finalise(9, 100, &b, 0, 1, 5),
            finalise(9, 100, &a, 1, 1, 5),
            finalise(9, 100, &a, 0, 2, 5),
            finalise(9, 100, &a, 0, 1, 6),
        ] {
            assert_ne!(base, other);
        }
    }
}
