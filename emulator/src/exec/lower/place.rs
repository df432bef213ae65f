//! Gives virtual registers their places in the register file, and encodes the operations.
//!
//! Registers of one width whose lifetimes do not meet share a place, so that a warp's file stays as small as the
//! hardware's. Lifetimes are those of a single thread: lanes do not see each other's registers, so diverged lanes need
//! no more. Each function has places of its own, since a caller's registers live through the call; the three widths are
//! kept apart, so that a result never overlaps a source in part.
use super::build::{Body, Builder, Item, Kind, Label, V, VOp};
use crate::exec::KernelInfo;
use crate::exec::op::Op;
use crate::exec::program::{Constant, Kernel, Value};
use crate::exec::table::Code;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

/// First and last moment of a register's life; operation `i` reads at `2i` and writes at `2i + 1`.
type Life = (u32, u32);

/// Places all registers and encodes the operations.
pub fn place(b: &Builder<'_>, bodies: Vec<Body>, mut info: KernelInfo) -> Kernel {
    let mut file = File::new(b);
    let mut registers = 0;
    let (mut entry_inputs, mut until, mut start) = (vec![], vec![], 0);
    for body in &bodies {
        let (lives, inputs) = lifetimes(b, body);
        registers += file.assign(b, &lives);
        until.extend(body.ops.iter().map(|op| match op.d.as_slice() {
            [d] => lives.get(d).map_or(u32::MAX, |life| 2 * start + life.1),
            _ => u32::MAX,
        }));
        start += body.ops.len() as u32;
        entry_inputs = inputs;
    }
    let (offsets, file_bytes) = file.finish(b);
    info.registers = (registers + 8).max(16).min(info.registers);
    let encoder = Encoder::new(b, &bodies, &offsets);
    let entry = bodies.last().map_or(0, |body| encoder.starts[bodies.len() - 1] + body.labels[&entry_label(b, body)]);
    let constants = b.constants.iter().map(|(value, v)| Constant { offset: offsets[*v as usize], value: *value });
    let cleared = entry_inputs.iter().map(|v| (offsets[*v as usize], b.kinds[*v as usize].bytes())).collect();
    let mut kernel = Kernel {
        info,
        code: vec![],
        places: vec![],
        operands: vec![],
        entry,
        file_bytes,
        constants: constants.collect(),
        cleared,
        mmas: b.mmas.clone(),
        dynamic_base: b.dynamic_base,
        sites: 0,
        until,
        native: OnceLock::new(),
    };
    encoder.encode(&bodies, &mut kernel);
    kernel.constants.sort_by_key(|c| c.offset);
    kernel
}

fn entry_label(b: &Builder<'_>, body: &Body) -> u32 {
    super::function::entry_label(&b.module.functions[body.function])
}

/// The registers that an operation reads.
fn uses(op: &VOp) -> impl Iterator<Item = V> + '_ {
    op.guard.iter().map(|(v, _)| *v).chain(op.s.iter().copied())
}

/// A set of registers, as bits.
#[derive(Clone, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn has(&self, i: usize) -> bool {
        self.0[i / 64] >> (i % 64) & 1 != 0
    }
    fn put(&mut self, i: usize) {
        self.0[i / 64] |= 1 << (i % 64);
    }
    fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(w, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let i = rest.trailing_zeros();
                rest &= rest.wrapping_sub(1);
                (i < 64).then_some(w * 64 + i as usize)
            })
        })
    }
}

/// A straight run of operations.
struct Run {
    start: usize,
    end: usize,
    next: Vec<usize>,
    reads: Set,
    writes: Set,
    live_in: Set,
}

