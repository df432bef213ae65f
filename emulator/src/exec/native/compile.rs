//! From a kernel's operations to native code: straight blocks, their counts, the calls of handlers, branches.
//!
//! Invariants: code runs for a warp of 32 active lanes; wherever it calls a handler, branches or leaves, all registers
//! that may still be read are in the register file, so that it can be left there for good. A block counts itself as
//! executed when it is entered; [`super::Native::run`] takes back what was not executed.
//!
//! R12 points at the context, R13 at `Cx::hits`, R14 at the constants, R15 at the operations, RBX at the register file.
use super::alu;
use super::encode::*;
use super::run::{self, Step};
use crate::exec::class::Class;
use crate::exec::cx::Cx;
use crate::exec::op::Op;
use crate::exec::program::{Kernel, Value};
use crate::exec::table::Code as Opcode;
use std::collections::{BTreeSet, HashMap};
use std::mem::offset_of;

/// Why native code was left, the number in RDX.
pub mod left {
    use crate::exec::op::Flow;
    /// The operation's handler set `cx.pc`.
    pub const JUMP: u32 = Flow::Jump as u32;
    /// The operation's handler set `cx.stop`.
    pub const STOP: u32 = Flow::Stop as u32;
    /// The operation is to be interpreted.
    pub const INTERPRET: u32 = 3;
    /// The lanes had their turn; they are at the operation.
    pub const TURN: u32 = 4;
}

/// Code and constants that are being written.
#[derive(Default)]
pub struct Code {
    /// The code.
    pub asm: Asm,
    constants: Vec<[u32; 8]>,
    known: HashMap<[u32; 8], i32>,
    rare: Vec<Rare>,
}

/// A rare case of a template, which is written behind all other code.
struct Rare {
    begin: Label,
    end: Label,
    d: Ymm,
    sources: [Ymm; 3],
    emit: fn(&mut Code, Ymm, [Ymm; 3]),
}

impl Code {
    /// A rare case, done by `emit`: where it begins, and where it goes on, a label to be bound by the caller.
    pub fn rare(&mut self, d: Ymm, sources: [Ymm; 3], emit: fn(&mut Code, Ymm, [Ymm; 3])) -> (Label, Label) {
        let (begin, end) = (self.asm.label(), self.asm.label());
        self.rare.push(Rare { begin, end, d, sources, emit });
        (begin, end)
    }

    /// Where a constant of 32 bytes lies.
    pub fn constant(&mut self, words: [u32; 8]) -> Mem {
        let constants = &mut self.constants;
        let disp = *self.known.entry(words).or_insert_with(|| {
            constants.push(words);
            32 * (constants.len() as i32 - 1)
        });
        Mem::at(R14, disp)
    }

    /// Where four times the number lies.
    pub fn doubles(&mut self, x: f64) -> Mem {
        let bits = x.to_bits();
        self.constant(std::array::from_fn(|i| (bits >> (32 * (i & 1))) as u32))
    }

    /// Where eight times the word lies.
    pub fn word(&mut self, word: u32) -> Mem {
        self.constant([word; 8])
    }
}

/// What is made of a kernel.
pub struct Compiled {
    /// The code; the first byte is the way in.
    pub code: Vec<u8>,
    /// Where the constants begin, a multiple of 32.
    pub constants: usize,
    /// Offset in the code of each operation that a block begins with, else 0.
    pub entries: Vec<u32>,
    /// The end of each operation's block.
    pub ends: Vec<u32>,
}

/// Compiles a kernel.
pub fn compile(kernel: &Kernel) -> Option<Compiled> {
    let mut starts = leaders(kernel);
    starts.insert(kernel.code.len());
    let starts: Vec<usize> = starts.into_iter().collect();
    let truth = kernel.constants.iter().find(|c| c.value == Value::True).map(|c| c.offset);
    let mut code = Code::default();
    prologue(&mut code.asm);
    let mut labels = vec![None; kernel.code.len()];
    for start in &starts[..starts.len() - 1] {
        labels[*start] = Some(code.asm.label());
    }
    let leave = code.asm.label();
    let mut writer = Writer { kernel, truth, code, labels, leave, exits: vec![] };
    for pair in starts.windows(2) {
        writer.block(pair[0], pair[1])?;
    }
    writer.finish(&starts)
}

