//! Packing: how a half page is written when it leaves the device, in fewer bits than it has there, and read when it returns.
//!
//! A packed half is `[layer][kv_head]` as the half is. What one head of one layer has in it, D dims of T tokens:
//!
//! * int8 and fp8: what it would have in a page of that [`KvType`].
//! * int4, K: an element is `least + code * step`, codes 0 to 15, with a step and a least value (f16) for each dim, over the
//!   tokens of the page. Codes `[dim / 2][token]`, a byte for two dims, the even one in its low bits; then `[dim]` of step
//!   and least value.
//! * int4, V: the same with a step and a least value for 32 dims of a token. Codes `[token][dim / 2]`, then
//!   `[token][dim / 32]` of step and least value.
//!
//! Only halves of the compute type are packed: codes are not coded again. A half with a value that is not finite, or is
//! beyond the scales' f16, is packed into bytes that mean nothing, and its [`Loss`] is infinite.
use super::{KvHalf, KvLayout, KvType, KvTypes, SCALE_GROUP};
use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// What becomes of a half page on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Packing {
    /// Nothing: its bytes are copied.
    #[default]
    Exact,
    /// 8 bits and a scale per 32 dims of a token.
    Int8,
    /// e4m3 and a scale per 32 dims of a token.
    Fp8,
    /// 4 bits; K scaled by dim over the page, V by 32 dims of a token.
    Int4,
}

impl Packing {
    /// Every packing; the place of each is its [`Packing::code`].
    pub const ALL: [Packing; 4] = [Packing::Exact, Packing::Int8, Packing::Fp8, Packing::Int4];

    /// As options and reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Packing::Exact => "exact",
            Packing::Int8 => "int8",
            Packing::Fp8 => "fp8",
            Packing::Int4 => "int4",
        }
    }

    /// A number for records; 0 is exact.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The packing with this code.
    pub fn from_code(code: u8) -> Option<Self> {
        Packing::ALL.get(usize::from(code)).copied()
    }

    /// Refuses what such a half of a page of this layout cannot be packed into.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the cure.
    pub fn check(self, layout: &KvLayout, half: KvHalf) -> Result<()> {
        let kind = layout.types.of(half);
        if self == Packing::Exact {
            return Ok(());
        }
        if kind.is_quantised() {
            return Err(Error::Unsupported(format!(
                "packing {half:?} pages of {} into {self}; they are quantised already: keep them exact, or the pages in the \
                 compute type",
                kind.name()
            )));
        }
        if !layout.head_dim.is_multiple_of(SCALE_GROUP) {
            return Err(Error::Unsupported(format!(
                "packing pages into {self}, which scales {SCALE_GROUP} dims together, where heads have {}; keep them exact",
                layout.head_dim
            )));
        }
        Ok(())
    }

    /// For backends: refuses packing on transfers that were opened without scratch for it.
    pub(crate) fn check_opened(self, packed: bool) -> Result<()> {
        if packed || self == Packing::Exact {
            return Ok(());
        }
        Err(Error::Unsupported(format!("packing pages into {self} on transfers that were opened without it")))
    }

    /// Element type of pages that hold what packed halves hold, where there is one.
    pub const fn as_pages(self) -> Option<KvType> {
        match self {
            Packing::Int8 => Some(KvType::Int8),
            Packing::Fp8 => Some(KvType::Fp8),
            Packing::Exact | Packing::Int4 => None,
        }
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The packing of K and of V.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Packings {
    pub k: Packing,
    pub v: Packing,
}

impl Packings {
    /// Both halves as they are.
    pub const EXACT: Packings = Packings::both(Packing::Exact);

    /// One for both.
    pub const fn both(of: Packing) -> Self {
        Packings { k: of, v: of }
    }

    /// Of a half.
    pub const fn of(self, half: KvHalf) -> Packing {
        match half {
            KvHalf::K => self.k,
            KvHalf::V => self.v,
        }
    }

    /// Whether both halves stay as they are.
    pub fn is_exact(self) -> bool {
        self == Packings::EXACT
    }

    /// Refuses what pages of this layout cannot be packed into.
    ///
    /// # Errors
    /// [`Error::Unsupported`], naming the cure.
    pub fn check(self, layout: &KvLayout) -> Result<()> {
        KvHalf::BOTH.into_iter().try_for_each(|half| self.of(half).check(layout, half))
    }
}

impl fmt::Display for Packings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.k == self.v { self.k.fmt(f) } else { write!(f, "k={},v={}", self.k, self.v) }
    }
}

impl FromStr for Packings {
    type Err = String;

    /// `int8`, or `k=int4,v=fp8`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let packing = |name: &str| {
            let known = || Packing::ALL.map(Packing::name).join(", ");
            let found = Packing::ALL.into_iter().find(|p| p.name() == name);
            found.ok_or_else(|| {
                format!("{name:?} is no packing of KV pages; there are {}, or k=PACKING,v=PACKING", known())
            })
        };
        let Some((k, v)) = text.split_once(',') else { return packing(text).map(Packings::both) };
        match (k.strip_prefix("k="), v.strip_prefix("v=")) {
            (Some(k), Some(v)) => Ok(Packings { k: packing(k)?, v: packing(v)? }),
            _ => Err(format!("{text:?} gives K and V no packings; write k=PACKING,v=PACKING")),
        }
    }
}

impl KvLayout {
    /// The layout of pages that hold what packed halves hold, where there is one.
    pub fn packed_as_pages(&self, packing: Packing) -> Option<KvLayout> {
        packing.as_pages().map(|kind| KvLayout { types: KvTypes::both(kind), ..*self })
    }

