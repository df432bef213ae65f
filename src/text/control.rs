//! Control tokens: `<|im_start|>`, `<bos>` and the like.
//!
//! They are kept out of the tokenizer proper, which therefore cannot produce them. A template returns one flat string, in
//! which message text and the template's own control tokens look alike; so spellings in message text are broken by a mark
//! before rendering, and the mark is taken out again when the pieces between control tokens are tokenised.
use crate::error::{Error, Result};
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;
use std::collections::HashMap;

/// A noncharacter of Unicode that the text at hand does not contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(char);

/// The control tokens of a model.
#[derive(Debug)]
pub(super) struct Control {
    spellings: Vec<String>,
    tokens: Vec<ControlToken>,
    by_id: HashMap<u32, usize>,
    finder: AhoCorasick,
}

/// One control token, and whether it takes the whitespace beside it with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ControlToken {
    pub id: u32,
    pub lstrip: bool,
    pub rstrip: bool,
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Text(&'a str),
    Token(u32),
}

impl Control {
    /// Empty spellings are ignored.
    pub fn new(tokens: impl IntoIterator<Item = (String, ControlToken)>) -> Result<Self> {
        let (spellings, tokens): (Vec<_>, Vec<_>) = tokens.into_iter().filter(|(s, _)| !s.is_empty()).unzip();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&spellings)
            .map_err(|e| Error::Unsupported(format!("control tokens of the tokenizer: {e}")))?;
        let by_id = tokens.iter().enumerate().map(|(i, t): (_, &ControlToken)| (t.id, i)).collect();
        Ok(Control { spellings, tokens, by_id, finder })
    }

    /// The token of a spelling.
    pub fn id(&self, spelling: &str) -> Option<u32> {
        self.spellings.iter().position(|s| s == spelling).map(|i| self.tokens[i].id)
    }

    /// The spelling of a token.
    pub fn spelling(&self, id: u32) -> Option<&str> {
        self.by_id.get(&id).map(|&i| self.spellings[i].as_str())
    }

    /// Splits `text` at control tokens; of several at one place the longest.
    pub fn split<'a>(&self, text: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let (mut start, mut strip) = (0, false);
        let push = |parts: &mut Vec<Part<'a>>, mut piece: &'a str, left: bool, right: bool| {
            if left {
                piece = piece.trim_start();
            }
            if right {
                piece = piece.trim_end();
            }
            if !piece.is_empty() {
                parts.push(Part::Text(piece));
            }
        };
        for found in self.finder.find_iter(text) {
            let token = self.tokens[found.pattern().as_usize()];
            push(&mut parts, &text[start..found.start()], strip, token.lstrip);
            parts.push(Part::Token(token.id));
            (start, strip) = (found.end(), token.rstrip);
        }
        push(&mut parts, &text[start..], strip, false);
        parts
    }

    /// A control token of one character in `text`: [`Control::disarm`] cannot break it.
    pub fn unbreakable(&self, text: &str) -> Option<&str> {
        let mut found = self.finder.find_iter(text).map(|m| self.spellings[m.pattern().as_usize()].as_str());
        found.find(|spelling| spelling.chars().count() == 1)
    }

    /// Breaks every spelling in `text`, and a beginning of one at its end (where other text may follow), by `mark` after
    /// its first character.
    pub fn disarm<'a>(&self, text: &'a str, mark: Mark) -> Cow<'a, str> {
        let mut out = String::new();
        let mut start = 0;
        let mut cut = |at: usize| {
            let after = at + text[at..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&text[start..after]);
            out.push(mark.0);
            start = after;
        };
        let mut last = 0;
        for found in self.finder.find_iter(text) {
            cut(found.start());
            last = found.end();
        }
        // Templates trim, so the end is looked for before trailing whitespace too.
        let mut ends: Vec<usize> =
            [text.trim_end(), text].iter().filter_map(|end| self.beginning_at_end(end)).collect();
        ends.dedup();
        ends.into_iter().filter(|&at| at >= last).for_each(&mut cut);
        if start == 0 {
            return Cow::Borrowed(text);
        }
        out.push_str(&text[start..]);
        Cow::Owned(out)
    }

    /// Where the longest end of `text` begins that is a proper beginning of a spelling.
    fn beginning_at_end(&self, text: &str) -> Option<usize> {
        let longest = self.spellings.iter().map(String::len).max()?;
        let from = text.len().saturating_sub(longest.saturating_sub(1));
        text.char_indices().map(|(at, _)| at).filter(|&at| at >= from).find(|&at| {
            let end = &text[at..];
            self.spellings.iter().any(|s| s.len() > end.len() && s.starts_with(end))
        })
    }
}

