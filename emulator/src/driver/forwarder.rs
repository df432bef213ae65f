//! Putting the driver where `dlopen("libcuda.so")` finds it.
//!
//! The embedded forwarder is a shared object whose soname is `libcuda.so` and whose every function jumps through a
//! table. It is loaded from a file in memory and the table is filled with this crate's functions; from then on the
//! dynamic loader answers requests for that soname with it.

use super::function_table;
use crate::gpu::process_gpu;
use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

static FORWARDER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/forwarder.so"));

/// Why the emulated driver could not be put in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// There is no forwarder for this system.
    #[error("the emulated GPU needs Linux on x86-64 or aarch64; use the `cpu` device here")]
    System,
    /// The GPU's settings are not understood, or its address space could not be reserved.
    #[error("{0}; check the KVICK_EMU_* variables and the limit of virtual memory (ulimit -v)")]
    Gpu(String),
    /// The forwarder could not be written or loaded.
    #[error("the emulated driver could not be loaded: {0}; is the temporary folder writable and executable?")]
    Load(String),
}

/// Makes the next `dlopen("libcuda.so")` of this process find the emulated GPU. Further calls change nothing.
///
/// Call it before anything else loads a driver: a library that is loaded already keeps its name.
///
/// # Errors
/// See [`InstallError`]. The same one on every call.
pub fn install() -> Result<(), InstallError> {
    static DONE: OnceLock<Result<(), InstallError>> = OnceLock::new();
    DONE.get_or_init(|| {
        if FORWARDER.is_empty() {
            return Err(InstallError::System);
        }
        process_gpu().map_err(|message| InstallError::Gpu(message.to_string()))?;
        let library = load_from_memory().or_else(|_| load_from_temporary_file()).map_err(InstallError::Load)?;
        fill(library).map_err(InstallError::Load)
    })
    .clone()
}

fn load_from_memory() -> Result<*mut c_void, String> {
    // SAFETY: the name is a C string; the descriptor is checked before use.
    let descriptor = unsafe { libc::memfd_create(c"libcuda.so".as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error().to_string());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let mut file = unsafe { File::from_raw_fd(descriptor) };
    file.write_all(FORWARDER).map_err(|e| e.to_string())?;
    open(&format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// For systems that forbid files in memory.
fn load_from_temporary_file() -> Result<*mut c_void, String> {
    let path = std::env::temp_dir().join(format!("kvick-forwarder-{}.so", std::process::id()));
    // `create_new`: never through a file or link that somebody else put there.
    let mut file = File::options().write(true).create_new(true).open(&path).map_err(|e| e.to_string())?;
    let written = file.write_all(FORWARDER).map_err(|e| e.to_string());
    let opened = written.and_then(|()| open(&path.to_string_lossy()));
    // Loaded, it needs its file no more.
    let _ = std::fs::remove_file(&path);
    opened
}

fn open(path: &str) -> Result<*mut c_void, String> {
    let path = CString::new(path).map_err(|e| e.to_string())?;
    // SAFETY: the library is the one built with this crate; it has no constructors.
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if !library.is_null() {
        return Ok(library);
    }
    // SAFETY: after a failed dlopen, dlerror returns a C string that lives until the next dl call of this thread.
    let message = unsafe { CStr::from_ptr(libc::dlerror()) };
    Err(message.to_string_lossy().into_owned())
}

fn fill(library: *mut c_void) -> Result<(), String> {
    // SAFETY: `library` is an open library and the name is a C string.
    let table = unsafe { libc::dlsym(library, c"kvick_forwarder_table".as_ptr()) };
    if table.is_null() {
        return Err("it has no table".to_string());
    }
    for (index, function) in function_table().into_iter().enumerate() {
        // SAFETY: build.rs made the table one pointer long for each name, and nobody calls through it yet.
        unsafe { table.cast::<*const ()>().add(index).write(function) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way for systems that forbid files in memory.
    #[test]
    fn a_temporary_file_serves_too_and_is_removed() {
        let library = load_from_temporary_file().unwrap();
        assert_eq!(fill(library), Ok(()));
        // SAFETY: an open library and a C string.
        let function = unsafe { libc::dlsym(library, c"cuTexObjectCreate".as_ptr()) };
        // SAFETY: a function of the filled table that uses no argument.
        let code = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> u32>(function) }();
        assert_eq!(code, 801, "CUDA_ERROR_NOT_SUPPORTED");
        let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
        let name = format!("kvick-forwarder-{}.so", std::process::id());
        assert!(left.into_iter().all(|entry| entry.file_name() != name.as_str()));
    }
}
