//! Operands of instructions.

use super::super::ast::{MemBase, Operand, Sym};
use super::super::lex::Tok;
use super::body::Body;
use super::cursor::Result;
use super::expr::Value;
use super::scope::Name;

/// Vectors and lists may nest this deep.
const MAX_DEPTH: u32 = 8;

/// Special registers by their first part; which of them a device has, the op table decides.
const SPECIAL: [&str; 37] = [
    "%tid",
    "%ntid",
    "%laneid",
    "%warpid",
    "%nwarpid",
    "%ctaid",
    "%nctaid",
    "%smid",
    "%nsmid",
    "%gridid",
    "%is_explicit_cluster",
    "%clusterid",
    "%nclusterid",
    "%cluster_ctaid",
    "%cluster_nctaid",
    "%cluster_ctarank",
    "%cluster_nctarank",
    "%lanemask_eq",
    "%lanemask_le",
    "%lanemask_lt",
    "%lanemask_ge",
    "%lanemask_gt",
    "%clock",
    "%clock_hi",
    "%clock64",
    "%globaltimer",
    "%globaltimer_lo",
    "%globaltimer_hi",
    "%reserved_smem_offset_begin",
    "%reserved_smem_offset_end",
    "%reserved_smem_offset_cap",
    "%reserved_smem_offset_0",
    "%reserved_smem_offset_1",
    "%total_smem_size",
    "%aggr_smem_size",
    "%dynamic_smem_size",
    "%current_graph_exec",
];

