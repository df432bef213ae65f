//! Operands of instructions: registers, constants, special registers, addresses; sources, destinations and memory.
use super::build::{Kind, V};
use super::function::{Home, Lower, kind};
use crate::exec::ops::special;
use crate::exec::program::Value;
use crate::exec::table::Code;
use crate::ptx::ast::{MemBase, Operand, Space, Sym, Type};

impl Lower<'_, '_> {
    /// A 32-bit constant.
    pub fn const32(&mut self, bits: u32) -> V {
        self.b.constant(Value::Bits32(bits))
    }

    /// A 64-bit constant.
    pub fn const64(&mut self, bits: u64) -> V {
        self.b.constant(Value::Bits64(bits))
    }

    /// A source operand of type `ty`.
    pub fn src(&mut self, operand: &Operand, ty: Type) -> Result<V, String> {
        let want = kind(ty).ok_or("a 128-bit operand is not possible here")?;
        Ok(match operand {
            Operand::Reg(r) => match self.home(*r) {
                Home::One(v) => self.fit(v, want)?,
                Home::Two(low, _) => low,
            },
            Operand::NotReg(r) => match self.home(*r) {
                Home::One(v) => {
                    let t = self.temp(Kind::Pred);
                    self.aux(Code::PredNot, &[t], &[v, v]);
                    t
                }
                Home::Two(..) => return Err("a negated 128-bit operand".to_string()),
            },
            Operand::Int(i) => self.number(*i as u64, ty),
            Operand::F32(bits) => match want {
                Kind::R64 => self.const64(f64::from(f32::from_bits(*bits)).to_bits()),
                _ => self.const32(*bits),
            },
            Operand::F64(bits) => match want {
                Kind::R64 => self.const64(*bits),
                _ => self.const32((f64::from_bits(*bits) as f32).to_bits()),
            },
            Operand::Special(name) => self.special(name, want)?,
            Operand::Addr(sym, addend) => {
                let address = self.address(*sym)?.wrapping_add_signed(*addend);
                if want == Kind::R64 { self.const64(address) } else { self.const32(address as u32) }
            }
            other => return Err(format!("operand {other:?} is not possible here")),
        })
    }

    /// An integer literal; a float instruction takes its value, not its bits.
    fn number(&mut self, i: u64, ty: Type) -> V {
        match ty {
            Type::Pred => self.b.constant(if i != 0 { Value::True } else { Value::False }),
            Type::F(32) => self.const32((i as i64 as f32).to_bits()),
            Type::F(64) => self.const64((i as i64 as f64).to_bits()),
            _ if ty.bytes() == 8 => self.const64(i),
            _ => self.const32(i as u32),
        }
    }

    /// A register narrowed or extended to a kind.
    fn fit(&mut self, v: V, want: Kind) -> Result<V, String> {
        let have = self.b.kinds[v as usize];
        if have == want {
            return Ok(v);
        }
        let code = match (have, want) {
            (Kind::R64, Kind::R32) => Code::Low32,
            (Kind::R32, Kind::R64) => Code::ExtU64,
            _ => return Err("a predicate where a number is needed, or the reverse".to_string()),
        };
        let t = self.temp(want);
        self.aux(code, &[t], &[v]);
        Ok(t)
    }

    /// A special register's value.
    fn special(&mut self, name: &str, want: Kind) -> Result<V, String> {
        let t = self.temp(Kind::R32);
        match name {
            "%clock64" | "%globaltimer" => {
                let t = self.temp(Kind::R64);
                self.aux(if name == "%clock64" { Code::Clock64 } else { Code::GlobalTimer }, &[t], &[]);
                return self.fit(t, want);
            }
            "%clock" => drop(self.aux(Code::Clock32, &[t], &[])),
            "%gridid" => return self.fit_const(1, want),
            "%is_explicit_cluster" => return Ok(self.b.constant(Value::False)),
            _ => {
                let number = special::SPECIAL.iter().position(|s| *s == name);
                let number = number.ok_or_else(|| format!("unknown special register {name}"))?;
                self.aux(Code::SpecialReg, &[t], &[]).imm = number as i64;
            }
        }
        self.fit(t, want)
    }

