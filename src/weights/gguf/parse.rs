//! The bytes of a GGUF file, read front to back; every read is checked against the end.
use super::Value;
use crate::backend::DType;
use crate::weights::tensor::TensorEntry;
use std::collections::BTreeMap;
use std::ops::Range;

/// More keys or tensors than this are refused: real files have a few hundred.
const MAX_ENTRIES: u64 = 1 << 16;
/// So are longer arrays: the largest vocabularies have half a million merges.
const MAX_ARRAY: usize = 1 << 21;
const MAX_DIMS: u32 = 4;

/// Numbers of the metadata types.
pub(super) mod kind {
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const F32: u32 = 6;

    /// Bytes of a scalar.
    pub fn size(kind: u32) -> Option<usize> {
        Some(match kind {
            0 | 1 | BOOL => 1,
            2 | 3 => 2,
            4 | 5 | F32 => 4,
            10..=12 => 8,
            _ => return None,
        })
    }
}

type Parsed = (BTreeMap<String, Value>, BTreeMap<String, TensorEntry>);

/// Reads and checks everything but the tensors' contents.
pub(super) fn parse(data: &[u8]) -> Result<Parsed, String> {
    let mut cursor = Cursor { data, at: 0 };
    let (tensor_count, key_count) = cursor.header()?;
    let mut meta = BTreeMap::new();
    for i in 0..key_count {
        let key = cursor.name().map_err(|e| format!("key {i} of {key_count}: {e}"))?;
        let kind = cursor.u32()?;
        let value = cursor.value(kind).map_err(|e| format!("metadata {key}: {e}"))?;
        if meta.contains_key(&key) {
            return Err(format!("metadata {key} is there twice"));
        }
        meta.insert(key, value);
    }
    let alignment = match meta.get("general.alignment") {
        None => 32,
        Some(&Value::Unsigned(n)) if n.is_power_of_two() && n <= 1 << 20 => n as usize,
        Some(other) => return Err(format!("general.alignment is {other:?}, not a power of two up to 1048576")),
    };
    let mut entries = Vec::new();
    for i in 0..tensor_count {
        entries.push(cursor.tensor().map_err(|e| format!("tensor {i} of {tensor_count}: {e}"))?);
    }
    let base = cursor.at.checked_next_multiple_of(alignment).ok_or("the header is too large")?;
    Ok((meta, place(entries, base, alignment, data.len())?))
}

/// Moves the tensors' offsets from the data section to the file, checking that they are aligned, inside and apart.
fn place(
    entries: Vec<(String, TensorEntry)>,
    base: usize,
    alignment: usize,
    file: usize,
) -> Result<BTreeMap<String, TensorEntry>, String> {
    let mut tensors = BTreeMap::new();
    for (name, mut entry) in entries {
        let Range { start, end } = entry.range;
        if !start.is_multiple_of(alignment) {
            return Err(format!("tensor {name} is not aligned to {alignment} bytes"));
        }
        let range = base.checked_add(start).zip(base.checked_add(end));
        let Some((start, end)) = range.filter(|&(_, end)| end <= file) else {
            return Err(format!(
                "tensor {name} needs bytes {start}..{end} of the data section, the file ends at {}: is it truncated?",
                file.saturating_sub(base)
            ));
        };
        entry.range = start..end;
        if tensors.contains_key(&name) {
            return Err(format!("tensor {name} is there twice"));
        }
        tensors.insert(name, entry);
    }
    let mut order: Vec<(&str, &Range<usize>)> = tensors.iter().map(|(n, e)| (n.as_str(), &e.range)).collect();
    order.sort_by_key(|(_, range)| range.start);
    for pair in order.windows(2) {
        if pair[0].1.end > pair[1].1.start {
            return Err(format!("tensors {} and {} overlap", pair[0].0, pair[1].0));
        }
    }
    Ok(tensors)
}

