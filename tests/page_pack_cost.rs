//! What packing and unpacking pages costs, counted on the emulated GPU: each byte once, in whole sectors, and how much work.
//! In a program of its own, since the counters are of the process.
#![cfg(feature = "engine")]
mod common;

use common::device::{Device, to_bits};
use common::pack::Packer;
use common::rng::Rng;
use kvick::backend::{Float, HalfPage, KvHalf, KvLayout, Packing, Packings};
use kvick_emulator::KernelCounters;

const PAGES: usize = 8;

fn layout(head_dim: usize) -> KvLayout {
    KvLayout { layers: 4, kv_heads: 2, head_dim, page_tokens: 16, types: Float::F16.into() }
}

/// Counters of packing and of unpacking one half of all pages.
fn counted(device: &Device, l: KvLayout, half: KvHalf, packing: Packing) -> [KernelCounters; 2] {
    let values = Rng::new(7).normals(PAGES * l.page_bytes() / 2, 1.0);
    let mut packer = Packer::new(device, l, bytemuck::cast_slice(&to_bits(Float::F16, &values)));
    let packings = match half {
        KvHalf::K => Packings { k: packing, v: Packing::Exact },
        KvHalf::V => Packings { k: Packing::Exact, v: packing },
    };
    kvick_emulator::reset_counters();
    let pages: Vec<u32> = (0..PAGES as u32).collect();
    let copied = packer.out(&pages, packings);
    let bytes = copied.iter().map(|both| &*both[half as usize].bytes);
    let halves: Vec<_> =
        pages.iter().zip(bytes).map(|(&page, bytes)| (HalfPage { group: 0, page, half }, packing, bytes)).collect();
    packer.put(&halves);
    let counters = kvick_emulator::counters();
    ["page_pack", "page_unpack"].map(|start| {
        let found: Vec<_> = counters.iter().filter(|c| c.name.starts_with(start)).cloned().collect();
        assert_eq!(found.len(), 1, "kernels called {start}*: {found:?}");
        found[0].clone()
    })
}

#[test]
fn bytes_move_once_and_work_stays_within_bounds() {
    let device = Device::open("emulator", Float::F16);
    // Warp instructions of packing and of unpacking, per 16 bytes of elements a lane.
    let bounds = [
        (KvHalf::K, Packing::Int8, 390, 135),
        (KvHalf::K, Packing::Fp8, 490, 140),
        (KvHalf::K, Packing::Int4, 230, 75),
        (KvHalf::V, Packing::Int4, 330, 95),
    ];
    for (head_dim, (half, packing, pack_most, unpack_most)) in
        [64, 128].into_iter().flat_map(|d| bounds.map(|b| (d, b)))
    {
        let l = layout(head_dim);
        let [pack, unpack] = counted(&device, l, half, packing);
        let (elements, packed) = (PAGES * l.half_bytes(half), PAGES * l.packed_half_bytes(half, packing));
        let (heads, threads) = (PAGES * l.layers * l.kv_heads, l.page_tokens * head_dim / 8);
        let (elements, packed, heads) = (elements as u64, packed as u64, heads as u64);
        let what = format!("{packing} {half:?} of {head_dim}: {pack:?} {unpack:?}");
        let lanes = elements / 16 / 32;
        assert!(pack.warp_instructions <= pack_most * lanes, "{what}");
        assert!(unpack.warp_instructions <= unpack_most * lanes, "{what}");
        // Two floats of loss a head.
        assert_eq!((pack.store_bytes, unpack.store_bytes), (packed + 8 * heads, elements), "{what}");
        assert!(pack.store_sectors * 32 * 100 <= pack.store_bytes * 110, "{what}");
        assert_eq!(unpack.store_sectors * 32, elements, "{what}");
        // Beside them each warp reads the page's number and parameters: of a head, at most so many sectors.
        let beside = heads * threads.div_ceil(32) as u64 * 12 * 32;
        assert!(pack.load_sectors * 32 <= elements + beside, "{what}");
        assert!(unpack.load_sectors * 32 <= packed + beside, "{what}");
    }
}
