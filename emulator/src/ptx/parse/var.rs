//! Variable declarations: types, alignment, array dimensions and initialisers.

use super::super::ast::{Space, Type, Var};
use super::super::lex::Tok;
use super::cursor::{Cursor, Result};
use super::expr::Value;
use super::space;

/// No declared object may be larger, in bytes.
const MAX_SIZE: usize = 1 << 40;
/// Nor may its initialiser, in bytes.
const MAX_INIT: usize = 1 << 26;
/// Nor may it have more array dimensions.
const MAX_DIMS: usize = 8;

/// What stands between the state space and the name.
pub(super) struct Shape {
    pub ty: Type,
    /// 1, 2, 4 or 8 for `.v2` ...
    vector: usize,
    align: Option<usize>,
}

/// A type directive such as `.b32`.
pub(super) fn scalar_type(directive: &str) -> Option<Type> {
    Some(match directive {
        ".pred" => Type::Pred,
        ".b8" => Type::B(8),
        ".b16" => Type::B(16),
        ".b32" => Type::B(32),
        ".b64" => Type::B(64),
        ".b128" => Type::B(128),
        ".u8" => Type::U(8),
        ".u16" => Type::U(16),
        ".u32" => Type::U(32),
        ".u64" => Type::U(64),
        ".s8" => Type::S(8),
        ".s16" => Type::S(16),
        ".s32" => Type::S(32),
        ".s64" => Type::S(64),
        ".f16" => Type::F(16),
        ".f32" => Type::F(32),
        ".f64" => Type::F(64),
        ".f16x2" => Type::F16x2,
        ".bf16" => Type::Bf16,
        ".bf16x2" => Type::Bf16x2,
        _ => return None,
    })
}

impl Cursor<'_> {
    /// `.align 8 .v4 .f32`, `.u64 .ptr .global .align 16`: up to the name.
    pub(super) fn shape(&mut self) -> Result<Shape> {
        let (mut ty, mut vector, mut align) = (None, 1, None);
        while let Tok::Dir(name) = self.peek() {
            if let Some(t) = scalar_type(name) {
                ty = Some(t);
                self.next();
                continue;
            }
            self.next();
            match name {
                ".align" => align = Some(self.alignment()?),
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".v8" => vector = 8,
                // What a pointer parameter points at; its `.align` is the pointee's.
                ".ptr" => self.pointee()?,
                ".attribute" => self.attribute()?,
                _ => return self.error(format!("expected a type, found `{name}`")),
            }
        }
        match ty {
            Some(ty) => Ok(Shape { ty, vector, align }),
            None => self.expected("a type such as `.b32`"),
        }
    }

    fn alignment(&mut self) -> Result<usize> {
        let align = self.int("an alignment")?;
        if align.is_power_of_two() && align <= 1 << 20 {
            return Ok(align as usize);
        }
        self.error(format!("the alignment {align} is not a power of two up to 2^20"))
    }

    fn pointee(&mut self) -> Result<()> {
        if matches!(self.peek(), Tok::Dir(name) if space(name).is_some()) {
            self.next();
        }
        if self.accept_dir(".align") {
            self.alignment()?;
        }
        Ok(())
    }

    /// `(.managed)`, `(.unified(1, 2))`: placement hints.
    pub(super) fn attribute(&mut self) -> Result<()> {
        self.expect("(")?;
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Tok::Punct("(") => depth += 1,
                Tok::Punct(")") => depth -= 1,
                Tok::End => return self.expected("`)`"),
                _ => {}
            }
        }
        Ok(())
    }

    /// All declarators after a state space, and the `;`.
    pub(super) fn variables(&mut self, space: Space, external: bool) -> Result<Vec<Var>> {
        let shape = self.shape()?;
        let mut vars = vec![];
        loop {
            let mut var = self.declarator(&shape, space, external)?;
            match self.accept("<").then(|| self.u32("how many variables")).transpose()? {
                Some(count) => {
                    self.expect(">")?;
                    if count > 1 << 16 {
                        return self.error("more than 65536 variables in one declaration");
                    }
                    vars.extend((0..count).map(|i| Var { name: format!("{}{i}", var.name), ..var.clone() }));
                }
                None => {
                    let dims = self.dimensions(&mut var, &shape)?;
                    if self.accept("=") {
                        Initialiser { cur: self, var: &mut var }.run(dims)?;
                    }
                    vars.push(var);
                }
            }
            if !self.accept(",") {
                self.expect(";")?;
                return Ok(vars);
            }
        }
    }

    /// One parameter of a function, without a separator.
    pub(super) fn parameter(&mut self) -> Result<Var> {
        if !self.accept_dir(".param") {
            return self.expected("`.param`");
        }
        let shape = self.shape()?;
        let mut var = self.declarator(&shape, Space::Param, false)?;
        self.dimensions(&mut var, &shape)?;
        Ok(var)
    }

    fn declarator(&mut self, shape: &Shape, space: Space, external: bool) -> Result<Var> {
        if shape.ty == Type::Pred {
            return self.error("a predicate cannot be in memory");
        }
        let natural = shape.ty.bytes() * shape.vector;
        Ok(Var {
            name: self.word("a variable's name")?.to_string(),
            space,
            ty: shape.ty,
            align: shape.align.unwrap_or(natural),
            size: natural,
            external,
            init: vec![],
            relocs: vec![],
        })
    }

    /// `[2][3]`, `[]`; sets the size. A vector type is one more, innermost dimension.
    fn dimensions(&mut self, var: &mut Var, shape: &Shape) -> Result<Vec<usize>> {
        let mut dims = vec![];
        while self.accept("[") {
            let open = dims.is_empty() && self.at("]");
            let dim = if open { 0 } else { self.integer("an array size")? as usize };
            if dim == 0 && !dims.is_empty() {
                return self.error("only the first dimension may be empty");
            }
            dims.push(dim);
            self.expect("]")?;
            if dims.len() > MAX_DIMS {
                return self.error(format!("more than {MAX_DIMS} array dimensions"));
            }
        }
        if shape.vector > 1 {
            dims.push(shape.vector);
        }
        let product = |size: usize, &d: &usize| size.checked_mul(d.max(1)).filter(|&s| s <= MAX_SIZE);
        let Some(size) = dims.iter().try_fold(shape.ty.bytes(), product) else {
            return self.error(format!("`{}` is larger than 2^40 bytes", var.name));
        };
        var.size = if dims.first() == Some(&0) { 0 } else { size };
        Ok(dims)
    }
}

