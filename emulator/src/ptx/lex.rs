//! PTX text to tokens.
//!
//! Invariants: a dotted name (`ld.global.L2::cache_hint.f32`, `%tid.x`) is one [`Tok::Word`]; a leading dot begins a
//! [`Tok::Dir`] that ends before the next dot; every token knows its line and column; comments and `#` lines vanish.
//! Any text gives tokens or a [`ParseError`], never a panic.

/// Why a text is not PTX: where, what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ptx line {line}, column {column}: {message}")]
pub struct ParseError {
    /// 1-based line.
    pub line: u32,
    /// 1-based column, in bytes.
    pub column: u32,
    /// What is wrong.
    pub message: String,
}

/// A token and where it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub tok: Tok<'a>,
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Tok<'a> {
    /// An identifier or dotted opcode.
    Word(&'a str),
    /// `.reg`, with its dot.
    Dir(&'a str),
    Int(u64),
    /// `0f...`: the bits.
    F32(u32),
    /// `0d...` or a decimal fraction: the bits.
    F64(u64),
    /// Between double quotes.
    Str(&'a str),
    Punct(&'static str),
    End,
}

impl std::fmt::Display for Tok<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tok::Word(s) | Tok::Dir(s) => write!(f, "`{s}`"),
            Tok::Int(v) => write!(f, "`{v}`"),
            Tok::F32(v) => write!(f, "`0f{v:08X}`"),
            Tok::F64(v) => write!(f, "`0d{v:016X}`"),
            Tok::Str(s) => write!(f, "\"{s}\""),
            Tok::Punct(s) => write!(f, "`{s}`"),
            Tok::End => write!(f, "the end of the text"),
        }
    }
}

/// Longest first, so that `<<` is not two `<`.
const PUNCT: [&str; 33] = [
    "<<", ">>", "&&", "||", "==", "!=", "<=", ">=", "{", "}", "(", ")", "[", "]", "<", ">", ",", ";", ":", "@", "!",
    "|", "+", "-", "*", "/", "%", "=", "&", "^", "~", "?", "\\",
];

/// All tokens of `text`, the last one [`Tok::End`].
pub(crate) fn lex(text: &str) -> Result<Vec<Token<'_>>, ParseError> {
    let mut lexer = Lexer { text, bytes: text.as_bytes(), at: 0, line: 1, line_start: 0 };
    let mut tokens = Vec::with_capacity(text.len() / 4);
    loop {
        lexer.skip_blank()?;
        let (line, column) = (lexer.line, lexer.column());
        let tok = lexer.token()?;
        tokens.push(Token { tok, line, column });
        if tok == Tok::End {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    line: u32,
    line_start: usize,
}

fn word_start(b: u8) -> bool {
    b.is_ascii_alphabetic() || matches!(b, b'_' | b'$' | b'%')
}

fn word_part(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    fn column(&self) -> u32 {
        (self.at - self.line_start + 1) as u32
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError { line: self.line, column: self.column(), message: message.into() })
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.bytes.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn newline(&mut self) {
        self.at += 1;
        self.line += 1;
        self.line_start = self.at;
    }

    /// White space, comments, and lines that begin with `#`.
    fn skip_blank(&mut self) -> Result<(), ParseError> {
        while self.at < self.bytes.len() {
            match (self.byte(0), self.byte(1)) {
                (b'\n', _) => self.newline(),
                (b' ' | b'\t' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'/', b'/') | (b'#', _) => self.skip_line(),
                (b'/', b'*') => self.skip_comment()?,
                _ => break,
            }
        }
        Ok(())
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.byte(0) != b'\n' {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) -> Result<(), ParseError> {
        let Some(length) = self.text[self.at + 2..].find("*/") else {
            return self.error("this comment has no `*/`");
        };
        let end = self.at + 2 + length + 2;
        while self.at < end {
            if self.byte(0) == b'\n' {
                self.newline();
            } else {
                self.at += 1;
            }
        }
        Ok(())
    }

    fn token(&mut self) -> Result<Tok<'a>, ParseError> {
        if self.at >= self.bytes.len() {
            return Ok(Tok::End);
        }
        let (first, second) = (self.byte(0), self.byte(1));
        if first.is_ascii_digit() || (first == b'.' && second.is_ascii_digit()) {
            return self.number();
        }
        // A lone `%` is the remainder operator of a constant expression.
        if word_start(first) && (first != b'%' || word_part(second)) {
            return Ok(Tok::Word(self.word()));
        }
        if first == b'.' && word_start(second) {
            let start = self.at;
            self.at += 1;
            self.run(word_part);
            return Ok(Tok::Dir(&self.text[start..self.at]));
        }
        if first == b'"' {
            return self.string();
        }
        match PUNCT.iter().find(|p| self.bytes[self.at..].starts_with(p.as_bytes())) {
            Some(p) => {
                self.at += p.len();
                Ok(Tok::Punct(p))
            }
            None => {
                let c = self.text[self.at..].chars().next().unwrap_or('\0');
                self.error(format!("the character {c:?} has no meaning in PTX"))
            }
        }
    }

    fn run(&mut self, keep: impl Fn(u8) -> bool) {
        while self.at < self.bytes.len() && keep(self.byte(0)) {
            self.at += 1;
        }
    }

    fn word(&mut self) -> &'a str {
        let start = self.at;
        self.at += 1;
        loop {
            self.run(word_part);
            if self.byte(0) == b'.' && word_part(self.byte(1)) {
                self.at += 1;
            } else if self.byte(0) == b':' && self.byte(1) == b':' && word_part(self.byte(2)) {
                self.at += 2;
            } else {
                return &self.text[start..self.at];
            }
        }
    }

    fn string(&mut self) -> Result<Tok<'a>, ParseError> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => return self.error("this string has no closing quote on its line"),
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        Ok(Tok::Str(&self.text[start..end]))
    }

    fn number(&mut self) -> Result<Tok<'a>, ParseError> {
        let start = self.at;
        let (column, line) = (self.column(), self.line);
        self.run(|b| b.is_ascii_alphanumeric());
        let prefix = &self.bytes[start..];
        let hex = prefix[0] == b'0' && matches!(prefix.get(1), Some(b'x' | b'X' | b'f' | b'F' | b'd' | b'D'));
        if !hex {
            self.fraction();
        }
        let text = &self.text[start..self.at];
        number(text).ok_or_else(|| ParseError { line, column, message: format!("`{text}` is not a number") })
    }

    /// The rest of a decimal number: `.5`, `e-3`.
    fn fraction(&mut self) {
        if self.byte(0) == b'.' && self.byte(1).is_ascii_digit() || self.byte(0) == b'.' && !word_part(self.byte(1)) {
            self.at += 1;
            self.run(|b| b.is_ascii_alphanumeric());
        }
        if matches!(self.byte(0), b'+' | b'-') && matches!(self.bytes[self.at - 1], b'e' | b'E') {
            self.at += 1;
            self.run(|b| b.is_ascii_digit());
        }
    }
}

