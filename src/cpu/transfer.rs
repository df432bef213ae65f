//! Copies of half pages, made at once and reported by the next poll.
use super::memory;
use crate::backend::{Admission, HalfPage, HostBytes, KvGroup, KvHalf, Transferred, Transfers};
use crate::checksum;
use crate::error::{Error, Result};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Copies of one set of groups.
pub struct CpuTransfers {
    kv: Vec<KvGroup>,
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
    /// Copies through at most `host_bytes`.
    pub fn new(kv: &[KvGroup], host_bytes: usize) -> Self {
        CpuTransfers { kv: kv.to_vec(), room: Arc::new(host_bytes.into()), ended: Vec::new() }
    }

    /// The group of a half, and the bytes that it is there.
    fn place(&self, half: HalfPage) -> Result<(&KvGroup, std::ops::Range<usize>)> {
        let found = self.kv.get(half.group).filter(|kv| (half.page as usize) < kv.pages);
        let kv = found.ok_or_else(|| Error::Shape { op: "transfer", message: format!("there is no {half:?}") })?;
        let start = half.page as usize * kv.layout.page_bytes() + kv.layout.half_offset(half.half);
        Ok((kv, start..start + kv.layout.half_bytes(half.half)))
    }

    /// Takes of the room, if it is there.
    fn take(&self, bytes: usize) -> bool {
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes)).is_ok()
    }

    fn read(&self, half: HalfPage) -> Result<(HostBytes, u64)> {
        let (kv, range) = self.place(half)?;
        let bytes = memory::read(&kv.data)?.bytes()[range].to_vec();
        let sum = checksum::sum(&bytes);
        Ok((HostBytes::new(Counted { bytes, room: Arc::clone(&self.room) }), sum))
    }
}

impl Transfers for CpuTransfers {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, u32)]) -> Result<Admission> {
        let both = |&(group, page): &(usize, u32)| KvHalf::BOTH.map(|half| HalfPage { group, page, half });
        let halves: Vec<_> = pages.iter().map(both).collect();
        let sizes = halves.iter().flatten().map(|&half| self.place(half).map(|(_, range)| range.len()));
        if !self.take(sizes.sum::<Result<usize>>()?) {
            return Ok(Admission::Busy);
        }
        let read = |[k, v]: [HalfPage; 2]| Ok([self.read(k)?, self.read(v)?]);
        let pages = halves.into_iter().map(read).collect::<Result<_>>()?;
        self.ended.push(Transferred::Out { ticket, pages });
        Ok(Admission::Queued)
    }

    fn copy_in(&mut self, ticket: u64, halves: &[(HalfPage, &[u8])], sums: bool) -> Result<Admission> {
        for &(half, bytes) in halves {
            let (_, range) = self.place(half)?;
            if range.len() != bytes.len() {
                let message = format!("{} bytes for a half page of {}", bytes.len(), range.len());
                return Err(Error::Shape { op: "transfer", message });
            }
        }
        if halves.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > self.room.load(Ordering::Relaxed) {
            return Ok(Admission::Busy);
        }
        for &(half, bytes) in halves {
            let (kv, range) = self.place(half)?;
            memory::write(&kv.data)?.bytes()[range].copy_from_slice(bytes);
        }
        let sums = if sums { halves.iter().map(|(_, bytes)| checksum::sum(bytes)).collect() } else { Vec::new() };
        self.ended.push(Transferred::In { ticket, sums });
        Ok(Admission::Queued)
    }

    fn poll(&mut self, done: &mut Vec<Transferred>) {
        done.append(&mut self.ended);
    }
}
