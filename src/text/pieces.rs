//! What bytes a token's string stands for.
use std::collections::HashMap;
use std::sync::LazyLock;

/// The convention of a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pieces {
    /// GPT-2's: each character stands for one byte.
    ByteLevel,
    /// SentencePiece's: U+2581 is a space, `<0x0A>` a byte.
    Spm,
}

/// GPT-2's alphabet: printable bytes stand for themselves, the others are numbered from U+0100 in rising order.
static BYTE_OF: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let printable = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255u8).filter(|b| !printable(b)).zip('\u{100}'..).map(|(b, c)| (c, b));
    (0..=255u8).filter(printable).map(|b| (char::from(b), b)).chain(others).collect()
});

impl Pieces {
    /// Bytes of a token of the vocabulary.
    pub fn bytes(self, token: &str) -> Vec<u8> {
        match self {
            Pieces::ByteLevel => {
                let mut out = Vec::with_capacity(token.len());
                for c in token.chars() {
                    match BYTE_OF.get(&c) {
                        Some(&b) => out.push(b),
                        None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    }
                }
                out
            }
            Pieces::Spm => match byte_token(token) {
                Some(byte) => vec![byte],
                None => token.replace('\u{2581}', " ").into_bytes(),
            },
        }
    }
}

/// The byte of `<0xHH>`.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 || digits.starts_with('+') {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_is_a_bijection_of_bytes() {
        assert_eq!(BYTE_OF.len(), 256);
        assert_eq!(BYTE_OF.values().collect::<std::collections::BTreeSet<_>>().len(), 256);
        assert_eq!(Pieces::ByteLevel.bytes("ĠhiĊ"), b" hi\n");
        assert_eq!(Pieces::ByteLevel.bytes("Ã©"), "é".as_bytes());
    }

    #[test]
    fn spm_spaces_and_bytes() {
        assert_eq!(Pieces::Spm.bytes("▁the▁"), b" the ");
        assert_eq!(Pieces::Spm.bytes("<0xF0>"), [0xf0]);
        assert_eq!(Pieces::Spm.bytes("<0x+1>"), b"<0x+1>");
        assert_eq!(Pieces::Spm.bytes("<0xF>"), b"<0xF>");
    }
}
