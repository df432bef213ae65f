//! The token cursor every part of the parser reads from, and its errors.

use super::super::ast::Pos;
use super::super::lex::{ParseError, Tok, Token};

pub(super) type Result<T> = std::result::Result<T, ParseError>;

/// Where the parser is in the tokens, and the last `.loc`.
pub(super) struct Cursor<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    /// File number and line of the last `.loc`.
    loc: (u32, u32),
}

impl<'a> Cursor<'a> {
    /// `tokens` must end with [`Tok::End`].
    pub fn new(tokens: Vec<Token<'a>>) -> Self {
        Cursor { tokens, at: 0, loc: (0, 0) }
    }

    pub fn peek(&self) -> Tok<'a> {
        self.peek_at(0)
    }

    pub fn peek_at(&self, ahead: usize) -> Tok<'a> {
        self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].tok
    }

    pub fn next(&mut self) -> Tok<'a> {
        let tok = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        tok
    }

    /// Position of the next token, with the `.cu` line of the last `.loc`.
    pub fn pos(&self) -> Pos {
        Pos { ptx_line: self.tokens[self.at].line, file: self.loc.0, line: self.loc.1 }
    }

    /// Line and column of the next token.
    pub fn line_column(&self) -> (u32, u32) {
        (self.tokens[self.at].line, self.tokens[self.at].column)
    }

    /// An error at the next token.
    pub fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        let (line, column) = self.line_column();
        Err(ParseError { line, column, message: message.into() })
    }

    pub fn expected<T>(&self, what: &str) -> Result<T> {
        self.error(format!("expected {what}, found {}", self.peek()))
    }

    pub fn at(&self, punct: &str) -> bool {
        matches!(self.peek(), Tok::Punct(p) if p == punct)
    }

    /// Takes `punct` if it is next.
    pub fn accept(&mut self, punct: &str) -> bool {
        let found = self.at(punct);
        if found {
            self.next();
        }
        found
    }

    pub fn expect(&mut self, punct: &str) -> Result<()> {
        if self.accept(punct) { Ok(()) } else { self.expected(&format!("`{punct}`")) }
    }

    /// Takes the directive `name` (with its dot) if it is next.
    pub fn accept_dir(&mut self, name: &str) -> bool {
        let found = self.peek() == Tok::Dir(name);
        if found {
            self.next();
        }
        found
    }

    pub fn word(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Tok::Word(w) => {
                self.next();
                Ok(w)
            }
            _ => self.expected(what),
        }
    }

    pub fn int(&mut self, what: &str) -> Result<u64> {
        match self.peek() {
            Tok::Int(v) => {
                self.next();
                Ok(v)
            }
            _ => self.expected(what),
        }
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        match self.peek() {
            Tok::Int(v) if u32::try_from(v).is_ok() => {
                self.next();
                Ok(v as u32)
            }
            _ => self.expected(&format!("{what} below 2^32")),
        }
    }

    pub fn string(&mut self, what: &str) -> Result<&'a str> {
        match self.peek() {
            Tok::Str(s) => {
                self.next();
                Ok(s)
            }
            _ => self.expected(what),
        }
    }

    /// `.loc file line column [, function_name label[+n], inlined_at file line column]`, the directive already taken.
    pub fn loc(&mut self) -> Result<()> {
        let file = self.u32("a file number")?;
        let line = self.u32("a line number")?;
        self.u32("a column number")?;
        if self.at(",") && self.peek_at(1) == Tok::Word("function_name") {
            self.next();
            self.next();
            self.word("the label of a function name")?;
            if self.accept("+") {
                self.int("an offset")?;
            }
            self.expect(",")?;
            if self.word("`inlined_at`")? != "inlined_at" {
                return self.error("expected `inlined_at` before this");
            }
            for what in ["a file number", "a line number", "a column number"] {
                self.u32(what)?;
            }
        }
        self.loc = (file, line);
        Ok(())
    }

    /// A new function has no source line until its first `.loc`.
    pub fn forget_loc(&mut self) {
        self.loc = (0, 0);
    }

    /// `.pragma "a", "b";`, the directive already taken.
    pub fn pragma(&mut self) -> Result<()> {
        self.string("a pragma string")?;
        while self.accept(",") {
            self.string("a pragma string")?;
        }
        self.expect(";")
    }

    /// Skips `{ ... }` with nested braces.
    pub fn skip_braces(&mut self) -> Result<()> {
        self.expect("{")?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Tok::Punct("{") => depth += 1,
                Tok::Punct("}") => depth -= 1,
                Tok::End => return self.expected("`}`"),
                _ => {}
            }
        }
        Ok(())
    }
}
