//! The embedded PTX and the kernels loaded from it.
use crate::error::{Error, Result};
use cudarc::driver::{CudaContext, CudaFunction, CudaModule, sys};
use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::{Arc, Mutex};

/// Every entry file of `kernels/`: stem, PTX for compute_80, PTX for compute_90a.
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
    modules: HashMap<&'static str, Arc<CudaModule>>,
    kernels: HashMap<(&'static str, String), Kernel>,
    replaced: HashMap<&'static str, String>,
}

impl Modules {
    /// From now on `file` is this PTX.
    pub fn replace(&self, file: &'static str, ptx: String) {
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        loaded.modules.remove(file);
        loaded.kernels.retain(|(f, _), _| *f != file);
        loaded.replaced.insert(file, ptx);
    }

    /// The kernel `entry` of `kernels/{file}.cu`; `hopper` takes the compute_90a PTX.
    pub fn kernel(&self, context: &Arc<CudaContext>, hopper: bool, file: &'static str, entry: &str) -> Result<Kernel> {
        let mut loaded = self.loaded.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(kernel) = loaded.kernels.get(&(file, entry.to_string())) {
            return Ok(kernel.clone());
        }
        let module = match loaded.modules.get(file) {
            Some(module) => module.clone(),
            None => {
                let module = match loaded.replaced.get(file) {
                    Some(ptx) => load(context, file, ptx)?,
                    None => load(context, file, embedded(file, hopper)?)?,
                };
                loaded.modules.insert(file, module.clone());
                module
            }
        };
        let function = module
            .load_function(entry)
            .map_err(|e| Error::Device(format!("kernels/{file}.cu has no kernel {entry}: {e:?}")))?;
        let kernel = Kernel { function, name: entry.into() };
        loaded.kernels.insert((file, entry.to_string()), kernel.clone());
        Ok(kernel)
    }
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