fn number(text: &str) -> Option<Tok<'static>> {
    let low = text.to_ascii_lowercase();
    if let Some(bits) = low.strip_prefix("0f") {
        return (bits.len() == 8).then(|| u32::from_str_radix(bits, 16).ok().map(Tok::F32)).flatten();
    }
    if let Some(bits) = low.strip_prefix("0d") {
        return (bits.len() == 16).then(|| u64::from_str_radix(bits, 16).ok().map(Tok::F64)).flatten();
    }
    let digits = low.strip_suffix('u').unwrap_or(&low);
    let integer = if let Some(hex) = digits.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(binary) = digits.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()) {
        u64::from_str_radix(digits, 8).ok()
    } else {
        digits.parse().ok()
    };
    integer.map(Tok::Int).or_else(|| decimal(&low))
}

fn decimal(text: &str) -> Option<Tok<'static>> {
    let fraction = text.contains(['.', 'e']) && text.bytes().all(|b| b.is_ascii_digit() || b".e+-".contains(&b));
    fraction.then(|| text.parse::<f64>().ok().map(|v| Tok::F64(v.to_bits()))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Tok<'_>> {
        lex(text).unwrap().into_iter().map(|t| t.tok).collect()
    }

    #[test]
    fn words_keep_their_dots_and_directives_do_not() {
        assert_eq!(
            kinds(".reg.b32 %r<3>; ld.global.L2::128B.v2.f32 _|p"),
            [
                Tok::Dir(".reg"),
                Tok::Dir(".b32"),
                Tok::Word("%r"),
                Tok::Punct("<"),
                Tok::Int(3),
                Tok::Punct(">"),
                Tok::Punct(";"),
                Tok::Word("ld.global.L2::128B.v2.f32"),
                Tok::Word("_"),
                Tok::Punct("|"),
                Tok::Word("p"),
                Tok::End
            ]
        );
    }

    #[test]
    fn numbers_of_every_notation() {
        assert_eq!(
            kinds("0x1F 0b101 017 42U 0f3F800000 0d3FF0000000000000 1.5 1e-3 .5 2. 18446744073709551615"),
            [
                Tok::Int(31),
                Tok::Int(5),
                Tok::Int(15),
                Tok::Int(42),
                Tok::F32(1f32.to_bits()),
                Tok::F64(1f64.to_bits()),
                Tok::F64(1.5f64.to_bits()),
                Tok::F64(1e-3f64.to_bits()),
                Tok::F64(0.5f64.to_bits()),
                Tok::F64(2f64.to_bits()),
                Tok::Int(u64::MAX),
                Tok::End
            ]
        );
        for bad in ["0xZZ", "0f12", "09", "12ab", "99999999999999999999"] {
            assert!(lex(bad).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn positions_count_from_one_and_pass_comments() {
        let tokens = lex("/* a\nb */ x\n  // c\n  y").unwrap();
        assert_eq!((tokens[0].line, tokens[0].column), (2, 6));
        assert_eq!((tokens[1].line, tokens[1].column), (4, 3));
        let error = lex("a\n  \u{e9}").unwrap_err();
        assert_eq!((error.line, error.column), (2, 3));
    }
}
