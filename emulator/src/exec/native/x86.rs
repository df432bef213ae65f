//! A kernel's native code, and the way into it.
use super::Left;
use super::compile::{self, left};
use super::pages::Pages;
use crate::exec::cx::Cx;
use crate::exec::op::Op;
use crate::exec::program::Kernel;

/// What native code returns, in RAX and RDX.
#[repr(C)]
struct Returned {
    pc: u64,
    why: u64,
}

/// Context, register file, where to begin, `Cx::hits`, constants, operations.
type Enter = unsafe extern "sysv64" fn(*mut Cx<'_>, *mut u8, *const u8, *mut u64, *const u8, *const Op) -> Returned;

/// A kernel's native code.
pub struct Native {
    pages: Pages,
    constants: usize,
    entries: Vec<u32>,
    ends: Vec<u32>,
}

impl Native {
    /// Compiles a kernel; `None` if this CPU lacks what the code needs, or the system allows no executable memory.
    pub fn new(kernel: &Kernel) -> Option<Native> {
        if !crate::exec::table::vector_cpu() {
            return None;
        }
        let compiled = compile::compile(kernel)?;
        let pages = Pages::new(&compiled.code)?;
        Some(Native { pages, constants: compiled.constants, entries: compiled.entries, ends: compiled.ends })
    }

    /// Is there code that begins with this operation?
    #[inline(always)]
    pub fn begins(&self, pc: usize) -> bool {
        self.entries[pc] != 0
    }

    /// Executes operations from `pc` on.
    ///
    /// # Safety
    /// The code is that of the kernel of `cx`, which points at a warp whose 32 lanes are all active and at `pc`, and
    /// [`Native::begins`] there.
    pub unsafe fn run(&self, cx: &mut Cx<'_>, pc: usize) -> Left {
        let (start, code) = (self.pages.start(), cx.launch.kernel.code.as_ptr());
        let (regs, hits) = (cx.regs, cx.hits.as_mut_ptr());
        // SAFETY: the pages begin with a function of this type (`compile::prologue`); entries and constants lie inside.
        let Returned { pc, why } = unsafe {
            let enter: Enter = std::mem::transmute(start);
            enter(cx, regs, start.add(self.entries[pc] as usize), hits, start.add(self.constants), code)
        };
        let pc = pc as usize;
        match why as u32 {
            left::JUMP => Left::Jump(pc),
            left::TURN => Left::Turn(pc),
            left::STOP => {
                self.take_back(cx, pc, pc + 1);
                Left::Stop(pc)
            }
            why => {
                debug_assert_eq!(why, left::INTERPRET);
                self.take_back(cx, pc, pc);
                Left::Interpret(pc)
            }
        }
    }

    /// Of the block of operation `pc`, those from `from` on were counted and not executed.
    fn take_back(&self, cx: &mut Cx<'_>, pc: usize, from: usize) {
        let end = self.ends[pc] as usize;
        cx.hits[from] = cx.hits[from].wrapping_sub(1);
        cx.hits[end] = cx.hits[end].wrapping_add(1);
        cx.executed -= (end - from) as u64;
    }
}
