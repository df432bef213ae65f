//! Lane maps of `ldmatrix`, `stmatrix` and `movmatrix` for 8x8 matrices of 16-bit elements.
//!
//! A matrix is 8 rows of 16 bytes. Lane `4r + p` holds elements `2p` and `2p + 1` of row `r` in the low and high half of
//! one register. Matrix `i` of an `.x2` or `.x4` takes its row addresses from lanes `8i` to `8i + 7` and goes to register `i`.

use super::Lanes;

/// The rows of one matrix as little-endian words: word `p` of row `r` is `[r][p]`.
pub type Rows = [[u32; 4]; 8];

/// `ldmatrix`: the register that holds `rows`.
#[inline(always)]
pub fn load(rows: &Rows) -> Lanes {
    std::array::from_fn(|lane| rows[lane / 4][lane % 4])
}

/// `ldmatrix.trans`: the register that holds the transpose of `rows`.
#[inline(always)]
pub fn load_transposed(rows: &Rows) -> Lanes {
    std::array::from_fn(|lane| {
        let (row, column) = (2 * (lane % 4), lane / 4);
        let element = |row: usize| rows[row][column / 2] >> (16 * (column % 2)) & 0xffff;
        element(row) | element(row + 1) << 16
    })
}

/// `stmatrix`: the rows that a register holds.
#[inline(always)]
pub fn store(register: &Lanes) -> Rows {
    std::array::from_fn(|row| std::array::from_fn(|word| register[4 * row + word]))
}

/// `stmatrix.trans`: the rows of the transpose of what a register holds.
#[inline(always)]
pub fn store_transposed(register: &Lanes) -> Rows {
    store(&transpose(register))
}

/// `movmatrix.trans`: transposes the matrix that a register holds.
#[inline(always)]
pub fn transpose(register: &Lanes) -> Lanes {
    load_transposed(&store(register))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Element (row, column) has the value 8 * row + column.
    fn numbered() -> Rows {
        std::array::from_fn(|r| std::array::from_fn(|p| (8 * r + 2 * p) as u32 | ((8 * r + 2 * p + 1) as u32) << 16))
    }

    #[test]
    fn lanes_hold_the_elements_that_ptx_says() {
        let (plain, transposed) = (load(&numbered()), load_transposed(&numbered()));
        for lane in 0..32 {
            let (row, column) = (lane as u32 / 4, 2 * (lane as u32 % 4));
            assert_eq!(plain[lane], (8 * row + column) | (8 * row + column + 1) << 16, "lane {lane}");
            assert_eq!(transposed[lane], (8 * column + row) | (8 * (column + 1) + row) << 16, "lane {lane}");
        }
        assert_eq!(store(&plain), numbered());
        assert_eq!(store_transposed(&transposed), numbered());
        assert_eq!(transpose(&transposed), plain);
    }
}
