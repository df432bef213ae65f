//! Loads and stores: addresses and checks ([`locate`]), the moves between memory and registers ([`transfer`]), and what is
//! counted of them ([`traffic`]).
//!
//! Every access is checked for bounds and alignment before a byte moves. Patterns that rule real kernels have paths of
//! their own: lanes side by side (one block move), and all lanes at one address. Device memory may be accessed by
//! several workers at once, so its bytes move by volatile accesses or assembly, never by plain Rust loads and stores.
pub mod locate;
pub mod traffic;
pub mod transfer;

use crate::exec::lane::{LANES, Lane};
pub use locate::{locate, locate_generic};
pub use traffic::{Banks, cost, count, wavefronts};
pub use transfer::{load, store};

/// Generic addresses of shared memory begin here.
pub const SHARED_WINDOW: u64 = 0x1000_0000_0000;
/// Generic addresses of local memory begin here.
pub const LOCAL_WINDOW: u64 = 0x1100_0000_0000;
/// Generic addresses of kernel parameters begin here.
pub const PARAM_WINDOW: u64 = 0x1200_0000_0000;
/// Size of each window.
pub const WINDOW: u64 = 0x0100_0000_0000;

/// A state space, as a type.
pub trait Space {
    /// Which one.
    const KIND: Kind;
}

/// State spaces that handlers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Global, constant and generic addresses.
    Global,
    /// Offsets into the block's shared memory.
    Shared,
    /// Offsets into the thread's local memory.
    Local,
}

/// `.global`, `.const` and generic.
pub struct Global;
/// `.shared`
pub struct Shared;
/// `.local` and the parameters of device functions.
pub struct Local;

impl Space for Global {
    const KIND: Kind = Kind::Global;
}
impl Space for Shared {
    const KIND: Kind = Kind::Shared;
}
impl Space for Local {
    const KIND: Kind = Kind::Local;
}

/// Where the lanes of an access lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// All 32 lanes side by side in lane order, from the first pointer.
    Contiguous,
    /// All active lanes at the first active lane's pointer.
    Uniform,
    /// Anything else.
    Scattered,
}

/// Host addresses of an access, by lane; those of inactive lanes mean nothing.
pub type Pointers = [usize; LANES];

/// An element that memory holds.
pub trait Element: Lane {
    /// Unsigned bits of its size.
    type Bits: Copy;
    /// As the register holds it.
    fn widen(bits: Self::Bits) -> Self::In;
    /// The low bits of a register.
    fn narrow(value: Self::In) -> Self::Bits;
}

macro_rules! element {
    ($t:ty, $bits:ty) => {
        impl Element for $t {
            type Bits = $bits;
            #[inline(always)]
            fn widen(bits: $bits) -> Self::In {
                (bits as $t).put()
            }
            #[inline(always)]
            fn narrow(value: Self::In) -> $bits {
                value as $bits
            }
        }
    };
}
element!(u8, u8);
element!(i8, u8);
element!(u16, u16);
element!(u32, u32);
element!(u64, u64);

impl Element for i16 {
    type Bits = u16;
    #[inline(always)]
    fn widen(bits: u16) -> u32 {
        // To the whole register, which may be declared with 32 bits.
        bits as i16 as i32 as u32
    }
    #[inline(always)]
    fn narrow(value: u32) -> u16 {
        value as u16
    }
}