    /// What one head of one layer has in a packed half, a multiple of 16: from one head to the next.
    pub fn packed_head_bytes(&self, half: KvHalf, packing: Packing) -> usize {
        let elements = self.page_tokens * self.head_dim;
        match (packing, self.packed_as_pages(packing)) {
            (Packing::Exact, _) => self.head_bytes(half),
            (_, Some(pages)) => pages.head_bytes(half),
            (_, None) if half == KvHalf::K => elements / 2 + 4 * self.head_dim,
            (_, None) => elements / 2 + 4 * elements / SCALE_GROUP,
        }
    }

    /// A packed half.
    pub fn packed_half_bytes(&self, half: KvHalf, packing: Packing) -> usize {
        self.layers * self.kv_heads * self.packed_head_bytes(half, packing)
    }
}

/// What packing a half page lost: the difference between what it held and what unpacking will give.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum of squares of the differences.
    pub error: f64,
    /// Sum of squares of the values.
    pub square: f64,
}

impl Loss {
    /// Root mean square of the differences over that of the values; infinite where a value was not finite or became so.
    pub fn relative(self) -> f64 {
        let relative = if self.error == 0.0 { 0.0 } else { (self.error / self.square).sqrt() };
        if relative.is_finite() && self.square.is_finite() { relative } else { f64::INFINITY }
    }
}

impl std::iter::Sum for Loss {
    fn sum<I: Iterator<Item = Loss>>(parts: I) -> Loss {
        parts.fold(Loss::default(), |a, b| Loss { error: a.error + b.error, square: a.square + b.square })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Float;

    fn layout(types: &str, head_dim: usize) -> KvLayout {
        KvLayout { layers: 3, kv_heads: 2, head_dim, page_tokens: 16, types: types.parse().unwrap() }
    }

    #[test]
    fn packings_are_read_as_they_are_written() {
        for (text, k, v) in [
            ("exact", Packing::Exact, Packing::Exact),
            ("int4", Packing::Int4, Packing::Int4),
            ("k=int8,v=fp8", Packing::Int8, Packing::Fp8),
            ("k=exact,v=int4", Packing::Exact, Packing::Int4),
        ] {
            let packings: Packings = text.parse().unwrap();
            assert_eq!((packings, packings.to_string()), (Packings { k, v }, text.to_string()));
        }
        for bad in ["", "int2", "k=int8", "int8,fp8", "v=int8,k=fp8", "k=int8,v=", "k=int8,v=fp8,x"] {
            let message = bad.parse::<Packings>().unwrap_err();
            assert!(message.contains("k=PACKING,v=PACKING"), "{bad}: {message}");
        }
        for packing in Packing::ALL {
            assert_eq!(Packing::from_code(packing.code()), Some(packing));
        }
        assert_eq!(Packing::from_code(4), None);
    }

    #[test]
    fn packed_halves_have_the_bits_that_their_description_says() {
        let l = layout("f16", 64);
        let bits = |half, packing| 8.0 * l.packed_half_bytes(half, packing) as f64 / (3 * 2 * 16 * 64) as f64;
        assert_eq!(bits(KvHalf::K, Packing::Exact), 16.0);
        for half in KvHalf::BOTH {
            assert_eq!((bits(half, Packing::Int8), bits(half, Packing::Fp8)), (8.5, 8.5));
        }
        assert_eq!((bits(KvHalf::K, Packing::Int4), bits(KvHalf::V, Packing::Int4)), (6.0, 5.0));
        for (head_dim, page_tokens) in [(32, 8), (64, 16), (96, 8), (128, 32), (256, 16)] {
            let l = KvLayout { page_tokens, ..layout("bf16", head_dim) };
            for (half, packing) in KvHalf::BOTH.into_iter().flat_map(|half| Packing::ALL.map(|p| (half, p))) {
                assert!(l.packed_head_bytes(half, packing).is_multiple_of(16), "{l:?} {half:?} {packing}");
            }
        }
    }

    #[test]
    fn what_cannot_be_packed_is_refused_with_a_cure() {
        let check = |types: &str, dim, packing: &str| packing.parse::<Packings>().unwrap().check(&layout(types, dim));
        assert!(check("f16", 64, "int4").is_ok() && check("k=int8,v=f16", 64, "k=exact,v=int4").is_ok());
        assert!(check("f16", 80, "exact").is_ok());
        assert!(check("f16", 80, "int8").unwrap_err().to_string().contains("have 80; keep"));
        assert!(check("int8", 64, "int4").unwrap_err().to_string().contains("quantised already"));
    }

    #[test]
    fn loss_that_cannot_be_told_is_infinite() {
        let loss = |error, square| Loss { error, square }.relative();
        assert_eq!((loss(0.0, 0.0), loss(0.0, 5.0), loss(1.0, 4.0)), (0.0, 0.0, 0.5));
        for (error, square) in [
            (1.0, 0.0),
            (f64::NAN, 1.0),
            (f64::INFINITY, 1.0),
            (0.0, f64::INFINITY),
            (1.0, f64::INFINITY),
            (0.0, f64::NAN),
        ] {
            assert_eq!(loss(error, square), f64::INFINITY, "{error} of {square}");
        }
        let sum: Loss = [Loss { error: 1.0, square: 2.0 }, Loss { error: 3.0, square: 4.0 }].into_iter().sum();
        assert_eq!(sum, Loss { error: 4.0, square: 6.0 });
    }

    #[test]
    fn pages_of_the_packed_type_are_of_the_same_shape() {
        let l = KvLayout { types: Float::BF16.into(), ..layout("bf16", 96) };
        let pages = l.packed_as_pages(Packing::Fp8).unwrap();
        assert_eq!((pages.types, pages.head_dim), (KvTypes::both(KvType::Fp8), 96));
        assert_eq!(pages.half_bytes(KvHalf::V), l.packed_half_bytes(KvHalf::V, Packing::Fp8));
    }
}
