//! Matrix instructions.
use super::arith::arg;
use super::build::V;
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::shared::TRANSPOSE;
use crate::exec::table::Code;
use crate::num::mma::Mma;
use crate::ptx::ast::{Operand, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

fn registers(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(v) => v,
        one => std::slice::from_ref(one),
    }
}

/// `ldmatrix` and `stmatrix`.
pub fn matrix(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let load = p.name().starts_with("ldmatrix");
    p.skip(&["sync", "aligned", "shared", "shared::cta"]);
    if !p.take("m8n8") || !p.take("b16") {
        return Err(format!("{} is not implemented", p.name()));
    }
    let count = [1, 2, 4][p.take_any(&["x1", "x2", "x4"]).unwrap_or(0)];
    let transpose = if p.take("trans") { TRANSPOSE } else { 0 };
    let (memory, values) = if load { (arg(args, 1)?, arg(args, 0)?) } else { (arg(args, 0)?, arg(args, 1)?) };
    let (base, offset) = l.mem(memory, true)?;
    let values = registers(values);
    if values.len() != count {
        return Err(format!("{} registers for {count} matrices", values.len()));
    }
    let op = if load {
        let d = values.iter().map(|v| l.dst(v, Type::B(32))).collect::<Result<Vec<_>, _>>()?;
        l.op(Code::LdMatrix, &d, &[base])
    } else {
        let mut s = vec![base];
        for v in values {
            s.push(l.src(v, Type::B(32))?);
        }
        l.op(Code::StMatrix, &[], &s)
    };
    (op.imm, op.site) = (transpose | (count as i64) << 1 | offset << 8, true);
    Ok(())
}

/// `movmatrix`.
pub fn movmatrix(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.skip(&["sync", "aligned", "m8n8", "trans", "b16"]);
    let s = l.src(arg(args, 1)?, Type::B(32))?;
    let d = l.dst(arg(args, 0)?, Type::B(32))?;
    l.op(Code::MovMatrix, &[d], &[s]);
    Ok(())
}

/// `mma.sync`.
pub fn mma(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.skip(&["sync", "aligned"]);
    let name = p.name();
    let rest = p.rest();
    let [d, a, b, c] = args else { return Err("mma needs four operands".to_string()) };
    if rest == ["m8n8k4", "row", "col", "f64", "f64", "f64", "f64"] {
        let (d, s) = fragments(l, Type::F(64), d, &[(a, 1), (b, 1), (c, 2)], 2)?;
        l.op(Code::MmaF64, &d, &s);
        return Ok(());
    }
    let form = Mma::parse(&rest).ok_or_else(|| format!("{name} is not implemented"))?;
    let (na, nb, nd) = form.registers();
    let (d, s) = fragments(l, Type::B(32), d, &[(a, na), (b, nb), (c, nd)], nd)?;
    let index = l.b.mmas.iter().position(|m| *m == form).unwrap_or_else(|| {
        l.b.mmas.push(form);
        l.b.mmas.len() - 1
    });
    l.op(Code::Mma, &d, &s).imm = index as i64;
    Ok(())
}

/// Destination and source registers of the fragments, their numbers checked.
fn fragments(
    l: &mut Lower<'_, '_>,
    ty: Type,
    d: &Operand,
    sources: &[(&Operand, usize)],
    results: usize,
) -> Result<(Vec<V>, Vec<V>), String> {
    let mut s = vec![];
    for (operand, count) in sources {
        if registers(operand).len() != *count {
            return Err(format!("a fragment of {} registers, but it has {count}", registers(operand).len()));
        }
        for r in registers(operand) {
            s.push(l.src(r, ty)?);
        }
    }
    let d = registers(d).iter().map(|r| l.dst(r, ty)).collect::<Result<Vec<_>, _>>()?;
    if d.len() != results {
        return Err(format!("{} result registers, but there are {results}", d.len()));
    }
    Ok((d, s))
}