fn is_special(word: &str) -> bool {
    let first = word.split('.').next().unwrap_or(word);
    let numbered = |prefix: &str| {
        first.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    SPECIAL.contains(&first) || numbered("%envreg") || numbered("%pm")
}

impl Body<'_, '_> {
    /// Everything between an opcode and its `;`, which is taken.
    pub(super) fn operands(&mut self, op: &[String]) -> Result<Vec<Operand>> {
        let mut args = vec![];
        if self.p.cur.accept(";") {
            return Ok(args);
        }
        loop {
            args.push(match (op[0].as_str(), self.p.cur.peek()) {
                ("bra", Tok::Word(label)) => {
                    let label = self.label_ref(label);
                    self.p.cur.next();
                    Operand::Label(label)
                }
                ("call", Tok::Punct("(")) => Operand::Paren(self.parenthesised()?),
                _ => self.operand(0)?,
            });
            if !self.p.cur.accept(",") {
                if !self.p.cur.at(";") {
                    return self.p.cur.expected("`,` or `;`");
                }
                self.p.cur.next();
                return Ok(args);
            }
        }
    }

    /// `(a, b)` of a call.
    fn parenthesised(&mut self) -> Result<Vec<Operand>> {
        self.p.cur.expect("(")?;
        let mut items = vec![];
        while !self.p.cur.at(")") {
            items.push(self.operand(1)?);
            if !self.p.cur.accept(",") {
                break;
            }
        }
        self.p.cur.expect(")")?;
        Ok(items)
    }

    fn operand(&mut self, depth: u32) -> Result<Operand> {
        if depth > MAX_DEPTH {
            return self.p.cur.error(format!("operands nest deeper than {MAX_DEPTH}"));
        }
        match self.p.cur.peek() {
            Tok::Punct("[") => self.memory(depth),
            Tok::Punct("{") => self.vector(depth),
            Tok::Punct("!") => match (self.p.cur.peek_at(1), self.register_ahead(1)) {
                (Tok::Word(_), Some(id)) => {
                    self.p.cur.next();
                    self.p.cur.next();
                    Ok(Operand::NotReg(id))
                }
                _ => self.number(),
            },
            Tok::Word(word) if word != "WARP_SZ" => {
                let first = self.named(word)?;
                if !matches!(first, Operand::Reg(_) | Operand::Sink) || !self.p.cur.accept("|") {
                    return Ok(first);
                }
                let second = match self.p.cur.peek() {
                    Tok::Word(word) => self.named(word)?,
                    _ => return self.p.cur.expected("a register after `|`"),
                };
                Ok(Operand::Pair(Box::new(first), Box::new(second)))
            }
            _ => self.number(),
        }
    }

    fn register_ahead(&self, ahead: usize) -> Option<u32> {
        match self.p.cur.peek_at(ahead) {
            Tok::Word(word) => match self.scopes.find(word) {
                Some(Name::Reg(id)) => Some(id),
                _ => None,
            },
            _ => None,
        }
    }

    /// A register, special register, `_`, list, or the address of a symbol.
    fn named(&mut self, word: &str) -> Result<Operand> {
        if word == "_" {
            self.p.cur.next();
            return Ok(Operand::Sink);
        }
        let operand = match self.meaning(word) {
            Some(Name::Reg(id)) => Operand::Reg(id),
            Some(Name::List(list)) => Operand::List(list),
            Some(Name::Sym(sym)) => {
                self.p.cur.next();
                return Ok(Operand::Addr(sym, self.offset()?));
            }
            None if is_special(word) => Operand::Special(word.to_string()),
            None => return self.p.cur.error(format!("`{word}` is not declared")),
        };
        self.p.cur.next();
        Ok(operand)
    }

    fn meaning(&self, word: &str) -> Option<Name> {
        self.scopes.find(word).or_else(|| {
            let var = self.p.vars.get(word).map(|&i| Sym::ModuleVar(i));
            var.or_else(|| self.p.functions.get(word).map(|&i| Sym::Function(i))).map(Name::Sym)
        })
    }

    /// `+4`, `-4`, `+-4` or nothing.
    fn offset(&mut self) -> Result<i64> {
        if self.p.cur.accept("+") || self.p.cur.at("-") { self.p.cur.integer("an offset") } else { Ok(0) }
    }

    fn number(&mut self) -> Result<Operand> {
        Ok(match self.p.cur.constant()? {
            Value::Signed(v) => Operand::Int(v),
            Value::Unsigned(v) => Operand::Int(v as i64),
            Value::F32(bits) => Operand::F32(bits),
            Value::F64(v) => Operand::F64(v.to_bits()),
        })
    }

    /// `{a, b, c, d}`
    fn vector(&mut self, depth: u32) -> Result<Operand> {
        self.p.cur.expect("{")?;
        let mut items = vec![];
        loop {
            items.push(self.operand(depth + 1)?);
            if !self.p.cur.accept(",") {
                self.p.cur.expect("}")?;
                return Ok(Operand::Vector(items));
            }
        }
    }

    /// `[address]`, or `[address, {coordinates}, ...]`.
    fn memory(&mut self, depth: u32) -> Result<Operand> {
        self.p.cur.expect("[")?;
        let address = self.address()?;
        if !self.p.cur.at(",") {
            self.p.cur.expect("]")?;
            // A hint that the space is addressed through a unified table; it changes nothing here.
            self.p.cur.accept_dir(".unified");
            return Ok(address);
        }
        let mut items = vec![address];
        while self.p.cur.accept(",") {
            items.push(self.operand(depth + 1)?);
        }
        self.p.cur.expect("]")?;
        Ok(Operand::MemList(items))
    }

    fn address(&mut self) -> Result<Operand> {
        let base = match self.p.cur.peek() {
            Tok::Word(word) if word != "WARP_SZ" => match self.meaning(word) {
                Some(Name::Reg(id)) => MemBase::Reg(id),
                Some(Name::Sym(sym)) => MemBase::Sym(sym),
                _ => return self.p.cur.error(format!("`{word}` is not a register or variable to address with")),
            },
            _ => return Ok(Operand::Mem(MemBase::Abs, self.p.cur.integer("an address")?)),
        };
        self.p.cur.next();
        Ok(Operand::Mem(base, self.offset()?))
    }
}
