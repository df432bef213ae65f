//! Packed pages on every backend: what comes out is what the description of packings says of what was in the pages, the same
//! bytes everywhere, and comes back into the page it is for and nowhere else.
#![cfg(feature = "engine")]
mod common;

use common::device::{all, from_bits, to_bits};
use common::kv;
use common::pack::{Case, Packer, against_description};
use common::rng::Rng;
use kvick::backend::{CopiedHalf, Float, HalfPage, KvHalf, KvLayout, KvType, KvTypes, Packing, Packings};
use kvick::checksum;

#[test]
fn pages_are_packed_and_unpacked_as_described() {
    for float in [Float::F16, Float::BF16] {
        let devices = all(float);
        let shapes = [64, 96, 128, 256, 32].into_iter().flat_map(|dim| [8, 16, 32].map(|tokens| (dim, tokens)));
        for (seed, shape) in shapes.flat_map(|shape| [shape; 3]).enumerate() {
            against_description(&devices, &Case::new(float, seed as u64, shape));
        }
    }
}

/// More halves than one launch takes, of which each must find its own page.
#[test]
fn many_pages_go_in_several_launches() {
    for device in &all(Float::F16) {
        let layout = KvLayout { layers: 1, kv_heads: 1, head_dim: 32, page_tokens: 8, types: Float::F16.into() };
        let count = 150;
        let values: Vec<f32> = (0..count).flat_map(|page| vec![page as f32 + 1.0; layout.page_bytes() / 2]).collect();
        let bits = to_bits(Float::F16, &values);
        let mut packer = Packer::new(device, layout, bytemuck::cast_slice(&bits));
        let ids: Vec<u32> = (0..count as u32).rev().collect();
        let packings = Packings { k: Packing::Int4, v: Packing::Int8 };
        let copied = packer.out(&ids, packings);
        for (id, both) in ids.iter().zip(&copied) {
            for (half, CopiedHalf { bytes, sum, .. }) in KvHalf::BOTH.into_iter().zip(both) {
                assert_eq!(*sum, checksum::sum(bytes), "{} page {id}", device.name);
                let values = from_bits(Float::F16, &kv::unpacked(Float::F16, &layout, half, packings.of(half), bytes));
                let right = *id as f32 + 1.0;
                assert!(
                    values.iter().all(|x| (x - right).abs() <= right / 100.0),
                    "{} page {id}: {values:?}",
                    device.name
                );
            }
        }
    }
}

/// A value that is not finite, or that no scale reaches, is told by an infinite loss, of its half alone.
#[test]
fn what_cannot_be_packed_is_told_by_its_loss() {
    for float in [Float::F16, Float::BF16] {
        let spoils = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e38];
        for device in &all(float) {
            for (seed, packing) in [Packing::Int8, Packing::Fp8, Packing::Int4].into_iter().enumerate() {
                for &spoil in &spoils[..if float == Float::F16 { 3 } else { 4 }] {
                    let mut case = Case::new(float, 100 + seed as u64, (64, 16));
                    case.packings = Packings::both(packing);
                    let pages = case.pages.len() * 2 / case.layout.page_bytes();
                    case.ids = (0..pages as u32).collect();
                    let mut rng = Rng::new(seed as u64);
                    let hit = rng.below(case.pages.len());
                    case.pages[hit] = to_bits(float, &[spoil])[0];
                    let mut packer = Packer::new(device, case.layout, bytemuck::cast_slice(&case.pages));
                    let copied = packer.out(&case.ids, case.packings);
                    let page = hit * 2 / case.layout.page_bytes();
                    let half = usize::from(hit * 2 % case.layout.page_bytes() >= case.layout.half_offset(KvHalf::V));
                    for (i, lost) in copied.iter().flatten().map(|half| half.loss.relative()).enumerate() {
                        let what = format!("{} {} {spoil}: half {i}: {lost}", device.name, case.what);
                        assert_eq!(lost.is_infinite(), i == 2 * page + half, "{what}");
                        assert!(lost.is_infinite() || lost < 0.2, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused_whole() {
    let layout = |k, v| KvLayout { layers: 1, kv_heads: 1, head_dim: 64, page_tokens: 8, types: KvTypes { k, v } };
    for device in &all(Float::F16) {
        let coded = layout(KvType::Int8, KvType::F16);
        let mut packer = Packer::new(device, coded, &vec![0u8; 4 * coded.page_bytes()]);
        let half = |page, half| HalfPage { group: 0, page, half };
        let transfers = &mut packer.transfers;
        let refused = transfers.copy_out(1, &[(0, 0)], Packings::both(Packing::Int4)).unwrap_err().to_string();
        assert!(refused.contains("quantised already"), "{}: {refused}", device.name);
        let bytes = vec![0; coded.packed_half_bytes(KvHalf::V, Packing::Int4)];
        for (at, packing, bytes) in [
            (half(0, KvHalf::K), Packing::Int4, &bytes[..]),
            (half(0, KvHalf::V), Packing::Int8, &bytes[..]),
            (half(0, KvHalf::V), Packing::Int4, &bytes[1..]),
            (half(4, KvHalf::V), Packing::Int4, &bytes[..]),
        ] {
            assert!(transfers.copy_in(1, &[(at, packing, bytes)], false).is_err(), "{}: {at:?} {packing}", device.name);
        }
        let mut plain = std::sync::Arc::clone(&device.backend).transfers(&[packer.kv.clone()], 1 << 16, false).unwrap();
        let packings = Packings { k: Packing::Exact, v: Packing::Int4 };
        assert!(plain.copy_out(1, &[(0, 0)], packings).unwrap_err().to_string().contains("without it"));
        let mut done = Vec::new();
        plain.poll(&mut done);
        packer.transfers.poll(&mut done);
        assert!(done.is_empty(), "{}: {done:?}", device.name);
    }
}
