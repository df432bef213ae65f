//! Puts a look before every access to memory, for the checks of [`crate::check`].
use super::build::{Body, VOp};
use crate::check::shared::How;
use crate::exec::class::Class;
use crate::exec::ops::watch::Watched;
use crate::exec::table::Code;

/// Adds the operations.
pub fn watch(body: &mut Body) {
    let mut ops = Vec::with_capacity(body.ops.len());
    let mut places = Vec::with_capacity(body.ops.len() + 1);
    for op in body.ops.drain(..) {
        places.push(ops.len());
        ops.extend(looks(&op));
        let meets = (op.code == Code::WarpSync).then(|| aside(&op, Code::WatchMeet));
        ops.push(op);
        ops.extend(meets);
    }
    places.push(ops.len());
    body.ops = ops;
    body.labels.values_mut().for_each(|at| *at = places[*at]);
}

/// An operation that belongs to another one and is not counted.
fn aside(op: &VOp, code: Code) -> VOp {
    VOp { guard: op.guard, counted: false, ..VOp::new(code, op.pos) }
}

/// What to look at before an operation.
fn looks(op: &VOp) -> Option<VOp> {
    let watched = |shared, how, size, lanes| Watched { shared, how, size, lanes };
    let (what, displacement) = match op.code {
        // Asynchronous copies write when they complete; their sources are read as the copy's own check says.
        Code::CopyAsync => return None,
        Code::LdMatrix => (watched(true, How::Read, 16, 8 * (op.imm >> 1 & 7) as u32), op.imm >> 8),
        Code::StMatrix => (watched(true, How::Write, 16, 8 * (op.imm >> 1 & 7) as u32), op.imm >> 8),
        code if code.entry().class == Class::Atomic => {
            let name = code.entry().name;
            (watched(name.contains("Shared"), How::Atomic, trailing_bits(name)? / 8, 32), op.imm >> 8)
        }
        code => (transfer(code.entry().name, op.raw_target != 0, watched)?, op.imm),
    };
    let mut look = aside(op, Code::Watch);
    (look.s, look.imm, look.raw_target) = (vec![op.s[0]], displacement, what.pack());
    Some(look)
}

/// Bits of an element: the number at the end of a row's name.
fn trailing_bits(name: &str) -> Option<u32> {
    name.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// A load or store by the name of its row, `LdGlobalV2x32` for example.
fn transfer(name: &str, strong: bool, watched: impl Fn(bool, How, u32, u32) -> Watched) -> Option<Watched> {
    let (how, rest) = match (name.strip_prefix("Ld"), name.strip_prefix("St")) {
        (Some(rest), _) => (How::Read, rest),
        (_, Some(rest)) => (How::Write, rest),
        _ => return None,
    };
    let shared = rest.starts_with("Shared");
    if !shared && !rest.starts_with("Global") {
        return None;
    }
    let elements = if rest.contains("V2") { 2 } else { 1 + 3 * u32::from(rest.contains("V4")) };
    let how = match how {
        How::Read if strong => How::StrongRead,
        How::Write if strong => How::StrongWrite,
        weak => weak,
    };
    Some(watched(shared, how, elements * trailing_bits(name)? / 8, 32))
}
