//! The embedded PTX and the kernels loaded from it.
//!
//! A driver compiles all of a module before its first kernel runs, and a file holds an entry for every type it serves, of
//! which a model uses few. So each kernel is loaded as a module of its own: what all entries of the file share, and the
//! one entry.
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, sys};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex};

/// Every entry file of `kernels/`: stem, PTX for compute_80, PTX for compute_90a (the same text where the code is the same).
pub static PTX: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// A loaded kernel.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub(super) function: CudaFunction,
    pub(super) name: Arc<str>,
}

/// Modules and kernels of one context, loaded when first asked for.
#[derive(Default)]
pub struct Modules {
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    kernels: HashMap<(&'static str, String), Kernel>,
    replaced: HashMap<&'static str, String>,
}

impl Modules {
    /// From now on `file` is this PTX.
    pub fn replace(&self, file: &'static str, ptx: String) {
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        loaded.kernels.retain(|(f, _), _| *f != file);
        loaded.replaced.insert(file, ptx);
    }

    /// The kernel `entry` of `kernels/{file}.cu`; `hopper` takes the compute_90a PTX.
    pub fn kernel(&self, context: &Arc<CudaContext>, hopper: bool, file: &'static str, entry: &str) -> Result<Kernel> {
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(kernel) = loaded.kernels.get(&(file, entry.to_string())) {
            return Ok(kernel.clone());
        }
        let text = match loaded.replaced.get(file) {
            Some(ptx) => ptx,
            None => embedded(file, hopper)?,
        };
        let alone =
            only_entry(text, entry).ok_or_else(|| Error::Device(format!("kernels/{file}.cu has no kernel {entry}")))?;
        let module = load(context, file, &alone)?;
        let function = module
            .load_function(entry)
            .map_err(|e| Error::Device(format!("kernels/{file}.cu has no kernel {entry}: {e:?}")))?;
        let kernel = Kernel { function, name: entry.into() };
        loaded.kernels.insert((file, entry.to_string()), kernel.clone());
        Ok(kernel)
    }
}

/// The module without its other entries; `None` if there is no such entry. Entries begin and end at the start of a line.
fn only_entry(ptx: &str, entry: &str) -> Option<String> {
    let mut out = String::with_capacity(ptx.len() / 4);
    let (mut found, mut skipping) = (false, false);
    for line in ptx.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix(".visible .entry ") {
            let name = rest.split(['(', '\n']).next().unwrap_or_default().trim();
            skipping = name != entry;
            found |= !skipping;
        }
        if !skipping {
            out.push_str(line);
        } else if line.starts_with('}') {
            skipping = false;
        }
    }
    found.then_some(out)
}

fn embedded(file: &str, hopper: bool) -> Result<&'static str> {
    let (_, base, sm90) = PTX
        .iter()
        .find(|(stem, ..)| *stem == file)
        .ok_or_else(|| Error::Device(format!("no kernel file {file}.cu was compiled into this program")))?;
    Ok(if hopper { sm90 } else { base })
}

fn load(context: &Arc<CudaContext>, file: &str, ptx: &str) -> Result<Arc<CudaModule>> {
    context.load_module(cudarc::nvrtc::Ptx::from_src(ptx)).map_err(|e| {
        let log = jit_log(ptx).unwrap_or_default();
        Error::Device(format!("the driver refuses the PTX of kernels/{file}.cu ({e:?}): {log}"))
    })
}

/// Loads again for the sake of the compiler's log.
fn jit_log(ptx: &str) -> Option<String> {
    let source = CString::new(ptx).ok()?;
    let mut log = vec![0u8; 16384];
    let options =
        [sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER, sys::CUjit_option_enum::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
    let values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(log.len())];
    let mut module = std::ptr::null_mut();
    // SAFETY: the log buffer and the option arrays live through the call; the source is NUL-terminated; a module that
    // loads after all is unloaded at once.
    unsafe {
        let code = sys::cuModuleLoadDataEx(
            &mut module,
            source.as_ptr().cast(),
            options.len() as u32,
            options.as_ptr().cast_mut(),
            values.as_ptr().cast_mut(),
        );
        if code == sys::CUresult::CUDA_SUCCESS {
            sys::cuModuleUnload(module);
        }
    }
    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
    Some(String::from_utf8_lossy(&log[..end]).trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_alone_keeps_what_all_share() {
        let ptx = ".version 9.0\n.global .u32 g;\n.visible .entry a(\n\t.param .u64 p\n)\n{\n\tret;\n}\n\
                   .visible .entry ab(\n)\n{\n\t{\n\tret;\n\t}\n}\n.file 1 \"x\"\n";
        let a = only_entry(ptx, "a").unwrap();
        assert!(
            a.contains(".global .u32 g;") && a.contains(".entry a(") && a.contains(".file 1") && !a.contains("ab("),
            "{a}"
        );
        assert_eq!(a.matches('{').count(), 1);
        assert!(only_entry(ptx, "b").is_none());
    }

    #[test]
    fn every_embedded_entry_is_found_alone() {
        for (file, base, hopper) in PTX {
            for ptx in [base, hopper] {
                let names =
                    ptx.lines().filter_map(|l| l.strip_prefix(".visible .entry ")).map(|l| l.trim_end_matches('('));
                for name in names {
                    let alone = only_entry(ptx, name).unwrap_or_else(|| panic!("{file}: {name}"));
                    assert_eq!(alone.matches(".visible .entry ").count(), 1, "{file}: {name}");
                    assert_eq!(alone.matches('{').count(), alone.matches('}').count(), "{file}: {name}");
                }
            }
        }
    }
}
