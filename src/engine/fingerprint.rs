//! What makes pages of two engines interchangeable.
//!
//! Every byte of every tensor is in it, not a sample: a model fine-tuned in one matrix has other pages. BLAKE3 on all
//! threads takes a fraction of the time of the load, and only engines with tiers ask for it.
use super::config::EngineConfig;
use crate::backend::Backend;
use crate::kv::Fingerprint;
use crate::models::ModelConfig;
use crate::weights::ModelFile;
use rayon::prelude::*;

/// Changes when what the code outside the backends computes of the same weights does: RoPE tables, norms, scales.
const NUMERICS: &str = "1";

/// Of a model on a backend. The configuration's limits are not in it: they change no page.
pub(super) fn fingerprint(
    file: &ModelFile,
    shape: &ModelConfig,
    backend: &dyn Backend,
    config: &EngineConfig,
) -> Fingerprint {
    // The longest context only bounds what is served.
    let shape = ModelConfig { context: 0, bos: None, eos: Vec::new(), ..shape.clone() };
    Fingerprint::new([
        ("weights", weights(file).as_slice()),
        // Groups with their windows and RoPE, heads, activation, scales.
        ("shape", format!("{shape:?}").as_bytes()),
        ("compute type", format!("{:?}", backend.float()).as_bytes()),
        ("KV types", config.kv_types().to_string().as_bytes()),
        ("page tokens", config.page_tokens.to_string().as_bytes()),
        ("page layout", b"[k|v][layer][head], K and V as KvLayout has them, 1"),
        ("numerics", NUMERICS.as_bytes()),
        ("backend", backend.numerics().as_bytes()),
    ])
}

/// A digest of names, types, shapes and bytes of all tensors.
fn weights(file: &ModelFile) -> [u8; 32] {
    let tensors: Vec<_> = file.tensors().collect();
    let one = |t: &crate::weights::Tensor<'_>| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {:?} {:?} ", t.name, t.dtype, t.shape).as_bytes());
        hasher.update(t.bytes);
        file.release(t.name);
        *hasher.finalize().as_bytes()
    };
    // In the order of names, whatever thread was first.
    let digests: Vec<[u8; 32]> = tensors.par_iter().map(one).collect();
    *blake3::hash(digests.as_flattened()).as_bytes()
}
