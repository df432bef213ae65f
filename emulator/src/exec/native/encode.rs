//! An encoder of the x86-64 instructions that native code consists of: a few on general registers, and those of AVX2,
//! FMA and F16C that have a VEX prefix.
//!
//! Invariant: what it emits is what a disassembler reads; the tests hold every instruction against one.

pub use super::forms::*;

/// Two-operand instructions on general registers: `R op= M`.
#[derive(Clone, Copy, Debug)]
pub enum Alu {
    /// `add`
    Add,
    /// `sub`
    Sub,
    /// `xor`
    Xor,
    /// `cmp`
    Cmp,
}

impl Alu {
    /// Its number in the opcode.
    fn code(self) -> u8 {
        match self {
            Alu::Add => 0,
            Alu::Sub => 5,
            Alu::Xor => 6,
            Alu::Cmp => 7,
        }
    }
}

/// Conditions of jumps.
#[derive(Clone, Copy, Debug)]
pub enum Cond {
    /// Equal, zero.
    E = 4,
    /// Not equal, not zero.
    Ne = 5,
}

/// A place in the code, to be jumped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

impl Label {
    /// Its index in what [`Asm::finish`] returns.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Code that is being written.
#[derive(Default)]
pub struct Asm {
    /// The bytes so far.
    pub code: Vec<u8>,
    labels: Vec<Option<usize>>,
    /// Displacements to be filled in: where, and to which label.
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    /// A label without a place.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// The finished code, and the offset of each label; `None` if a label that is jumped to has no place.
    pub fn finish(mut self) -> Option<(Vec<u8>, Vec<Option<usize>>)> {
        for (at, label) in self.jumps {
            let distance = self.labels[label.0]? as i64 - (at as i64 + 4);
            self.code[at..at + 4].copy_from_slice(&(distance as i32).to_le_bytes());
        }
        Some((self.code, self.labels))
    }

    fn byte(&mut self, byte: u8) {
        self.code.push(byte);
    }

    /// ModRM, SIB and displacement.
    fn modrm(&mut self, reg: u8, rm: Rm) {
        let reg = (reg & 7) << 3;
        let Mem { base, index, disp } = match rm {
            Rm::R(r) => return self.byte(0xc0 | reg | (r & 7)),
            Rm::M(mem) => mem,
        };
        let base = base.0 & 7;
        let (mode, bytes) = match i8::try_from(disp) {
            // Without a displacement, the number of RBP and R13 means something else.
            Ok(0) if base != 5 => (0, 0),
            Ok(_) => (0x40, 1),
            Err(_) => (0x80, 4),
        };
        match index {
            Some((index, scale)) => {
                self.byte(mode | reg | 4);
                self.byte(scale << 6 | (index.0 & 7) << 3 | base);
            }
            None if base == 4 => {
                self.byte(mode | reg | 4);
                self.byte(0x24);
            }
            None => self.byte(mode | reg | base),
        }
        self.code.extend(&disp.to_le_bytes()[..bytes]);
    }

    /// Bits 3 of index and base.
    fn high(rm: Rm) -> (u8, u8) {
        match rm {
            Rm::R(r) => (0, r >> 3),
            Rm::M(m) => (m.index.map_or(0, |(i, _)| i.0 >> 3), m.base.0 >> 3),
        }
    }

    fn vex(&mut self, form: Form, reg: u8, v: u8, rm: Rm) {
        let (x, b) = Self::high(rm);
        let rest = (!v & 15) << 3 | 1 << 2 | form.prefix;
        if x == 0 && b == 0 && form.map == 1 && form.w == 0 {
            self.byte(0xc5);
            self.byte((!(reg >> 3) & 1) << 7 | rest);
        } else {
            self.byte(0xc4);
            self.byte((!(reg >> 3) & 1) << 7 | (!x & 1) << 6 | (!b & 1) << 5 | form.map);
            self.byte(form.w << 7 | rest);
        }
        self.byte(form.opcode);
        self.modrm(reg, rm);
    }

    /// `d = a op b`
    pub fn op3(&mut self, form: Form, d: Ymm, a: Ymm, b: impl Into<Rm>) {
        debug_assert_eq!(form.shape, Shape::Rvm);
        self.vex(form, d.0, a.0, b.into());
    }

    /// `d = a op b` with an immediate.
    pub fn op3i(&mut self, form: Form, d: Ymm, a: Ymm, b: impl Into<Rm>, imm: u8) {
        debug_assert_eq!(form.shape, Shape::Rvmi);
        self.vex(form, d.0, a.0, b.into());
        self.byte(imm);
    }

    /// `d = mask ? b : a`, by the mask's sign bits.
    pub fn blend(&mut self, form: Form, d: Ymm, a: Ymm, b: impl Into<Rm>, mask: Ymm) {
        debug_assert_eq!(form.shape, Shape::Rvmr);
        self.vex(form, d.0, a.0, b.into());
        self.byte(mask.0 << 4);
    }

    /// `d = op a`
    pub fn op2(&mut self, form: Form, d: Ymm, a: impl Into<Rm>) {
        debug_assert_eq!(form.shape, Shape::Rm);
        self.vex(form, d.0, 0, a.into());
    }

    /// `d = op a` with an immediate: permutations, and shifts of every element by one number.
    pub fn op2i(&mut self, form: Form, d: Ymm, a: impl Into<Rm>, imm: u8) {
        match form.shape {
            Shape::Vmi(number) => self.vex(form, number, d.0, a.into()),
            _ => self.vex(form, d.0, 0, a.into()),
        }
        self.byte(imm);
    }

