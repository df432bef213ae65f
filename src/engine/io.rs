//! [`PageIo`] over the transfers of a backend: what the cache's tiers need of the device.
//!
//! Checked on the way: with `verify` the device sums what arrived, and a half whose sum is not that of the bytes that were
//! sent fails its transfer, so that nothing of it is used.
use crate::backend::{self, Admission, HalfPage, KvHalf, KvTypes, Packing, Packings, Transferred, Transfers};
use crate::error::Error;
use crate::kv::PageId;
use crate::kv::integrity;
use crate::kv::key::Elements;
use crate::kv::tier::{Arrival, CopiedHalf, Done, Half, IoError, PageIo, Payload};
use std::collections::HashMap;

/// Copies of an engine's pages.
pub(super) struct EngineIo {
    transfers: Box<dyn Transfers>,
    verify: bool,
    /// Sums of what was sent, by ticket.
    sent: HashMap<u64, Vec<u64>>,
    ended: Vec<Transferred>,
}

impl EngineIo {
    /// Over the transfers of the groups in the order of the cache's.
    pub fn new(transfers: Box<dyn Transfers>, verify: bool) -> Self {
        EngineIo { transfers, verify, sent: HashMap::new(), ended: Vec::new() }
    }

    /// What the cache is told of an end.
    fn done(&mut self, ended: Transferred) -> Done {
        match ended {
            Transferred::Out { ticket, pages } => {
                let half = |half: backend::CopiedHalf| CopiedHalf {
                    payload: Payload::new(half.bytes),
                    sum: half.sum,
                    error: half.loss.relative() as f32,
                };
                let pages = pages.into_iter().map(|halves| halves.map(half));
                Done::Out { ticket, pages: pages.collect() }
            }
            Transferred::In { ticket, sums } => {
                let sent = self.sent.remove(&ticket).unwrap_or_default();
                match sent.iter().zip(&sums).position(|(sent, arrived)| sent != arrived) {
                    None => Done::In { ticket },
                    Some(at) => {
                        let error = format!("half page {at} of a copy did not arrive as it was sent");
                        Done::Failed { ticket, error: IoError::Device(error) }
                    }
                }
            }
            Transferred::Failed { ticket, error } => {
                self.sent.remove(&ticket);
                Done::Failed { ticket, error: failed(&error) }
            }
        }
    }
}

fn failed(error: &Error) -> IoError {
    IoError::Device(error.to_string())
}

fn admitted(answer: Result<Admission, Error>) -> Result<(), IoError> {
    match answer.map_err(|error| failed(&error))? {
        Admission::Queued => Ok(()),
        Admission::Busy => Err(IoError::Busy),
    }
}

/// The device's name of a half.
pub(super) fn device_half(half: Half) -> KvHalf {
    match half {
        Half::K => KvHalf::K,
        Half::V => KvHalf::V,
    }
}

/// The first of the codes that stand for packed halves in records; those before it are element types of the device's pages.
const PACKED: u8 = 16;

/// The code of a packed half in records, where `own` is that of the device's pages.
pub(super) fn code(packing: Packing, own: u8) -> u8 {
    if packing == Packing::Exact { own } else { PACKED + packing.code() }
}

/// The code of the elements that a half has on the device.
pub(super) fn element(types: KvTypes, half: KvHalf) -> u8 {
    types.of(half) as u8 + 1
}

/// How a half of these elements is packed.
fn packing(elements: Option<Elements>, half: Half) -> Packing {
    let code = elements.and_then(|elements| elements[half as usize].checked_sub(PACKED));
    code.and_then(Packing::from_code).unwrap_or_default()
}

/// The cache's name of a half.
pub(super) fn record_half(half: KvHalf) -> Half {
    match half {
        KvHalf::K => Half::K,
        KvHalf::V => Half::V,
    }
}

