//! What the cache needs of a device to move pages: two asynchronous copies and a way to learn of their ends.
//!
//! Invariants of every implementation:
//! * Nothing here blocks; what cannot be started now is refused with [`IoError::Busy`], and nothing of it has happened.
//! * A copy out reads its pages after all steps queued before it, a copy in writes its pages before any step queued after its
//!   end was told. The caller keeps the pages from being given away meanwhile.
//! * Each accepted ticket ends once, as one [`Done`].
use super::Half;
use crate::kv::integrity;
use crate::kv::key::Elements;
use crate::kv::pool::PageId;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Half a page to be put into a page of a group: the bytes as they are on the device, or quantised.
pub type Arrival = (usize, PageId, Half, Payload);

/// Copies between a device's pages and host memory. One thread calls it.
pub trait PageIo: Send {
    /// Starts taking both halves of `pages` (group and page) to host memory, as they are or quantised to `elements`, and the
    /// checksums of what leaves the device.
    ///
    /// # Errors
    /// [`IoError::Busy`] while too little host memory is free for copies, [`IoError::Device`] for elements that the device does
    /// not know.
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, PageId)], elements: Option<Elements>) -> Result<(), IoError>;

    /// Starts putting half pages into pages of the device: halves kept as they are, or all of pages quantised to `elements`.
    ///
    /// # Errors
    /// [`IoError::Busy`] while too little host memory is free for copies, [`IoError::Device`] for a payload that is not as
    /// long as half a page of these elements.
    fn copy_in(&mut self, ticket: u64, halves: Vec<Arrival>, elements: Option<Elements>) -> Result<(), IoError>;

    /// Appends what ended since the last call.
    fn poll(&mut self, done: &mut Vec<Done>);
}

/// The end of a copy.
#[derive(Debug)]
pub enum Done {
    /// The pages of a [`PageIo::copy_out`] are in host memory.
    Out {
        /// Of the call.
        ticket: u64,
        /// For each page, K and V.
        pages: Vec<[CopiedHalf; 2]>,
    },
    /// The pages of a [`PageIo::copy_in`] hold what was put into them.
    In {
        /// Of the call.
        ticket: u64,
    },
    /// The copy failed; pages that were to be written hold anything.
    Failed {
        /// Of the call.
        ticket: u64,
        /// Why.
        error: IoError,
    },
}

/// Half a page in host memory.
#[derive(Debug)]
pub struct CopiedHalf {
    /// Its bytes.
    pub payload: Payload,
    /// [`integrity::sum`] of them, as the device computed it before the copy.
    pub sum: u64,
    /// Root mean square of what quantising it lost, relative to that of its elements; 0 if it is as it was.
    pub error: f32,
}

/// Why a copy was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IoError {
    /// All host memory for copies is in use; it comes back as copies end.
    #[error("all host memory for page copies is in use; try again when copies have ended")]
    Busy,
    /// The device said no.
    #[error("a page copy failed: {0}")]
    Device(String),
}

/// Bytes of half a page in host memory, owned by whatever they lie in: a pinned buffer, a record.
pub struct Payload {
    owner: Box<dyn AsRef<[u8]> + Send + Sync>,
    from: usize,
}

impl Payload {
    /// All bytes of `owner`, which is dropped with the payload.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Payload::after(owner, 0)
    }

    /// The bytes of `owner` from `from` on; none if it is shorter.
    pub fn after(owner: impl AsRef<[u8]> + Send + Sync + 'static, from: usize) -> Self {
        Payload { owner: Box::new(owner), from }
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.from..).unwrap_or(&[])
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.len())
    }
}

/// The two halves of each page of each group, in host memory.
pub type MemoryPages = Vec<Vec<[Vec<u8>; 2]>>;

/// Quantises half pages in host memory.
pub trait Packer: Send {
    /// The packed bytes and their relative error, see [`CopiedHalf::error`]; `None` for a code that is not known.
    fn pack(&self, element: u8, bytes: &[u8]) -> Option<(Vec<u8>, f32)>;

    /// The bytes of the half page; `None` for a code or a length that is not known.
    fn unpack(&self, element: u8, packed: &[u8]) -> Option<Vec<u8>>;
}

/// A device whose pages are in host memory: for the cache without a GPU, and for tests. A copy is made as late as it may be,
/// in the poll that tells of it, so that a page given away too early shows.
pub struct MemoryIo {
    pages: Arc<Mutex<MemoryPages>>,
    queue: VecDeque<(u64, Copy)>,
    /// Polls that a copy takes, and copies at once.
    latency: u64,
    most: usize,
    polls: u64,
    packer: Option<Box<dyn Packer>>,
}

struct Copy {
    ticket: u64,
    what: Direction,
}

enum Direction {
    Out(Vec<(usize, PageId)>, Option<Elements>),
    In(Vec<Arrival>, Option<Elements>),
}

impl MemoryIo {
    /// Copies from and to `pages` that take `latency` polls more than the first, at most `most` at once.
    pub fn new(pages: Arc<Mutex<MemoryPages>>, latency: u64, most: usize) -> Self {
        MemoryIo { pages, queue: VecDeque::new(), latency, most, polls: 0, packer: None }
    }

