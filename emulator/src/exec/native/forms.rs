//! Operands of x86-64 instructions, and the table of the vector instructions that native code uses.

/// A general register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gpr(pub u8);

pub const RAX: Gpr = Gpr(0);
pub const RCX: Gpr = Gpr(1);
pub const RDX: Gpr = Gpr(2);
pub const RBX: Gpr = Gpr(3);
pub const RSP: Gpr = Gpr(4);
pub const RBP: Gpr = Gpr(5);
pub const RSI: Gpr = Gpr(6);
pub const RDI: Gpr = Gpr(7);
pub const R12: Gpr = Gpr(12);
pub const R13: Gpr = Gpr(13);
pub const R14: Gpr = Gpr(14);
pub const R15: Gpr = Gpr(15);

/// A vector register by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ymm(pub u8);

/// `[base + index * 2^scale + disp]`.
#[derive(Clone, Copy, Debug)]
pub struct Mem {
    /// Base register.
    pub base: Gpr,
    /// Index register (not RSP) and the power of two that it is multiplied by.
    pub index: Option<(Gpr, u8)>,
    /// Displacement in bytes.
    pub disp: i32,
}

impl Mem {
    /// `[base + disp]`
    pub fn at(base: Gpr, disp: i32) -> Mem {
        Mem { base, index: None, disp }
    }
}

/// The operand that may lie in memory.
#[derive(Clone, Copy, Debug)]
pub enum Rm {
    /// A register's number.
    R(u8),
    /// Memory.
    M(Mem),
}

impl From<Gpr> for Rm {
    fn from(r: Gpr) -> Rm {
        Rm::R(r.0)
    }
}
impl From<Ymm> for Rm {
    fn from(r: Ymm) -> Rm {
        Rm::R(r.0)
    }
}
impl From<Mem> for Rm {
    fn from(m: Mem) -> Rm {
        Rm::M(m)
    }
}

/// A VEX instruction on 256 bits.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// 0 none, 1 66, 2 F3, 3 F2.
    pub prefix: u8,
    /// 1 0F, 2 0F38, 3 0F3A.
    pub map: u8,
    /// The prefix's W.
    pub w: u8,
    /// The opcode's last byte.
    pub opcode: u8,
    /// The operands that it takes.
    pub shape: Shape,
}

/// Operands of a [`Form`]; R is the ModRM register, V the one in the prefix, M register or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// R, V, M
    Rvm,
    /// R, V, M, immediate
    Rvmi,
    /// R, V, M, a register in the immediate
    Rvmr,
    /// R, M
    Rm,
    /// R, M, immediate
    Rmi,
    /// M, R
    Mr,
    /// M, R, immediate
    Mri,
    /// V, M, immediate; the number stands in place of R.
    Vmi(u8),
}

macro_rules! forms {
    ($($shape:expr => { $($name:ident $prefix:literal $map:literal $w:literal $opcode:literal)* })*) => {
        $($(pub const $name: Form = {
            use Shape::*;
            Form { prefix: $prefix, map: $map, w: $w, opcode: $opcode, shape: $shape }
        };)*)*
        /// All of them, by name.
        #[cfg(test)]
        pub const FORMS: &[(&str, Form)] = &[$($((stringify!($name), $name),)*)*];
    };
}
forms! {
    Rvm => {
        VPADDD 1 1 0 0xfe   VPSUBD 1 1 0 0xfa   VPADDQ 1 1 0 0xd4   VPSUBQ 1 1 0 0xfb
        VPAND 1 1 0 0xdb   VPOR 1 1 0 0xeb     VPXOR 1 1 0 0xef
        VPMULLD 1 2 0 0x40  VPMULUDQ 1 1 0 0xf4 VPMULDQ 1 2 0 0x28
        VPMINUD 1 2 0 0x3b  VPMAXUD 1 2 0 0x3f  VPMINSD 1 2 0 0x39  VPMAXSD 1 2 0 0x3d
        VPSLLVD 1 2 0 0x47  VPSRLVD 1 2 0 0x45  VPSRAVD 1 2 0 0x46  VPSLLVQ 1 2 1 0x47  VPSRLVQ 1 2 1 0x45
        VPCMPEQD 1 1 0 0x76 VPCMPGTD 1 1 0 0x66 VPCMPEQQ 1 2 0 0x29 VPCMPGTQ 1 2 0 0x37 VPCMPGTW 1 1 0 0x65
        VPSHUFB 1 2 0 0x00
        VADDPS 0 1 0 0x58   VSUBPS 0 1 0 0x5c   VMULPS 0 1 0 0x59   VDIVPS 0 1 0 0x5e
        VADDPD 1 1 0 0x58   VSUBPD 1 1 0 0x5c   VDIVPD 1 1 0 0x5e
        VFMADD213PS 1 2 0 0xa8
    }
    Rvmi => { VSHUFPS 0 1 0 0xc6  VCMPPS 0 1 0 0xc2  VINSERTI128 1 3 0 0x38 }
    Rvmr => { VPBLENDVB 1 3 0 0x4c }
    Rm => {
        VMOVDQU 2 1 0 0x6f  VPABSD 1 2 0 0x1e  VPMOVZXDQ 1 2 0 0x35  VPMOVSXDQ 1 2 0 0x25
        VPBROADCASTB 1 2 0 0x78  VCVTPH2PS 1 2 0 0x13  VPMOVZXWD 1 2 0 0x33  VCVTDQ2PS 0 1 0 0x5b
        VMOVMSKPS 0 1 0 0x50  VPTEST 1 2 0 0x17  VCVTDQ2PD 2 1 0 0xe6  VCVTTPD2DQ 1 1 0 0xe6
    }
    Rmi => { VPERMQ 1 3 1 0x00  VROUNDPD 1 3 0 0x09 }
    Mr => { VMOVDQU_STORE 2 1 0 0x7f }
    Mri => { VEXTRACTI128 1 3 0 0x39  VCVTPS2PH 1 3 0 0x1d }
    Vmi(2) => { VPSRLD 1 1 0 0x72  VPSRLQ 1 1 0 0x73  VPSRLW 1 1 0 0x71 }
    Vmi(4) => { VPSRAD 1 1 0 0x72 }
    Vmi(6) => { VPSLLD 1 1 0 0x72  VPSLLQ 1 1 0 0x73 }
}
