//! KV pages: how K and V are stored, and where everything of a page lies.
//!
//! A page is its K half and then its V half, each contiguous, so that moving a half is one copy. A half is
//! `[layer][kv_head]`, and what one head of one layer has in it is
//!
//! * f16 and bf16: `[token][dim]`.
//! * int8 and fp8: an element is a code times a scale (f16) that it shares with 31 neighbouring dims of its token. Eight
//!   tokens at a time, their codes and then their scales. Tokens 2j and 2j + 1 share a row, so that 16 bytes are 8 dims of
//!   both: `[token / 2][dim / 8][token % 2][dim % 8]`; the scales are `[token / 2][dim / 32][token % 2]`.
use super::{Buffer, Float};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// Dims that share a scale.
pub const SCALE_GROUP: usize = 32;

/// Element type of K or of V in the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KvType {
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// -127 to 127, stored plus 128.
    Int8,
    /// e4m3, scaled up to its largest number, 448.
    Fp8,
}

impl KvType {
    /// Every type.
    pub const ALL: [KvType; 4] = [KvType::F16, KvType::BF16, KvType::Int8, KvType::Fp8];

    /// As `--kv-dtype` and fingerprints spell it.
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F16 => "f16",
            KvType::BF16 => "bf16",
            KvType::Int8 => "int8",
            KvType::Fp8 => "fp8",
        }
    }

    /// Bytes of one element, without scales.
    pub const fn bytes(self) -> usize {
        match self {
            KvType::F16 | KvType::BF16 => 2,
            KvType::Int8 | KvType::Fp8 => 1,
        }
    }

    /// Whether elements are codes with scales.
    pub const fn is_quantised(self) -> bool {
        matches!(self, KvType::Int8 | KvType::Fp8)
    }
}

impl From<Float> for KvType {
    fn from(float: Float) -> Self {
        match float {
            Float::F16 => KvType::F16,
            Float::BF16 => KvType::BF16,
        }
    }
}

/// The types of K and V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct KvTypes {
    pub k: KvType,
    pub v: KvType,
}

impl KvTypes {
    /// One type for both.
    pub const fn both(of: KvType) -> Self {
        KvTypes { k: of, v: of }
    }

    /// The type of a half.
    pub const fn of(self, half: KvHalf) -> KvType {
        match half {
            KvHalf::K => self.k,
            KvHalf::V => self.v,
        }
    }

    /// Refuses what a model with this head size, computed in `float`, cannot have.
    pub fn check(self, float: Float, head_dim: usize) -> Result<()> {
        for kind in [self.k, self.v] {
            if !kind.is_quantised() && kind != KvType::from(float) {
                let own = KvType::from(float);
                return Err(Error::Unsupported(format!(
                    "KV pages of {} with the compute type {}; give {}, int8 or fp8, or another compute type",
                    kind.name(),
                    own.name(),
                    own.name()
                )));
            }
            if kind.is_quantised() && !head_dim.is_multiple_of(SCALE_GROUP) {
                return Err(Error::Unsupported(format!(
                    "KV pages of {} scale {SCALE_GROUP} dims together, the model's heads have {head_dim}; keep the compute type",
                    kind.name()
                )));
            }
        }
        Ok(())
    }
}

impl From<Float> for KvTypes {
    fn from(float: Float) -> Self {
        KvTypes::both(float.into())
    }
}

impl fmt::Display for KvTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.k == self.v { f.write_str(self.k.name()) } else { write!(f, "k={},v={}", self.k.name(), self.v.name()) }
    }
}

impl FromStr for KvTypes {
    type Err = String;

    /// `int8`, or `k=int8,v=fp8`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let kind = |name: &str| {
            let known = || KvType::ALL.map(KvType::name).join(", ");
            let found = KvType::ALL.into_iter().find(|t| t.name() == name);
            found.ok_or_else(|| format!("{name:?} is no type of KV pages; there are {}, or k=TYPE,v=TYPE", known()))
        };
        let Some((k, v)) = text.split_once(',') else { return kind(text).map(KvTypes::both) };
        match (k.strip_prefix("k="), v.strip_prefix("v=")) {
            (Some(k), Some(v)) => Ok(KvTypes { k: kind(k)?, v: kind(v)? }),
            _ => Err(format!("{text:?} gives K and V no types; write k=TYPE,v=TYPE")),
        }
    }
}

/// Half of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum KvHalf {
    K,
    V,
}

impl KvHalf {
    /// In the order of the page.
    pub const BOTH: [KvHalf; 2] = [KvHalf::K, KvHalf::V];
}

