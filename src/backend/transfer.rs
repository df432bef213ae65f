//! Copies of half pages between the KV pages of a device and host memory, beside the operations.
//!
//! A half may be packed on its way ([`Packing`]). Nothing here waits. A transfer is queued under a ticket of the caller's and
//! reported by [`Transfers::poll`].
//!
//! Order, which callers rely on and must keep:
//! * A copy out sees what the operations queued before it wrote. Until it is reported, nothing may write to its pages.
//! * A copy in comes after the operations queued before it, so a page that they still read may be taken for it. Operations
//!   queued after it is reported see its pages; nothing may read or write them earlier.
//! * Memory of copies is bounded. Where it is used up the answer is [`Admission::Busy`], and nothing was queued.
use super::{KvHalf, Loss, Packing, Packings};
use crate::error::{Error, Result};
use std::fmt;
use std::ops::Deref;

/// One half of a page of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct HalfPage {
    pub group: usize,
    pub page: u32,
    pub half: KvHalf,
}

/// Bytes in host memory that the device copies fast; room for further transfers once they are dropped.
pub struct HostBytes(Box<dyn Deref<Target = [u8]> + Send + Sync>);

impl HostBytes {
    /// Wraps a backend's memory.
    pub fn new(bytes: impl Deref<Target = [u8]> + Send + Sync + 'static) -> Self {
        HostBytes(Box::new(bytes))
    }
}

impl Deref for HostBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for HostBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for HostBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostBytes({})", self.len())
    }
}

/// Whether a transfer was taken.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It will be reported.
    Queued,
    /// There is no room now; nothing was queued. Try again after a report, or do without.
    Busy,
}

/// A half page that was copied out.
#[derive(Debug)]
pub struct CopiedHalf {
    /// The half, packed as asked.
    pub bytes: HostBytes,
    /// What the device computed of these bytes ([`crate::backend::PageChecksums`]).
    pub sum: u64,
    /// What packing lost; nothing where it is exact.
    pub loss: Loss,
}

/// The end of a transfer.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Transferred {
    /// In the order asked for: K and V of each page.
    Out { ticket: u64, pages: Vec<[CopiedHalf; 2]> },
    /// The pages hold the bytes, unpacked. `sums`, if asked for, are what the device computed of the bytes of each half, as
    /// they were given, once they were there.
    In { ticket: u64, sums: Vec<u64> },
    /// The device failed; what the pages of a copy in hold is not known.
    Failed { ticket: u64, error: Error },
}

/// Copies of one set of page groups. One thread drives it: the one that queues the operations.
pub trait Transfers: Send {
    /// Starts copying both halves of `(group, page)` to the host, packed.
    ///
    /// # Errors
    /// [`Error::Shape`] for a page that is not there, [`Error::Unsupported`] for one that cannot be packed so.
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, u32)], packing: Packings) -> Result<Admission>;

    /// Starts copying halves, each packed as it says, into their pages; the bytes are taken before the call returns. `sums`:
    /// report what the device computes of them when they are there.
    ///
    /// # Errors
    /// [`Error::Shape`] for a page that is not there, or bytes that are not a half of it so packed; [`Error::Unsupported`]
    /// for one that cannot be packed so.
    fn copy_in(&mut self, ticket: u64, halves: &[(HalfPage, Packing, &[u8])], sums: bool) -> Result<Admission>;

    /// Appends the transfers that ended since the last call.
    fn poll(&mut self, done: &mut Vec<Transferred>);
}
