//! Transfers of half pages on every backend: random pages in and out beside running steps, as they are and packed, against a
//! model of what each page holds at each moment.
#![cfg(feature = "engine")]
mod common;

use common::device::{Device, all, to_bits};
use common::pack::Oracle;
use common::rng::Rng;
use kvick::backend::{
    Admission, Buffer, CopiedHalf, Float, HalfPage, HostBytes, KvGroup, KvHalf, KvLayout, KvType, KvTypes, Packing,
    Packings, Transferred, Transfers,
};
use kvick::checksum;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PAGES: usize = 24;
/// Bytes that a step moves before it touches a page, so that it lags behind the copies.
const LOAD: usize = 4 << 20;

/// Types of halves; those of the compute type may be packed.
const TYPES: [KvType; 4] = [KvType::F16, KvType::F16, KvType::Int8, KvType::Fp8];

/// Bytes of a half that may be packed if its type may.
fn half_bytes(rng: &mut Rng, layout: &KvLayout, half: KvHalf) -> Vec<u8> {
    match layout.types.of(half) {
        KvType::F16 => {
            let values = rng.normals(layout.half_bytes(half) / 2, 1.0);
            bytemuck::cast_slice(&to_bits(Float::F16, &values)).to_vec()
        }
        _ => rng.bytes(layout.half_bytes(half)),
    }
}

fn pages(rng: &mut Rng, layout: &KvLayout) -> Vec<u8> {
    (0..PAGES).flat_map(|_| KvHalf::BOTH.map(|half| half_bytes(rng, layout, half)).concat()).collect()
}

/// What a transfer under way will bring or has been given.
enum Expected {
    Out(Vec<[Vec<u8>; 2]>),
    In(Vec<u64>),
}

struct Trial<'a> {
    device: &'a Device,
    oracle: Oracle,
    what: String,
    rng: Rng,
    groups: Vec<KvGroup>,
    transfers: Box<dyn Transfers>,
    /// What the pages hold once everything queued is done.
    bytes: Vec<Vec<u8>>,
    load: [Buffer; 2],
    open: BTreeMap<u64, (Expected, Vec<(usize, u32)>)>,
    tickets: u64,
    busy: usize,
    /// Copies that the reader has not let go of yet.
    held: Vec<HostBytes>,
}

