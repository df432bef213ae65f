//! Constant expressions: C's operators over 64-bit integers, and single floating-point numbers.
//!
//! Signedness follows the PTX rule: an operand above 2^63-1, or `.u64` cast, makes the operation unsigned.

use super::super::lex::Tok;
use super::cursor::{Cursor, Result};

/// Parentheses and unary operators may nest this deep.
const MAX_DEPTH: u32 = 64;

/// The value of a constant expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Signed(i64),
    Unsigned(u64),
    /// The bits of an `0f` literal.
    F32(u32),
    F64(f64),
}

impl Value {
    fn bits(self) -> Option<u64> {
        match self {
            Value::Signed(v) => Some(v as u64),
            Value::Unsigned(v) => Some(v),
            Value::F32(_) | Value::F64(_) => None,
        }
    }

    fn like(bits: u64, unsigned: bool) -> Value {
        if unsigned { Value::Unsigned(bits) } else { Value::Signed(bits as i64) }
    }
}

/// Binary operators by how tightly they bind.
fn precedence(op: &str) -> Option<u32> {
    Some(match op {
        "||" => 1,
        "&&" => 2,
        "|" => 3,
        "^" => 4,
        "&" => 5,
        "==" | "!=" => 6,
        "<" | ">" | "<=" | ">=" => 7,
        "<<" | ">>" => 8,
        "+" | "-" => 9,
        "*" | "/" | "%" => 10,
        _ => return None,
    })
}

fn apply(op: &str, left: Value, right: Value) -> Option<Value> {
    if let (Value::F64(x), Value::F64(y)) = (left, right) {
        return Some(Value::F64(match op {
            "+" => x + y,
            "-" => x - y,
            "*" => x * y,
            "/" => x / y,
            _ => return None,
        }));
    }
    let (a, b) = (left.bits()?, right.bits()?);
    let unsigned = matches!(left, Value::Unsigned(_)) || matches!(right, Value::Unsigned(_));
    let truth = |t: bool| Some(Value::Signed(t.into()));
    let less = |x: u64, y: u64| if unsigned { x < y } else { (x as i64) < (y as i64) };
    let bits = match op {
        "||" => return truth(a != 0 || b != 0),
        "&&" => return truth(a != 0 && b != 0),
        "==" => return truth(a == b),
        "!=" => return truth(a != b),
        "<" => return truth(less(a, b)),
        ">" => return truth(less(b, a)),
        "<=" => return truth(!less(b, a)),
        ">=" => return truth(!less(a, b)),
        "|" => a | b,
        "^" => a ^ b,
        "&" => a & b,
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "<<" => return Some(Value::like(a.checked_shl(u32::try_from(b).ok()?).unwrap_or(0), unsigned)),
        ">>" => return Some(shift_right(left, a, b.min(u64::from(u32::MAX)) as u32)),
        "/" if unsigned => a.checked_div(b)?,
        "%" if unsigned => a.checked_rem(b)?,
        "/" => (a as i64).checked_div(b as i64)? as u64,
        "%" => (a as i64).checked_rem(b as i64)? as u64,
        _ => return None,
    };
    Some(Value::like(bits, unsigned))
}

fn shift_right(left: Value, bits: u64, by: u32) -> Value {
    match left {
        Value::Unsigned(_) => Value::Unsigned(bits.checked_shr(by).unwrap_or(0)),
        _ => Value::Signed((bits as i64) >> by.min(63)),
    }
}

impl Cursor<'_> {
    /// A constant expression.
    pub(super) fn constant(&mut self) -> Result<Value> {
        self.conditional(0)
    }

    /// A constant expression that is an integer, in 64 bits.
    pub(super) fn integer(&mut self, what: &str) -> Result<i64> {
        match self.constant()?.bits() {
            Some(bits) => Ok(bits as i64),
            None => self.error(format!("expected {what}, an integer, before this")),
        }
    }

    fn conditional(&mut self, depth: u32) -> Result<Value> {
        let condition = self.binary(1, depth)?;
        if !self.accept("?") {
            return Ok(condition);
        }
        let Some(bits) = condition.bits() else { return self.error("a condition is an integer") };
        let yes = self.deeper(depth, Self::conditional)?;
        self.expect(":")?;
        let no = self.deeper(depth, Self::conditional)?;
        Ok(if bits != 0 { yes } else { no })
    }

    fn deeper(&mut self, depth: u32, parse: fn(&mut Self, u32) -> Result<Value>) -> Result<Value> {
        if depth >= MAX_DEPTH {
            return self.error(format!("an expression nests deeper than {MAX_DEPTH}"));
        }
        parse(self, depth + 1)
    }

    fn binary(&mut self, least: u32, depth: u32) -> Result<Value> {
        let mut left = self.unary(depth)?;
        while let Tok::Punct(op) = self.peek() {
            let Some(binds) = precedence(op).filter(|&b| b >= least) else { break };
            self.next();
            let right = self.binary(binds + 1, depth)?;
            left = match apply(op, left, right) {
                Some(value) => value,
                None => return self.error(format!("`{op}` of these constants has no value")),
            };
        }
        Ok(left)
    }

    fn unary(&mut self, depth: u32) -> Result<Value> {
        let tok = self.peek();
        match tok {
            Tok::Int(v) => {
                self.next();
                Ok(if v > i64::MAX as u64 { Value::Unsigned(v) } else { Value::Signed(v as i64) })
            }
            Tok::F32(bits) => {
                self.next();
                Ok(Value::F32(bits))
            }
            Tok::F64(bits) => {
                self.next();
                Ok(Value::F64(f64::from_bits(bits)))
            }
            Tok::Word("WARP_SZ") => {
                self.next();
                Ok(Value::Signed(32))
            }
            Tok::Punct("(") => {
                self.next();
                self.parenthesis(depth)
            }
            Tok::Punct(op @ ("-" | "+" | "~" | "!")) => {
                self.next();
                let value = self.deeper(depth, Self::unary)?;
                self.negated(op, value)
            }
            _ => self.expected("a constant"),
        }
    }

    /// `(expression)` or a cast, the parenthesis already taken.
    fn parenthesis(&mut self, depth: u32) -> Result<Value> {
        let cast = match self.peek() {
            Tok::Dir(".s64") => Some(false),
            Tok::Dir(".u64") => Some(true),
            _ => None,
        };
        let Some(unsigned) = cast else {
            let value = self.deeper(depth, Self::conditional)?;
            self.expect(")")?;
            return Ok(value);
        };
        self.next();
        self.expect(")")?;
        match self.deeper(depth, Self::unary)?.bits() {
            Some(bits) => Ok(Value::like(bits, unsigned)),
            None => self.error("a cast is for integers"),
        }
    }

    fn negated(&self, op: &str, value: Value) -> Result<Value> {
        Ok(match (op, value) {
            ("+", v) => v,
            ("-", Value::F32(bits)) => Value::F32(bits ^ 0x8000_0000),
            ("-", Value::F64(v)) => Value::F64(-v),
            ("-", Value::Signed(v)) => Value::Signed(v.wrapping_neg()),
            ("-", Value::Unsigned(v)) => Value::Unsigned(v.wrapping_neg()),
            ("~", Value::Signed(v)) => Value::Signed(!v),
            ("~", Value::Unsigned(v)) => Value::Unsigned(!v),
            (_, Value::Signed(v)) => Value::Signed((v == 0).into()),
            (_, Value::Unsigned(v)) => Value::Signed((v == 0).into()),
            _ => return self.error(format!("`{op}` does not apply to a floating-point constant")),
        })
    }
}