/// Operations that may be reached other than from the one before: the first, targets of branches, and those after an
/// operation at which a warp may wait or turn.
fn leaders(kernel: &Kernel) -> BTreeSet<usize> {
    let mut starts = BTreeSet::from([0, kernel.entry]);
    for (i, op) in kernel.code.iter().enumerate() {
        match op.code {
            Opcode::Bra | Opcode::BraUni | Opcode::Call => drop(starts.insert(op.target as usize)),
            Opcode::BrxIdx => {
                let list = &kernel.operands[op.more as usize..];
                starts.extend(list.iter().take(op.imm as usize).map(|target| *target as usize));
            }
            _ => {}
        }
        if matches!(op.code.entry().class, Class::Control | Class::Barrier | Class::Warp) {
            starts.insert(i + 1);
        }
    }
    starts.retain(|s| *s < kernel.code.len());
    starts
}

/// The way in: `fn(cx, regs, entry, hits, constants, operations)`.
fn prologue(asm: &mut Asm) {
    for register in SAVED {
        asm.push(register);
    }
    // Calls want the stack at a multiple of 16.
    asm.alu_imm(Alu::Sub, true, RSP, 8);
    asm.mov(true, R12, RDI);
    asm.mov(true, RBX, RSI);
    asm.mov(true, R13, RCX);
    asm.mov(true, R14, Gpr(8));
    asm.mov(true, R15, Gpr(9));
    asm.jmp_to(RDX);
}

const SAVED: [Gpr; 6] = [RBX, RBP, R12, R13, R14, R15];