/// Reads the file front to back; every read is checked.
pub(super) struct Cursor<'a> {
    pub data: &'a [u8],
    pub at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, bytes: usize) -> Result<Range<usize>, String> {
        match self.at.checked_add(bytes).filter(|&end| end <= self.data.len()) {
            Some(end) => Ok(std::mem::replace(&mut self.at, end)..end),
            None => {
                Err(format!("{bytes} bytes are to be at offset {}, the file ends before: is it truncated?", self.at))
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let range = self.take(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.data[range]);
        Ok(out)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, String> {
        let n = self.u64()?;
        usize::try_from(n).map_err(|_| format!("a length of {n} is beyond this machine"))
    }

    pub fn string(&mut self) -> Result<Range<usize>, String> {
        let n = self.length()?;
        self.take(n)
    }

    fn name(&mut self) -> Result<String, String> {
        let range = self.string()?;
        std::str::from_utf8(&self.data[range]).map(str::to_owned).map_err(|_| "its name is not UTF-8".into())
    }

    /// Magic, version, tensor count and key count.
    fn header(&mut self) -> Result<(u64, u64), String> {
        if &self.array::<4>().unwrap_or_default() != b"GGUF" {
            return Err("not a GGUF file (it does not begin with GGUF)".into());
        }
        match self.u32()? {
            2 | 3 => {}
            v if v.swap_bytes() == 2 || v.swap_bytes() == 3 => {
                return Err("a big-endian GGUF file; kvick reads little-endian ones".into());
            }
            v => return Err(format!("GGUF version {v}; kvick reads versions 2 and 3")),
        }
        let (tensors, keys) = (self.u64()?, self.u64()?);
        if tensors > MAX_ENTRIES || keys > MAX_ENTRIES {
            return Err(format!("{tensors} tensors and {keys} keys; more than {MAX_ENTRIES} are not believed"));
        }
        Ok((tensors, keys))
    }

    fn value(&mut self, kind: u32) -> Result<Value, String> {
        match kind {
            kind::STRING => self.string().map(Value::String),
            kind::ARRAY => self.array_value(),
            _ => self.scalar(kind),
        }
    }

    /// Walks an array without keeping its elements.
    fn array_value(&mut self) -> Result<Value, String> {
        let (kind, count) = (self.u32()?, self.length()?);
        if count > MAX_ARRAY {
            return Err(format!("an array of {count} elements; more than {MAX_ARRAY} are not believed"));
        }
        let start = self.at;
        if kind == kind::STRING {
            for _ in 0..count {
                self.string()?;
            }
        } else {
            let size = kind::size(kind).ok_or_else(|| format!("an array of unsupported type {kind}"))?;
            self.take(count * size)?;
        }
        Ok(Value::Array { kind, count, range: start..self.at })
    }

    pub fn scalar(&mut self, kind: u32) -> Result<Value, String> {
        Ok(match kind {
            0 => Value::Unsigned(self.array::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(self.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array()?).into()),
            4 => Value::Unsigned(self.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array()?).into()),
            kind::F32 => Value::Float(f32::from_le_bytes(self.array()?).into()),
            kind::BOOL => Value::Bool(self.array::<1>()?[0] != 0),
            10 => Value::Unsigned(self.u64()?),
            11 => Value::Signed(i64::from_le_bytes(self.array()?)),
            12 => Value::Float(f64::from_le_bytes(self.array()?)),
            _ => return Err(format!("unsupported type {kind}")),
        })
    }

    /// Name, shape (the file lists the innermost dimension first), type and offset in the data section.
    fn tensor(&mut self) -> Result<(String, TensorEntry), String> {
        let name = self.name()?;
        let dims = self.u32()?;
        if dims == 0 || dims > MAX_DIMS {
            return Err(format!("{name} has {dims} dimensions; 1 to {MAX_DIMS} are possible"));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            shape.push(self.length()?);
        }
        shape.reverse();
        let number = self.u32()?;
        let dtype = dtype(number)
            .ok_or_else(|| format!("{name} has tensor type {}; kvick reads {:?}", type_name(number), DType::ALL))?;
        let offset = self.length()?;
        let bytes = TensorEntry::bytes(dtype, &shape)
            .ok_or_else(|| format!("{name} has shape {shape:?}, which {dtype:?} cannot have"))?;
        let end = offset.checked_add(bytes).ok_or_else(|| format!("{name} begins at {offset}"))?;
        Ok((name, TensorEntry { dtype, shape, range: offset..end }))
    }
}

fn dtype(number: u32) -> Option<DType> {
    Some(match number {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        8 => DType::Q8_0,
        12 => DType::Q4_K,
        14 => DType::Q6_K,
        30 => DType::BF16,
        _ => return None,
    })
}

/// Names of types that are common in the wild, for messages.
fn type_name(number: u32) -> String {
    let name = match number {
        7 => "Q5_1",
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        13 => "Q5_K",
        15 => "Q8_K",
        16..=23 | 29 => "an IQ type",
        24..=27 => "an integer type",
        28 => "F64",
        34 | 35 => "a ternary type",
        39 => "MXFP4",
        _ => return format!("number {number}"),
    };
    format!("{name} (number {number})")
}