    /// `a` to memory, or half of it to a register or memory.
    pub fn store(&mut self, form: Form, d: impl Into<Rm>, a: Ymm, imm: Option<u8>) {
        debug_assert!(matches!(form.shape, Shape::Mr | Shape::Mri));
        self.vex(form, a.0, 0, d.into());
        self.code.extend(imm);
    }

    /// The sign bits of `a`'s eight elements.
    pub fn signs(&mut self, d: Gpr, a: Ymm) {
        self.vex(VMOVMSKPS, d.0, 0, a.into());
    }

    /// Clears the upper halves of the vector registers, as code without VEX likes them.
    pub fn vzeroupper(&mut self) {
        self.code.extend([0xc5, 0xf8, 0x77]);
    }

    /// An instruction on general registers: REX if needed, opcode, operands.
    fn general(&mut self, wide: bool, opcode: &[u8], reg: u8, rm: Rm) {
        let (x, b) = Self::high(rm);
        let rex = 0x40 | u8::from(wide) << 3 | (reg >> 3) << 2 | x << 1 | b;
        if rex != 0x40 {
            self.byte(rex);
        }
        self.code.extend(opcode);
        self.modrm(reg, rm);
    }

    /// `d op= a`
    pub fn alu(&mut self, op: Alu, wide: bool, d: Gpr, a: impl Into<Rm>) {
        self.general(wide, &[op.code() << 3 | 3], d.0, a.into());
    }

    /// `[d] op= a`
    pub fn alu_to(&mut self, op: Alu, wide: bool, d: Mem, a: Gpr) {
        self.general(wide, &[op.code() << 3 | 1], a.0, d.into());
    }

    /// `d op= imm`
    pub fn alu_imm(&mut self, op: Alu, wide: bool, d: impl Into<Rm>, imm: i32) {
        match i8::try_from(imm) {
            Ok(imm) => {
                self.general(wide, &[0x83], op.code(), d.into());
                self.byte(imm as u8);
            }
            Err(_) => {
                self.general(wide, &[0x81], op.code(), d.into());
                self.code.extend(imm.to_le_bytes());
            }
        }
    }

    /// `d = a`
    pub fn mov(&mut self, wide: bool, d: Gpr, a: impl Into<Rm>) {
        self.general(wide, &[0x8b], d.0, a.into());
    }

    /// The low byte of RAX, RCX, RDX or RBX to memory.
    pub fn mov_byte_to(&mut self, d: Mem, a: Gpr) {
        debug_assert!(a.0 < 4);
        self.general(false, &[0x88], a.0, d.into());
    }

    /// `d` = 32 bits, zero-extended.
    pub fn mov_imm32(&mut self, d: Gpr, imm: u32) {
        if d.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0xb8 | (d.0 & 7));
        self.code.extend(imm.to_le_bytes());
    }

    /// `d` = 64 bits.
    pub fn mov_imm64(&mut self, d: Gpr, imm: u64) {
        self.code.extend([0x48 | d.0 >> 3, 0xb8 | (d.0 & 7)]);
        self.code.extend(imm.to_le_bytes());
    }

    /// `d` = the address of `a`.
    pub fn lea(&mut self, d: Gpr, a: Mem) {
        self.general(true, &[0x8d], d.0, a.into());
    }

    /// `d` = number of ones of `a`, 32 bits.
    pub fn popcnt(&mut self, d: Gpr, a: Gpr) {
        self.byte(0xf3);
        self.general(false, &[0x0f, 0xb8], d.0, a.into());
    }

    /// `d = a * imm`, 32 bits.
    pub fn imul(&mut self, d: Gpr, a: Gpr, imm: i32) {
        self.general(false, &[0x69], d.0, a.into());
        self.code.extend(imm.to_le_bytes());
    }

    /// `d = !d`, 32 bits.
    pub fn not(&mut self, d: Gpr) {
        self.general(false, &[0xf7], 2, d.into());
    }

    /// Compares `a & b` with 0, 32 bits.
    pub fn test(&mut self, a: Gpr, b: Gpr) {
        self.general(false, &[0x85], b.0, a.into());
    }

    /// Compares the low byte of RAX, RCX, RDX or RBX with 0.
    pub fn test_byte(&mut self, a: Gpr) {
        debug_assert!(a.0 < 4);
        self.general(false, &[0x84], a.0, a.into());
    }

    /// `d` = the low byte of RAX, RCX, RDX or RBX, zero-extended.
    pub fn movzx_byte(&mut self, d: Gpr, a: Gpr) {
        debug_assert!(a.0 < 4);
        self.general(false, &[0x0f, 0xb6], d.0, a.into());
    }

    /// Pushes a register.
    pub fn push(&mut self, r: Gpr) {
        if r.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x50 | (r.0 & 7));
    }

    /// Pops a register.
    pub fn pop(&mut self, r: Gpr) {
        if r.0 >= 8 {
            self.byte(0x41);
        }
        self.byte(0x58 | (r.0 & 7));
    }

    /// Calls the function whose address is in `a`.
    pub fn call(&mut self, a: impl Into<Rm>) {
        self.general(false, &[0xff], 2, a.into());
    }

    /// Jumps to the address in `a`.
    pub fn jmp_to(&mut self, a: impl Into<Rm>) {
        self.general(false, &[0xff], 4, a.into());
    }

    /// Returns.
    pub fn ret(&mut self) {
        self.byte(0xc3);
    }

    /// Jumps to a label.
    pub fn jmp(&mut self, to: Label) {
        self.byte(0xe9);
        self.distance(to);
    }

    /// Jumps to a label on a condition.
    pub fn jcc(&mut self, cond: Cond, to: Label) {
        self.code.extend([0x0f, 0x80 | cond as u8]);
        self.distance(to);
    }

    fn distance(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.code.extend([0; 4]);
    }
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
