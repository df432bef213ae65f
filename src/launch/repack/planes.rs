//! The planes of one tile-row: codes, upper bits, block scales, superblock scales.
use crate::backend::{DType, Float};
use crate::quant::q4_k_scale;
use half::{bf16, f16};

/// Sixteen rows of a matrix; a row beyond its end is empty.
pub struct Source<'a> {
    pub dtype: DType,
    pub float: Float,
    pub rows: [&'a [u8]; 16],
}

/// Fills one plane of a tile-row. False if a float does not fit the compute type.
pub fn fill(plane: usize, source: &Source<'_>, out: &mut [u8]) -> bool {
    let size = super::format(source.dtype).planes[plane];
    let tiles = out.chunks_exact_mut(size).enumerate();
    match (plane, source.dtype) {
        (0, DType::F32 | DType::F16 | DType::BF16) => {
            return tiles.map(|(tile, out)| floats(source, tile, out)).fold(true, |a, b| a & b);
        }
        (0, DType::Q8_0) => tiles.for_each(|(tile, out)| bytes(&source.codes(tile), out)),
        (0, _) => tiles.for_each(|(tile, out)| nibbles(&source.codes(tile), out)),
        (1, DType::Q5_0) => tiles.for_each(|(tile, out)| fifth_bits(&source.codes(tile), out)),
        (1, _) => tiles.for_each(|(tile, out)| upper_pairs(&source.codes(tile), out)),
        (2, DType::Q6_K) => tiles.for_each(|(tile, out)| q6_k_scales(source, tile, out)),
        (2, _) => tiles.for_each(|(tile, out)| block_scales(source, tile, out)),
        (_, DType::Q4_K) => tiles.for_each(|(block, out)| q4_k_supers(source, block, out)),
        (_, _) => tiles.for_each(|(block, out)| q6_k_supers(source, block, out)),
    }
    true
}

/// Calls `f(lane, step, register, half, row, column)` for each weight of a tile.
fn for_each_weight(mut f: impl FnMut(usize, usize, usize, usize, usize, usize)) {
    for lane in 0..32 {
        let (g, t) = (lane / 4, lane % 4);
        for step in 0..4 {
            for j in 0..4 {
                for h in 0..2 {
                    f(lane, step, j, h, 2 * g + (j & 1), 16 * step + 8 * (j >> 1) + 2 * t + h);
                }
            }
        }
    }
}

/// Elements of a row beyond a byte of upper bits: where register j of a step keeps them in each half of the word.
fn upper_field(bits: usize, first: usize, j: usize) -> usize {
    8 * (j & 1) + bits * (first + j / 2)
}

fn or_word(out: &mut [u8], word: usize, bits: u32) {
    let at = &mut out[4 * word..4 * word + 4];
    let old = u32::from_le_bytes([at[0], at[1], at[2], at[3]]);
    at.copy_from_slice(&(old | bits).to_le_bytes());
}

type Codes = [[u8; 64]; 16];

/// Four bits a weight: word `step` of a lane's vector.
fn nibbles(codes: &Codes, out: &mut [u8]) {
    for_each_weight(|lane, step, j, h, row, column| {
        let code = u32::from(codes[row][column] & 15);
        or_word(out, 4 * lane + step, code << (16 * h + 4 * j));
    });
}

/// Eight bits a weight: two vectors of a lane, a pair of steps each.
fn bytes(codes: &Codes, out: &mut [u8]) {
    for_each_weight(|lane, step, j, h, row, column| {
        let word = step % 2 * 2 + j / 2;
        out[step / 2 * 512 + lane * 16 + word * 4 + j % 2 * 2 + h] = codes[row][column];
    });
}

fn fifth_bits(codes: &Codes, out: &mut [u8]) {
    for_each_weight(|lane, step, j, h, row, column| {
        let bit = u32::from(codes[row][column] >> 4);
        or_word(out, lane, bit << (16 * h + upper_field(1, 2 * step, j)));
    });
}

fn upper_pairs(codes: &Codes, out: &mut [u8]) {
    for_each_weight(|lane, step, j, h, row, column| {
        let bits = u32::from(codes[row][column] >> 4);
        or_word(out, 2 * lane + step / 2, bits << (16 * h + upper_field(2, step % 2 * 2, j)));
    });
}

/// Two bytes a weight: a vector for each step.
fn floats(source: &Source<'_>, tile: usize, out: &mut [u8]) -> bool {
    let mut fits = true;
    for_each_weight(|lane, step, j, h, row, column| {
        let bits = source.float_bits(row, 64 * tile + column, &mut fits);
        out[step * 512 + lane * 16 + j * 4 + h * 2..][..2].copy_from_slice(&bits.to_le_bytes());
    });
    fits
}

/// The leading bytes of both 32-column blocks of rows 2g and 2g + 1: scale, and minimum for Q4_1.
fn block_scales(source: &Source<'_>, tile: usize, out: &mut [u8]) {
    let size = out.len() / 32;
    for (i, out) in out.chunks_exact_mut(size).enumerate() {
        if let Some(block) = source.block(i / 2, 2 * tile + i % 2) {
            out.copy_from_slice(&block[..size]);
        }
    }
}

