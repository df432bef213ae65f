//! Damaged and lying model files: an error that says what is wrong, no panic, and no allocation beyond the file's size and
//! 64 MiB.
#![cfg(feature = "engine")]
mod common;
use common::gguf::{TINY_VOCAB, tiny_llama};
use common::rng::Rng;
use kvick::backend::{Backend, Float};
use kvick::cpu::Cpu;
use kvick::models::{Evaluator, LoadOptions, load_file, read_config};
use kvick::weights::{Checkpoint, Data, Gguf, ModelFile};
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Counts bytes that are allocated now, and the most since the last reset.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Only one test may allocate while another measures.
static ALONE: Mutex<()> = Mutex::new(());

// SAFETY: every call goes to the system's allocator unchanged; the counters are atomics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SLACK: usize = 64 << 20;

/// Runs `job` and checks what it allocated at most at one time.
fn bounded<T>(what: &str, file: usize, job: impl FnOnce() -> T) -> T {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = job();
    let used = PEAK.load(Ordering::Relaxed).saturating_sub(before);
    assert!(used <= file + SLACK, "{what}: {used} bytes allocated for a file of {file}");
    result
}

/// Numbers that readers trip over.
const NASTY: [u64; 14] =
    [0, 1, 2, 31, 33, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 1 << 40, i64::MAX as u64, u64::MAX - 31, u64::MAX];

/// One to three random wounds, mostly within the first `header` bytes.
fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, header: usize) {
    for _ in 0..1 + rng.below(3) {
        if bytes.is_empty() {
            return;
        }
        let limit = if rng.below(4) > 0 { header.min(bytes.len()) } else { bytes.len() };
        let at = rng.below(limit);
        match rng.below(6) {
            0 | 1 => bytes[at] ^= 1 << rng.below(8),
            2 | 3 => {
                let width = rng.pick(&[1, 2, 4, 8]).min(bytes.len() - at);
                let value = rng.pick(&NASTY).to_le_bytes();
                bytes[at..at + width].copy_from_slice(&value[..width]);
            }
            4 => bytes.truncate(at),
            _ => {
                let end = (at + 1 + rng.below(64)).min(bytes.len());
                let piece: Vec<u8> = bytes.drain(at..end).collect();
                if rng.below(2) == 0 {
                    let to = rng.below(bytes.len() + 1);
                    bytes.splice(to..to, piece);
                }
            }
        }
    }
}

/// Reads everything there is to read of a file, loads it, and runs a few tokens where that succeeds.
fn use_file(file: &ModelFile, run: bool) -> kvick::Result<()> {
    if let ModelFile::Gguf(gguf) = file {
        gguf.strings("tokenizer.ggml.tokens")?;
        gguf.strings("tokenizer.ggml.merges")?;
        gguf.integers("tokenizer.ggml.token_type")?;
        gguf.floats("tokenizer.ggml.scores")?;
        gguf.bool("tokenizer.ggml.add_bos_token")?;
    }
    read_config(file)?;
    let backend: Arc<dyn Backend> = Arc::new(Cpu::new(Float::F16));
    let model = load_file(file, &backend, &LoadOptions { context: Some(16) })?;
    if run && model.config().vocab == TINY_VOCAB && model.config().context >= 16 {
        Evaluator::new(Arc::new(model), Float::F16, 16, 4)?.logits(&[1, 2, 3, 4, 5, 6], 4, |_, _| Ok(()))?;
    }
    Ok(())
}

/// How many were taken, and how many refused with a message.
#[derive(Default, Debug)]
struct Tally {
    taken: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, what: &str, result: kvick::Result<()>) {
        match result {
            Ok(()) => self.taken += 1,
            Err(e) => {
                assert!(e.to_string().len() > 10, "{what}: a message that says nothing: {e}");
                self.refused += 1;
            }
        }
    }
}

#[test]
fn gguf_mutants() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (header, sound) = tiny_llama(7).finish();
    assert!(sound.len() <= 8 << 10, "{} bytes", sound.len());
    let path = Path::new("tiny.gguf");
    let open = |bytes: Vec<u8>| Gguf::parse(Data::Owned(bytes), path).map(ModelFile::Gguf);
    use_file(&open(sound.clone()).unwrap(), true).unwrap();
    let mut tally = Tally::default();
    for seed in 0..100_000 {
        let mut rng = Rng::new(seed);
        let mut bytes = sound.clone();
        mutate(&mut rng, &mut bytes, header);
        let what = format!("GGUF mutant, seed {seed}");
        let size = bytes.len();
        let result = bounded(&what, size, || open(bytes).and_then(|file| use_file(&file, seed % 16 == 0)));
        tally.count(&what, result);
    }
    assert!(tally.taken > 5_000 && tally.refused > 50_000, "the mutants are too tame or too wild: {tally:?}");
}

