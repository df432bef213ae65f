//! Which CUDA driver this process uses: a real one, or the emulated GPU.
//!
//! The real driver is probed through its own handle before cudarc's first call, since cudarc keeps the first library that
//! it opens. A real driver that can run our kernels always wins under `auto`.
use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::c_int;
use std::sync::Mutex;

/// PTX of the pinned compiler needs a driver of this CUDA version: 580 and newer.
const NEEDED: c_int = 13000;
/// First compute capability of our kernels.
const OLDEST: (c_int, c_int) = (8, 0);

/// The driver in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// NVIDIA's, with the device's ordinal.
    Real(usize),
    /// Ours.
    Emulated,
}

/// The driver that the process has settled on: real or not.
static CHOSEN: Mutex<Option<bool>> = Mutex::new(None);

/// Whether this process uses the emulated GPU.
pub(super) fn is_emulated() -> bool {
    *CHOSEN.lock().unwrap_or_else(|e| e.into_inner()) == Some(false)
}

/// Chooses by `auto`, `cuda:N` or `emulator`. The second value is a line for the user where `auto` took the emulator.
pub fn select(device: &str) -> Result<(Driver, Option<String>)> {
    let ordinal = match device {
        "auto" | "emulator" => None,
        _ => Some(parse_cuda(device)?),
    };
    let mut chosen = CHOSEN.lock().unwrap_or_else(|e| e.into_inner());
    let (driver, notice) = match (device, ordinal) {
        (_, Some(n)) => (probe(n).map(|()| Driver::Real(n)).map_err(Error::Device)?, None),
        ("emulator", _) => (Driver::Emulated, None),
        _ if *chosen == Some(false) => (Driver::Emulated, None),
        _ => match probe(0) {
            Ok(()) => (Driver::Real(0), None),
            Err(why) => {
                (Driver::Emulated, Some(format!("{why}; using the emulated GPU on the CPU (slow, same kernels)")))
            }
        },
    };
    let real = driver != Driver::Emulated;
    match *chosen {
        Some(before) if before != real => {
            let (now, then) =
                if real { ("a real GPU", "the emulated one") } else { ("the emulated GPU", "a real one") };
            return Err(Error::Device(format!("this process already uses {then}; {now} needs a process of its own")));
        }
        Some(_) => {}
        None => {
            if !real {
                kvick_emulator::install().map_err(|e| Error::Device(format!("the emulated GPU cannot start: {e}")))?;
            }
            *chosen = Some(real);
        }
    }
    Ok((driver, notice))
}

fn parse_cuda(device: &str) -> Result<usize> {
    let number = device
        .strip_prefix("cuda")
        .map(|rest| rest.strip_prefix(':').unwrap_or(if rest.is_empty() { "0" } else { "?" }));
    number.and_then(|n| n.parse().ok()).ok_or_else(|| {
        Error::Unsupported(format!("no device is called {device:?}; there are auto, cuda, cuda:N, emulator and cpu"))
    })
}

type Init = unsafe extern "C" fn(u32) -> c_int;
type Get = unsafe extern "C" fn(*mut c_int) -> c_int;
type GetDevice = unsafe extern "C" fn(*mut c_int, c_int) -> c_int;
type Attribute = unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int;

/// Whether NVIDIA's driver is there and its device `ordinal` can run our kernels; if not, why, in words.
fn probe(ordinal: usize) -> std::result::Result<(), String> {
    // SAFETY: loading the system's CUDA driver runs its initialisers, which any CUDA program does.
    let library = unsafe { Library::new("libcuda.so.1") }.map_err(|_| "no NVIDIA driver is installed".to_string())?;
    let missing = |e: libloading::Error| format!("the NVIDIA driver is not usable ({e})");
    // SAFETY: the four signatures are those of the CUDA driver API, stable since CUDA 2.
    let (init, version, count, device, attribute) = unsafe {
        (
            library.get::<Init>(b"cuInit\0").map_err(missing)?,
            library.get::<Get>(b"cuDriverGetVersion\0").map_err(missing)?,
            library.get::<Get>(b"cuDeviceGetCount\0").map_err(missing)?,
            library.get::<GetDevice>(b"cuDeviceGet\0").map_err(missing)?,
            library.get::<Attribute>(b"cuDeviceGetAttribute\0").map_err(missing)?,
        )
    };
    let (mut v, mut n, mut handle, mut major, mut minor) = (0, 0, 0, 0, 0);
    // SAFETY: every pointer is to a live local of the right type; cuInit precedes every other call.
    let codes = unsafe {
        let wanted = c_int::try_from(ordinal).unwrap_or(c_int::MAX);
        let first = init(0);
        if first != 0 {
            return Err(format!("the NVIDIA driver does not start (CUDA error {first})"));
        }
        let head = [version(&mut v), count(&mut n)];
        if wanted >= n {
            let have = if n == 0 { "no GPU".into() } else { format!("{n} GPU(s), cuda:0 to cuda:{}", n - 1) };
            return Err(format!("there is no device cuda:{ordinal}: the driver sees {have}"));
        }
        let (cc_major, cc_minor) = (75, 76);
        let tail = [
            device(&mut handle, wanted),
            attribute(&mut major, cc_major, handle),
            attribute(&mut minor, cc_minor, handle),
        ];
        [head[0], head[1], tail[0], tail[1], tail[2]]
    };
    if let Some(code) = codes.into_iter().find(|&c| c != 0) {
        return Err(format!("the NVIDIA driver answers with CUDA error {code}"));
    }
    if v < NEEDED {
        return Err(format!(
            "the NVIDIA driver is for CUDA {}.{}, kvick needs 13.0 (driver 580 or newer)",
            v / 1000,
            v % 1000 / 10
        ));
    }
    if (major, minor) < OLDEST {
        return Err(format!("cuda:{ordinal} is of compute capability {major}.{minor}, kvick needs 8.0 or newer"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        assert_eq!(parse_cuda("cuda").unwrap(), 0);
        assert_eq!(parse_cuda("cuda:3").unwrap(), 3);
        for bad in ["cuda:", "cuda:x", "cuda3", "gpu", "cuda:-1", ""] {
            let message = parse_cuda(bad).unwrap_err().to_string();
            assert!(message.contains("emulator"), "{bad}: {message}");
        }
    }
}