/// Lives of a body's registers, and the registers that are live where it begins.
fn lifetimes(b: &Builder<'_>, body: &Body) -> (BTreeMap<V, Life>, Vec<V>) {
    let base = body.registers.start;
    let count = (body.registers.end - base) as usize;
    let constant: HashSet<V> = b.constants.values().copied().collect();
    let index = |v: V| body.registers.contains(&v).then(|| (v - base) as usize).filter(|_| !constant.contains(&v));
    let mut runs = runs(body, count, &index);
    let empty = Set(vec![0; count.div_ceil(64)]);
    let mut out: Vec<Set> = vec![empty; runs.len()];
    let mut changed = true;
    while changed {
        changed = false;
        for i in (0..runs.len()).rev() {
            for n in runs[i].next.clone() {
                for (o, x) in out[i].0.iter_mut().zip(&runs[n].live_in.0) {
                    *o |= x;
                }
            }
            let run = &mut runs[i];
            let mut live = run.live_in.clone();
            for (w, l) in live.0.iter_mut().enumerate() {
                *l |= run.reads.0[w] | (out[i].0[w] & !run.writes.0[w]);
            }
            changed |= live != run.live_in;
            run.live_in = live;
        }
    }
    let mut lives: BTreeMap<V, Life> = BTreeMap::new();
    let mut extend = |v: usize, at: u32| {
        let life = lives.entry(base + v as V).or_insert((at, at));
        *life = (life.0.min(at), life.1.max(at));
    };
    for (run, out) in runs.iter().zip(&out) {
        run.live_in.iter().for_each(|v| extend(v, 2 * run.start as u32));
        out.iter().for_each(|v| extend(v, 2 * run.end as u32 - 1));
        for (i, op) in body.ops[run.start..run.end].iter().enumerate() {
            let at = 2 * (run.start + i) as u32;
            uses(op).filter_map(index).for_each(|v| extend(v, at));
            op.d.iter().copied().filter_map(index).for_each(|v| extend(v, at + 1));
        }
    }
    let start = body.labels[&entry_label(b, body)];
    let inputs = runs.iter().find(|r| r.start == start).map(|r| r.live_in.iter().map(|v| base + v as V).collect());
    (lives, inputs.unwrap_or_default())
}

/// The straight runs of a body, with what they read before writing and what they certainly write.
fn runs(body: &Body, count: usize, index: &impl Fn(V) -> Option<usize>) -> Vec<Run> {
    let jumps = |op: &VOp| op.ends || (op.target.is_some() && op.code != Code::Call);
    let mut starts: Vec<usize> = body.labels.values().copied().collect();
    starts.extend(body.ops.iter().enumerate().filter(|(_, op)| jumps(op)).map(|(i, _)| i + 1));
    starts.push(0);
    starts.retain(|s| *s < body.ops.len());
    starts.sort_unstable();
    starts.dedup();
    let run_at: HashMap<usize, usize> = starts.iter().enumerate().map(|(i, s)| (*s, i)).collect();
    let target = |label: &Label| run_at.get(&body.labels[&label.1]).copied();
    let empty = Set(vec![0; count.div_ceil(64)]);
    let mut runs = vec![];
    for (i, &start) in starts.iter().enumerate() {
        let end = starts.get(i + 1).copied().unwrap_or(body.ops.len());
        let (mut reads, mut writes) = (empty.clone(), empty.clone());
        let mut next = vec![];
        for op in &body.ops[start..end] {
            for v in uses(op).filter_map(index).filter(|v| !writes.has(*v)).collect::<Vec<_>>() {
                reads.put(v);
            }
            if op.guard.is_none() {
                op.d.iter().copied().filter_map(index).for_each(|v| writes.put(v));
            }
            if op.code != Code::Call {
                next.extend(op.target.iter().filter_map(target));
                next.extend(op.list.iter().filter_map(|i| if let Item::Label(l) = i { target(l) } else { None }));
            }
        }
        if !body.ops[end - 1].ends && i + 1 < starts.len() {
            next.push(i + 1);
        }
        runs.push(Run { start, end, next, live_in: reads.clone(), reads, writes });
    }
    runs
}

/// The register file while it is laid out: places are numbered by width.
struct File {
    places: Vec<Option<u32>>,
    used: [u32; 3],
}

fn width(kind: Kind) -> usize {
    match kind {
        Kind::Pred => 0,
        Kind::R32 => 1,
        Kind::R64 => 2,
    }
}

impl File {
    /// Constants and return addresses have places for good.
    fn new(b: &Builder<'_>) -> File {
        let mut file = File { places: vec![None; b.kinds.len()], used: [0; 3] };
        let mut fixed: Vec<V> = b.constants.values().copied().collect();
        fixed.extend(b.frames.values().map(|f| f.link));
        fixed.sort_unstable();
        for v in fixed {
            let w = width(b.kinds[v as usize]);
            file.places[v as usize] = Some(file.used[w]);
            file.used[w] += 1;
        }
        file
    }

