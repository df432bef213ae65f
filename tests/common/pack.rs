//! Packing and unpacking pages with the transfers of a backend, and the checks of what comes of it. They panic with the seed.
use super::device::{Device, from_bits, to_bits};
use super::kv;
use super::rng::Rng;
use super::tolerance::{packed_bound, packed_grain};
use kvick::backend::{
    Admission, CopiedHalf, Float, HalfPage, KvGroup, KvHalf, KvLayout, Loss, Packing, Packings, SCALE_GROUP,
    Transferred, Transfers,
};
use kvick::checksum;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Transfers of one group.
pub struct Packer {
    pub kv: KvGroup,
    pub transfers: Box<dyn Transfers>,
    what: String,
}

impl Packer {
    /// A group with these bytes.
    pub fn new(device: &Device, layout: KvLayout, bytes: &[u8]) -> Self {
        let pages = bytes.len() / layout.page_bytes();
        let kv = KvGroup { layout, pages, data: device.upload(bytes) };
        // All pages out twice, and their sums and losses.
        let room = 4 * bytes.len() + pages * 1024 + (1 << 16);
        let transfers = Arc::clone(&device.backend).transfers(std::slice::from_ref(&kv), room, true).unwrap();
        Packer { kv, transfers, what: device.name.clone() }
    }

    /// Halves of these pages.
    pub fn out(&mut self, pages: &[u32], packings: Packings) -> Vec<[CopiedHalf; 2]> {
        let pages: Vec<_> = pages.iter().map(|&page| (0, page)).collect();
        assert_eq!(self.transfers.copy_out(1, &pages, packings).unwrap(), Admission::Queued, "{}", self.what);
        match self.wait() {
            Transferred::Out { ticket: 1, pages } => pages,
            end => panic!("{}: {end:?}", self.what),
        }
    }

    /// Puts packed halves into their pages; the sums.
    pub fn put(&mut self, halves: &[(HalfPage, Packing, &[u8])]) -> Vec<u64> {
        assert_eq!(self.transfers.copy_in(2, halves, true).unwrap(), Admission::Queued, "{}", self.what);
        match self.wait() {
            Transferred::In { ticket: 2, sums } => sums,
            end => panic!("{}: {end:?}", self.what),
        }
    }

    fn wait(&mut self) -> Transferred {
        let (mut done, start) = (Vec::new(), Instant::now());
        while done.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "{}: a transfer does not end", self.what);
            self.transfers.poll(&mut done);
        }
        assert_eq!(done.len(), 1, "{}", self.what);
        done.remove(0)
    }
}

/// What the oracle makes of half pages.
pub struct Oracle(Device);

impl Oracle {
    pub fn new(float: Float) -> Self {
        Oracle(Device::open("cpu", float))
    }

    /// Packs a half, and unpacks it again.
    pub fn pack(&self, layout: KvLayout, half: KvHalf, packing: Packing, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let at = layout.half_offset(half);
        let mut page = vec![0; layout.page_bytes()];
        page[at..at + bytes.len()].copy_from_slice(bytes);
        let mut packer = Packer::new(&self.0, layout, &page);
        let packings = match half {
            KvHalf::K => Packings { k: packing, v: Packing::Exact },
            KvHalf::V => Packings { k: Packing::Exact, v: packing },
        };
        let [k, v] = packer.out(&[0], packings).remove(0);
        let packed = if half == KvHalf::K { k } else { v };
        packer.put(&[(HalfPage { group: 0, page: 0, half }, packing, &packed.bytes)]);
        let unpacked = self.0.download::<u8>(&packer.kv.data, page.len())[at..at + bytes.len()].to_vec();
        (packed.bytes.to_vec(), unpacked)
    }
}

/// Pages of the compute type, and how to pack them.
pub struct Case {
    pub float: Float,
    pub layout: KvLayout,
    pub packings: Packings,
    /// Bits of the compute type.
    pub pages: Vec<u16>,
    /// Which are packed, in this order.
    pub ids: Vec<u32>,
    pub what: String,
}

impl Case {
    pub fn new(float: Float, seed: u64, (head_dim, page_tokens): (usize, usize)) -> Self {
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
        let (odd, from) = (rng.below(8), rng.below(l.head_dim / SCALE_GROUP) * SCALE_GROUP);
        for _ in 0..l.page_tokens {
            let mut row: Vec<f32> = dims.iter().map(|(mean, size)| mean + size * rng.normal()).collect();
            for x in &mut row[from..from + SCALE_GROUP] {
                *x = match odd {
                    0 => [0.0, -0.0][rng.below(2)],
                    1 => -1.5,
                    2 => *x * 1e-4,
                    3 => *x * 4e-7,
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
            let allowed = bound.of_rms * f64::from(size)
                + bound.relative * f64::from(x[i].abs().max(y[i].abs()))
                + packed_grain(packing);
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

/// What each device makes of a case; the first is the oracle, and all make the same bytes.
pub fn against_description(devices: &[Device], case: &Case) {
    let bytes: &[u8] = bytemuck::cast_slice(&case.pages);
    let mut oracle: Option<Vec<[CopiedHalf; 2]>> = None;
    for device in devices {
        let mut packer = Packer::new(device, case.layout, bytes);
        let copied = packer.out(&case.ids, case.packings);
        assert_packed(case, device, &copied);
        assert!(device.download::<u8>(&packer.kv.data, bytes.len()) == bytes, "{}: pages changed", case.what);
        assert_unpacked(case, device, &copied, &mut Rng::new(case.ids.len() as u64));
        for (ours, right) in copied.iter().flatten().zip(oracle.iter().flatten().flatten()) {
            assert!(ours.bytes[..] == right.bytes[..], "{} {}: not the oracle's bytes", device.name, case.what);
        }
        oracle.get_or_insert(copied);
    }
}
