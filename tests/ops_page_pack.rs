//! Packed pages on every backend: what comes out is what the description of packings says of what was in the pages, the same
//! bytes everywhere, and comes back into the page it is for and nowhere else.
mod common;

use common::device::{Device, all, from_bits, to_bits};
use common::kv;
use common::pack::Packer;
use common::rng::Rng;
use common::tolerance::packed_bound;
use kvick::backend::{
    CopiedHalf, Float, HalfPage, KvHalf, KvLayout, KvType, KvTypes, Loss, Packing, Packings, SCALE_GROUP,
};
use kvick::checksum;

/// Half of what the smallest scales, subnormal and of 7 bits, may be larger than they must be.
const SCALE_GRAIN: f64 = 5e-7;

/// Pages of the compute type, and how to pack them.
struct Case {
    float: Float,
    layout: KvLayout,
    packings: Packings,
    /// Bits of the compute type.
    pages: Vec<u16>,
    /// Which are packed, in this order.
    ids: Vec<u32>,
    what: String,
}

impl Case {
    fn new(float: Float, seed: u64, (head_dim, page_tokens): (usize, usize)) -> Self {
        let mut rng = Rng::new(seed);
        let (layers, kv_heads) = (1 + rng.below(3), 1 + rng.below(3));
        let layout = KvLayout { layers, kv_heads, head_dim, page_tokens, types: float.into() };
        let packings = Packings { k: rng.pick(&Packing::ALL), v: rng.pick(&Packing::ALL) };
        let total = 2 + rng.below(5);
        let pages = (0..total).flat_map(|_| page(&mut rng, float, &layout)).collect();
        let mut ids: Vec<u32> = (0..total as u32).collect();
        rng.shuffle(&mut ids);
        ids.truncate(1 + rng.below(total - 1));
        let what = format!("seed {seed}: {packings} of {layout:?}");
        Case { float, layout, packings, pages, ids, what }
    }

    /// Elements of a half of a page: `[head][token][dim]`.
    fn half(&self, page: u32, half: KvHalf) -> &[u16] {
        let l = &self.layout;
        let at = page as usize * l.page_bytes() + l.half_offset(half);
        &self.pages[at / 2..][..l.half_bytes(half) / 2]
    }

    /// Every packed half beside what it was made of.
    fn each<'a>(
        &'a self,
        copied: &'a [[CopiedHalf; 2]],
    ) -> impl Iterator<Item = (HalfPage, &'a CopiedHalf, &'a [u16])> {
        let halves = |(&page, both): (&u32, &'a [CopiedHalf; 2])| {
            KvHalf::BOTH.map(|half| (HalfPage { group: 0, page, half }, &both[half as usize], self.half(page, half)))
        };
        self.ids.iter().zip(copied).flat_map(halves)
    }
}

/// Values as K has them (dims of their own size and mean), with runs of zeros, of one value, and of very small ones.
fn page(rng: &mut Rng, float: Float, l: &KvLayout) -> Vec<u16> {
    let mut values = Vec::new();
    for _ in 0..2 * l.layers * l.kv_heads {
        let dims: Vec<(f32, f32)> = (0..l.head_dim).map(|_| (rng.normal() * 2.0, (rng.normal() * 1.5).exp())).collect();
        let (odd, from) = (rng.below(6), rng.below(l.head_dim / SCALE_GROUP) * SCALE_GROUP);
        for _ in 0..l.page_tokens {
            let mut row: Vec<f32> = dims.iter().map(|(mean, size)| mean + size * rng.normal()).collect();
            for x in &mut row[from..from + SCALE_GROUP] {
                *x = match odd {
                    0 => [0.0, -0.0][rng.below(2)],
                    1 => -1.5,
                    2 => *x * 1e-4,
                    _ => *x,
                };
            }
            values.extend(row);
        }
    }
    to_bits(float, &values)
}

/// Whether unpacked elements are as near to the packed ones as the packing allows.
fn assert_near(case: &Case, half: KvHalf, packing: Packing, values: &[f32], unpacked: &[f32]) {
    let l = &case.layout;
    let bound = packed_bound(packing, case.float);
    for (head, (x, y)) in
        values.chunks(l.page_tokens * l.head_dim).zip(unpacked.chunks(l.page_tokens * l.head_dim)).enumerate()
    {
        for i in 0..x.len() {
            let (token, dim) = (i / l.head_dim, i % l.head_dim);
            let alike: Vec<f32> = match (packing, half) {
                (Packing::Int4, KvHalf::K) => (0..l.page_tokens).map(|t| x[t * l.head_dim + dim]).collect(),
                _ => x[token * l.head_dim + dim / SCALE_GROUP * SCALE_GROUP..][..SCALE_GROUP].to_vec(),
            };
            let most = alike.iter().copied().fold(f32::MIN, f32::max);
            let least = alike.iter().copied().fold(f32::MAX, f32::min);
            let size = if packing == Packing::Int4 { most - least } else { most.max(-least) };
            let allowed =
                bound.of_rms * f64::from(size) + bound.relative * f64::from(x[i].abs().max(y[i].abs())) + SCALE_GRAIN;
            let off = f64::from((x[i] - y[i]).abs());
            assert!(
                off <= allowed,
                "{}: {half:?} head {head} token {token} dim {dim}: {} for {}",
                case.what,
                y[i],
                x[i]
            );
        }
    }
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| values.iter().zip(unpacked).map(|(&x, &y)| f(x.into(), y.into())).sum::<f64>();
    let (error, square) = (sum(&|x, y| (x - y) * (x - y)), sum(&|x, _| x * x));
    assert!(error <= bound.nmse * square, "{}: {half:?}: squared error {}", case.what, error / square);
}