    /// With copies that this quantises.
    pub fn with_packer(self, packer: impl Packer + 'static) -> Self {
        MemoryIo { packer: Some(Box::new(packer)), ..self }
    }

    /// The pages.
    pub fn pages(&self) -> MutexGuard<'_, MemoryPages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self, ticket: u64, what: Direction) -> Result<(), IoError> {
        if self.queue.len() >= self.most {
            return Err(IoError::Busy);
        }
        self.queue.push_back((self.polls + self.latency, Copy { ticket, what }));
        Ok(())
    }

    fn end(&self, Copy { ticket, what }: Copy) -> Done {
        let ended = match what {
            Direction::Out(wanted, elements) => {
                self.take_out(&wanted, elements).map(|pages| Done::Out { ticket, pages })
            }
            Direction::In(halves, elements) => self.put_in(halves, elements).map(|()| Done::In { ticket }),
        };
        let unknown = || IoError::Device("no packer for these elements and pages".into());
        ended.unwrap_or_else(|| Done::Failed { ticket, error: unknown() })
    }

    fn take_out(&self, wanted: &[(usize, PageId)], elements: Option<Elements>) -> Option<Vec<[CopiedHalf; 2]>> {
        let pages = self.pages();
        let half = |(group, page): (usize, PageId), half: Half| {
            let bytes = &pages[group][page.index()][half as usize];
            let (bytes, error) = match elements {
                None => (bytes.clone(), 0.0),
                Some(elements) => self.packer.as_ref()?.pack(elements[half as usize], bytes)?,
            };
            Some(CopiedHalf { sum: integrity::sum(&bytes), payload: Payload::new(bytes), error })
        };
        wanted.iter().map(|&page| Some([half(page, Half::K)?, half(page, Half::V)?])).collect()
    }

    fn put_in(&self, halves: Vec<Arrival>, elements: Option<Elements>) -> Option<()> {
        let mut pages = self.pages();
        for (group, page, half, payload) in halves {
            let place = &mut pages[group][page.index()][half as usize];
            let bytes = match elements {
                None => payload.to_vec(),
                Some(elements) => self.packer.as_ref()?.unpack(elements[half as usize], &payload)?,
            };
            if bytes.len() != place.len() {
                return None;
            }
            *place = bytes;
        }
        Some(())
    }
}

impl PageIo for MemoryIo {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, PageId)], elements: Option<Elements>) -> Result<(), IoError> {
        let held = self.pages();
        if let Some((group, page)) = pages.iter().find(|(g, p)| held.get(*g).is_none_or(|g| p.index() >= g.len())) {
            return Err(IoError::Device(format!("group {group} has no {page}")));
        }
        drop(held);
        self.start(ticket, Direction::Out(pages.to_vec(), elements))
    }

    fn copy_in(&mut self, ticket: u64, halves: Vec<Arrival>, elements: Option<Elements>) -> Result<(), IoError> {
        let held = self.pages();
        for (group, page, half, payload) in &halves {
            let place = held.get(*group).and_then(|g| g.get(page.index())).map(|page| page[*half as usize].len());
            if place.is_none_or(|place| elements.is_none() && place != payload.len()) {
                let bytes = payload.len();
                return Err(IoError::Device(format!("{bytes} bytes do not fit half of {page} of group {group}")));
            }
        }
        drop(held);
        self.start(ticket, Direction::In(halves, elements))
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        while self.queue.front().is_some_and(|(at, _)| *at <= self.polls)
            && let Some((_, copy)) = self.queue.pop_front()
        {
            done.push(self.end(copy));
        }
        self.polls += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_end_in_order_and_are_refused_when_too_many() {
        let page = |n: u8| [vec![n; 4], vec![n + 100; 4]];
        let pages = Arc::new(Mutex::new(vec![vec![page(0), page(1), page(2)]]));
        let mut io = MemoryIo::new(pages, 1, 2);
        io.copy_out(7, &[(0, PageId(1))], None).unwrap();
        io.copy_in(8, vec![(0, PageId(2), Half::V, Payload::after(vec![9u8; 6], 2))], None).unwrap();
        assert_eq!(io.copy_out(9, &[], None), Err(IoError::Busy));
        assert!(matches!(io.copy_out(9, &[(0, PageId(3))], None), Err(IoError::Device(_))));
        assert!(matches!(
            io.copy_in(9, vec![(0, PageId(0), Half::K, Payload::new([1u8; 3]))], None),
            Err(IoError::Device(_))
        ));
        let mut done = Vec::new();
        io.poll(&mut done);
        assert!(done.is_empty());
        io.poll(&mut done);
        let [Done::Out { ticket: 7, pages }, Done::In { ticket: 8 }] = &done[..] else { panic!("{done:?}") };
        assert_eq!((&*pages[0][0].payload, &*pages[0][1].payload), (&[1u8; 4][..], &[101u8; 4][..]));
        assert_eq!((pages[0][1].sum, pages[0][1].error), (integrity::sum(&[101; 4]), 0.0));
        assert_eq!(io.pages()[0][2], [vec![2; 4], vec![9; 4]]);
    }
}