/// The four signed scales of a row, plus 128.
fn q6_k_scales(source: &Source<'_>, tile: usize, out: &mut [u8]) {
    for (row, out) in out.chunks_exact_mut(4).enumerate() {
        if let Some(block) = source.block(row, tile / 4) {
            let scales = &block[192 + tile % 4 * 4..][..4];
            out.iter_mut().zip(scales).for_each(|(o, s)| *o = s ^ 0x80);
        }
    }
}

/// Both f16 scales of a row, then for each tile two scales and two minima of 6 bits.
fn q4_k_supers(source: &Source<'_>, block: usize, out: &mut [u8]) {
    for (row, out) in out.chunks_exact_mut(16).enumerate() {
        let Some(block) = source.block(row, block) else { continue };
        out[..4].copy_from_slice(&block[..4]);
        for (tile, out) in out[4..].chunks_exact_mut(3).enumerate() {
            let pairs = [0, 1].map(|i| q4_k_scale(&block[4..16], 2 * tile + i));
            let [(scale0, min0), (scale1, min1)] = pairs.map(|(s, m)| (u32::from(s), u32::from(m)));
            let bits = scale0 | scale1 << 6 | min0 << 12 | min1 << 18;
            out.copy_from_slice(&bits.to_le_bytes()[..3]);
        }
    }
}

fn q6_k_supers(source: &Source<'_>, block: usize, out: &mut [u8]) {
    for (row, out) in out.chunks_exact_mut(2).enumerate() {
        if let Some(block) = source.block(row, block) {
            out.copy_from_slice(&block[208..210]);
        }
    }
}

impl Source<'_> {
    /// Block `index` of a row, if there is one.
    fn block(&self, row: usize, index: usize) -> Option<&[u8]> {
        let (_, size) = self.dtype.block();
        self.rows[row].get(index * size..(index + 1) * size)
    }

    /// The unsigned codes of a tile, zero weights where there is none (their scales are zero too).
    fn codes(&self, tile: usize) -> Codes {
        let mut codes = [[0; 64]; 16];
        for (row, codes) in codes.iter_mut().enumerate() {
            match self.dtype {
                DType::Q4_K => {
                    let Some(block) = self.block(row, tile / 4) else { continue };
                    split_nibbles(&block[16 + tile % 4 * 32..][..32], codes);
                }
                DType::Q6_K => {
                    let Some(block) = self.block(row, tile / 4) else { continue };
                    q6_k_codes(block, tile % 4, codes);
                }
                _ => {
                    for (i, codes) in codes.chunks_exact_mut(32).enumerate() {
                        self.block32_codes(row, 2 * tile + i, codes);
                    }
                }
            }
        }
        codes
    }

    fn block32_codes(&self, row: usize, index: usize, codes: &mut [u8]) {
        match (self.dtype, self.block(row, index)) {
            (DType::Q8_0, block) => {
                codes.fill(0x80);
                if let Some(block) = block {
                    codes.iter_mut().zip(&block[2..]).for_each(|(c, q)| *c = q ^ 0x80);
                }
            }
            (_, None) => {}
            (DType::Q5_0, Some(block)) => {
                split_nibbles(&block[6..], codes);
                let fifth = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
                codes.iter_mut().enumerate().for_each(|(i, c)| *c |= (fifth >> i & 1) as u8 * 16);
            }
            (DType::Q4_1, Some(block)) => split_nibbles(&block[4..], codes),
            (_, Some(block)) => split_nibbles(&block[2..], codes),
        }
    }

    fn float_bits(&self, row: usize, column: usize, fits: &mut bool) -> u16 {
        let (_, size) = self.dtype.block();
        let Some(b) = self.rows[row].get(column * size..(column + 1) * size) else { return 0 };
        let value = match self.dtype {
            DType::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            DType::F16 => f16::from_le_bytes([b[0], b[1]]).to_f32(),
            _ => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
        };
        match self.float {
            Float::F16 => {
                let half = f16::from_f32(value);
                *fits &= half.is_finite();
                half.to_bits()
            }
            Float::BF16 => bf16::from_f32(value).to_bits(),
        }
    }
}

/// Low nibbles to the first half, high nibbles to the second.
fn split_nibbles(packed: &[u8], codes: &mut [u8]) {
    let (low, high) = codes.split_at_mut(packed.len());
    for ((low, high), &q) in low.iter_mut().zip(high).zip(packed) {
        *low = q & 15;
        *high = q >> 4;
    }
}

/// Tile `tile` (of four) of a superblock; see `quant::dequantise` for the format.
fn q6_k_codes(block: &[u8], tile: usize, codes: &mut [u8; 64]) {
    let (h, first) = (tile / 2, tile % 2 * 64);
    let (ql, qh) = (&block[h * 64..][..64], &block[128 + h * 32..][..32]);
    for (i, code) in codes.iter_mut().enumerate() {
        let (k, l) = ((first + i) / 32, (first + i) % 32);
        *code = ql[l + 32 * (k % 2)] >> (k / 2 * 4) & 15 | (qh[l] >> (2 * k) & 3) << 4;
    }
}
