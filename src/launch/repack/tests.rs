//! What a lane finds in a repacked tile, read as `kernels/weights.cuh` does, is what the file's blocks mean.
use super::*;
use crate::quant::dequantise;
use half::{bf16, f16};

/// SplitMix64.
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// Rows of random codes with scales that f16 holds as normal numbers.
fn random_rows(dtype: DType, seed: u64, rows: usize, cols: usize) -> Vec<u8> {
    let mut bytes = random_bytes(seed, rows * dtype.row_bytes(cols).unwrap());
    let halves: &[usize] = match dtype {
        DType::Q4_1 | DType::Q4_K => &[0, 2],
        DType::Q6_K => &[208],
        _ => &[0],
    };
    for (i, block) in bytes.chunks_exact_mut(dtype.block().1).enumerate() {
        let value = 0.01 + (i % 97) as f32 / 97.0;
        match dtype {
            DType::F32 => block.copy_from_slice(&(value - 0.5).to_le_bytes()),
            DType::BF16 => block.copy_from_slice(&bf16::from_f32(value - 0.5).to_le_bytes()),
            _ => halves.iter().for_each(|&at| block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes())),
        }
    }
    bytes
}

/// A reader of the planes, by the comment at the head of weights.cuh.
struct Reader<'a> {
    dtype: DType,
    float: Float,
    packed: &'a Repacked,
    across: usize,
}

impl Reader<'_> {
    fn bytes(&self, plane: usize, at: usize, count: usize) -> u32 {
        let from = &self.packed.bytes[self.packed.offsets[plane] + at..][..count];
        from.iter().rev().fold(0, |v, &b| v << 8 | u32::from(b))
    }

    fn half(&self, plane: usize, at: usize) -> f32 {
        f16::from_bits(self.bytes(plane, at, 2) as u16).to_f32()
    }

    /// The weight at `row`, `column` of the padded matrix.
    fn weight(&self, row: usize, column: usize) -> f32 {
        let tile = row / 16 * self.across + column / 64;
        let (r, c) = (row % 16, column % 64);
        let lane = r / 2 * 4 + c % 8 / 2;
        let (step, j, h) = (c / 16, r % 2 + c % 16 / 8 * 2, c % 2);
        let planes = format(self.dtype).planes;
        let at = tile * planes[0];
        let nibble = self.bytes(0, at + lane * 16 + step * 4, 4) >> (16 * h + 4 * j) & 15;
        let block = tile * planes[2] + (r * 2 + step / 2) * (planes[2] / 32);
        let upper = |bits: usize, first: usize| 16 * h + 8 * (j % 2) + bits * (first + j / 2);
        match self.dtype {
            DType::F32 | DType::F16 | DType::BF16 => {
                let bits = self.bytes(0, at + step * 512 + lane * 16 + j * 4 + h * 2, 2) as u16;
                if self.float == Float::F16 { f16::from_bits(bits).to_f32() } else { bf16::from_bits(bits).to_f32() }
            }
            DType::Q8_0 => {
                let byte = step % 2 * 8 + j / 2 * 4 + j % 2 * 2 + h;
                let code = self.bytes(0, at + step / 2 * 512 + lane * 16 + byte, 1);
                (code as f32 - 128.0) * self.half(2, block)
            }
            DType::Q4_0 => (nibble as f32 - 8.0) * self.half(2, block),
            DType::Q4_1 => nibble as f32 * self.half(2, block) + self.half(2, block + 2),
            DType::Q5_0 => {
                let fifth = self.bytes(1, tile * planes[1] + lane * 4, 4) >> upper(1, 2 * step) & 1;
                ((nibble | fifth << 4) as f32 - 16.0) * self.half(2, block)
            }
            DType::Q4_K => {
                let at = tile / 4 * planes[3] + r * 16;
                let bits = self.bytes(3, at + 4 + tile % 4 * 3, 3);
                let field = |i: usize| (bits >> (6 * i) & 63) as f32;
                let (scale, min) = (self.half(3, at) * field(step / 2), self.half(3, at + 2) * field(2 + step / 2));
                nibble as f32 * scale - min
            }
            DType::Q6_K => {
                let word = self.bytes(1, tile * planes[1] + lane * 8 + step / 2 * 4, 4);
                let code = nibble | (word >> upper(2, step % 2 * 2) & 3) << 4;
                let scale = self.bytes(2, tile * planes[2] + r * 4 + step, 1) as f32 - 128.0;
                let d = self.half(3, tile / 4 * planes[3] + r * 2);
                d * scale * (code as f32 - 32.0)
            }
        }
    }
}

fn check(dtype: DType, float: Float, rows: usize, cols: usize, seed: u64) {
    let bytes = random_rows(dtype, seed, rows, cols);
    let row_bytes = dtype.row_bytes(cols).unwrap();
    let packed = repack(dtype, float, rows, cols, |r| &bytes[r * row_bytes..][..row_bytes]).unwrap();
    let mut expected = vec![0.0; rows * cols];
    dequantise(dtype, &bytes, &mut expected);
    let across = cols.div_ceil(64);
    let reader = Reader { dtype, float, packed: &packed, across };
    for row in 0..rows.next_multiple_of(16) {
        for column in 0..across * 64 {
            let inside = row < rows && column < cols;
            let exact = if inside { expected[row * cols + column] } else { 0.0 };
            let stored = match (dtype, float) {
                (DType::F32 | DType::F16 | DType::BF16, Float::F16) => f16::from_f32(exact).to_f32(),
                (DType::F32 | DType::F16 | DType::BF16, Float::BF16) => bf16::from_f32(exact).to_f32(),
                _ => exact,
            };
            let found = reader.weight(row, column);
            assert_eq!(found, stored, "{dtype:?} {float:?} {rows} x {cols}, seed {seed}: row {row}, column {column}");
        }
    }
    let whole = rows.is_multiple_of(16) && cols.is_multiple_of(64);
    let two_bytes = matches!(dtype, DType::F32 | DType::F16 | DType::BF16);
    if whole {
        let neutral = if two_bytes { rows * cols * 2 } else { bytes.len() };
        assert_eq!(packed.bytes.len(), neutral, "{dtype:?} {rows} x {cols}");
    }
    assert!(packed.offsets.iter().all(|o| o.is_multiple_of(16)));
}

#[test]
fn every_weight_keeps_its_value() {
    for (i, dtype) in DType::ALL.into_iter().enumerate() {
        let superblocks = dtype.block().0 == 256;
        let shapes = if superblocks { [(16, 256), (35, 512)] } else { [(32, 128), (35, 96)] };
        for (rows, cols) in shapes {
            for float in [Float::F16, Float::BF16] {
                check(dtype, float, rows, cols, 1 + i as u64);
            }
        }
    }
    check(DType::F16, Float::F16, 20, 72, 50);
}

#[test]
fn a_float_beyond_f16_is_refused() {
    let mut bytes = vec![0u8; 16 * 64 * 4];
    bytes[400..404].copy_from_slice(&1e6f32.to_le_bytes());
    let row = |r: usize| &bytes[r * 256..][..256];
    let message = repack(DType::F32, Float::F16, 16, 64, row).unwrap_err().to_string();
    assert!(message.contains("bf16"), "{message}");
    assert!(repack(DType::F32, Float::BF16, 16, 64, row).is_ok());
}
