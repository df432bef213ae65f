//! Memory instructions.
use super::arith::arg;
use super::asynchronous;
use super::build::{Kind, V};
use super::function::Lower;
use super::parts::Parts;
use crate::exec::ops::access::PARAM_WINDOW;
use crate::exec::ops::atomic::OPERATIONS;
use crate::exec::program::Value;
use crate::exec::table::Code;
use crate::ptx::ast::{MemBase, Operand, Sym, Type};

type Res = Result<(), String>;
type Args<'a> = &'a [Operand];

/// Where an access goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Global,
    Shared,
    Local,
    /// The parameter buffer at a fixed offset.
    Param(u32),
}

/// Qualifiers without a meaning here: memory is coherent and caches are not modelled.
const HINTS: [&str; 31] = [
    "weak",
    "mmio",
    "cta",
    "gpu",
    "sys",
    "cluster",
    "nc",
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "unified",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::evict_unchanged",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L2::cache_hint",
    "noftz",
    "global::cta",
    "shared::cta",
];
const SPACES: [&str; 9] =
    ["global", "const", "shared", "shared::cta", "shared::cluster", "local", "param", "param::entry", "param::func"];

/// Takes space and hints; the second result: may a thread wait on this access?
fn qualifiers(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, address: &Operand) -> (Place, bool) {
    let waits = ["volatile", "relaxed", "acquire", "release", "acq_rel"].map(|q| p.take(q)).contains(&true);
    let place = match p.take_any(&SPACES) {
        None | Some(0 | 1) => Place::Global,
        Some(2..5) => Place::Shared,
        Some(5) => Place::Local,
        _ => match address {
            Operand::Mem(MemBase::Sym(Sym::Param(_)), _) if l.f.entry => Place::Param(0),
            Operand::Mem(MemBase::Reg(_), _) if l.f.entry => Place::Global,
            _ => Place::Local,
        },
    };
    p.skip(&HINTS);
    (place, waits)
}

/// Elements of a vector access and the code's row.
fn vector(p: &mut Parts<'_>) -> Result<usize, String> {
    if p.take("v8") {
        return Err("vectors of 8 are for sm_100 and later".to_string());
    }
    Ok([1, 2, 4][p.take_any(&["v2", "v4"]).map_or(0, |i| i + 1)])
}

/// Scalar loads: u8 s8 u16 s16 32 64, then pairs, then fours.
type Loads = [[Option<Code>; 6]; 3];

macro_rules! loads {
    ($($u8:ident $s8:ident $u16:ident $s16:ident $w:ident $d:ident, $v2u8:ident $v2s8:ident $v2u16:ident $v2s16:ident
       $v2w:ident $v2d:ident, $v4u8:ident $v4s8:ident $v4u16:ident $v4s16:ident $v4w:ident;)*) => {
        [$([
            [Some(Code::$u8), Some(Code::$s8), Some(Code::$u16), Some(Code::$s16), Some(Code::$w), Some(Code::$d)],
            [Some(Code::$v2u8), Some(Code::$v2s8), Some(Code::$v2u16), Some(Code::$v2s16), Some(Code::$v2w),
             Some(Code::$v2d)],
            [Some(Code::$v4u8), Some(Code::$v4s8), Some(Code::$v4u16), Some(Code::$v4s16), Some(Code::$v4w), None],
        ]),*]
    };
}
/// By space: global, shared, local.
const LOADS: [Loads; 3] = loads! {
    LdGlobalU8 LdGlobalS8 LdGlobalU16 LdGlobalS16 LdGlobal32 LdGlobal64, LdGlobalV2U8 LdGlobalV2S8 LdGlobalV2U16
    LdGlobalV2S16 LdGlobalV2x32 LdGlobalV2x64, LdGlobalV4U8 LdGlobalV4S8 LdGlobalV4U16 LdGlobalV4S16 LdGlobalV4x32;
    LdSharedU8 LdSharedS8 LdSharedU16 LdSharedS16 LdShared32 LdShared64, LdSharedV2U8 LdSharedV2S8 LdSharedV2U16
    LdSharedV2S16 LdSharedV2x32 LdSharedV2x64, LdSharedV4U8 LdSharedV4S8 LdSharedV4U16 LdSharedV4S16 LdSharedV4x32;
    LdLocalU8 LdLocalS8 LdLocalU16 LdLocalS16 LdLocal32 LdLocal64, LdLocalV2U8 LdLocalV2S8 LdLocalV2U16
    LdLocalV2S16 LdLocalV2x32 LdLocalV2x64, LdLocalV4U8 LdLocalV4S8 LdLocalV4U16 LdLocalV4S16 LdLocalV4x32;
};

