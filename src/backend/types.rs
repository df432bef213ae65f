//! Buffers and weights: what operations read and write.
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Storage types of weights. Block formats are GGUF's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types)]
pub enum DType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q4_K,
    Q6_K,
}

impl DType {
    /// Every type, in the order of the enum.
    pub const ALL: [DType; 9] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q8_0,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q4_K,
        DType::Q6_K,
    ];

    /// Elements of a block and bytes of a block.
    pub const fn block(self) -> (usize, usize) {
        match self {
            DType::F32 => (1, 4),
            DType::F16 | DType::BF16 => (1, 2),
            DType::Q8_0 => (32, 34),
            DType::Q4_0 => (32, 18),
            DType::Q4_1 => (32, 20),
            DType::Q5_0 => (32, 22),
            DType::Q4_K => (256, 144),
            DType::Q6_K => (256, 210),
        }
    }

    /// Bytes of a row of `cols` elements; `None` if it is not whole blocks or overflows.
    pub fn row_bytes(self, cols: usize) -> Option<usize> {
        let (elements, bytes) = self.block();
        if !cols.is_multiple_of(elements) {
            return None;
        }
        (cols / elements).checked_mul(bytes)
    }
}

/// The compute type: matmul inputs, Q, P and KV pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Float {
    /// IEEE half. Default: 11 bits of precision; overflow is detected.
    #[default]
    F16,
    /// bfloat16: range of f32, 8 bits of precision.
    BF16,
}

impl Float {
    /// Bytes of an element.
    pub const fn bytes(self) -> usize {
        2
    }
}

/// Device memory of some backend.
pub trait DeviceMemory: Any + Send + Sync {
    /// Size.
    fn bytes(&self) -> usize;
    /// For the backend that made it.
    fn as_any(&self) -> &dyn Any;
}

/// A handle to device memory; freed with its last clone.
#[derive(Clone)]
pub struct Buffer(Arc<dyn DeviceMemory>);

impl Buffer {
    /// Wraps a backend's memory.
    pub fn new(memory: impl DeviceMemory) -> Self {
        Buffer(Arc::new(memory))
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    /// The backend's own type, if this buffer is of that backend.
    pub fn downcast<T: 'static>(&self) -> Option<&T> {
        self.0.as_any().downcast_ref()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes())
    }
}

/// Free and total bytes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemoryInfo {
    pub free: u64,
    pub total: u64,
}

/// A matrix on the host as the file stores it: `rows * dtype.row_bytes(cols)` bytes.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct HostWeight<'a> {
    /// For error messages.
    pub name: String,
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
    pub bytes: Cow<'a, [u8]>,
}

/// How several matrices become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// One after another (one part, or Q, K and V; their types may differ).
    Concat,
    /// Row i of the first, then row i of the second (gate and up: same shape and type).
    Interleave,
}

/// A matrix on the device.
#[derive(Clone)]
pub struct Weight {
    /// Type and rows of each part as given to [`super::Backend::load_weight`].
    pub parts: Vec<(DType, usize)>,
    /// How they were fused.
    pub fuse: Fuse,
    /// Rows of all parts.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Bytes held on the device.
    pub bytes: usize,
    /// The backend's own representation.
    pub data: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weight({:?} {:?}, {} x {})", self.parts, self.fuse, self.rows, self.cols)
    }
}
