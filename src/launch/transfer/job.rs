//! One transfer under way: its pieces of pinned memory, and what each holds when the copies are over.
use super::super::page_pack;
use crate::backend::{CopiedHalf, HostBytes, Loss};
use crate::device::{Copies, CopyStream, PinnedBytes};
use crate::error::{Error, Result};

/// A transfer. Halves are numbered in the order asked for.
pub struct Job {
    pub ticket: u64,
    pub copies: Copies,
    /// The piece that each copied half is in.
    pub places: Vec<(usize, usize)>,
    pub sums: Vec<Summed>,
    pub losses: Vec<Lost>,
    halves: usize,
    failed: Option<Error>,
}

/// The piece that holds the sums of a launch: for each of its pages, the halves that the two sums are of.
pub struct Summed {
    pub piece: usize,
    pub of: Vec<[Option<usize>; 2]>,
}

/// The piece that holds the losses of a launch: `of` its halves, each in this many heads of a layer.
pub struct Lost {
    pub piece: usize,
    pub of: Vec<usize>,
    pub heads: usize,
}

impl Job {
    pub fn new(ticket: u64, stream: &CopyStream, halves: usize) -> Self {
        let (places, sums, losses) = (Vec::new(), Vec::new(), Vec::new());
        Job { ticket, copies: Copies::on(stream), places, sums, losses, halves, failed: None }
    }

    /// The piece that the last copy was into or from.
    pub fn last_piece(&self) -> usize {
        self.copies.len() - 1
    }

    /// Marks the end; an error of the queueing is told with the ticket.
    pub fn close(mut self, queued: Result<()>) -> Self {
        self.failed = queued.and(self.copies.end()).err();
        self
    }

    /// What went wrong while it was queued, once.
    pub fn failed(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// The sums of the halves in their order; none if none were asked for.
    pub fn into_sums(self) -> Vec<u64> {
        let (halves, sums) = (self.halves, self.sums);
        sums_of(halves, &sums, &self.copies.finished())
    }

    /// What a copy out brought: K and V of each page.
    pub fn into_pages(self) -> Vec<[CopiedHalf; 2]> {
        let pieces = self.copies.finished();
        let sums = sums_of(self.halves, &self.sums, &pieces);
        let losses = losses_of(self.halves, &self.losses, &pieces);
        let mut pieces: Vec<Option<PinnedBytes>> = pieces.into_iter().map(Some).collect();
        let mut bytes: Vec<Option<PinnedBytes>> = (0..self.halves).map(|_| None).collect();
        for (half, piece) in self.places {
            bytes[half] = pieces[piece].take();
        }
        let copied = |((bytes, sum), loss)| Some(CopiedHalf { bytes: HostBytes::new(bytes?), sum, loss });
        let mut halves = bytes.into_iter().zip(sums).zip(losses).map_while(copied);
        std::iter::from_fn(|| Some([halves.next()?, halves.next()?])).collect()
    }
}

fn sums_of(halves: usize, summed: &[Summed], pieces: &[PinnedBytes]) -> Vec<u64> {
    let mut sums = vec![0; if summed.is_empty() { 0 } else { halves }];
    for Summed { piece, of } in summed {
        let words = pieces[*piece].chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default()));
        for (half, sum) in of.iter().flatten().zip(words) {
            if let Some(half) = *half {
                sums[half] = sum;
            }
        }
    }
    sums
}

fn losses_of(halves: usize, lost: &[Lost], pieces: &[PinnedBytes]) -> Vec<Loss> {
    let mut losses = vec![Loss::default(); halves];
    for Lost { piece, of, heads } in lost {
        for (&half, bytes) in of.iter().zip(pieces[*piece].chunks_exact(page_pack::loss_bytes(1, *heads))) {
            let number = |b: &[u8]| f64::from(f32::from_le_bytes(b.try_into().unwrap_or_default()));
            let head = |b: &[u8]| Loss { error: number(&b[..4]), square: number(&b[4..]) };
            losses[half] = bytes.chunks_exact(8).map(head).sum();
        }
    }
    losses
}
