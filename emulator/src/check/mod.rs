//! Checks that cost time and are therefore asked for: `KVICK_EMU_CHECK=race,init,leak`, or `all`.
//!
//! When a module is loaded with `race` or `init`, lowering puts a [`watch`](crate::exec) operation before every access to
//! memory; without them the code is the same as ever, so that checks that are off cost nothing. A violation stops the
//! kernel with a report, as any other fault does.
//! - `race`: accesses to shared memory that no barrier orders (`shared`);
//! - `init`: reads of global and shared memory that nobody wrote ([`written`]);
//! - `leak`: device memory that is still allocated when the last context is destroyed.
pub(crate) mod clocks;
pub(crate) mod shared;
pub mod written;

/// Which checks are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Races in shared memory.
    pub race: bool,
    /// Reads of memory that was never written.
    pub init: bool,
    /// Memory that is not freed.
    pub leak: bool,
}

impl Checks {
    /// From a list like `race,init`; `all` is every check.
    ///
    /// # Errors
    /// The word that names no check.
    pub fn parse(list: &str) -> Result<Checks, String> {
        let mut checks = Checks::default();
        for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word {
                "race" => checks.race = true,
                "init" => checks.init = true,
                "leak" => checks.leak = true,
                "all" => checks = Checks { race: true, init: true, leak: true },
                other => return Err(other.to_string()),
            }
        }
        Ok(checks)
    }

    /// Are accesses of kernels to be watched?
    pub fn accesses(self) -> bool {
        self.race || self.init
    }
}