/// By space, elements and size: 8, 16, 32, 64 bits.
const STORES: [[[Option<Code>; 4]; 3]; 3] = [
    [
        [Some(Code::StGlobal8), Some(Code::StGlobal16), Some(Code::StGlobal32), Some(Code::StGlobal64)],
        [Some(Code::StGlobalV2x8), Some(Code::StGlobalV2x16), Some(Code::StGlobalV2x32), Some(Code::StGlobalV2x64)],
        [Some(Code::StGlobalV4x8), Some(Code::StGlobalV4x16), Some(Code::StGlobalV4x32), None],
    ],
    [
        [Some(Code::StShared8), Some(Code::StShared16), Some(Code::StShared32), Some(Code::StShared64)],
        [Some(Code::StSharedV2x8), Some(Code::StSharedV2x16), Some(Code::StSharedV2x32), Some(Code::StSharedV2x64)],
        [Some(Code::StSharedV4x8), Some(Code::StSharedV4x16), Some(Code::StSharedV4x32), None],
    ],
    [
        [Some(Code::StLocal8), Some(Code::StLocal16), Some(Code::StLocal32), Some(Code::StLocal64)],
        [Some(Code::StLocalV2x8), Some(Code::StLocalV2x16), Some(Code::StLocalV2x32), Some(Code::StLocalV2x64)],
        [Some(Code::StLocalV4x8), Some(Code::StLocalV4x16), Some(Code::StLocalV4x32), None],
    ],
];

fn table_row(place: Place) -> usize {
    match place {
        Place::Shared => 1,
        Place::Local => 2,
        Place::Global | Place::Param(_) => 0,
    }
}

/// The operands of a vector, or the one operand.
fn elements(operand: &Operand) -> &[Operand] {
    match operand {
        Operand::Vector(v) => v,
        one => std::slice::from_ref(one),
    }
}

/// The address of an access; parameters addressed through a register lie in their window.
fn address(l: &mut Lower<'_, '_>, p: &Parts<'_>, operand: &Operand, place: Place) -> Result<(V, i64), String> {
    let (base, offset) = l.mem(operand, place == Place::Shared)?;
    if place == Place::Global && p.name().contains(".param") {
        let (window, t) = (l.const64(PARAM_WINDOW), l.temp(Kind::R64));
        l.aux(Code::Add64, &[t], &[base, window]);
        return Ok((t, offset));
    }
    Ok((base, offset))
}

/// `ld`.
pub fn load(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let (place, waits) = qualifiers(l, p, arg(args, 1)?);
    let count = vector(p)?;
    let ty = p.ty()?;
    let targets = elements(arg(args, 0)?);
    if targets.len() != count {
        return Err(format!("{} destinations for {count} elements", targets.len()));
    }
    if let Place::Param(_) = place {
        return load_params(l, ty, targets, arg(args, 1)?);
    }
    let column = match (ty.bytes(), matches!(ty, Type::S(_))) {
        (1, signed) => usize::from(signed),
        (2, signed) => 2 + usize::from(signed),
        (4, _) => 4,
        (8, _) => 5,
        _ => return Err(format!("{} is not implemented", p.name())),
    };
    let code = LOADS[table_row(place)][count / 2][column].ok_or_else(|| format!("{} is too wide", p.name()))?;
    let (base, offset) = address(l, p, arg(args, 1)?, place)?;
    let d = targets.iter().map(|t| l.dst(t, ty)).collect::<Result<Vec<_>, _>>()?;
    let op = l.op(code, &d, &[base]);
    (op.imm, op.site, op.raw_target) = (offset, true, u32::from(waits));
    Ok(())
}