/// Adds the ones of EAX, weighed by what the operation counts, to the lanes that took no part. Destroys EAX.
pub fn idle_lanes(asm: &mut Asm, op: &Op) {
    let weight = weight(op);
    if weight == 0 {
        return;
    }
    asm.popcnt(RAX, RAX);
    if weight > 1 {
        asm.imul(RAX, RAX, weight);
    }
    asm.alu_to(Alu::Add, true, Mem::at(R12, offset_of!(Cx<'_>, idle_lanes) as i32), RAX);
}

/// How many instructions the operation counts for.
fn weight(op: &Op) -> i32 {
    i32::from(op.counted) + i32::from(op.folded)
}

struct Writer<'k> {
    kernel: &'k Kernel,
    /// Offset of the predicate that is always true.
    truth: Option<u32>,
    code: Code,
    labels: Vec<Option<Label>>,
    leave: Label,
    /// Ways out: where from, at which operation, and why (`None`: as AL says).
    exits: Vec<(Label, usize, Option<u32>)>,
}

impl<'k> Writer<'k> {
    /// Operations `start` to `end - 1`.
    fn block(&mut self, start: usize, end: usize) -> Option<()> {
        let asm = &mut self.code.asm;
        asm.bind(self.labels[start]?);
        asm.alu_imm(Alu::Add, true, Mem::at(R13, 8 * start as i32), 1);
        asm.alu_imm(Alu::Sub, true, Mem::at(R13, 8 * end as i32), 1);
        asm.alu_imm(Alu::Add, true, Mem::at(R12, offset_of!(Cx<'_>, executed) as i32), (end - start) as i32);
        let mut i = start;
        while i < end {
            let steps: Vec<Step<'k>> = (i..end).map_while(|i| self.step(i)).collect();
            if !steps.is_empty() {
                i += steps.len();
                run::emit(&mut self.code, &steps, i);
                continue;
            }
            let op = &self.kernel.code[i];
            match op.code {
                Opcode::Bra => self.branch(i, op)?,
                Opcode::BraUni => self.jump(i, op)?,
                Opcode::Fence | Opcode::Prefetch if self.guard(op).is_none() => {}
                _ => self.call(i, op),
            }
            i += 1;
        }
        Some(())
    }

    /// The offset of a guard that may be false.
    fn guard(&self, op: &Op) -> Option<u32> {
        (self.truth != Some(op.guard) || op.guard_not != 0).then_some(op.guard)
    }

    fn step(&self, i: usize) -> Option<Step<'k>> {
        let kernel: &'k Kernel = self.kernel;
        let op = &kernel.code[i];
        Some(Step { op, template: alu::template(op)?, guard: self.guard(op), until: kernel.until[i] })
    }

    /// A way out at operation `pc`.
    fn exit(&mut self, pc: usize, why: Option<u32>) -> Label {
        let label = self.code.asm.label();
        self.exits.push((label, pc, why));
        label
    }

    /// The guard's lanes to EDX.
    fn lanes(&mut self, op: &Op, guard: u32) {
        let asm = &mut self.code.asm;
        asm.mov(false, RDX, Mem::at(RBX, guard as i32));
        if op.guard_not != 0 {
            asm.not(RDX);
        }
    }

    fn jump(&mut self, pc: usize, op: &Op) -> Option<()> {
        let target = op.target as usize;
        if target <= pc {
            let turn = self.exit(target, Some(left::TURN));
            let asm = &mut self.code.asm;
            asm.alu_imm(Alu::Sub, false, Mem::at(R12, offset_of!(Cx<'_>, turns) as i32), 1);
            asm.jcc(Cond::E, turn);
        }
        self.code.asm.jmp(self.labels[target]?);
        Some(())
    }

    /// A branch that all lanes take or none; others are interpreted.
    fn branch(&mut self, pc: usize, op: &Op) -> Option<()> {
        let Some(guard) = self.guard(op) else { return self.jump(pc, op) };
        let apart = self.exit(pc, Some(left::INTERPRET));
        self.lanes(op, guard);
        let asm = &mut self.code.asm;
        let on = asm.label();
        asm.test(RDX, RDX);
        asm.jcc(Cond::E, on);
        asm.alu_imm(Alu::Cmp, false, RDX, -1);
        asm.jcc(Cond::Ne, apart);
        self.jump(pc, op)?;
        let asm = &mut self.code.asm;
        asm.bind(on);
        asm.alu_imm(Alu::Add, true, Mem::at(R12, offset_of!(Cx<'_>, idle_lanes) as i32), 32 * weight(op));
        Some(())
    }

    /// Calls the operation's handler.
    fn call(&mut self, pc: usize, op: &Op) {
        let skip = self.code.asm.label();
        if let Some(guard) = self.guard(op) {
            self.lanes(op, guard);
            let asm = &mut self.code.asm;
            asm.mov(false, RAX, RDX);
            asm.not(RAX);
            idle_lanes(asm, op);
            asm.test(RDX, RDX);
            asm.jcc(Cond::E, skip);
        } else {
            self.code.asm.mov_imm32(RDX, !0);
        }
        let out = self.exit(pc, None);
        let asm = &mut self.code.asm;
        asm.mov(true, RDI, R12);
        asm.lea(RSI, Mem::at(R15, (pc * size_of::<Op>()) as i32));
        asm.mov_imm64(RAX, op.run as usize as u64);
        asm.call(RAX);
        asm.test_byte(RAX);
        asm.jcc(Cond::Ne, out);
        asm.bind(skip);
    }

    /// The ways out, and the constants behind the code.
    fn finish(mut self, starts: &[usize]) -> Option<Compiled> {
        for rare in std::mem::take(&mut self.code.rare) {
            self.code.asm.bind(rare.begin);
            (rare.emit)(&mut self.code, rare.d, rare.sources);
            self.code.asm.jmp(rare.end);
        }
        let asm = &mut self.code.asm;
        for (label, pc, why) in &self.exits {
            asm.bind(*label);
            match why {
                Some(why) => asm.mov_imm32(RDX, *why),
                None => asm.movzx_byte(RDX, RAX),
            }
            asm.mov_imm32(RAX, *pc as u32);
            asm.jmp(self.leave);
        }
        asm.bind(self.leave);
        asm.alu_imm(Alu::Add, true, RSP, 8);
        SAVED.iter().rev().for_each(|register| asm.pop(*register));
        asm.ret();
        let Code { asm, constants, .. } = self.code;
        let (mut code, places) = asm.finish()?;
        code.resize(code.len().next_multiple_of(32), 0);
        let constants_at = code.len();
        code.extend(constants.iter().flatten().flat_map(|word| word.to_le_bytes()));
        let mut ends = vec![0; self.kernel.code.len()];
        for pair in starts.windows(2) {
            ends[pair[0]..pair[1]].fill(pair[1] as u32);
        }
        let place = |label: &Option<Label>| label.and_then(|label| places[label.index()]).unwrap_or(0) as u32;
        Some(Compiled { code, constants: constants_at, entries: self.labels.iter().map(place).collect(), ends })
    }
}
