//! Every function of the driver API by name: the implemented ones, and for each of the others a function of its own
//! that returns `CUDA_ERROR_NOT_SUPPORTED` and says its name under `KVICK_EMU_TRACE`.

use super::entry;
use super::error::CuError;
use super::state::trace;
use std::collections::HashMap;
use std::sync::OnceLock;

// `NAMES`, sorted, and `STUBS`, one function for each name.
include!(concat!(env!("OUT_DIR"), "/symbols.rs"));

/// A function that is not implemented. The arguments it is called with stay untouched: in the C calling conventions
/// of x86-64 and aarch64 the caller owns them.
unsafe extern "C" fn stub<const INDEX: usize>() -> u32 {
    trace(&format!("{}: not implemented", NAMES[INDEX]));
    CuError::NOT_SUPPORTED.0
}

/// The address of every name's function, in the order of [`NAMES`].
pub fn table() -> Vec<*const ()> {
    let implemented: HashMap<&str, *const ()> = entry::functions().map(|(name, entry)| (name, entry.0)).collect();
    let address = |(name, stub): (&&str, &unsafe extern "C" fn() -> u32)| {
        implemented.get(*name).copied().unwrap_or(*stub as *const ())
    };
    NAMES.iter().zip(&STUBS).map(address).collect()
}

/// The function a program means by a name without version suffix: the newest one.
pub fn newest(name: &str) -> Option<*const ()> {
    static TABLE: OnceLock<HashMap<&'static str, usize>> = OnceLock::new();
    let addresses = TABLE.get_or_init(|| NAMES.into_iter().zip(table().iter().map(|&a| a as usize)).collect());
    let versions = ["_v4", "_v3", "_v2", ""];
    versions.iter().find_map(|suffix| addresses.get(format!("{name}{suffix}").as_str())).map(|&a| a as *const ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_implemented_function_is_a_known_name() {
        for (name, _) in entry::functions() {
            assert!(NAMES.binary_search(&name).is_ok(), "{name} is not in symbols.txt");
        }
        assert!(NAMES.is_sorted());
    }

    #[test]
    fn stubs_say_not_supported() {
        let index = NAMES.binary_search(&"cuTexObjectCreate").unwrap();
        // SAFETY: a stub takes no argument and touches nothing.
        assert_eq!(unsafe { STUBS[index]() }, CuError::NOT_SUPPORTED.0);
    }
}