/// Writes the values after `=` into a variable.
struct Initialiser<'c, 'a> {
    cur: &'c mut Cursor<'a>,
    var: &'c mut Var,
}

impl Initialiser<'_, '_> {
    fn run(&mut self, mut dims: Vec<usize>) -> Result<()> {
        let open = dims.first() == Some(&0);
        let count = self.level(&dims, 0)?;
        if open {
            dims[0] = count;
            self.var.size = dims.iter().product::<usize>() * self.var.ty.bytes();
        }
        Ok(())
    }

    /// One brace level (or a scalar when there are no dimensions left) at byte `offset`; returns its elements.
    fn level(&mut self, dims: &[usize], offset: usize) -> Result<usize> {
        let Some((&dim, inner)) = dims.split_first() else { return self.scalar(offset).map(|()| 1) };
        let stride = inner.iter().product::<usize>() * self.var.ty.bytes();
        self.cur.expect("{")?;
        let mut count = 0;
        while !self.cur.at("}") {
            if dim != 0 && count == dim {
                return self.cur.error(format!("`{}` has only {dim} elements here", self.var.name));
            }
            self.level(inner, offset + count * stride)?;
            count += 1;
            if !self.cur.accept(",") {
                break;
            }
        }
        self.cur.expect("}")?;
        Ok(count)
    }

    fn scalar(&mut self, offset: usize) -> Result<()> {
        if let Tok::Word(word) = self.cur.peek()
            && word != "WARP_SZ"
        {
            let (name, generic) = self.symbol()?;
            let addend = if self.cur.at("+") || self.cur.at("-") { self.cur.integer("an offset")? } else { 0 };
            self.var.relocs.push((offset, name, addend, generic));
            return self.write(offset, &[0; 16]);
        }
        if let (Tok::Int(mask), Tok::Punct("(")) = (self.cur.peek(), self.cur.peek_at(1)) {
            return self.masked(offset, mask);
        }
        let value = self.cur.constant()?;
        let bits = self.bits(value);
        self.write(offset, &bits)
    }

    /// `name` or `generic(name)`.
    fn symbol(&mut self) -> Result<(String, bool)> {
        let word = self.cur.word("a symbol")?;
        if word != "generic" || !self.cur.accept("(") {
            return Ok((word.to_string(), false));
        }
        let name = self.cur.word("a symbol")?.to_string();
        self.cur.expect(")")?;
        Ok((name, true))
    }

    /// `0xFF00(symbol)`: one byte of an address. All eight must follow one another; together they are one relocation.
    fn masked(&mut self, offset: usize, mask: u64) -> Result<()> {
        self.cur.next();
        self.cur.expect("(")?;
        let (name, generic) = self.symbol()?;
        self.cur.expect(")")?;
        let byte = mask.trailing_zeros() as usize / 8;
        if self.var.ty.bytes() != 1 || byte > 7 || mask != 0xff << (8 * byte) {
            return self.cur.error("a mask selects one byte of an address for one byte");
        }
        if byte == 0 {
            self.var.relocs.push((offset, name, 0, generic));
        } else if !self.var.relocs.last().is_some_and(|r| r.0 + byte == offset && r.1 == name) {
            return self.cur.error("the bytes of an address must follow one another");
        }
        self.write(offset, &[0; 16])
    }

    fn bits(&self, value: Value) -> [u8; 16] {
        let single = self.var.ty == Type::F(32);
        let double = self.var.ty == Type::F(64);
        let wide = match value {
            Value::Signed(v) if single => (v as f32).to_bits().into(),
            Value::Signed(v) if double => (v as f64).to_bits().into(),
            Value::Signed(v) => v as i128 as u128,
            Value::Unsigned(v) => v.into(),
            Value::F32(bits) if double => f64::from(f32::from_bits(bits)).to_bits().into(),
            Value::F32(bits) => bits.into(),
            Value::F64(v) if single => (v as f32).to_bits().into(),
            Value::F64(v) => v.to_bits().into(),
        };
        wide.to_le_bytes()
    }

    /// Stores one element; `init` grows to the last element that is written.
    fn write(&mut self, offset: usize, bytes: &[u8; 16]) -> Result<()> {
        let width = self.var.ty.bytes();
        if offset + width > MAX_INIT {
            return self.cur.error(format!("an initialiser longer than {MAX_INIT} bytes"));
        }
        if self.var.init.len() < offset + width {
            self.var.init.resize(offset + width, 0);
        }
        self.var.init[offset..offset + width].copy_from_slice(&bytes[..width]);
        Ok(())
    }
}
