//! The PTX front end: text to [`ast`], control-flow facts, and the op table.
pub mod ast;
pub mod cfg;
mod lex;
mod parse;

pub use lex::ParseError;
pub use parse::parse;
