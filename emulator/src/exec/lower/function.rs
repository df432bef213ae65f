//! Lowers one function: its blocks in running order, and the decoders of its instructions.
use super::build::{Body, Builder, Kind, V, VOp};
use super::parts::Parts;
use super::{arith, asynchronous, bits, compare, control, convert, error, memory, moves, multiply, tensor, warp};
use crate::exec::table::Code;
use crate::ptx::ast::{Function, Instr, Operand, Pos, Space, Stmt, Type};
use crate::ptx::cfg::Cfg;
use std::collections::HashMap;

/// The virtual registers of a PTX register: 128-bit ones take two.
#[derive(Clone, Copy, Debug)]
pub enum Home {
    /// A register of any width up to 64 bits.
    One(V),
    /// Low and high half.
    Two(V, V),
}

/// State while one function is lowered.
pub struct Lower<'b, 'm> {
    /// The kernel.
    pub b: &'b mut Builder<'m>,
    /// The function.
    pub f: &'m Function,
    /// Its index.
    pub index: usize,
    /// Operations so far.
    pub ops: Vec<VOp>,
    homes: Vec<Home>,
    /// Places of its variables in local memory.
    pub(super) locals: HashMap<u32, u32>,
    /// Places of its variables in shared memory.
    pub(super) shared: HashMap<u32, u32>,
    guard: Option<(V, bool)>,
    pos: Pos,
    after: Vec<VOp>,
    carry: Option<V>,
}