/// Checks what came out of the pages of a case, and its losses.
fn assert_packed(case: &Case, device: &Device, copied: &[[CopiedHalf; 2]]) {
    for (at, CopiedHalf { bytes, sum, loss }, bits) in case.each(copied) {
        let (what, packing) = (format!("{} {} {at:?}", device.name, case.what), case.packings.of(at.half));
        assert_eq!(bytes.len(), case.layout.packed_half_bytes(at.half, packing), "{what}");
        assert_eq!(*sum, checksum::sum(bytes), "{what}");
        if packing == Packing::Exact {
            assert!(bytes[..] == *bytemuck::cast_slice::<u16, u8>(bits), "{what}: bytes of an exact half changed");
            assert_eq!(*loss, Loss::default(), "{what}");
            continue;
        }
        let values = from_bits(case.float, bits);
        let unpacked = from_bits(case.float, &kv::unpacked(case.float, &case.layout, at.half, packing, bytes));
        assert_near(case, at.half, packing, &values, &unpacked);
        let pairs = || values.iter().zip(&unpacked).map(|(&x, &y)| (f64::from(x), f64::from(y)));
        let (error, square) = pairs().fold((0.0, 0.0), |(e, s), (x, y)| (e + (x - y) * (x - y), s + x * x));
        let near = |found: f64, right: f64| (found - right).abs() <= 1e-4 * right;
        assert!(near(loss.error, error) && near(loss.square, square), "{what}: {loss:?} for {error} and {square}");
    }
}

/// Puts packed halves into other pages of a poisoned pool: they hold what the bytes stand for, all else is as before.
fn assert_unpacked(case: &Case, device: &Device, copied: &[[CopiedHalf; 2]], rng: &mut Rng) {
    let (l, what) = (&case.layout, format!("{} {}", device.name, case.what));
    let mut expected = vec![0xffu8; case.pages.len() * 2];
    let mut packer = Packer::new(device, *l, &expected);
    let mut places: Vec<u32> = (0..packer.kv.pages as u32).collect();
    rng.shuffle(&mut places);
    let mut halves: Vec<_> =
        case.each(copied).map(|(at, copied, _)| (at, case.packings.of(at.half), &*copied.bytes)).collect();
    for (at, packing, bytes) in &mut halves {
        at.page = places[at.page as usize];
        let start = at.page as usize * l.page_bytes() + l.half_offset(at.half);
        let right = match packing {
            Packing::Exact => bytes.to_vec(),
            _ => bytemuck::cast_slice(&kv::unpacked(case.float, l, at.half, *packing, bytes)).to_vec(),
        };
        expected[start..start + right.len()].copy_from_slice(&right);
    }
    rng.shuffle(&mut halves);
    halves.truncate(halves.len().max(2) - 1);
    let left_out: Vec<HalfPage> = case
        .each(copied)
        .map(|(at, ..)| HalfPage { page: places[at.page as usize], ..at })
        .filter(|at| halves.iter().all(|(of, ..)| of != at))
        .collect();
    for at in left_out {
        let start = at.page as usize * l.page_bytes() + l.half_offset(at.half);
        expected[start..start + l.half_bytes(at.half)].fill(0xff);
    }
    let sums: Vec<u64> = halves.iter().map(|(.., bytes)| checksum::sum(bytes)).collect();
    assert_eq!(packer.put(&halves), sums, "{what}");
    let found = device.download::<u8>(&packer.kv.data, expected.len());
    let wrong = found.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!(
        wrong,
        None,
        "{what}: byte of the pool ({} a page, V from {})",
        l.page_bytes(),
        l.half_offset(KvHalf::V)
    );
}

#[test]
fn pages_are_packed_and_unpacked_as_described() {
    for float in [Float::F16, Float::BF16] {
        let devices = all(float);
        let shapes = [64, 96, 128, 256, 32].into_iter().flat_map(|dim| [8, 16, 32].map(|tokens| (dim, tokens)));
        for (seed, shape) in shapes.flat_map(|shape| [shape; 3]).enumerate() {
            let case = Case::new(float, seed as u64, shape);
            let bytes: &[u8] = bytemuck::cast_slice(&case.pages);
            let mut oracle: Option<Vec<[CopiedHalf; 2]>> = None;
            for device in &devices {
                let mut packer = Packer::new(device, case.layout, bytes);
                let copied = packer.out(&case.ids, case.packings);
                assert_packed(&case, device, &copied);
                assert!(device.download::<u8>(&packer.kv.data, bytes.len()) == bytes, "{}: pages changed", case.what);
                assert_unpacked(&case, device, &copied, &mut Rng::new(seed as u64));
                for (ours, right) in copied.iter().flatten().zip(oracle.iter().flatten().flatten()) {
                    assert!(ours.bytes[..] == right.bytes[..], "{} {}: not the oracle's bytes", device.name, case.what);
                }
                oracle.get_or_insert(copied);
            }
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
