//! Which page goes when room is needed: one trait, the classic policies and ours.
//!
//! A policy orders the pages of one group on one tier. It sees every request as the path of nodes it refers to, including
//! those that are not resident, and picks victims among the pages that may go. The same code runs in the engine, on every
//! tier and in replay.
use super::error::Error;
use super::trace::Trace;
use super::tree::{NodeId, View};

mod arc;
mod belady;
mod costs;
mod hazard;
mod judge;
mod kvick;
mod level;
mod lfu;
mod list;
mod lru;
mod runs;
mod s3_fifo;
mod sims;

pub use arc::Arc;
pub use belady::Belady;
pub(super) use costs::Source;
pub use costs::{CacheCosts, Costs};
pub use kvick::Kvick;
pub(super) use level::{Level, OnLevel};
pub use lfu::Lfu;
pub use lru::Lru;
pub(super) use runs::Runs;
pub use s3_fifo::S3Fifo;
pub(super) use sims::Sims;

/// The order of eviction of one group's pages. The cache calls it; all calls are about nodes of one tree.
pub trait Policy: Send + Sync {
    /// A request at time `now` (ms, never decreasing) refers to all of `path`, shallow first, resident or not.
    fn visit(&mut self, view: View<'_>, now: u64, path: &[NodeId]);

    /// Nodes that no request named before they were filled: generated tokens. Each is the child of the one before.
    fn grow(&mut self, _view: View<'_>, _now: u64, _nodes: &[NodeId]) {}

    /// These nodes, shallow first, became resident.
    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]);

    /// The page that should go next, among those for which [`View::evictable`] is true. `None` only if there is none.
    fn victim(&mut self, view: View<'_>) -> Option<NodeId>;

    /// A node is about to lose its page: the victim (`evicted`), or one that was invalidated.
    fn remove(&mut self, view: View<'_>, node: NodeId, evicted: bool);

    /// A resident node lost its last resident child or its last pin.
    fn freed(&mut self, _view: View<'_>, _node: NodeId) {}

    /// A resident node is of little use now: it left the window of the request that computed it.
    fn retire(&mut self, _view: View<'_>, _node: NodeId) {}

    /// A request that waits will ask for this node and what it hangs on, or (`wanted` is false) does not wait any longer. A hint:
    /// what is wanted should go last.
    fn want(&mut self, _view: View<'_>, _node: NodeId, _wanted: bool) {}

    /// The policy that chooses the victims at present, if it is another one.
    fn follows(&self) -> Option<Kind> {
        None
    }

    /// From now on a miss costs so much.
    fn weigh(&mut self, _view: View<'_>, _costs: &Costs) {}

    /// A tier below got or lost a copy of a resident node's page, so that its miss costs something else now.
    fn moved(&mut self, _view: View<'_>, _node: NodeId) {}

    /// A node without pages will be forgotten; its id may come back as another page.
    fn forget(&mut self, _view: View<'_>, _node: NodeId) {}
}

/// The policies by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Lru`].
    Lru,
    /// [`Lfu`], counting while cached.
    Lfu,
    /// [`Lfu`], counting for ever.
    PerfectLfu,
    /// [`Arc`].
    Arc,
    /// [`S3Fifo`].
    S3Fifo,
    /// [`Belady`]; for replay only.
    Belady,
    /// [`Kvick`], the default.
    Kvick,
}

impl Kind {
    /// Every policy.
    pub const ALL: [Kind; 7] =
        [Kind::Lru, Kind::Lfu, Kind::PerfectLfu, Kind::Arc, Kind::S3Fifo, Kind::Belady, Kind::Kvick];

    /// What ours is compared with.
    pub const CLASSICS: [Kind; 5] = [Kind::Lru, Kind::Lfu, Kind::PerfectLfu, Kind::Arc, Kind::S3Fifo];

    /// As written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lru => "lru",
            Kind::Lfu => "lfu",
            Kind::PerfectLfu => "perfect-lfu",
            Kind::Arc => "arc",
            Kind::S3Fifo => "s3-fifo",
            Kind::Belady => "belady",
            Kind::Kvick => "kvick",
        }
    }

    /// Pages worth remembering after they are gone, for a cache of `capacity` pages. A remembered page takes about 150 bytes.
    pub fn ghosts(self, capacity: usize) -> usize {
        match self {
            Kind::Lru | Kind::Lfu | Kind::Belady => 0,
            Kind::PerfectLfu => usize::MAX,
            Kind::Arc | Kind::S3Fifo => 4 * capacity,
            Kind::Kvick => (4 * capacity).max(1 << 16),
        }
    }

    /// A policy for `capacity` pages. Belady's knows the future of `trace`; without one it evicts the deepest pages.
    pub fn build(self, capacity: usize, trace: Option<&Trace>) -> Box<dyn Policy> {
        match self {
            Kind::Lru => Box::new(Lru::default()),
            Kind::Lfu => Box::new(Lfu::new(false)),
            Kind::PerfectLfu => Box::new(Lfu::new(true)),
            Kind::Arc => Box::new(Arc::new(capacity)),
            Kind::S3Fifo => Box::new(S3Fifo::new(capacity)),
            Kind::Belady => Box::new(Belady::new(trace.unwrap_or(&Trace::default()))),
            Kind::Kvick => Box::new(Kvick::new(capacity)),
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::Policy { name: name.to_owned(), known: Kind::ALL.map(Kind::name).join(", ") })
    }
}
