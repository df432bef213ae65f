//! Lowering: from PTX instructions to operations over a register file.
//!
//! A kernel and the device functions that it calls become one code: callees before callers, and each function's blocks
//! in the order in which diverged lanes should run, so that "lowest index first" is the scheduler's whole policy. Then
//! [`place`] gives every virtual register a place in the file.
mod arith;
mod asynchronous;
mod bits;
mod build;
mod compare;
mod control;
mod convert;
mod function;
mod memory;
mod moves;
mod multiply;
mod operand;
mod parts;
mod place;
mod simplify;
mod tensor;
mod warp;
mod watch;

use super::program::{Kernel, Value};
use super::{KernelInfo, LoadError};
use crate::check::Checks;
use crate::ptx::ast::{Function, Module, Operand, Space, Stmt, Sym};
use build::{Body, Builder, Frame, Kind};
use std::collections::HashMap;

/// Lowers one kernel. `addresses`: device addresses of the module's variables. `checks`: what is to be looked at.
///
/// # Errors
/// Every instruction that cannot be executed.
pub fn kernel(
    module: &Module,
    entry: &Function,
    addresses: &[Option<u64>],
    checks: Checks,
) -> Result<Kernel, Vec<LoadError>> {
    let mut b = Builder {
        module,
        addresses,
        kinds: vec![],
        constants: HashMap::new(),
        mmas: vec![],
        local: 0,
        shared: 0,
        shared_vars: HashMap::new(),
        dynamic_base: 0,
        frames: HashMap::new(),
        errors: vec![],
    };
    let index = module.functions.iter().position(|f| std::ptr::eq(f, entry)).unwrap_or(0);
    let order = match call_order(module, index) {
        Ok(order) => order,
        Err(name) => {
            let message = format!("{}: recursive calls of {name} cannot be executed", entry.name);
            return Err(vec![error(module, entry.pos, message)]);
        }
    };
    // Unguarded operations are guarded by it.
    b.constant(Value::True);
    place_shared(&mut b, &order);
    for &f in &order {
        make_frame(&mut b, f);
    }
    let mut bodies: Vec<Body> = order.iter().map(|&f| function::lower(&mut b, f)).collect();
    if !b.errors.is_empty() {
        return Err(b.errors);
    }
    bodies.iter_mut().for_each(|body| simplify::simplify(&b, body));
    if checks.accesses() {
        bodies.iter_mut().for_each(watch::watch);
    }
    let mut info = describe(entry);
    info.static_shared = b.shared;
    info.local_bytes = b.local.next_multiple_of(16);
    Ok(place::place(&b, bodies, info))
}

/// An error at a place.
fn error(module: &Module, pos: crate::ptx::ast::Pos, message: String) -> LoadError {
    let file = module.files.iter().find(|(n, _)| *n == pos.file).map(|(_, path)| path.clone()).unwrap_or_default();
    LoadError { pos, file, message }
}

/// The functions with a body that `entry` reaches by calls, callees first; the name of a recursive one as the error.
fn call_order(module: &Module, entry: usize) -> Result<Vec<usize>, &str> {
    fn visit<'m>(m: &'m Module, f: usize, open: &mut Vec<usize>, done: &mut Vec<usize>) -> Result<(), &'m str> {
        if done.contains(&f) {
            return Ok(());
        }
        if open.contains(&f) {
            return Err(&m.functions[f].name);
        }
        open.push(f);
        for callee in callees(&m.functions[f]) {
            let callee = definition(m, callee as usize);
            if m.functions[callee].body.is_some() {
                visit(m, callee, open, done)?;
            }
        }
        open.pop();
        done.push(f);
        Ok(())
    }
    let mut done = vec![];
    visit(module, entry, &mut vec![], &mut done)?;
    Ok(done)
}

/// The function with a body that has the name of function `f`, else `f`: declarations may precede definitions.
fn definition(module: &Module, f: usize) -> usize {
    let name = &module.functions[f].name;
    module.functions.iter().position(|g| g.body.is_some() && g.name == *name).unwrap_or(f)
}

/// The functions that a body calls by name.
fn callees(function: &Function) -> impl Iterator<Item = u32> + '_ {
    operands(function).filter_map(|o| match o {
        Operand::Addr(Sym::Function(f), _) => Some(*f),
        _ => None,
    })
}

/// All operands of a body.
fn operands(function: &Function) -> impl Iterator<Item = &Operand> {
    function.body.iter().flatten().flat_map(|s| match s {
        Stmt::Instr(i) => i.args.as_slice(),
        Stmt::Label(_) => &[],
    })
}

/// Gives the shared variables of the kernel their places, the dynamic memory last.
fn place_shared(b: &mut Builder<'_>, order: &[usize]) {
    let module = b.module;
    let mut dynamic_align = 1;
    for &f in order {
        for operand in operands(&module.functions[f]) {
            let sym = match operand {
                Operand::Addr(sym, _) => sym,
                Operand::Mem(crate::ptx::ast::MemBase::Sym(sym), _) => sym,
                _ => continue,
            };
            let Sym::ModuleVar(v) = sym else { continue };
            let var = &module.vars[*v as usize];
            if var.space != Space::Shared || b.shared_vars.contains_key(v) {
                continue;
            }
            if var.size == 0 {
                dynamic_align = dynamic_align.max(var.align);
            } else {
                let at = b.shared_room(var.size, var.align);
                b.shared_vars.insert(*v, at);
            }
        }
    }
    // Function-level shared variables are placed with their function's frame, so the dynamic memory must follow those.
    let own: Vec<_> = order.iter().flat_map(|&f| module.functions[f].vars.iter()).collect();
    let mut end = b.shared;
    for var in own.into_iter().filter(|v| v.space == Space::Shared) {
        end = end.next_multiple_of(var.align.max(1) as u32) + var.size as u32;
    }
    b.dynamic_base = end.next_multiple_of(dynamic_align.max(16) as u32);
}

/// Local offsets for a device function's parameters and results.
fn make_frame(b: &mut Builder<'_>, f: usize) {
    let function = &b.module.functions[f];
    if function.entry {
        return;
    }
    let params = function.params.iter().map(|p| b.local_room(p.size, p.align.max(8))).collect();
    let returns = function.returns.iter().map(|p| b.local_room(p.size, p.align.max(8))).collect();
    let link = b.register(Kind::R32);
    b.frames.insert(f, Frame { params, returns, link });
}

/// Name, parameters and thread limit of an entry.
fn describe(entry: &Function) -> KernelInfo {
    let (mut params, mut end) = (vec![], 0);
    for p in &entry.params {
        let at = usize::next_multiple_of(end, p.align.max(1));
        params.push((at, p.size));
        end = at + p.size;
    }
    let threads = |name: &str| {
        let found = entry.directives.iter().find(|(n, _)| n.trim_start_matches('.') == name);
        found.map(|(_, numbers)| numbers.iter().product::<u32>()).filter(|n| *n > 0)
    };
    let declared = threads("reqntid").or_else(|| threads("maxntid")).map(|n| n.clamp(1, 1024));
    let max_threads = declared.unwrap_or(1024);
    // A compiler keeps a kernel with declared threads within the 65536 registers of an SM; `place` counts up to this.
    let registers = declared.map_or(255, |n| (65536 / n / 8 * 8).min(255));
    KernelInfo { name: entry.name.clone(), params, param_bytes: end, max_threads, registers, ..KernelInfo::default() }
}