/// Geometry of the pages of one group (layers with the same attention kind). All sizes and offsets are in bytes and
/// multiples of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Layers of the group.
    pub layers: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Elements of a head, a multiple of 8, of [`SCALE_GROUP`] where elements have scales.
    pub head_dim: usize,
    /// Tokens of a page: 8, 16 or 32.
    pub page_tokens: usize,
    /// Element types.
    pub types: KvTypes,
}

impl KvLayout {
    /// What one head of one layer has in a half: from one head to the next.
    pub fn head_bytes(&self, half: KvHalf) -> usize {
        let kind = self.types.of(half);
        let scales = if kind.is_quantised() { self.head_dim / SCALE_GROUP * 2 } else { 0 };
        self.page_tokens * (self.head_dim * kind.bytes() + scales)
    }

    /// From one layer to the next in a half.
    pub fn layer_bytes(&self, half: KvHalf) -> usize {
        self.kv_heads * self.head_bytes(half)
    }

    /// A half of a page.
    pub fn half_bytes(&self, half: KvHalf) -> usize {
        self.layers * self.layer_bytes(half)
    }

    /// From the start of a page to a half.
    pub fn half_offset(&self, half: KvHalf) -> usize {
        match half {
            KvHalf::K => 0,
            KvHalf::V => self.half_bytes(KvHalf::K),
        }
    }

    /// A page.
    pub fn page_bytes(&self) -> usize {
        self.half_bytes(KvHalf::K) + self.half_bytes(KvHalf::V)
    }

    /// From the start of a page to what one head of one layer has in a half.
    pub fn head_offset(&self, half: KvHalf, layer: usize, kv_head: usize) -> usize {
        self.half_offset(half) + layer * self.layer_bytes(half) + kv_head * self.head_bytes(half)
    }
}

/// The device-resident pages of one group.
#[derive(Clone, Debug)]
pub struct KvGroup {
    /// Geometry.
    pub layout: KvLayout,
    /// Number of pages.
    pub pages: usize,
    /// `pages * layout.page_bytes()` bytes.
    pub data: Buffer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for (text, k, v) in [
            ("f16", KvType::F16, KvType::F16),
            ("int8", KvType::Int8, KvType::Int8),
            ("k=int8,v=fp8", KvType::Int8, KvType::Fp8),
            ("k=bf16,v=int8", KvType::BF16, KvType::Int8),
        ] {
            let types: KvTypes = text.parse().unwrap();
            assert_eq!((types, types.to_string()), (KvTypes { k, v }, text.to_string()));
        }
        for bad in ["", "int9", "k=int8", "int8,fp8", "v=int8,k=fp8", "k=int8,v=", "k=int8,v=fp8,x"] {
            let message = bad.parse::<KvTypes>().unwrap_err();
            assert!(message.contains("k=TYPE,v=TYPE"), "{bad}: {message}");
        }
    }

    #[test]
    fn halves_lie_one_after_another_and_aligned() {
        for k in KvType::ALL {
            for v in KvType::ALL {
                for (head_dim, page_tokens) in [(64, 16), (96, 8), (128, 32), (256, 16)] {
                    let types = KvTypes { k, v };
                    let layout = KvLayout { layers: 3, kv_heads: 2, head_dim, page_tokens, types };
                    assert_eq!(layout.half_offset(KvHalf::V), layout.half_bytes(KvHalf::K));
                    let mut end = 0;
                    for half in KvHalf::BOTH {
                        for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)] {
                            assert_eq!(layout.head_offset(half, layer, head), end);
                            end += layout.head_bytes(half);
                            assert!(end.is_multiple_of(16));
                        }
                    }
                    assert_eq!(layout.page_bytes(), end);
                }
            }
        }
        let layout = |types| KvLayout { layers: 1, kv_heads: 1, head_dim: 64, page_tokens: 16, types };
        let bytes = |kind| layout(KvTypes::both(kind)).page_bytes();
        assert_eq!(bytes(KvType::Int8) * 32, bytes(KvType::F16) * 17, "8 bits and a 16-bit scale for 32 of 16 bits");
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_cure() {
        let check = |types: &str, float, dim| types.parse::<KvTypes>().unwrap().check(float, dim);
        assert!(check("k=f16,v=int8", Float::F16, 64).is_ok());
        assert!(check("bf16", Float::F16, 64).unwrap_err().to_string().contains("give f16"));
        assert!(check("k=int8,v=f16", Float::BF16, 64).is_err());
        assert!(check("fp8", Float::F16, 80).unwrap_err().to_string().contains("have 80"));
        assert!(check("f16", Float::F16, 80).is_ok());
    }
}