    /// Places a function's registers by linear scan; the 32-bit registers that it needs.
    fn assign(&mut self, b: &Builder<'_>, lives: &BTreeMap<V, Life>) -> u32 {
        let mut order: Vec<(V, Life)> = lives.iter().map(|(v, life)| (*v, *life)).collect();
        order.sort_by_key(|(v, life)| (life.0, *v));
        let mut free: [Vec<u32>; 3] = Default::default();
        let mut busy: [Vec<(u32, u32)>; 3] = Default::default();
        let first = self.used;
        for (v, (start, end)) in order {
            let w = width(b.kinds[v as usize]);
            busy[w].retain(|(until, place)| {
                let over = *until < start;
                if over {
                    free[w].push(*place);
                }
                !over
            });
            let place = free[w].pop().unwrap_or_else(|| {
                self.used[w] += 1;
                self.used[w] - 1
            });
            busy[w].push((end, place));
            self.places[v as usize] = Some(place);
        }
        (self.used[1] - first[1]) + 2 * (self.used[2] - first[2])
    }

    /// Byte offsets of all registers, and the size of the file.
    fn finish(self, b: &Builder<'_>) -> (Vec<u32>, usize) {
        let bases = {
            let preds = (self.used[0].max(1) * 4).next_multiple_of(256);
            [0, preds, preds + self.used[1] * 128]
        };
        let bases = [bases[0], bases[1], bases[2].next_multiple_of(256)];
        let bytes = bases[2] + self.used[2] * 256;
        let offset = |v: usize| {
            let w = width(b.kinds[v]);
            // A register that no operation names gets the first place of its width; it is never accessed.
            bases[w] + self.places[v].unwrap_or(0) * b.kinds[v].bytes()
        };
        ((0..b.kinds.len()).map(offset).collect(), bytes.next_multiple_of(256).max(256) as usize)
    }
}

/// Turns operations over virtual registers into operations over places.
struct Encoder<'b> {
    offsets: &'b [u32],
    truth: u32,
    /// Where each body begins.
    starts: Vec<usize>,
    /// Index of each label's operation.
    labels: HashMap<Label, u32>,
}

impl<'b> Encoder<'b> {
    fn new(b: &Builder<'_>, bodies: &[Body], offsets: &'b [u32]) -> Encoder<'b> {
        let (mut starts, mut labels, mut at) = (vec![], HashMap::new(), 0);
        for body in bodies {
            starts.push(at);
            for (label, i) in &body.labels {
                labels.insert((body.function, *label), (at + i) as u32);
            }
            at += body.ops.len();
        }
        let truth = b.constants.get(&Value::True).map_or(0, |v| offsets[*v as usize]);
        Encoder { offsets, truth, starts, labels }
    }

    fn encode(&self, bodies: &[Body], kernel: &mut Kernel) {
        for op in bodies.iter().flat_map(|body| &body.ops) {
            let reg = |v: &V| self.offsets[*v as usize];
            let more = kernel.operands.len() as u32;
            if !op.list.is_empty() {
                kernel.operands.extend(op.list.iter().map(|item| match item {
                    Item::Raw(n) => *n,
                    Item::Label(l) => self.labels[l],
                }));
            } else if op.d.len() > 1 || op.s.len() > 3 {
                kernel.operands.extend(op.d.iter().chain(&op.s).map(reg));
            }
            if op.site {
                kernel.sites += 1;
            }
            let source = |i: usize| op.s.get(i).map_or(0, reg);
            kernel.places.push(op.pos);
            kernel.code.push(Op {
                run: op.code.handler(),
                d: op.d.first().map_or(0, reg),
                a: source(0),
                b: source(1),
                c: source(2),
                guard: op.guard.map_or(self.truth, |(v, _)| reg(&v)),
                guard_not: if op.guard.is_some_and(|(_, negated)| negated) { !0 } else { 0 },
                imm: op.imm,
                more: op.raw_more.unwrap_or(more),
                target: op.target.map_or(op.raw_target, |l| self.labels[&l]),
                site: kernel.sites.saturating_sub(1) as u32,
                code: op.code,
                counted: op.counted,
                folded: op.folded,
            });
        }
    }
}
