//! Pages packed and unpacked in place: what a sequence sees that resumes from a tier with that packing.
use crate::backend::{Admission, Backend, HalfPage, KvGroup, KvHalf, Loss, Packings, Transferred, Transfers};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Packs pages of one set of groups, one at a time.
pub struct Repacker {
    packings: Packings,
    transfers: Box<dyn Transfers>,
    losses: [HalfLoss; 2],
}

/// What packing lost of the pages so far, of K or of V: root mean squares of the differences over those of the values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HalfLoss {
    all: Loss,
    /// Of the page that lost most.
    pub worst: f64,
}

impl HalfLoss {
    /// Over all pages.
    pub fn overall(&self) -> f64 {
        self.all.relative()
    }

    fn add(&mut self, loss: Loss) {
        self.all = [self.all, loss].into_iter().sum();
        self.worst = self.worst.max(loss.relative());
    }
}

impl Repacker {
    /// Opens transfers for it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the pages cannot be packed so.
    pub fn new(backend: Arc<dyn Backend>, kv: &[KvGroup], packings: Packings) -> Result<Self> {
        kv.iter().try_for_each(|group| packings.check(&group.layout))?;
        // A page of each group, out and in at once, and what the copies need besides.
        let room = kv.iter().map(|group| 4 * group.layout.page_bytes()).sum::<usize>() + (1 << 16);
        Ok(Repacker { packings, transfers: backend.transfers(kv, room, true)?, losses: Default::default() })
    }

    /// Packs and unpacks page `page` of the first `groups` groups, after all that was queued before.
    pub fn run(&mut self, groups: usize, page: u32) -> Result<()> {
        let asked: Vec<_> = (0..groups).map(|group| (group, page)).collect();
        queued(self.transfers.copy_out(0, &asked, self.packings)?)?;
        let pages = match self.wait()? {
            Transferred::Out { pages, .. } => pages,
            other => return Err(Error::Device(format!("a copy out ended as {other:?}"))),
        };
        let mut halves = Vec::new();
        for (group, copied) in pages.iter().enumerate() {
            for ((half, copied), losses) in KvHalf::BOTH.into_iter().zip(copied).zip(&mut self.losses) {
                losses.add(copied.loss);
                halves.push((HalfPage { group, page, half }, self.packings.of(half), &*copied.bytes));
            }
        }
        queued(self.transfers.copy_in(0, &halves, false)?)?;
        self.wait().map(drop)
    }

    fn wait(&mut self) -> Result<Transferred> {
        let mut done = Vec::new();
        loop {
            self.transfers.poll(&mut done);
            match done.pop() {
                Some(Transferred::Failed { error, .. }) => return Err(error),
                Some(end) => return Ok(end),
                None => std::thread::yield_now(),
            }
        }
    }

    /// What was lost so far of K and of V.
    pub fn losses(&self) -> [HalfLoss; 2] {
        self.losses
    }
}

fn queued(admission: Admission) -> Result<()> {
    match admission {
        Admission::Queued => Ok(()),
        Admission::Busy => Err(Error::Device("no room to copy one page of each group".into())),
    }
}
