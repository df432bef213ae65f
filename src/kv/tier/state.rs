//! Where a page's copies are: every state and every transition.
//!
//! [`OnDevice`] is a physical page, [`Below`] the copy of a page on one tier under the device. Each changes only by
//! [`OnDevice::next`] and [`Below::next`], called by the one thread that decides, when it decides or learns that a copy or a
//! store's call ended. `None` means that the event cannot happen in that state: the caller leaves everything as it is.
//!
//! ```text
//!            Allocate          Publish          CopyOut
//!     Free ----------> Filling -------> Ready <--------> CopyingOut
//!      ^ \                ^ |             | ^    Copied
//!      |  \--CopyIn--> CopyingIn          | |
//!      |                 |  \-- Arrived --+-+      (Filling again if it stays the loader's own)
//!      +----Release------+----------------+
//!
//!     Absent --Begin--> Copying --Copied--> Queued --Stored--> There
//!       ^                  \------Failed-------\---Failed---\--Damaged--> Lost --Begin--> Copying
//!       +--------------------------- Evict, from every state ----------------+
//! ```
//! A store's calls are made in the order they were queued, so what is read, replaced or removed while [`Below::Queued`] is
//! what was queued before; [`Below::Lost`] keeps its place in the tier's order and is written again when the page is computed
//! again.

/// A physical page of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnDevice {
    /// Nobody's.
    Free,
    /// A sequence's own: steps write to it.
    Filling,
    /// A copy from below writes to it; no step may touch it.
    CopyingIn,
    /// In the tree: steps read it, nothing writes to it.
    Ready,
    /// [`OnDevice::Ready`], and a copy reads it: it must not be freed.
    CopyingOut,
}

/// What happens to a physical page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceEvent {
    /// A sequence takes it.
    Allocate,
    /// A copy from below into it begins.
    CopyIn,
    /// That copy ended, well or not: what the page holds is known only if it did.
    Arrived,
    /// It is computed, or arrived and checked, and others may find it.
    Publish,
    /// A copy to host memory begins.
    CopyOut,
    /// That copy ended, well or not.
    Copied,
    /// Its last holder lets go, or it is evicted.
    Release,
}

impl OnDevice {
    /// All states.
    pub const ALL: [OnDevice; 5] =
        [OnDevice::Free, OnDevice::Filling, OnDevice::CopyingIn, OnDevice::Ready, OnDevice::CopyingOut];

    /// The state after `event`; `None` if it may not happen now.
    pub fn next(self, event: DeviceEvent) -> Option<OnDevice> {
        use DeviceEvent::*;
        match (self, event) {
            (OnDevice::Free, Allocate) => Some(OnDevice::Filling),
            (OnDevice::Filling, CopyIn) => Some(OnDevice::CopyingIn),
            (OnDevice::CopyingIn, Arrived) => Some(OnDevice::Filling),
            (OnDevice::Filling, Publish) => Some(OnDevice::Ready),
            (OnDevice::Ready, CopyOut) => Some(OnDevice::CopyingOut),
            (OnDevice::CopyingOut, Copied) => Some(OnDevice::Ready),
            (OnDevice::Filling | OnDevice::Ready, Release) => Some(OnDevice::Free),
            _ => None,
        }
    }
}

/// The copy of a page on one tier below the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Below {
    /// The tier does not have it.
    Absent,
    /// It is being copied from the device for this tier; the device page is [`OnDevice::CopyingOut`].
    Copying,
    /// In host memory, and in the tier's queue to be written.
    Queued,
    /// Written.
    There,
    /// It could not be written, or was found damaged or missing.
    Lost,
}

/// What happens to a copy below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BelowEvent {
    /// A copy for the tier begins.
    Begin,
    /// It is in host memory, and was queued.
    Copied,
    /// The tier has it.
    Stored,
    /// The copy failed, found no room in the queue, or the tier did not take it.
    Failed,
    /// The tier was asked for it and had nothing that passed the checks.
    Damaged,
    /// The tier's policy gives it up, or it is taken out of service; its removal is queued.
    Evict,
}

impl Below {
    /// All states.
    pub const ALL: [Below; 5] = [Below::Absent, Below::Copying, Below::Queued, Below::There, Below::Lost];

    /// The state after `event`; `None` if it may not happen now.
    pub fn next(self, event: BelowEvent) -> Option<Below> {
        use BelowEvent::*;
        match (self, event) {
            (Below::Absent | Below::Lost, Begin) => Some(Below::Copying),
            (Below::Copying, Copied) => Some(Below::Queued),
            (Below::Queued, Stored) => Some(Below::There),
            (Below::Copying | Below::Queued, Failed) => Some(Below::Lost),
            (Below::Queued | Below::There, Damaged) => Some(Below::Lost),
            (Below::Absent, Evict) => None,
            (_, Evict) => Some(Below::Absent),
            _ => None,
        }
    }

    /// Whether a read queued now finds it.
    pub fn readable(self) -> bool {
        matches!(self, Below::Queued | Below::There)
    }

    /// Bits of a [`Below::code`].
    pub(in crate::kv) const CODE_BITS: u32 = 3;

    /// As the low bits of a number.
    pub(in crate::kv) fn code(self) -> u32 {
        self as u32
    }

    /// The state whose [`Below::code`] is in the low bits.
    pub(in crate::kv) fn of_code(code: u32) -> Below {
        *Below::ALL.get(code as usize % (1 << Below::CODE_BITS)).unwrap_or(&Below::Absent)
    }
}
