//! What the PTX parser returns: one module, its names already resolved.
//!
//! Invariants: every register, label and variable of a function is an index into that function's tables; registers,
//! labels and variables of nested `{ }` scopes (inline asm) are renamed, so a function body is one flat list of
//! statements; an opcode keeps its dotted parts as written, so that the op table alone decides what is known.

/// Source position: the line in the PTX text, and the `.cu` line of the last `.loc` if there was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// 1-based line in the PTX text.
    pub ptx_line: u32,
    /// Index into [`Module::files`] by file number, 0 = no `.loc` seen.
    pub file: u32,
    /// 1-based line in that file, 0 = unknown.
    pub line: u32,
}

/// A whole PTX translation unit.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// `.version` as (major, minor).
    pub version: (u32, u32),
    /// `.target`, for example `sm_80` or `sm_90a`.
    pub target: String,
    /// `.file` number and path.
    pub files: Vec<(u32, String)>,
    /// Module-scope variables: `.global`, `.const`, `.shared` (incl. `extern .shared`).
    pub vars: Vec<Var>,
    /// Entries and device functions, bodies and prototypes.
    pub functions: Vec<Function>,
}

/// State spaces of variables and of memory instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// `.global`
    Global,
    /// `.const`
    Const,
    /// `.shared`
    Shared,
    /// `.local`
    Local,
    /// `.param` of an entry, of a function, or of a call scope.
    Param,
}

/// Fundamental types of registers and variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// 1-bit predicate.
    Pred,
    /// Untyped bits by width in bits: 8, 16, 32, 64, 128.
    B(u8),
    /// Unsigned by width: 8, 16, 32, 64.
    U(u8),
    /// Signed by width: 8, 16, 32, 64.
    S(u8),
    /// IEEE float by width: 16, 32, 64.
    F(u8),
    /// Two halves in 32 bits.
    F16x2,
    /// bfloat16.
    Bf16,
    /// Two bfloat16 in 32 bits.
    Bf16x2,
}

impl Type {
    /// Size in bytes (predicates count as 1).
    pub fn bytes(self) -> usize {
        match self {
            Type::Pred => 1,
            Type::B(w) | Type::U(w) | Type::S(w) | Type::F(w) => w as usize / 8,
            Type::Bf16 => 2,
            Type::F16x2 | Type::Bf16x2 => 4,
        }
    }
}

/// A declared variable, parameter or shared array.
#[derive(Clone, Debug)]
pub struct Var {
    /// Name as written (scoped names are made unique).
    pub name: String,
    /// Where it lives.
    pub space: Space,
    /// Element type.
    pub ty: Type,
    /// Alignment in bytes (`.align`, else the natural one).
    pub align: usize,
    /// Size in bytes; 0 for `extern .shared x[]`.
    pub size: usize,
    /// `.extern`.
    pub external: bool,
    /// Initial bytes, empty if none; may be shorter than `size`, the rest is zero.
    pub init: Vec<u8>,
    /// Symbols whose generic or space address is stored in `init`: (offset in `init`, symbol name, addend, generic?).
    pub relocs: Vec<(usize, String, i64, bool)>,
}

/// An entry (`.entry`) or device function (`.func`).
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Name.
    pub name: String,
    /// `.entry`?
    pub entry: bool,
    /// Parameters in order.
    pub params: Vec<Var>,
    /// Return parameters in order (functions only).
    pub returns: Vec<Var>,
    /// `.maxntid`, `.reqntid`, `.minnctapersm`, `.maxnreg`, `.explicitcluster`, ... (with the dot) and their numbers.
    pub directives: Vec<(String, Vec<u32>)>,
    /// All registers, by [`RegId`].
    pub regs: Vec<Reg>,
    /// Function-scope variables (`.shared`, `.local`, and `.param` of call scopes), by index.
    pub vars: Vec<Var>,
    /// Label names, by [`LabelId`].
    pub labels: Vec<String>,
    /// `.branchtargets` lists, by name; a `.calltargets` list is here too, but empty.
    pub targets: Vec<(String, Vec<LabelId>)>,
    /// `.callprototype`s, by name.
    pub prototypes: Vec<(String, Box<Function>)>,
    /// The body; `None` for a prototype (`.extern .func vprintf`).
    pub body: Option<Vec<Stmt>>,
    /// Where it begins.
    pub pos: Pos,
}

/// Index into [`Function::regs`].
pub type RegId = u32;
/// Index into [`Function::labels`].
pub type LabelId = u32;

/// A declared register.
#[derive(Clone, Debug)]
pub struct Reg {
    /// `%r12` (unique in the function).
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// One statement of a body.
#[derive(Clone, Debug)]
pub enum Stmt {
    /// A label's place.
    Label(LabelId),
    /// An instruction.
    Instr(Instr),
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instr {
    /// `@%p` or `@!%p`: register and whether it is negated.
    pub guard: Option<(RegId, bool)>,
    /// `ld.global.nc.v4.f32` split at the dots; `::` stays inside a part (`shared::cta`).
    pub op: Vec<String>,
    /// Operands as written, left to right.
    pub args: Vec<Operand>,
    /// Where.
    pub pos: Pos,
}

/// A symbol: a module variable, a function variable or parameter, or a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sym {
    /// Index into [`Module::vars`].
    ModuleVar(u32),
    /// Index into [`Function::vars`].
    LocalVar(u32),
    /// Index into [`Function::params`].
    Param(u32),
    /// Index into [`Function::returns`].
    Return(u32),
    /// Index into [`Module::functions`].
    Function(u32),
}

/// An operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// `%r1`
    Reg(RegId),
    /// `!%p1`
    NotReg(RegId),
    /// An integer literal, two's complement in 64 bits.
    Int(i64),
    /// `0f3F800000`: the bits.
    F32(u32),
    /// `0d...` or a decimal literal: the bits.
    F64(u64),
    /// `%tid.x`, `%laneid`, `%clock64`, `WARP_SZ` ... with the percent sign as written.
    Special(String),
    /// `_`
    Sink,
    /// The address of a symbol (`mov.u64 %rd1, smem;`), with addend.
    Addr(Sym, i64),
    /// `[reg+imm]`, `[symbol+imm]`, `[imm]`.
    Mem(MemBase, i64),
    /// `{a, b, c, d}`
    Vector(Vec<Operand>),
    /// `d|p`
    Pair(Box<Operand>, Box<Operand>),
    /// A branch target.
    Label(LabelId),
    /// The name of a `.branchtargets`, `.calltargets` or `.callprototype` list.
    List(String),
    /// `(a, b)`: arguments or results of a call.
    Paren(Vec<Operand>),
    /// `[tensorMap, {c0, c1}]` and other bracketed lists; the first is always a [`Operand::Mem`].
    MemList(Vec<Operand>),
}

/// What an address is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemBase {
    /// A register.
    Reg(RegId),
    /// A symbol.
    Sym(Sym),
    /// Nothing: an absolute address.
    Abs,
}
