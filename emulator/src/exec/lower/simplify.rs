//! Makes a lowered body cheaper to execute without changing what it does or what is counted.
//!
//! - A register whose only definition is a constant is replaced by the constant, and the `mov` is not executed: another
//!   operation of its block, which the same lanes execute as often, counts it (`folded`).
//! - `prmt` by a constant selector becomes two byte shuffles with known indices.
use super::build::{Body, Builder, V, VOp};
use crate::exec::class::Class;
use crate::exec::ops::words;
use crate::exec::program::Value;
use crate::exec::table::Code;
use std::collections::{HashMap, HashSet};

/// Simplifies a body.
pub fn simplify(b: &Builder<'_>, body: &mut Body) {
    let values: HashMap<V, Value> = b.constants.iter().map(|(value, v)| (*v, *value)).collect();
    let known = constants(b, body, &values);
    for op in &mut body.ops {
        op.s.iter_mut().for_each(|s| *s = *known.get(s).unwrap_or(s));
        permute(op, &values);
    }
    fold(body, |op| op.d.len() == 1 && known.contains_key(&op.d[0]));
}

/// Registers that only ever hold one constant, and that constant's register.
fn constants(b: &Builder<'_>, body: &Body, values: &HashMap<V, Value>) -> HashMap<V, V> {
    let mut definitions: HashMap<V, u32> = HashMap::new();
    for d in body.ops.iter().flat_map(|op| &op.d) {
        *definitions.entry(*d).or_default() += 1;
    }
    let is_constant = |op: &&VOp| {
        matches!(op.code, Code::Mov32 | Code::Mov64)
            && op.guard.is_none()
            && values.contains_key(&op.s[0])
            && definitions[&op.d[0]] == 1
            && body.registers.contains(&op.d[0])
            && b.kinds[op.d[0] as usize] == b.kinds[op.s[0] as usize]
    };
    body.ops.iter().filter(is_constant).map(|op| (op.d[0], op.s[0])).collect()
}

/// `prmt` in index mode by a constant without sign replication.
fn permute(op: &mut VOp, values: &HashMap<V, Value>) {
    if op.code == Code::Prmt
        && let Some(Value::Bits32(selector)) = values.get(&op.s[2])
        && selector & 0x8888 == 0
    {
        op.code = Code::PrmtFixed;
        op.imm = words::byte_indices(*selector);
        op.s.truncate(2);
    }
}

/// Can this operation count others? It is executed once for each time that control comes along, by the lanes that do.
fn carries(op: &VOp) -> bool {
    let class = op.code.entry().class;
    let plain = !matches!(class, Class::Warp | Class::Barrier | Class::Control | Class::Tensor | Class::Shared);
    plain && op.guard.is_none() && !op.ends && op.target.is_none() && op.folded < u8::MAX
}

/// Removes the operations that `dead` names where a neighbour of the same block can count them.
fn fold(body: &mut Body, dead: impl Fn(&VOp) -> bool) {
    let starts: HashSet<usize> = body.labels.values().copied().collect();
    let mut removed = vec![false; body.ops.len()];
    for i in (0..body.ops.len()).rev() {
        if !dead(&body.ops[i]) {
            continue;
        }
        // The next operation that stays, unless a label comes first; removed ones have handed on what they counted.
        let next = (i + 1..body.ops.len()).take_while(|j| !starts.contains(j)).find(|&j| !removed[j]);
        let previous = i.checked_sub(1).filter(|_| !starts.contains(&i));
        let carrier = [next, previous].into_iter().flatten().find(|&j| carries(&body.ops[j]));
        if let Some(j) = carrier.filter(|&j| body.ops[i].folded < u8::MAX - body.ops[j].folded) {
            body.ops[j].folded += u8::from(body.ops[i].counted) + body.ops[i].folded;
            removed[i] = true;
        }
    }
    let mut kept = 0;
    let places: Vec<usize> = removed
        .iter()
        .map(|gone| {
            let at = kept;
            kept += usize::from(!gone);
            at
        })
        .chain([removed.iter().filter(|gone| !**gone).count()])
        .collect();
    body.labels.values_mut().for_each(|at| *at = places[*at]);
    let mut gone = removed.into_iter();
    body.ops.retain(|_| !gone.next().unwrap_or(false));
}