    fn fit_const(&mut self, value: u64, want: Kind) -> Result<V, String> {
        Ok(if want == Kind::R64 { self.const64(value) } else { self.const32(value as u32) })
    }

    /// Address of a symbol in its space.
    pub fn address(&self, sym: Sym) -> Result<u64, String> {
        Ok(match sym {
            Sym::ModuleVar(v) => {
                let var = &self.b.module.vars[v as usize];
                match (var.space, self.b.addresses[v as usize]) {
                    (Space::Shared, _) if var.size == 0 => u64::from(self.b.dynamic_base),
                    (Space::Shared, _) => u64::from(self.b.shared_vars[&v]),
                    (_, Some(address)) => address,
                    _ => return Err(format!("{} is declared, but not defined in this module", var.name)),
                }
            }
            Sym::LocalVar(v) => match self.shared.get(&v).or_else(|| self.locals.get(&v)) {
                Some(at) => u64::from(*at),
                None if self.f.vars[v as usize].space == Space::Shared => u64::from(self.b.dynamic_base),
                None => return Err(format!("{} cannot be addressed", self.f.vars[v as usize].name)),
            },
            Sym::Param(p) if self.f.entry => super::describe(self.f).params[p as usize].0 as u64,
            Sym::Param(p) => u64::from(self.b.frames[&self.index].params[p as usize]),
            Sym::Return(r) => u64::from(self.b.frames[&self.index].returns[r as usize]),
            Sym::Function(f) => {
                let name = &self.b.module.functions[f as usize].name;
                return Err(format!("the address of function {name}: indirect calls cannot be executed"));
            }
        })
    }

    /// A destination of type `ty`: the register to write; should the operand's register be of another width, the value is
    /// moved there afterwards, extended by its sign if `ty` is signed.
    pub fn dst(&mut self, operand: &Operand, ty: Type) -> Result<V, String> {
        let want = kind(ty).ok_or("a 128-bit destination is not possible here")?;
        match operand {
            Operand::Sink => Ok(self.temp(want)),
            Operand::Reg(r) => {
                let Home::One(v) = self.home(*r) else { return Err("a 128-bit destination".to_string()) };
                let have = self.b.kinds[v as usize];
                if have == want {
                    return Ok(v);
                }
                let code = match (want, have, ty) {
                    (Kind::R32, Kind::R64, Type::S(_)) => Code::ExtS64,
                    (Kind::R32, Kind::R64, _) => Code::ExtU64,
                    (Kind::R64, Kind::R32, _) => Code::Low32,
                    _ => return Err("a predicate where a number is needed, or the reverse".to_string()),
                };
                let t = self.temp(want);
                self.later(code, &[v], &[t], 0);
                Ok(t)
            }
            other => Err(format!("{other:?} cannot be written")),
        }
    }

    /// A memory operand: its base register (64 bits, or 32 for shared memory) and displacement.
    pub fn mem(&mut self, operand: &Operand, shared: bool) -> Result<(V, i64), String> {
        let ty = if shared { Type::U(32) } else { Type::U(64) };
        match operand {
            Operand::Mem(MemBase::Reg(r), offset) => Ok((self.src(&Operand::Reg(*r), ty)?, *offset)),
            Operand::Mem(MemBase::Abs, offset) => Ok((self.number(*offset as u64, ty), 0)),
            Operand::Mem(MemBase::Sym(sym), offset) => {
                let address = self.address(*sym)?.wrapping_add_signed(*offset);
                Ok((self.number(0, ty), address as i64))
            }
            other => Err(format!("{other:?} is no memory operand")),
        }
    }
}