impl PageIo for EngineIo {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, PageId)], elements: Option<Elements>) -> Result<(), IoError> {
        let pages: Vec<_> = pages.iter().map(|&(group, page)| (group, page.0)).collect();
        let packings = Packings { k: packing(elements, Half::K), v: packing(elements, Half::V) };
        admitted(self.transfers.copy_out(ticket, &pages, packings))
    }

    fn copy_in(&mut self, ticket: u64, halves: Vec<Arrival>, elements: Option<Elements>) -> Result<(), IoError> {
        let half =
            |(group, page, half, _): &Arrival| HalfPage { group: *group, page: page.0, half: device_half(*half) };
        let placed: Vec<_> = halves.iter().map(|h| (half(h), packing(elements, h.2), &*h.3)).collect();
        admitted(self.transfers.copy_in(ticket, &placed, self.verify))?;
        if self.verify {
            self.sent.insert(ticket, placed.iter().map(|(.., bytes)| integrity::sum(bytes)).collect());
        }
        Ok(())
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        let mut ended = std::mem::take(&mut self.ended);
        self.transfers.poll(&mut ended);
        done.extend(ended.drain(..).map(|ended| self.done(ended)));
        self.ended = ended;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Float, KvGroup, KvLayout};
    use crate::error::Result;
    use crate::open;

    fn layout() -> KvLayout {
        KvLayout { layers: 2, kv_heads: 1, head_dim: 64, page_tokens: 8, types: Float::F16.into() }
    }

    fn io(room: usize, spoil: bool) -> EngineIo {
        let backend = open::backend("cpu", Float::F16).unwrap().backend;
        let data = backend.alloc("pages", 4 * layout().page_bytes()).unwrap();
        let groups = [KvGroup { layout: layout(), pages: 4, data }];
        let transfers = backend.transfers(&groups, room * layout().page_bytes(), false).unwrap();
        EngineIo::new(if spoil { Box::new(Spoiled(transfers)) } else { transfers }, true)
    }

    /// A device that damages what is copied to it.
    struct Spoiled(Box<dyn Transfers>);

    impl Transfers for Spoiled {
        fn copy_out(&mut self, ticket: u64, pages: &[(usize, u32)], packing: Packings) -> Result<Admission> {
            self.0.copy_out(ticket, pages, packing)
        }
        fn copy_in(&mut self, ticket: u64, halves: &[(HalfPage, Packing, &[u8])], sums: bool) -> Result<Admission> {
            let mut bytes: Vec<_> = halves.iter().map(|&(at, p, bytes)| (at, p, bytes.to_vec())).collect();
            bytes[0].2[17] ^= 4;
            let spoiled: Vec<_> = bytes.iter().map(|(at, p, bytes)| (*at, *p, &bytes[..])).collect();
            self.0.copy_in(ticket, &spoiled, sums)
        }
        fn poll(&mut self, done: &mut Vec<Transferred>) {
            self.0.poll(done)
        }
    }

    fn halves() -> Vec<Arrival> {
        let bytes =
            |half: Half| (0..layout().page_bytes() / 2).map(move |i| (i * 7) as u8 ^ half as u8).collect::<Vec<_>>();
        Half::ALL.map(|half| (0, PageId(2), half, Payload::new(bytes(half)))).into()
    }

    fn poll(io: &mut EngineIo) -> Vec<Done> {
        let mut done = Vec::new();
        io.poll(&mut done);
        done
    }

    #[test]
    fn pages_go_and_come_back_with_their_sums() {
        let mut io = io(2, false);
        io.copy_in(1, halves(), None).unwrap();
        assert!(matches!(poll(&mut io)[..], [Done::In { ticket: 1 }]));
        io.copy_out(2, &[(0, PageId(2)), (0, PageId(0))], None).unwrap();
        assert_eq!(io.copy_out(3, &[(0, PageId(1))], None), Err(IoError::Busy));
        let done = poll(&mut io);
        let [Done::Out { ticket: 2, pages }] = &done[..] else { panic!("{done:?}") };
        for (half, (.., sent)) in pages[0].iter().zip(halves()) {
            assert!(half.payload[..] == sent[..] && half.sum == integrity::sum(&sent) && half.error == 0.0);
        }
        assert!(pages[1].iter().all(|half| half.payload.iter().all(|&b| b == 0)));
        drop(done);
        assert_eq!(io.copy_out(3, &[(0, PageId(1))], None), Ok(()), "room comes back with the payloads");
        assert!(matches!(io.copy_out(4, &[(0, PageId(4))], None), Err(IoError::Device(_))));
    }

    #[test]
    fn what_arrives_damaged_is_told() {
        let mut io = io(2, true);
        io.copy_in(1, halves(), None).unwrap();
        let done = poll(&mut io);
        let [Done::Failed { ticket: 1, error: IoError::Device(why) }] = &done[..] else { panic!("{done:?}") };
        assert!(why.contains("as it was sent"), "{why}");
    }
}
