//! A stream of text: takes tokens' bytes, gives whole characters.

/// Collects bytes and hands out text as soon as its characters are complete.
///
/// Bytes that cannot be part of any character come out as U+FFFD, once per maximal invalid sequence, as
/// [`String::from_utf8_lossy`] has it: pushing bytes one by one gives the same text as converting them at once.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    pending: Vec<u8>,
}

impl TextStream {
    /// An empty stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and returns the text that is complete by now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut out = String::new();
        let mut at = 0;
        let keep = loop {
            match std::str::from_utf8(&self.pending[at..]) {
                Ok(text) => {
                    out.push_str(text);
                    break self.pending.len();
                }
                Err(e) => {
                    let valid = at + e.valid_up_to();
                    out.push_str(&String::from_utf8_lossy(&self.pending[at..valid]));
                    let Some(bad) = e.error_len() else { break valid };
                    out.push(char::REPLACEMENT_CHARACTER);
                    at = valid + bad;
                }
            }
        };
        self.pending.drain(..keep);
        out
    }

    /// What is left at the end: nothing, or U+FFFD for a character that was begun and never completed.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_character_is_never_split() {
        let crab = "🦀".as_bytes();
        let mut stream = TextStream::new();
        assert_eq!([stream.push(&crab[..1]), stream.push(&crab[1..3]), stream.push(&crab[3..])].concat(), "🦀");
        assert_eq!(stream.push(&crab[..3]), "");
        assert_eq!(stream.push(b"a"), "\u{fffd}a");
        assert_eq!((stream.push(&crab[..2]), stream.finish()), (String::new(), "\u{fffd}".to_string()));
        assert_eq!(stream.finish(), "");
    }

    proptest! {
        #[test]
        fn pieces_give_the_text_of_the_whole(bytes in proptest::collection::vec(
            prop_oneof![Just(b'a'), Just(0xf0), Just(0x9f), Just(0xa6), Just(0x80), Just(0xc3), any::<u8>()], 0..40),
            cuts in proptest::collection::vec(1usize..5, 40)) {
            let mut stream = TextStream::new();
            let (mut text, mut rest) = (String::new(), &bytes[..]);
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                text.push_str(&stream.push(now));
                rest = later;
            }
            text.push_str(&stream.push(rest));
            text.push_str(&stream.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