impl<'a> Trial<'a> {
    fn new(device: &'a Device, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let layout = |rng: &mut Rng| KvLayout {
            layers: 1 + rng.below(3),
            kv_heads: 1 + rng.below(2),
            head_dim: rng.pick(&[64, 96]),
            page_tokens: rng.pick(&[8, 16]),
            types: KvTypes { k: rng.pick(&TYPES), v: rng.pick(&TYPES) },
        };
        let layouts = [layout(&mut rng), layout(&mut rng)];
        let bytes: Vec<_> = layouts.iter().map(|l| pages(&mut rng, l)).collect();
        let group = |(layout, bytes): (&KvLayout, &Vec<u8>)| KvGroup {
            layout: *layout,
            pages: PAGES,
            data: device.upload(bytes),
        };
        let groups: Vec<_> = layouts.iter().zip(&bytes).map(group).collect();
        let room = 6 * layouts.iter().map(KvLayout::page_bytes).sum::<usize>();
        let transfers = Arc::clone(&device.backend).transfers(&groups, room, true).unwrap();
        let load = [device.upload(&vec![1u8; LOAD]), device.poisoned(LOAD)];
        let what = format!("{} seed {seed}", device.name);
        let (open, held) = (BTreeMap::new(), Vec::new());
        let oracle = Oracle::new(device.float());
        Trial { device, oracle, what, rng, groups, transfers, bytes, load, open, tickets: 0, busy: 0, held }
    }

    fn half(&self, at: HalfPage) -> std::ops::Range<usize> {
        let layout = &self.groups[at.group].layout;
        let start = at.page as usize * layout.page_bytes() + layout.half_offset(at.half);
        start..start + layout.half_bytes(at.half)
    }

    /// Pages that transfers which satisfy `which` are using.
    fn used(&self, which: impl Fn(&Expected) -> bool) -> BTreeSet<(usize, u32)> {
        self.open.values().filter(|(e, _)| which(e)).flat_map(|(_, pages)| pages.clone()).collect()
    }

    /// Up to `most` different pages outside `but`.
    fn pick(&mut self, most: usize, but: &BTreeSet<(usize, u32)>) -> Vec<(usize, u32)> {
        let all = (0..2).flat_map(|group| (0..PAGES as u32).map(move |page| (group, page)));
        let mut free: Vec<_> = all.filter(|page| !but.contains(page)).collect();
        self.rng.shuffle(&mut free);
        free.truncate(1 + self.rng.below(most));
        free
    }

    /// A step that reads a page and writes another one of its group, after some work.
    fn step(&mut self) {
        let backend = &self.device.backend;
        backend.copy(&self.load[0], 0, &self.load[1], 0, LOAD).unwrap();
        let coming = self.used(|e| matches!(e, Expected::In(_)));
        let any = self.used(|_| true);
        let (from, to) = (self.pick(1, &coming), self.pick(1, &any));
        let (Some(&(g, from)), Some(&(h, to))) = (from.first(), to.first()) else { return };
        if g != h {
            return;
        }
        let page = self.groups[g].layout.page_bytes();
        let data = &self.groups[g].data;
        self.device.backend.copy(data, from as usize * page, data, to as usize * page, page).unwrap();
        self.bytes[g].copy_within(from as usize * page..(from as usize + 1) * page, to as usize * page);
    }

    /// A packing that this half has in all of these groups.
    fn packing(&mut self, groups: &[usize], half: KvHalf) -> Packing {
        let packing = self.rng.pick(&Packing::ALL);
        let fits = |&group: &usize| packing.check(&self.groups[group].layout, half).is_ok();
        if groups.iter().all(fits) { packing } else { Packing::Exact }
    }

    fn out(&mut self) {
        let coming = self.used(|e| matches!(e, Expected::In(_)));
        let pages = self.pick(5, &coming);
        let packings = Packings { k: self.packing(&[0, 1], KvHalf::K), v: self.packing(&[0, 1], KvHalf::V) };
        let bytes = |group: usize, page, half| {
            let bytes = &self.bytes[group][self.half(HalfPage { group, page, half })];
            match packings.of(half) {
                Packing::Exact => bytes.to_vec(),
                packing => self.oracle.pack(self.groups[group].layout, half, packing, bytes).0,
            }
        };
        let expected = pages.iter().map(|&(g, p)| KvHalf::BOTH.map(|half| bytes(g, p, half))).collect();
        self.tickets += 1;
        match self.transfers.copy_out(self.tickets, &pages, packings).unwrap() {
            Admission::Queued => drop(self.open.insert(self.tickets, (Expected::Out(expected), pages))),
            Admission::Busy => self.busy += 1,
        }
    }

    /// Both halves of pages, or one.
    fn put(&mut self) {
        let any = self.used(|_| true);
        let pages = self.pick(4, &any);
        let mut halves = Vec::new();
        for &(group, page) in &pages {
            let only = self.rng.pick(&[None, Some(KvHalf::K), Some(KvHalf::V)]);
            for half in KvHalf::BOTH.into_iter().filter(|&h| only.is_none_or(|only| only == h)) {
                let layout = self.groups[group].layout;
                let packing = self.packing(&[group], half);
                let bytes = half_bytes(&mut self.rng, &layout, half);
                let (given, held) = match packing {
                    Packing::Exact => (bytes.clone(), bytes),
                    _ => self.oracle.pack(layout, half, packing, &bytes),
                };
                halves.push((HalfPage { group, page, half }, packing, given, held));
            }
        }
        self.rng.shuffle(&mut halves);
        let given: Vec<_> = halves.iter().map(|(at, packing, given, _)| (*at, *packing, &given[..])).collect();
        self.tickets += 1;
        let sums = self.rng.below(2) == 0;
        match self.transfers.copy_in(self.tickets, &given, sums).unwrap() {
            Admission::Queued => {
                let sums = if sums {
                    halves.iter().map(|(_, _, given, _)| checksum::sum(given)).collect()
                } else {
                    Vec::new()
                };
                for (at, _, _, held) in halves {
                    let range = self.half(at);
                    self.bytes[at.group][range].copy_from_slice(&held);
                }
                self.open.insert(self.tickets, (Expected::In(sums), pages));
            }
            Admission::Busy => self.busy += 1,
        }
    }

    fn poll(&mut self) {
        let mut done = Vec::new();
        self.transfers.poll(&mut done);
        for end in done {
            let ticket = match &end {
                Transferred::Out { ticket, .. } | Transferred::In { ticket, .. } => *ticket,
                Transferred::Failed { ticket, error } => panic!("{}: ticket {ticket}: {error}", self.what),
            };
            let (expected, asked) = self.open.remove(&ticket).expect("a ticket that was not given out, or twice");
            match (end, expected) {
                (Transferred::Out { pages, .. }, Expected::Out(expected)) => {
                    assert_eq!(pages.len(), asked.len());
                    for ((halves, right), at) in pages.into_iter().zip(expected).zip(asked) {
                        for (half, right) in halves.into_iter().zip(right) {
                            let CopiedHalf { bytes, sum, loss } = half;
                            assert!(loss.relative() < 0.15, "{}: {loss:?}", self.what);
                            assert!(bytes[..] == right[..], "{}: {at:?} of ticket {ticket}: wrong bytes", self.what);
                            assert_eq!(sum, checksum::sum(&bytes), "{}: {at:?} of ticket {ticket}", self.what);
                            self.held.push(bytes);
                        }
                    }
                }
                (Transferred::In { sums, .. }, Expected::In(expected)) => assert_eq!(sums, expected, "{}", self.what),
                (end, _) => panic!("{}: {end:?} ends another kind of transfer", self.what),
            }
        }
    }

    fn run(mut self) -> usize {
        for _ in 0..150 {
            match self.rng.below(6) {
                0 | 1 => self.step(),
                2 => self.out(),
                3 => self.put(),
                4 => self.poll(),
                _ => self.held.clear(),
            }
        }
        let start = Instant::now();
        while !self.open.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "{}: transfers do not end", self.what);
            self.poll();
        }
        self.held.clear();
        for (group, bytes) in self.groups.iter().zip(&self.bytes) {
            let found = self.device.download::<u8>(&group.data, bytes.len());
            assert!(found == *bytes, "{}: the pages hold something else at the end", self.what);
        }
        let all: Vec<_> = (0..2).flat_map(|g| [(g, 0), (g, 1)]).collect();
        assert_eq!(
            self.transfers.copy_out(0, &all, Packings::EXACT).unwrap(),
            Admission::Queued,
            "{}: room was lost",
            self.what
        );
        self.busy
    }
}

