//! Operand values: the edges of every type, and random ones.

/// What an operand is, which decides its register and its interesting values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pred,
    I16,
    I32,
    I64,
    F16,
    Bf16,
    F32,
    F64,
    F16x2,
    Bf16x2,
    /// Two fp8 numbers in 16 bits.
    Fp8x2,
    /// Four bytes with edge values in each.
    Bytes,
    /// A shift amount, field position or length in 32 bits.
    Shift,
    /// An `f32` near the range of an integer type, for conversions.
    F32Int,
    /// An `f64` near the range of an integer type.
    F64Int,
    /// An `f32` in the range of 16-bit and 8-bit floats.
    F32Small,
}

/// A small deterministic generator (SplitMix64), seeded by a name.
pub struct Rng(u64);

impl Rng {
    pub fn new(name: &str) -> Rng {
        Rng(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

const F16S: [u64; 22] = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x8400, 0x3c00, 0xbc00, 0x3c01, 0x3bff, 0x3800, 0x4000, 0x7bff,
    0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x7fff, 0xfd01, 0x3555, 0x5640,
];
const BF16S: [u64; 20] = [
    0x0000, 0x8000, 0x0001, 0x8001, 0x007f, 0x0080, 0x8080, 0x3f80, 0xbf80, 0x3f81, 0x3f7f, 0x4000, 0x7f7f, 0xff7f,
    0x7f80, 0xff80, 0x7fc0, 0x7fff, 0x3eab, 0x42ca,
];
const F32S: [u64; 26] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x807f_ffff,
    0x0080_0000,
    0x8080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f80_0001,
    0x3f7f_ffff,
    0x3f00_0000,
    0x4000_0000,
    0x4b80_0000,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x7f80_0001,
    0xffff_ffff,
    0x3eaa_aaab,
    0x4049_0fdb,
    0x7f00_0000,
    0x0180_0000,
];
const F64S: [u64; 20] = [
    0,
    1 << 63,
    1,
    1 << 63 | 1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x8010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x3ff0_0000_0000_0001,
    0x3fef_ffff_ffff_ffff,
    0x4000_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0xffef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x3fd5_5555_5555_5555,
    0x4340_0000_0000_0000,
];
const INTS: [u64; 16] = [
    0,
    1,
    2,
    3,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    1 << 63,
    !0,
];
/// Integers around which `f32` and `f64` operands of conversions lie.
const BOUNDS: [f64; 14] = [
    0.0,
    1.0,
    127.0,
    128.0,
    255.0,
    256.0,
    32767.0,
    32768.0,
    65535.0,
    65536.0,
    2147483648.0,
    4294967296.0,
    9223372036854775808.0,
    18446744073709551616.0,
];

/// The edge values of a kind, in the bits of its register.
fn edges(kind: Kind) -> Vec<u64> {
    let wide = |x: &[u64], mask: u64| x.iter().map(|v| v & mask).collect::<Vec<_>>();
    match kind {
        Kind::Pred => vec![0, 1],
        Kind::I16 => wide(&INTS, 0xffff),
        Kind::I32 => wide(&INTS, 0xffff_ffff),
        Kind::I64 => INTS.to_vec(),
        Kind::F16 => F16S.to_vec(),
        Kind::Bf16 => BF16S.to_vec(),
        Kind::F32 => F32S.to_vec(),
        Kind::F64 => F64S.to_vec(),
        Kind::F16x2 => F16S.iter().zip(F16S.iter().rev()).map(|(a, b)| a | b << 16).collect(),
        Kind::Bf16x2 => BF16S.iter().zip(BF16S.iter().rev()).map(|(a, b)| a | b << 16).collect(),
        Kind::Fp8x2 => (0..256).map(|x| x | (255 - x) << 8).collect(),
        Kind::Bytes => vec![0, 0x0101_0101, 0x7f7f_7f7f, 0x8080_8080, 0xffff_ffff, 0x80ff_7f01, 0x017f_ff80],
        Kind::Shift => {
            vec![0, 1, 7, 8, 15, 16, 17, 30, 31, 32, 33, 47, 63, 64, 65, 127, 128, 255, 256, 0x8000_0001, 0xffff_ffff]
        }
        Kind::F32Int => around().map(|x| u64::from((x as f32).to_bits())).chain(F32S).collect(),
        Kind::F64Int => around().map(f64::to_bits).chain(F64S).collect(),
        Kind::F32Small => F32S.to_vec(),
    }
}

/// Values at and beside the bounds of the integer types, both signs, with halves.
fn around() -> impl Iterator<Item = f64> {
    let offsets = [-1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5];
    BOUNDS.into_iter().flat_map(move |b| offsets.into_iter().flat_map(move |o| [b + o, -(b + o)]))
}

/// A random value of a kind.
fn random(kind: Kind, rng: &mut Rng) -> u64 {
    let r = rng.next();
    match kind {
        Kind::Pred => r & 1,
        Kind::I16 | Kind::F16 | Kind::Bf16 | Kind::Fp8x2 => r & 0xffff,
        Kind::I64 => r >> (rng.next() & 63),
        Kind::F64 if rng.next() & 1 == 0 => r & 0x800f_ffff_ffff_ffff | (0x3f8 + (r >> 52 & 15)) << 52,
        Kind::F64 => r,
        // Half of them close together, so that sums cancel and round.
        Kind::F32 if rng.next() & 1 == 0 => r & 0x807f_ffff | (0x78 + (r >> 23 & 15)) << 23,
        Kind::F16x2 if rng.next() & 1 == 0 => r & 0x87ff_87ff | 0x3800_3800,
        Kind::Bf16x2 if rng.next() & 1 == 0 => r & 0x81ff_81ff | 0x3e00_3e00,
        Kind::Shift => [r & 31, r & 63, r & 255, r & 0xffff_ffff][rng.below(4)],
        Kind::F32Int => {
            let magnitude = f64::from(r as u32) * 2f64.powi(rng.below(64) as i32 - 31);
            u64::from((if r >> 63 == 1 { -magnitude } else { magnitude } as f32).to_bits())
        }
        Kind::F64Int => {
            let magnitude = (r >> 1) as f64 * 2f64.powi(rng.below(68) as i32 - 62);
            (if r & 1 == 1 { -magnitude } else { magnitude }).to_bits()
        }
        Kind::F32Small => r & 0x807f_ffff | (0x60 + (rng.next() & 0x3f)) << 23,
        _ => r & 0xffff_ffff,
    }
}

/// Most edge combinations a case runs.
const EDGES: usize = 1024;
/// Random tuples a case runs.
const RANDOM: usize = 512;

/// All combinations of edges (a random choice of them where they are too many), then random tuples.
pub fn tuples(name: &str, kinds: &[Kind]) -> Vec<Vec<u64>> {
    let mut rng = Rng::new(name);
    let edges: Vec<Vec<u64>> = kinds.iter().map(|&k| edges(k)).collect();
    let all: usize = edges.iter().map(Vec::len).product();
    let mut tuples = Vec::new();
    for i in 0..all.min(EDGES) {
        let mut index = if all <= EDGES { i } else { rng.next() as usize % all };
        let tuple = edges.iter().map(|e| {
            let value = e[index % e.len()];
            index /= e.len();
            value
        });
        tuples.push(tuple.collect());
    }
    for _ in 0..RANDOM {
        tuples.push(kinds.iter().map(|&k| random(k, &mut rng)).collect());
    }
    tuples
}
