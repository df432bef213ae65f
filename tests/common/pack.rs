//! Packing and unpacking pages with the transfers of a backend, waiting for each.
use super::device::Device;
use kvick::backend::{
    Admission, CopiedHalf, Float, HalfPage, KvGroup, KvHalf, KvLayout, Packing, Packings, Transferred, Transfers,
};
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
