//! The backends that an operation's test runs on, and buffers of theirs.
use half::{bf16, f16};
use kvick::backend::{Backend, Buffer, Float, Fuse, HostWeight, Weight};
use std::sync::Arc;

/// A backend under test.
pub struct Device {
    pub name: String,
    pub backend: Arc<dyn Backend>,
}

/// The oracle first, then the backend under test: `$KVICK_TEST_DEVICE`, or the emulated GPU. A process keeps one driver, so
/// a GPU is tested by running the suite again with that variable.
pub fn all(float: Float) -> Vec<Device> {
    vec![Device::open("cpu", float), under_test(float)]
}

/// The backend under test alone.
pub fn under_test(float: Float) -> Device {
    let name = std::env::var("KVICK_TEST_DEVICE").unwrap_or_else(|_| "emulator".into());
    Device::open(&name, float)
}

impl Device {
    pub fn open(name: &str, float: Float) -> Self {
        let opened = kvick::open::backend(name, float).unwrap_or_else(|e| panic!("{name}: {e}"));
        Device { name: name.into(), backend: opened.backend }
    }

    pub fn float(&self) -> Float {
        self.backend.float()
    }

    /// A buffer of any plain values.
    pub fn upload<T: bytemuck::NoUninit>(&self, values: &[T]) -> Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = self.backend.alloc("test", bytes.len()).unwrap();
        self.backend.upload(&buffer, 0, bytes).unwrap();
        buffer
    }

    /// A buffer of the compute type.
    pub fn upload_floats(&self, values: &[f32]) -> Buffer {
        self.upload(&to_bits(self.float(), values))
    }

    /// A buffer of 32-bit words filled with NaN (of both float types), to be written by an operation.
    pub fn poisoned(&self, bytes: usize) -> Buffer {
        self.upload(&vec![u32::MAX; bytes.div_ceil(4)])
    }

    pub fn download<T: bytemuck::Pod>(&self, buffer: &Buffer, count: usize) -> Vec<T> {
        let mut out = vec![T::zeroed(); count];
        self.backend.download(buffer, 0, bytemuck::cast_slice_mut(&mut out)).unwrap();
        out
    }

    pub fn download_floats(&self, buffer: &Buffer, count: usize) -> Vec<f32> {
        from_bits(self.float(), &self.download::<u16>(buffer, count))
    }

    pub fn weight(&self, parts: &[HostWeight<'_>], fuse: Fuse) -> Weight {
        self.backend.load_weight(parts, fuse).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }
}

/// Rounds to the compute type.
pub fn to_bits(float: Float, values: &[f32]) -> Vec<u16> {
    match float {
        Float::F16 => values.iter().map(|&x| f16::from_f32(x).to_bits()).collect(),
        Float::BF16 => values.iter().map(|&x| bf16::from_f32(x).to_bits()).collect(),
    }
}

pub fn from_bits(float: Float, bits: &[u16]) -> Vec<f32> {
    match float {
        Float::F16 => bits.iter().map(|&b| f16::from_bits(b).to_f32()).collect(),
        Float::BF16 => bits.iter().map(|&b| bf16::from_bits(b).to_f32()).collect(),
    }
}
