//! Writes GGUF files: tiny models, and whatever a test wants to be wrong.
use super::rng::Rng;
use super::tensors;
use kvick::backend::DType;

/// A file under construction.
#[derive(Default)]
pub struct GgufWriter {
    keys: Vec<(String, Value)>,
    tensors: Vec<(String, DType, Vec<usize>, Vec<u8>)>,
}

/// A metadata value.
pub enum Value {
    U32(u32),
    F32(f32),
    Bool(bool),
    Str(String),
    Strs(Vec<String>),
    F32s(Vec<f32>),
    I32s(Vec<i32>),
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::Str(s.into())
    }
}

fn string(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        let array = |out: &mut Vec<u8>, kind: u32, count: usize| {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((count as u64).to_le_bytes());
        };
        match self {
            Value::U32(n) => [4u32.to_le_bytes(), n.to_le_bytes()].iter().for_each(|b| out.extend(b)),
            Value::F32(x) => [6u32.to_le_bytes(), x.to_le_bytes()].iter().for_each(|b| out.extend(b)),
            Value::Bool(b) => {
                out.extend(7u32.to_le_bytes());
                out.push((*b).into());
            }
            Value::Str(s) => {
                out.extend(8u32.to_le_bytes());
                string(out, s);
            }
            Value::Strs(items) => {
                array(out, 8, items.len());
                items.iter().for_each(|s| string(out, s));
            }
            Value::F32s(items) => {
                array(out, 6, items.len());
                items.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Value::I32s(items) => {
                array(out, 5, items.len());
                items.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
        }
    }
}

impl GgufWriter {
    pub fn key(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.push((key.into(), value.into()));
        self
    }

    /// Gives a key another value, or takes it away.
    pub fn replace(mut self, key: &str, value: Option<Value>) -> Self {
        self.keys.retain(|(k, _)| k != key);
        self.keys.extend(value.map(|v| (key.to_string(), v)));
        self
    }

    /// `shape`: outermost dimension first.
    pub fn tensor(mut self, name: &str, dtype: DType, shape: &[usize], bytes: Vec<u8>) -> Self {
        self.tensors.push((name.into(), dtype, shape.to_vec(), bytes));
        self
    }

    /// Header bytes and the whole file.
    pub fn finish(&self) -> (usize, Vec<u8>) {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.keys.len() as u64).to_le_bytes());
        for (key, value) in &self.keys {
            string(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0u64;
        for (name, dtype, shape, bytes) in &self.tensors {
            string(&mut out, name);
            out.extend((shape.len() as u32).to_le_bytes());
            shape.iter().rev().for_each(|&n| out.extend((n as u64).to_le_bytes()));
            out.extend(type_number(*dtype).to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset += (bytes.len() as u64).next_multiple_of(32);
        }
        let header = out.len();
        for (.., bytes) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(bytes);
        }
        (header, out)
    }
}

fn type_number(dtype: DType) -> u32 {
    match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::Q4_0 => 2,
        DType::Q4_1 => 3,
        DType::Q5_0 => 6,
        DType::Q8_0 => 8,
        DType::Q4_K => 12,
        DType::Q6_K => 14,
        DType::BF16 => 30,
    }
}

/// Sizes of [`tiny_llama`].
pub const TINY_VOCAB: usize = 32;

/// A one-layer Llama of a few kilobytes with a tokenizer of single bytes, in several tensor types.
pub fn tiny_llama(seed: u64) -> GgufWriter {
    const WIDTH: usize = 32;
    let mut rng = Rng::new(seed);
    let mut matrix =
        |dtype: DType, rows: usize| tensors::weight(&mut rng, "tiny", dtype, rows, WIDTH).bytes.into_owned();
    let ones = || bytemuck::cast_slice(&[1.0f32; WIDTH]).to_vec();
    let tokens = (0..TINY_VOCAB).map(|i| char::from(b'A' + i as u8).to_string()).collect();
    GgufWriter::default()
        .key("general.architecture", "llama")
        .key("llama.block_count", Value::U32(1))
        .key("llama.context_length", Value::U32(64))
        .key("llama.embedding_length", Value::U32(WIDTH as u32))
        .key("llama.feed_forward_length", Value::U32(32))
        .key("llama.attention.head_count", Value::U32(4))
        .key("llama.attention.head_count_kv", Value::U32(2))
        .key("llama.rope.freq_base", Value::F32(1e4))
        .key("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))
        .key("tokenizer.ggml.model", "gpt2")
        .key("tokenizer.ggml.pre", "smollm")
        .key("tokenizer.ggml.tokens", Value::Strs(tokens))
        .key("tokenizer.ggml.token_type", Value::I32s(vec![1; TINY_VOCAB]))
        .key("tokenizer.ggml.merges", Value::Strs(Vec::new()))
        .key("tokenizer.ggml.scores", Value::F32s(vec![0.0; TINY_VOCAB]))
        .key("tokenizer.ggml.eos_token_id", Value::U32(2))
        .key("tokenizer.ggml.add_bos_token", Value::Bool(false))
        .tensor("token_embd.weight", DType::Q8_0, &[TINY_VOCAB, WIDTH], matrix(DType::Q8_0, TINY_VOCAB))
        .tensor("output_norm.weight", DType::F32, &[WIDTH], ones())
        .tensor("blk.0.attn_norm.weight", DType::F32, &[WIDTH], ones())
        .tensor("blk.0.attn_q.weight", DType::Q4_0, &[32, WIDTH], matrix(DType::Q4_0, 32))
        .tensor("blk.0.attn_k.weight", DType::Q5_0, &[16, WIDTH], matrix(DType::Q5_0, 16))
        .tensor("blk.0.attn_v.weight", DType::Q8_0, &[16, WIDTH], matrix(DType::Q8_0, 16))
        .tensor("blk.0.attn_output.weight", DType::Q4_1, &[32, WIDTH], matrix(DType::Q4_1, 32))
        .tensor("blk.0.ffn_norm.weight", DType::F32, &[WIDTH], ones())
        .tensor("blk.0.ffn_gate.weight", DType::Q4_1, &[32, WIDTH], matrix(DType::Q4_1, 32))
        .tensor("blk.0.ffn_up.weight", DType::Q4_1, &[32, WIDTH], matrix(DType::Q4_1, 32))
        .tensor("blk.0.ffn_down.weight", DType::Q4_0, &[WIDTH, 32], matrix(DType::Q4_0, 32))
}
