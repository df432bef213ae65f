//! Checksums of half pages on every backend, against the host's.
#![cfg(feature = "engine")]
mod common;

use common::device::all;
use common::rng::Rng;
use kvick::backend::{Float, KvGroup, KvHalf, KvLayout, KvType, KvTypes, PageChecksums};
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
                types: KvTypes { k: rng.pick(&KvType::ALL), v: rng.pick(&KvType::ALL) },
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
            let sum = |id: u32, half: KvHalf| {
                let at = id as usize * layout.page_bytes() + layout.half_offset(half);
                checksum::sum(&bytes[at..at + layout.half_bytes(half)])
            };
            let expected: Vec<u64> = ids.iter().flat_map(|&id| KvHalf::BOTH.map(|half| sum(id, half))).collect();
            assert_eq!(device.download::<u64>(&out, 2 * ids.len()), expected, "{} seed {seed}", device.name);
        }
    }
}
