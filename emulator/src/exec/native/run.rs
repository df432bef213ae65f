//! A straight run of lane-wise operations, executed for eight lanes at a time: registers of the file live in vector
//! registers while the run needs them, and what nobody reads afterwards is never stored.
//!
//! RBX points at the register file. A long run is a loop over the quarters of the warp, which RDX counts, RCX being 32
//! times that; a short one is written four times. A predicate is kept as a mask of eight words. Vector registers 0 to 3 are at the templates' disposal, the others hold registers.
use super::alu::{Kind, Template};
use super::compile::{Code, idle_lanes};
use super::encode::*;
use crate::exec::op::Op;

/// Scratch registers of templates.
pub const T: [Ymm; 4] = [Ymm(0), Ymm(1), Ymm(2), Ymm(3)];
/// First vector register that holds a register of the file.
const FIRST: u8 = 4;

/// An operation of a run.
pub struct Step<'k> {
    /// The operation.
    pub op: &'k Op,
    /// How it is done.
    pub template: Template,
    /// Its guard's offset, unless that is always true.
    pub guard: Option<u32>,
    /// The moment of the last reading of its result: operation `i` reads at `2i`.
    pub until: u32,
}

impl Step<'_> {
    /// Registers that it reads, with their kinds.
    fn reads(&self) -> impl Iterator<Item = (u32, Kind)> + '_ {
        let sources = [self.op.a, self.op.b, self.op.c].into_iter().zip(self.template.sources.iter().copied());
        // Lanes whose guard is false keep what they have.
        let kept = self.guard.iter().flat_map(|g| [(*g, Kind::Pred), (self.op.d, self.template.result)]);
        sources.chain(kept)
    }
}

/// A part of a register of the file, held in a vector register.
#[derive(Clone, Copy)]
struct Held {
    offset: u32,
    kind: Kind,
    /// Of a 64-bit register, the half of the quarter's lanes.
    part: u8,
    reg: Ymm,
    /// Differs from the file.
    dirty: bool,
    until: u32,
}

/// State while a run is written.
pub struct Run<'a, 'k> {
    /// Where the code goes.
    pub code: &'a mut Code,
    steps: &'a [Step<'k>],
    /// The step that is being written.
    now: usize,
    /// Index of the operation after the run.
    end: usize,
    /// The quarter of the warp; `None`: in a loop.
    quarter: Option<u8>,
    held: Vec<Held>,
    /// Vector registers that the step uses.
    pinned: u16,
}

/// Longest run that is written four times.
const SHORT: usize = 5;