/// What lowers the instructions of a base opcode.
type Decoder = fn(&mut Lower<'_, '_>, &mut Parts<'_>, &[Operand]) -> Result<(), String>;

/// Every base opcode that is known.
const DECODERS: &[(&[&str], Decoder)] = &[
    (&["add", "sub"], arith::add_sub),
    (&["addc", "subc"], arith::add_sub_carry),
    (&["mul"], multiply::mul),
    (&["mad"], multiply::mad),
    (&["madc"], multiply::madc),
    (&["mul24", "mad24"], multiply::mul24),
    (&["fma"], multiply::fma),
    (&["div", "rem"], arith::div_rem),
    (&["sad"], arith::sad),
    (&["abs", "neg"], arith::abs_neg),
    (&["min", "max"], arith::min_max),
    (&["rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh"], arith::function),
    (&["copysign"], arith::copysign),
    (&["testp"], arith::testp),
    (&["and", "or", "xor", "not", "cnot"], bits::logic),
    (&["lop3"], bits::lop3),
    (&["shl", "shr"], bits::shift),
    (&["shf"], bits::funnel),
    (&["prmt"], bits::prmt),
    (&["bfe", "bfi", "bfind"], bits::field),
    (&["fns", "szext", "bmsk", "brev", "popc", "clz"], bits::count),
    (&["dp4a", "dp2a"], bits::dot),
    (&["setp", "set"], compare::set),
    (&["selp", "slct"], compare::select),
    (&["mov"], moves::mov),
    (&["cvt"], convert::cvt),
    (&["cvta"], moves::cvta),
    (&["isspacep"], moves::isspacep),
    (&["ld", "ldu"], memory::load),
    (&["st"], memory::store),
    (&["atom", "red"], memory::atomic),
    (&["prefetch", "prefetchu", "applypriority", "discard"], memory::hint),
    (&["createpolicy"], memory::policy),
    (&["cp"], memory::copy),
    (&["mbarrier"], asynchronous::mbarrier),
    (&["bra"], control::bra),
    (&["brx"], control::brx),
    (&["call"], control::call),
    (&["ret", "exit"], control::end),
    (&["trap", "brkpt"], control::trap),
    (&["nanosleep"], control::nanosleep),
    (&["bar", "barrier"], control::barrier),
    (&["membar", "fence", "griddepcontrol", "pmevent"], control::fence),
    (&["shfl"], warp::shfl),
    (&["vote"], warp::vote),
    (&["match"], warp::match_lanes),
    (&["redux"], warp::redux),
    (&["activemask"], warp::activemask),
    (&["elect"], warp::elect),
    (&["ldmatrix", "stmatrix"], tensor::matrix),
    (&["movmatrix"], tensor::movmatrix),
    (&["mma"], tensor::mma),
];

/// Lowers function `index`; errors go to the builder.
pub fn lower(b: &mut Builder<'_>, index: usize) -> Body {
    let f = &b.module.functions[index];
    let first = b.kinds.len() as V;
    let homes = f.regs.iter().map(|r| home(b, r.ty)).collect();
    let (mut locals, mut shared) = (HashMap::new(), HashMap::new());
    for (i, var) in f.vars.iter().enumerate() {
        match var.space {
            Space::Shared if var.size > 0 => drop(shared.insert(i as u32, b.shared_room(var.size, var.align))),
            Space::Local | Space::Param => drop(locals.insert(i as u32, b.local_room(var.size, var.align.max(8)))),
            _ => {}
        }
    }
    let mut lower =
        Lower { b, f, index, ops: vec![], homes, locals, shared, guard: None, pos: f.pos, after: vec![], carry: None };
    let labels = lower.blocks();
    let ops = lower.ops;
    Body { function: index, ops, labels, registers: first..b.kinds.len() as V }
}

fn home(b: &mut Builder<'_>, ty: Type) -> Home {
    match kind(ty) {
        Some(kind) => Home::One(b.register(kind)),
        None => Home::Two(b.register(Kind::R64), b.register(Kind::R64)),
    }
}

/// The label of a function's first block.
pub fn entry_label(f: &Function) -> u32 {
    f.labels.len() as u32
}

/// The kind of register for a type; `None` for 128 bits.
pub fn kind(ty: Type) -> Option<Kind> {
    match ty {
        Type::Pred => Some(Kind::Pred),
        _ if ty.bytes() == 16 => None,
        _ if ty.bytes() == 8 => Some(Kind::R64),
        _ => Some(Kind::R32),
    }
}

impl<'m> Lower<'_, 'm> {
    /// All blocks in running order; returns the labels' places.
    fn blocks(&mut self) -> HashMap<u32, usize> {
        let body: &'m [Stmt] = self.f.body.as_deref().unwrap_or_default();
        let cfg = Cfg::new(self.f);
        let mut order: Vec<usize> = (0..cfg.blocks.len()).collect();
        order.sort_by_key(|&i| cfg.blocks[i].priority);
        let mut labels = HashMap::new();
        // Blocks without a label get one, should another block have to jump to them.
        let own_label = |i: usize| self.f.labels.len() as u32 + i as u32;
        for (k, &i) in order.iter().enumerate() {
            let start = self.ops.len();
            labels.insert(own_label(i), start);
            for stmt in &body[cfg.blocks[i].stmts.clone()] {
                match stmt {
                    Stmt::Label(l) => drop(labels.insert(*l, self.ops.len())),
                    Stmt::Instr(instr) => self.instruction(instr),
                }
            }
            if self.ops[start..].last().is_some_and(|op| op.ends) {
                continue;
            }
            if i + 1 == cfg.blocks.len() {
                let code = if self.f.entry { Code::Exit } else { Code::Ret };
                self.end(code);
            } else if order.get(k + 1) != Some(&(i + 1)) {
                let mut op = VOp::new(Code::BraUni, self.pos);
                (op.target, op.counted, op.ends) = (Some((self.index, own_label(i + 1))), false, true);
                self.ops.push(op);
            }
        }
        if order.is_empty() {
            labels.insert(own_label(0), self.ops.len());
            self.end(if self.f.entry { Code::Exit } else { Code::Ret });
        }
        labels
    }

    /// The end that the function's text leaves out.
    fn end(&mut self, code: Code) {
        let mut op = VOp::new(code, self.pos);
        (op.counted, op.ends) = (false, true);
        if code == Code::Ret {
            op.s.push(self.link());
        }
        self.ops.push(op);
    }

    /// The register with the return address of this device function.
    pub fn link(&self) -> V {
        self.b.frames[&self.index].link
    }

    fn instruction(&mut self, instr: &Instr) {
        self.pos = instr.pos;
        self.guard = None;
        if let Some((reg, negated)) = instr.guard
            && let Home::One(v) = self.homes[reg as usize]
        {
            self.guard = Some((v, negated));
        }
        let base = instr.op[0].as_str();
        let decoder = DECODERS.iter().find(|(names, _)| names.contains(&base)).map(|(_, d)| *d);
        let mut parts = Parts::new(&instr.op);
        let result = match decoder {
            Some(decode) => decode(self, &mut parts, &instr.args).and_then(|()| parts.finish()),
            None => Err(format!("unknown instruction {}", instr.op.join("."))),
        };
        self.ops.append(&mut self.after);
        if let Err(message) = result {
            self.b.errors.push(error(self.b.module, instr.pos, message));
        }
    }

    /// Adds the operation that stands for the instruction.
    pub fn op(&mut self, code: Code, d: &[V], s: &[V]) -> &mut VOp {
        self.push(code, d, s, true)
    }

    /// Adds a helper operation, which is not counted.
    pub fn aux(&mut self, code: Code, d: &[V], s: &[V]) -> &mut VOp {
        self.push(code, d, s, false)
    }

    fn push(&mut self, code: Code, d: &[V], s: &[V], counted: bool) -> &mut VOp {
        let mut op = VOp::new(code, self.pos);
        (op.guard, op.d, op.s, op.counted) = (self.guard, d.to_vec(), s.to_vec(), counted);
        self.ops.push(op);
        let last = self.ops.len() - 1;
        &mut self.ops[last]
    }

    /// Adds a helper operation that follows the instruction.
    pub fn later(&mut self, code: Code, d: &[V], s: &[V], imm: i64) {
        let mut op = VOp::new(code, self.pos);
        (op.guard, op.d, op.s, op.imm, op.counted) = (self.guard, d.to_vec(), s.to_vec(), imm, false);
        self.after.push(op);
    }

    /// A temporary register.
    pub fn temp(&mut self, kind: Kind) -> V {
        self.b.register(kind)
    }

    /// The home of a PTX register.
    pub fn home(&self, reg: u32) -> Home {
        self.homes[reg as usize]
    }

    /// The carry flag.
    pub fn carry(&mut self) -> V {
        let b = &mut self.b;
        *self.carry.get_or_insert_with(|| b.register(Kind::Pred))
    }
}