/// `config.json` and one safetensors file of a tiny model, the latter's header padded as writers do.
fn tiny_checkpoint() -> (String, Vec<u8>) {
    let config = r#"{"model_type":"llama","hidden_act":"silu","hidden_size":8,"intermediate_size":8,
        "num_attention_heads":1,"num_key_value_heads":1,"num_hidden_layers":1,"vocab_size":32,"rms_norm_eps":1e-5,
        "max_position_embeddings":64,"rope_theta":10000.0,"tie_word_embeddings":true,
        "rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
        "original_max_position_embeddings":32}}"#;
    let layer = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj"];
    let layer = layer.iter().chain(&["mlp.up_proj", "mlp.down_proj"]);
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![32, 8])];
    tensors.extend(layer.map(|name| (format!("model.layers.0.{name}.weight"), vec![8, 8])));
    let norms = ["model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"];
    tensors.extend(norms.map(|name| (format!("{name}.weight"), vec![8])));
    let mut rng = Rng::new(3);
    let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape)| {
            let values = rng.normals(shape.iter().product(), 0.3);
            (name, shape, bytemuck::cast_slice(&values).to_vec())
        })
        .collect();
    let views = data.iter().map(|(name, shape, bytes)| {
        (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap())
    });
    (config.into(), safetensors::serialize(views, None).unwrap())
}

#[test]
fn checkpoint_mutants() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (config, sound) = tiny_checkpoint();
    let header = 8 + u64::from_le_bytes(*sound.first_chunk().unwrap()) as usize;
    let folder = Path::new("tiny");
    let open = |config: &[u8], bytes: Vec<u8>| {
        let files = vec![(Data::Owned(bytes), PathBuf::from("tiny/model.safetensors"))];
        Checkpoint::parse(folder, config, files).map(ModelFile::Checkpoint)
    };
    use_file(&open(config.as_bytes(), sound.clone()).unwrap(), true).unwrap();
    let mut tally = Tally::default();
    for seed in 0..20_000 {
        let mut rng = Rng::new(seed);
        let (mut text, mut bytes) = (config.clone().into_bytes(), sound.clone());
        if rng.below(2) == 0 {
            let all = text.len();
            mutate(&mut rng, &mut text, all);
        } else {
            mutate(&mut rng, &mut bytes, header);
        }
        let what = format!("checkpoint mutant, seed {seed}");
        let size = bytes.len() + text.len();
        let result = bounded(&what, size, || open(&text, bytes).and_then(|file| use_file(&file, seed % 16 == 0)));
        tally.count(&what, result);
    }
    assert!(tally.taken > 500 && tally.refused > 10_000, "the mutants are too tame or too wild: {tally:?}");
}

/// 200 mutants of a real file, in place on a copy: the wounds are healed afterwards.
#[test]
fn real_file_mutants() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    const HEADER: usize = 1_800_000;
    let original = common::models::path("smollm2");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mutant.gguf");
    std::fs::copy(&original, &path).unwrap();
    let sound = Data::map(&original).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let mut tally = Tally::default();
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let what = format!("mutant of the real file, seed {seed}");
        // Half of the wounds are in the first 2,000 bytes: counts, keys, sizes.
        let at = rng.below(rng.clone().pick(&[2_000, 2_000, HEADER, sound.len() - 64]));
        let cut = seed % 10 == 0;
        if cut {
            file.set_len(at as u64).unwrap();
        } else {
            let mut wound = sound[at..at + 64].to_vec();
            while wound.len() != 64 || wound == sound[at..at + 64] {
                wound = sound[at..at + 64].to_vec();
                mutate(&mut rng, &mut wound, 64);
            }
            file.write_all_at(&wound, at as u64).unwrap();
        }
        // A load copies the weights, which is the file's size; every tenth is enough.
        let result = bounded(&what, sound.len(), || {
            let file = kvick::weights::open(&path)?;
            if seed % 10 == 1 { use_file(&file, false) } else { read_config(&file).map(drop) }
        });
        tally.count(&what, result);
        let healed = if cut { &sound[at..] } else { &sound[at..at + 64] };
        file.write_all_at(healed, at as u64).unwrap();
    }
    assert!(tally.taken > 20 && tally.refused > 50, "the mutants are too tame or too wild: {tally:?}");
    bounded("healed file", sound.len(), || kvick::weights::open(&path).and_then(|f| use_file(&f, false))).unwrap();
}