/// Writes a run; `end` is the index of the operation after it.
pub fn emit(code: &mut Code, steps: &[Step<'_>], end: usize) {
    if steps.len() <= SHORT {
        (0..4).for_each(|quarter| emit_quarter(code, steps, end, Some(quarter)));
        return code.asm.vzeroupper();
    }
    let asm = &mut code.asm;
    asm.alu(Alu::Xor, false, RDX, RDX);
    asm.alu(Alu::Xor, false, RCX, RCX);
    let again = asm.label();
    asm.bind(again);
    emit_quarter(code, steps, end, None);
    let asm = &mut code.asm;
    asm.alu_imm(Alu::Add, false, RDX, 1);
    asm.alu_imm(Alu::Add, false, RCX, 32);
    asm.alu_imm(Alu::Cmp, false, RDX, 4);
    asm.jcc(Cond::Ne, again);
    asm.vzeroupper();
}

/// Writes a run for a quarter of the warp, or for the one that RCX and RDX name.
fn emit_quarter(code: &mut Code, steps: &[Step<'_>], end: usize, quarter: Option<u8>) {
    let mut run = Run { code, steps, now: 0, end, quarter, held: Vec::new(), pinned: 0 };
    for (i, step) in steps.iter().enumerate() {
        run.now = i;
        run.step(step);
    }
    for held in std::mem::take(&mut run.held) {
        if held.dirty && run.outlives(&held) {
            run.store(&held);
        }
    }
}

impl Run<'_, '_> {
    /// Where the quarter's part of a register lies in the file.
    fn place(&self, offset: u32, kind: Kind, part: u8) -> Mem {
        let disp = offset as i32 + 32 * i32::from(part);
        let (index, step) = match kind {
            Kind::Pred => ((RDX, 0), 1),
            Kind::Word => ((RCX, 0), 32),
            Kind::Double => ((RCX, 1), 64),
        };
        match self.quarter {
            Some(quarter) => Mem::at(RBX, disp + step * i32::from(quarter)),
            None => Mem { base: RBX, index: Some(index), disp },
        }
    }

    fn step(&mut self, step: &Step<'_>) {
        let (op, template) = (step.op, &step.template);
        self.pinned = 0;
        let mut sources = [[T[0]; 2]; 3];
        for ((source, kind), offset) in sources.iter_mut().zip(template.sources).zip([op.a, op.b, op.c]) {
            *source = self.read(offset, *kind);
        }
        let guard = step.guard.map(|g| (self.read(g, Kind::Pred)[0], self.read(op.d, template.result)));
        let parts = template.result.parts();
        let mut d = [T[0]; 2];
        for register in &mut d[..parts as usize] {
            *register = self.room();
        }
        (template.emit)(self, op, d, sources);
        if let Some((guard, old)) = guard {
            self.merge(op, template.result, d, old, guard);
        }
        self.held.retain(|h| h.offset != op.d);
        for part in 0..parts {
            let (offset, reg, until) = (op.d, d[part as usize], step.until);
            self.held.push(Held { offset, kind: template.result, part, reg, dirty: true, until });
        }
    }

    /// Puts the old values back into the lanes whose guard is false, and counts those.
    fn merge(&mut self, op: &Op, kind: Kind, d: [Ymm; 2], old: [Ymm; 2], guard: Ymm) {
        let negated = op.guard_not != 0;
        let masks = if kind == Kind::Double { self.widen(guard) } else { [guard; 2] };
        for part in 0..kind.parts() as usize {
            let (on, off) = if negated { (old[part], d[part]) } else { (d[part], old[part]) };
            self.code.asm.blend(VPBLENDVB, d[part], off, on, masks[part]);
        }
        let asm = &mut self.code.asm;
        asm.signs(RAX, guard);
        if !negated {
            asm.alu_imm(Alu::Xor, false, RAX, 0xff);
        }
        idle_lanes(asm, op);
    }

    /// A mask of words as masks of doublewords, in two scratch registers.
    pub fn widen(&mut self, mask: Ymm) -> [Ymm; 2] {
        let asm = &mut self.code.asm;
        asm.op2(VPMOVSXDQ, T[0], mask);
        asm.store(VEXTRACTI128, T[1], mask, Some(1));
        asm.op2(VPMOVSXDQ, T[1], T[1]);
        [T[0], T[1]]
    }

    /// The vector registers that hold a register.
    fn read(&mut self, offset: u32, kind: Kind) -> [Ymm; 2] {
        let mut out = [T[0]; 2];
        for part in 0..kind.parts() {
            let found = self.held.iter().find(|h| (h.offset, h.kind, h.part) == (offset, kind, part));
            let reg = match found.map(|h| h.reg) {
                Some(reg) => {
                    self.pinned |= 1 << reg.0;
                    reg
                }
                None => self.load(offset, kind, part),
            };
            out[part as usize] = reg;
        }
        out
    }

    fn load(&mut self, offset: u32, kind: Kind, part: u8) -> Ymm {
        let reg = self.room();
        let from = self.place(offset, kind, part);
        if kind == Kind::Pred {
            let bits = self.code.constant(std::array::from_fn(|l| 1 << l));
            let asm = &mut self.code.asm;
            asm.op2(VPBROADCASTB, reg, from);
            asm.op3(VPAND, reg, reg, bits);
            asm.op3(VPCMPEQD, reg, reg, bits);
        } else {
            self.code.asm.op2(VMOVDQU, reg, from);
        }
        self.held.push(Held { offset, kind, part, reg, dirty: false, until: u32::MAX });
        reg
    }

    /// A vector register for the step: a free one, or that of the register that is needed last.
    fn room(&mut self) -> Ymm {
        let used = self.held.iter().fold(self.pinned, |used, h| used | 1 << h.reg.0);
        let reg = match (FIRST..16).find(|r| used >> r & 1 == 0) {
            Some(free) => Ymm(free),
            None => self.evict(),
        };
        self.pinned |= 1 << reg.0;
        reg
    }

    fn evict(&mut self) -> Ymm {
        let next = |h: &Held| {
            let reads = |s: &Step<'_>| s.reads().any(|(offset, kind)| (offset, kind) == (h.offset, h.kind));
            self.steps[self.now..].iter().position(reads)
        };
        let candidates = (0..self.held.len()).filter(|i| self.pinned >> self.held[*i].reg.0 & 1 == 0);
        let furthest = candidates.max_by_key(|i| next(&self.held[*i]).unwrap_or(usize::MAX));
        // A step pins at most eleven of the twelve registers.
        let victim = self.held[furthest.unwrap_or(0)];
        if victim.dirty && (next(&victim).is_some() || self.outlives(&victim)) {
            self.store(&victim);
        }
        self.held.retain(|h| h.reg != victim.reg);
        victim.reg
    }

    /// Is the value read after the run? `2 * end - 1` is the moment of those that are.
    fn outlives(&self, held: &Held) -> bool {
        held.until > 2 * self.end as u32 - 2
    }

    fn store(&mut self, held: &Held) {
        let to = self.place(held.offset, held.kind, held.part);
        let asm = &mut self.code.asm;
        if held.kind == Kind::Pred {
            asm.signs(RAX, held.reg);
            asm.mov_byte_to(to, RAX);
        } else {
            asm.store(VMOVDQU_STORE, to, held.reg, None);
        }
    }
}
