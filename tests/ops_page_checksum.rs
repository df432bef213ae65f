//! Checksums of half pages on every backend, against the host's.
mod common;

use common::device::all;
use common::rng::Rng;
use kvick::backend::{Float, KvGroup, KvLayout, PageChecksums};
use kvick::checksum;

#[test]
fn device_and_host_sum_alike() {
    for device in &all(Float::F16) {
        for seed in 0..8 {
            let mut rng = Rng::new(seed);
            let layout = KvLayout {
                layers: 1 + rng.below(4),
                kv_heads: 1 + rng.below(3),
                head_dim: rng.pick(&[64, 96, 256]),
                page_tokens: rng.pick(&[8, 16, 32]),
                float: Float::F16,
            };
            let total = 1 + rng.below(9);
            let bytes = rng.bytes(total * layout.page_bytes());
            let mut ids: Vec<u32> = (0..total as u32).collect();
            rng.shuffle(&mut ids);
            ids.truncate(1 + rng.below(total));
            let kv = KvGroup { layout, pages: total, data: device.upload(&bytes) };
            let out = device.poisoned(16 * ids.len());
            let op = PageChecksums { kv: &kv, pages: &device.upload(&ids), count: ids.len(), out: &out };
            device.backend.page_checksums(&op).unwrap_or_else(|e| panic!("{} seed {seed}: {e}", device.name));
            let half = |id: u32, h: usize| {
                let at = id as usize * layout.page_bytes() + h * layout.page_bytes() / 2;
                checksum::sum(&bytes[at..at + layout.page_bytes() / 2])
            };
            let expected: Vec<u64> = ids.iter().flat_map(|&id| [half(id, 0), half(id, 1)]).collect();
            assert_eq!(device.download::<u64>(&out, 2 * ids.len()), expected, "{} seed {seed}", device.name);
        }
    }
}
