//! The form between PTX and operations: operations over virtual registers, without places in the register file.
use crate::exec::LoadError;
use crate::exec::program::Value;
use crate::exec::table::Code;
use crate::num::mma::Mma;
use crate::ptx::ast::{Module, Pos};
use std::collections::HashMap;

/// A virtual register of a kernel.
pub type V = u32;

/// Width of a virtual register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One bit a lane.
    Pred,
    /// Up to 32 bits a lane.
    R32,
    /// 64 bits a lane.
    R64,
}

impl Kind {
    /// Bytes in the register file.
    pub fn bytes(self) -> u32 {
        match self {
            Kind::Pred => 4,
            Kind::R32 => 128,
            Kind::R64 => 256,
        }
    }
}

/// A label of a function of the kernel.
pub type Label = (usize, u32);

/// An element of an operand list.
#[derive(Clone, Copy, Debug)]
pub enum Item {
    /// A number.
    Raw(u32),
    /// An operation's index.
    Label(Label),
}

/// An operation over virtual registers.
#[derive(Clone, Debug)]
pub struct VOp {
    /// Its table entry.
    pub code: Code,
    /// Guard and whether it is negated.
    pub guard: Option<(V, bool)>,
    /// Destinations.
    pub d: Vec<V>,
    /// Sources.
    pub s: Vec<V>,
    /// Immediate.
    pub imm: i64,
    /// Branch target.
    pub target: Option<Label>,
    /// `target` as a number, where it is no branch.
    pub raw_target: u32,
    /// The start of the operand list, where it is a number instead.
    pub raw_more: Option<u32>,
    /// An operand list other than destinations and sources.
    pub list: Vec<Item>,
    /// Does it access memory?
    pub site: bool,
    /// Source place.
    pub pos: Pos,
    /// Counted as an instruction?
    pub counted: bool,
    /// Moves that were removed and are counted with it.
    pub folded: u8,
    /// Whether control never reaches the next operation.
    pub ends: bool,
}

impl VOp {
    /// An operation without operands.
    pub fn new(code: Code, pos: Pos) -> VOp {
        VOp {
            code,
            guard: None,
            d: vec![],
            s: vec![],
            imm: 0,
            target: None,
            raw_target: 0,
            raw_more: None,
            list: vec![],
            site: false,
            pos,
            counted: true,
            folded: 0,
            ends: false,
        }
    }
}

/// One lowered function: its operations and where its labels are.
pub struct Body {
    /// Index in the module.
    pub function: usize,
    /// The operations.
    pub ops: Vec<VOp>,
    /// Index in `ops` of each label.
    pub labels: HashMap<u32, usize>,
    /// The virtual registers that belong to it.
    pub registers: std::ops::Range<V>,
}

/// What is collected for a kernel while its functions are lowered.
pub struct Builder<'m> {
    /// The module.
    pub module: &'m Module,
    /// Device addresses of the module's variables.
    pub addresses: &'m [Option<u64>],
    /// Kinds of the virtual registers.
    pub kinds: Vec<Kind>,
    /// Constant registers by value.
    pub constants: HashMap<Value, V>,
    /// Forms of `mma`.
    pub mmas: Vec<Mma>,
    /// Local memory so far, in bytes.
    pub local: u32,
    /// Static shared memory so far, in bytes.
    pub shared: u32,
    /// Offsets of module-level shared variables that were used.
    pub shared_vars: HashMap<u32, u32>,
    /// Where the dynamic shared memory begins.
    pub dynamic_base: u32,
    /// Local frames of the functions: see [`Frame`].
    pub frames: HashMap<usize, Frame>,
    /// Errors so far.
    pub errors: Vec<LoadError>,
}

/// Where a device function's parameters, results and return address live.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// Local offsets of the parameters.
    pub params: Vec<u32>,
    /// Local offsets of the results.
    pub returns: Vec<u32>,
    /// The register with the return address.
    pub link: V,
}

impl Builder<'_> {
    /// A new virtual register.
    pub fn register(&mut self, kind: Kind) -> V {
        self.kinds.push(kind);
        self.kinds.len() as V - 1
    }

    /// The constant register with this value.
    pub fn constant(&mut self, value: Value) -> V {
        if let Some(v) = self.constants.get(&value) {
            return *v;
        }
        let v = self.register(match value {
            Value::True | Value::False => Kind::Pred,
            Value::Bits32(_) | Value::Param { wide: false, .. } => Kind::R32,
            Value::Bits64(_) | Value::Param { wide: true, .. } => Kind::R64,
        });
        self.constants.insert(value, v);
        v
    }

    /// Room in local memory.
    pub fn local_room(&mut self, size: usize, align: usize) -> u32 {
        let at = self.local.next_multiple_of(align.max(1) as u32);
        // Eight readable bytes for calls that the host answers.
        self.local = at + size.max(8) as u32;
        at
    }

    /// Room in static shared memory.
    pub fn shared_room(&mut self, size: usize, align: usize) -> u32 {
        let at = self.shared.next_multiple_of(align.max(1) as u32);
        self.shared = at + size as u32;
        at
    }
}