/// Parameters of an entry at a known offset: constants of the launch.
fn load_params(l: &mut Lower<'_, '_>, ty: Type, targets: &[Operand], from: &Operand) -> Res {
    let Operand::Mem(MemBase::Sym(sym), offset) = from else { return Err("no parameter".to_string()) };
    let at = l.address(*sym)?.wrapping_add_signed(*offset) as usize;
    let bytes = ty.bytes();
    for (i, target) in targets.iter().enumerate() {
        let at = at + i * bytes;
        let limit = super::describe(l.f).param_bytes;
        if at + bytes > limit || !at.is_multiple_of(bytes) {
            return Err(format!("parameter access at {at} of {bytes} bytes, but there are {limit}"));
        }
        let (signed, wide) = (matches!(ty, Type::S(_)), bytes == 8);
        let s = l.b.constant(Value::Param { at: at as u32, bytes: bytes as u8, signed, wide });
        let d = l.dst(target, ty)?;
        let code = if wide { Code::Mov64 } else { Code::Mov32 };
        if i == 0 {
            l.op(code, &[d], &[s])
        } else {
            l.aux(code, &[d], &[s])
        };
    }
    Ok(())
}

/// `st`.
pub fn store(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let (place, strong) = qualifiers(l, p, arg(args, 0)?);
    let count = vector(p)?;
    let ty = p.ty()?;
    let column = match ty.bytes() {
        n @ (1 | 2 | 4 | 8) => n.trailing_zeros() as usize,
        _ => return Err(format!("{} is not implemented", p.name())),
    };
    if matches!(place, Place::Param(_)) || (l.f.entry && place == Place::Global && p.name().contains(".param")) {
        return Err("an entry's parameters cannot be written".to_string());
    }
    let code = STORES[table_row(place)][count / 2][column].ok_or_else(|| format!("{} is too wide", p.name()))?;
    let (base, offset) = l.mem(arg(args, 0)?, place == Place::Shared)?;
    let mut s = vec![base];
    for e in elements(arg(args, 1)?) {
        s.push(l.src(e, ty)?);
    }
    if s.len() != count + 1 {
        return Err(format!("{} sources for {count} elements", s.len() - 1));
    }
    let op = l.op(code, &[], &s);
    (op.imm, op.site, op.raw_target) = (offset, true, u32::from(strong));
    Ok(())
}

/// The number of an atomic operation.
fn operation(name: &str, ty: Type, ftz: bool) -> Option<i64> {
    let full = match (name, ty) {
        ("add", Type::F(32)) if ftz => "add.ftz.f32",
        ("add", Type::F(32)) => "add.f32",
        ("add", Type::F(64)) => "add.f64",
        ("add", Type::F16x2) => "add.f16x2",
        ("add", Type::Bf16x2) => "add.bf16x2",
        ("add", Type::F(16)) => "add.f16",
        ("add", Type::Bf16) => "add.bf16",
        ("min", Type::U(_)) => "min.u",
        ("min", Type::S(_)) => "min.s",
        ("max", Type::U(_)) => "max.u",
        ("max", Type::S(_)) => "max.s",
        (_, Type::F(_) | Type::Bf16 | Type::F16x2 | Type::Bf16x2) => return None,
        _ => name,
    };
    OPERATIONS.iter().position(|o| *o == full).map(|i| i as i64)
}