#[test]
fn pages_come_and_go_beside_steps() {
    for device in &all(Float::F16) {
        let busy: usize = (0..12).map(|seed| Trial::new(device, seed).run()).sum();
        assert!(busy > 0, "{}: the room never ran out, so that case was not tried", device.name);
    }
}

#[test]
fn what_is_not_there_is_refused_whole() {
    for device in &all(Float::F16) {
        let mut trial = Trial::new(device, 1);
        let half = HalfPage { group: 0, page: 0, half: KvHalf::V };
        let bytes = vec![0; trial.half(half).len()];
        let missing = HalfPage { page: PAGES as u32, ..half };
        assert!(trial.transfers.copy_out(1, &[(0, 0), (0, PAGES as u32)], Packings::EXACT).is_err());
        assert!(trial.transfers.copy_out(1, &[(2, 0)], Packings::EXACT).is_err());
        assert!(
            trial
                .transfers
                .copy_in(1, &[(half, Packing::Exact, &bytes), (missing, Packing::Exact, &bytes)], false)
                .is_err()
        );
        assert!(trial.transfers.copy_in(1, &[(half, Packing::Exact, &bytes[1..])], false).is_err());
        let mut done = Vec::new();
        trial.transfers.poll(&mut done);
        assert!(done.is_empty(), "{}: {done:?}", device.name);
        assert!(device.download::<u8>(&trial.groups[0].data, trial.bytes[0].len()) == trial.bytes[0]);
    }
}

/// The device memory of transfers is what was planned for them.
#[test]
fn memory_is_as_planned() {
    for device in &all(Float::F16) {
        let layout = |head_dim, types| KvLayout { layers: 3, kv_heads: 2, head_dim, page_tokens: 16, types };
        let layouts = [layout(64, KvTypes::both(KvType::F16)), layout(96, KvTypes::both(KvType::Int8))];
        let group = |&layout: &KvLayout| KvGroup { layout, pages: 4, data: device.poisoned(4 * layout.page_bytes()) };
        let groups: Vec<_> = layouts.iter().map(group).collect();
        let planned = [false, true].map(|packed| device.backend.transfer_bytes(&layouts, packed));
        if device.name == "cpu" {
            assert_eq!(planned, [0, 0], "copies of the host's pages need no device");
            continue;
        }
        assert!(planned[0] > 0 && planned[1] > planned[0], "{}: {planned:?}", device.name);
        for (packed, planned) in [false, true].into_iter().zip(planned) {
            let before = device.backend.memory().unwrap().free;
            let transfers = Arc::clone(&device.backend).transfers(&groups, 1 << 16, packed).unwrap();
            let taken = before - device.backend.memory().unwrap().free;
            // Each of a few buffers is rounded up, on a GPU together to its own pages.
            let most = planned + if device.name == "emulator" { 10 * 512 } else { 8 << 20 };
            assert!((planned..most).contains(&taken), "{}: {taken} bytes, {planned} planned", device.name);
            drop(transfers);
        }
    }
}
