//! The dotted parts of an opcode, taken one after the other; what nobody takes is an unknown modifier.
use crate::ptx::ast::Type;

/// The modifiers of one instruction.
pub struct Parts<'a> {
    op: &'a [String],
    used: u32,
}

impl<'a> Parts<'a> {
    /// All parts after the base opcode.
    pub fn new(op: &'a [String]) -> Parts<'a> {
        Parts { op, used: 1 }
    }

    /// Is this part there and not yet taken?
    pub fn has(&self, part: &str) -> bool {
        self.find(|p| p == part).is_some()
    }

    /// Takes a part if it is there.
    pub fn take(&mut self, part: &str) -> bool {
        self.find(|p| p == part).map(|i| self.used |= 1 << i).is_some()
    }

    /// Takes the first of these parts that is there: its index in `parts`.
    pub fn take_any(&mut self, parts: &[&str]) -> Option<usize> {
        parts.iter().position(|p| self.take(p))
    }

    /// Takes all of these parts that are there.
    pub fn skip(&mut self, parts: &[&str]) {
        for p in parts {
            self.take(p);
        }
    }

    /// Takes the leftmost remaining part that names a type.
    pub fn ty(&mut self) -> Result<Type, String> {
        let i = self.find(|p| parse_type(p).is_some()).ok_or("no type in the opcode")?;
        self.used |= 1 << i;
        parse_type(&self.op[i]).ok_or_else(|| "no type in the opcode".to_string())
    }

    /// The remaining parts, in order; all taken.
    pub fn rest(&mut self) -> Vec<&'a str> {
        let rest = (0..self.op.len()).filter(|i| self.used >> i & 1 == 0).map(|i| self.op[i].as_str()).collect();
        self.used = !0;
        rest
    }

    /// Nothing may remain.
    pub fn finish(&mut self) -> Result<(), String> {
        match self.rest().first() {
            None => Ok(()),
            Some(part) => Err(format!("unknown modifier .{part} of {}", self.op.join("."))),
        }
    }

    /// The whole opcode, for messages.
    pub fn name(&self) -> String {
        self.op.join(".")
    }

    fn find(&self, f: impl Fn(&str) -> bool) -> Option<usize> {
        (1..self.op.len().min(32)).find(|&i| self.used >> i & 1 == 0 && f(&self.op[i]))
    }
}

/// A type by its name.
pub fn parse_type(name: &str) -> Option<Type> {
    Some(match name {
        "pred" => Type::Pred,
        "b8" => Type::B(8),
        "b16" => Type::B(16),
        "b32" => Type::B(32),
        "b64" => Type::B(64),
        "b128" => Type::B(128),
        "u8" => Type::U(8),
        "u16" => Type::U(16),
        "u32" => Type::U(32),
        "u64" => Type::U(64),
        "s8" => Type::S(8),
        "s16" => Type::S(16),
        "s32" => Type::S(32),
        "s64" => Type::S(64),
        "f16" => Type::F(16),
        "f32" => Type::F(32),
        "f64" => Type::F(64),
        "f16x2" => Type::F16x2,
        "bf16" => Type::Bf16,
        "bf16x2" => Type::Bf16x2,
        _ => return None,
    })
}