impl Mark {
    /// One that occurs in none of `texts`.
    pub fn absent_from<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Result<Self> {
        ('\u{fdd0}'..='\u{fdef}')
            .find(|&c| texts.clone().all(|text| !text.contains(c)))
            .map(Mark)
            .ok_or_else(|| Error::Request("a message contains all 32 noncharacters U+FDD0 to U+FDEF".into()))
    }

    /// `text` without the mark.
    pub fn remove(self, text: &str) -> Cow<'_, str> {
        if text.contains(self.0) { Cow::Owned(text.replace(self.0, "")) } else { Cow::Borrowed(text) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control() -> Control {
        let token = |id| ControlToken { id, lstrip: false, rstrip: false };
        let strip = ControlToken { id: 3, lstrip: true, rstrip: true };
        Control::new([
            ("<s>".to_string(), token(1)),
            ("<s>>".to_string(), token(2)),
            ("<mask>".to_string(), strip),
            (String::new(), token(9)),
        ])
        .unwrap()
    }

    #[test]
    fn splits_leftmost_longest_and_strips() {
        let parts = control().split("a<s>b<s>> <mask>  c");
        let expected =
            [Part::Text("a"), Part::Token(1), Part::Text("b"), Part::Token(2), Part::Token(3), Part::Text("c")];
        assert_eq!(parts, expected);
        assert_eq!(control().split(""), []);
    }

    #[test]
    fn disarmed_text_has_no_control_token_however_it_is_joined() {
        let control = control();
        for hostile in ["<s>", "x<s>y<s>>", "<mask>", "<", "<s", "<mas  ", "<<s>", "a<s>\n<ma", "<s><"] {
            let mark = Mark::absent_from([hostile].into_iter()).unwrap();
            let marked = control.disarm(hostile, mark);
            for rest in ["", "s>", ">", "k>", "mask>", "<s"] {
                for joined in [format!("{marked}{rest}"), format!("{}{rest}", marked.trim())] {
                    let parts = control.split(&joined);
                    assert!(parts.iter().all(|p| matches!(p, Part::Text(_))), "{hostile:?} + {rest:?}: {parts:?}");
                }
            }
            assert_eq!(mark.remove(&marked), hostile);
        }
        assert!(matches!(control.disarm("plain > text", Mark('\u{fdd0}')), Cow::Borrowed(_)));
    }

    #[test]
    fn a_control_token_of_one_character_is_found() {
        let token = ControlToken { id: 1, lstrip: false, rstrip: false };
        let control = Control::new([("@".to_string(), token), ("<s>".to_string(), token)]).unwrap();
        assert_eq!((control.unbreakable("a@b"), control.unbreakable("a<s>b")), (Some("@"), None));
    }

    #[test]
    fn the_mark_is_one_that_is_absent() {
        assert_eq!(Mark::absent_from(["a\u{fdd0}", "\u{fdd1}b"].into_iter()).unwrap(), Mark('\u{fdd2}'));
        let all: String = ('\u{fdd0}'..='\u{fdef}').collect();
        assert!(Mark::absent_from([all.as_str()].into_iter()).is_err());
    }
}
