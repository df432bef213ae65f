//! Copies of half pages, made at once and reported by the next poll.
use super::{memory, page_pack};
use crate::backend::{
    Admission, CopiedHalf, Float, HalfPage, HostBytes, KvGroup, KvHalf, Loss, Packing, Packings, Transferred, Transfers,
};
use crate::checksum;
use crate::error::{Error, Result};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Copies of one set of groups.
pub struct CpuTransfers {
    float: Float,
    kv: Vec<KvGroup>,
    packed: bool,
    room: Arc<AtomicUsize>,
    ended: Vec<Transferred>,
}

/// Bytes that take of the room while they live.
struct Counted {
    bytes: Vec<u8>,
    room: Arc<AtomicUsize>,
}

impl Deref for Counted {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.room.fetch_add(self.bytes.len(), Ordering::Relaxed);
    }
}

impl CpuTransfers {
    /// Copies through at most `host_bytes`; `packed`: they may be packed.
    pub fn new(float: Float, kv: &[KvGroup], host_bytes: usize, packed: bool) -> Self {
        CpuTransfers { float, kv: kv.to_vec(), packed, room: Arc::new(host_bytes.into()), ended: Vec::new() }
    }

    /// The group of a half, and the bytes that it is there.
    fn place(&self, half: HalfPage) -> Result<(&KvGroup, std::ops::Range<usize>)> {
        let found = self.kv.get(half.group).filter(|kv| (half.page as usize) < kv.pages);
        let kv = found.ok_or_else(|| Error::Shape { op: "transfer", message: format!("there is no {half:?}") })?;
        let start = half.page as usize * kv.layout.page_bytes() + kv.layout.half_offset(half.half);
        Ok((kv, start..start + kv.layout.half_bytes(half.half)))
    }

    /// Bytes of a half so packed.
    fn packed_bytes(&self, half: HalfPage, packing: Packing) -> Result<usize> {
        let (kv, _) = self.place(half)?;
        packing.check_opened(self.packed)?;
        packing.check(&kv.layout, half.half)?;
        Ok(kv.layout.packed_half_bytes(half.half, packing))
    }

    /// Takes of the room, if it is there.
    fn take(&self, bytes: usize) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes)).is_ok()
    }

    fn read(&self, half: HalfPage, packing: Packing) -> Result<CopiedHalf> {
        let (kv, range) = self.place(half)?;
        let data = memory::read(&kv.data)?;
        let page = &data.bytes()[range];
        let (bytes, loss) = match packing {
            Packing::Exact => (page.to_vec(), Loss::default()),
            _ => page_pack::pack(self.float, &kv.layout, half.half, packing, page),
        };
        let sum = checksum::sum(&bytes);
        Ok(CopiedHalf { bytes: HostBytes::new(Counted { bytes, room: Arc::clone(&self.room) }), sum, loss })
    }

    fn write(&self, half: HalfPage, packing: Packing, bytes: &[u8]) -> Result<()> {
        let (kv, range) = self.place(half)?;
        let mut data = memory::write(&kv.data)?;
        let page = &mut data.bytes()[range];
        match packing {
            Packing::Exact => page.copy_from_slice(bytes),
            _ => page_pack::unpack(self.float, &kv.layout, half.half, packing, bytes, page),
        }
        Ok(())
    }
}

impl Transfers for CpuTransfers {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, u32)], packing: Packings) -> Result<Admission> {
        let both = |&(group, page): &(usize, u32)| KvHalf::BOTH.map(|half| HalfPage { group, page, half });
        let halves: Vec<_> = pages.iter().map(both).collect();
        let sizes = halves.iter().flatten().map(|&half| self.packed_bytes(half, packing.of(half.half)));
        if !self.take(sizes.sum::<Result<usize>>()?) {
            return Ok(Admission::Busy);
        }
        let read = |[k, v]: [HalfPage; 2]| Ok([self.read(k, packing.k)?, self.read(v, packing.v)?]);
        let pages = halves.into_iter().map(read).collect::<Result<_>>()?;
        self.ended.push(Transferred::Out { ticket, pages });
        Ok(Admission::Queued)
    }

    fn copy_in(&mut self, ticket: u64, halves: &[(HalfPage, Packing, &[u8])], sums: bool) -> Result<Admission> {
        for &(half, packing, bytes) in halves {
            let expected = self.packed_bytes(half, packing)?;
            if expected != bytes.len() {
                let message = format!("{} bytes for a half page of {expected} ({packing})", bytes.len());
                return Err(Error::Shape { op: "transfer", message });
            }
        }
        if halves.iter().map(|(.., bytes)| bytes.len()).sum::<usize>() > self.room.load(Ordering::Relaxed) {
            return Ok(Admission::Busy);
        }
        for &(half, packing, bytes) in halves {
            self.write(half, packing, bytes)?;
        }
        let sums = if sums { halves.iter().map(|(.., bytes)| checksum::sum(bytes)).collect() } else { Vec::new() };
        self.ended.push(Transferred::In { ticket, sums });
        Ok(Admission::Queued)
    }

    fn poll(&mut self, done: &mut Vec<Transferred>) {
        done.append(&mut self.ended);
    }
}