/// `atom` and `red`.
pub fn atomic(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let reduction = p.name().starts_with("red");
    let args_only = if reduction { args } else { args.get(1..).unwrap_or_default() };
    // HINTS holds `and`-less names only, so the operation is not swallowed.
    let (place, _) = qualifiers(l, p, arg(args_only, 0)?);
    let name = ["add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"];
    let name = name[p.take_any(&name).ok_or("an atomic without an operation")?];
    let ftz = p.take("ftz");
    let ty = p.ty()?;
    let kind = operation(name, ty, ftz).ok_or_else(|| format!("{} is not possible", p.name()))?;
    let code = match (place, ty.bytes()) {
        (Place::Global, 2) => Code::AtomGlobal16,
        (Place::Global, 4) => Code::AtomGlobal32,
        (Place::Global, 8) => Code::AtomGlobal64,
        (Place::Shared, 2) => Code::AtomShared16,
        (Place::Shared, 4) => Code::AtomShared32,
        (Place::Shared, 8) => Code::AtomShared64,
        _ => return Err(format!("{} is not implemented", p.name())),
    };
    let (base, offset) = l.mem(arg(args_only, 0)?, place == Place::Shared)?;
    let b = l.src(arg(args_only, 1)?, ty)?;
    let c = if name == "cas" { l.src(arg(args_only, 2)?, ty)? } else { b };
    let d = if reduction { l.dst(&Operand::Sink, ty)? } else { l.dst(arg(args, 0)?, ty)? };
    let op = l.op(code, &[d], &[base, b, c]);
    (op.imm, op.site) = (kind | offset << 8, true);
    Ok(())
}

/// `prefetch` and its like.
pub fn hint(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, _args: Args<'_>) -> Res {
    p.rest();
    l.op(Code::Prefetch, &[], &[]);
    Ok(())
}

/// `createpolicy`: the policy is a value that nothing looks into.
pub fn policy(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    p.rest();
    let s = l.const64(0);
    let d = l.dst(arg(args, 0)?, Type::B(64))?;
    l.op(Code::Mov64, &[d], &[s]);
    Ok(())
}

/// `cp.async`.
pub fn copy(l: &mut Lower<'_, '_>, p: &mut Parts<'_>, args: Args<'_>) -> Res {
    let unknown = |p: &Parts<'_>| Err(format!("{} is not implemented", p.name()));
    if !p.take("async") {
        return unknown(p);
    }
    if p.has("bulk") {
        return asynchronous::bulk(l, p, args);
    }
    if p.has("mbarrier") {
        return asynchronous::copy_arrive(l, p, args);
    }
    if p.take("commit_group") {
        l.op(Code::CopyCommit, &[], &[]);
        return Ok(());
    }
    if p.take("wait_all") {
        l.op(Code::CopyWait, &[], &[]).imm = -1;
        return Ok(());
    }
    if p.take("wait_group") {
        let Operand::Int(n) = arg(args, 0)? else { return Err("the number of groups is no constant".to_string()) };
        l.op(Code::CopyWait, &[], &[]).imm = *n;
        return Ok(());
    }
    let policy = usize::from(p.has("L2::cache_hint"));
    p.skip(&["shared", "global"]);
    p.skip(&HINTS);
    let (dst, dst_offset) = l.mem(arg(args, 0)?, true)?;
    let (mut src, src_offset) = l.mem(arg(args, 1)?, false)?;
    let Operand::Int(size) = arg(args, 2)? else { return Err("the size is no constant".to_string()) };
    let all = l.const32(*size as u32);
    let read = match args.get(3).filter(|_| args.len() - policy > 3) {
        None => all,
        Some(Operand::NotReg(_)) => ignored(l, &args[3], all)?,
        Some(Operand::Reg(r)) if l.f.regs[*r as usize].ty == Type::Pred => ignored(l, &args[3], all)?,
        Some(bytes) => l.src(bytes, Type::U(32))?,
    };
    if i32::try_from(src_offset).is_err() {
        let (offset, t) = (l.const64(src_offset as u64), l.temp(Kind::R64));
        l.aux(Code::Add64, &[t], &[src, offset]);
        src = t;
    }
    let op = l.op(Code::CopyAsync, &[], &[dst, src, read]);
    (op.imm, op.site) = (*size | dst_offset << 8, true);
    op.raw_target = i32::try_from(src_offset).unwrap_or(0) as u32;
    Ok(())
}

/// Bytes to read under an ignore-source predicate.
fn ignored(l: &mut Lower<'_, '_>, predicate: &Operand, all: V) -> Result<V, String> {
    let (p, zero, t) = (l.src(predicate, Type::Pred)?, l.const32(0), l.temp(Kind::R32));
    l.aux(Code::Select32, &[t], &[zero, all, p]);
    Ok(t)
}
