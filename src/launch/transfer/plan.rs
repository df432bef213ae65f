//! What a transfer will launch, with all the pinned memory that it takes, before anything of it is queued.
use super::super::page_pack;
use super::CudaTransfers;
use super::scratch::BATCH;
use crate::backend::{HalfPage, KvHalf, Packing};
use crate::device::PinnedBytes;
use crate::error::Result;

/// Halves are numbered in the order asked for.
pub struct Plan {
    /// For the bytes of each half.
    pub pieces: Vec<Option<PinnedBytes>>,
    /// Of the halves that are exact.
    pub sums: Vec<SumLaunch>,
    /// Of the others.
    pub packs: Vec<PackLaunch>,
}

/// Sums of pages of a group.
pub struct SumLaunch {
    pub group: usize,
    pub ids: PinnedBytes,
    pub sums: PinnedBytes,
    /// For each page which of the wanted halves are its K and V.
    pub of: Vec<[Option<usize>; 2]>,
}

/// Halves of pages of a group that are packed alike, no more than the scratch holds.
pub struct PackLaunch {
    pub group: usize,
    pub half: KvHalf,
    pub packing: Packing,
    pub ids: PinnedBytes,
    pub sums: Option<PinnedBytes>,
    pub losses: Option<PinnedBytes>,
    /// Which of the wanted halves they are.
    pub of: Vec<usize>,
}

/// Group, pages, and for each page which of the wanted halves are its K and V.
type SumPages = (usize, Vec<u32>, Vec<[Option<usize>; 2]>);
/// What is packed alike, pages, and which of the wanted halves they are.
type PackPages = ((usize, KvHalf, Packing), Vec<u32>, Vec<usize>);

impl CudaTransfers {
    /// `None` if there is no room. `sums`: of every half; `losses`: of those that are packed.
    pub(super) fn plan(&self, halves: &[(HalfPage, Packing)], sums: bool, losses: bool) -> Result<Option<Plan>> {
        let mut pieces = Vec::with_capacity(halves.len());
        for &(half, packing) in halves {
            let Some(piece) = self.pinned.take(self.packed_bytes(half, packing)?) else { return Ok(None) };
            pieces.push(Some(piece));
        }
        let exact = || halves.iter().enumerate().filter(|(_, (_, packing))| *packing == Packing::Exact);
        let launches = if sums { sum_pages(exact().map(|(i, &(half, _))| (i, half))) } else { Vec::new() };
        let Some(sum_launches) = launches.into_iter().map(|pages| self.sum_launch(pages)).collect() else {
            return Ok(None);
        };
        let packs = self.pack_pages(halves);
        let Some(packs) = packs.into_iter().map(|pages| self.pack_launch(pages, sums, losses)).collect() else {
            return Ok(None);
        };
        Ok(Some(Plan { pieces, sums: sum_launches, packs }))
    }

    fn ids(&self, pages: &[u32]) -> Option<PinnedBytes> {
        let mut ids = self.pinned.take(4 * pages.len())?;
        ids.copy_from_slice(bytemuck::cast_slice(pages));
        Some(ids)
    }

    fn sum_launch(&self, (group, pages, of): SumPages) -> Option<SumLaunch> {
        Some(SumLaunch { group, ids: self.ids(&pages)?, sums: self.pinned.take(16 * pages.len())?, of })
    }

    fn pack_launch(&self, (alike, pages, of): PackPages, sums: bool, losses: bool) -> Option<PackLaunch> {
        let (group, half, packing) = alike;
        let layout = &self.kv[group].layout;
        let piece = |wanted: bool, bytes: usize| Some(if wanted { Some(self.pinned.take(bytes)?) } else { None });
        let loss_bytes = of.len() * page_pack::loss_bytes(layout.layers, layout.kv_heads);
        let (sums, losses) = (piece(sums, 16 * of.len())?, piece(losses, loss_bytes)?);
        Some(PackLaunch { group, half, packing, ids: self.ids(&pages)?, sums, losses, of })
    }

    /// Halves that are packed alike, in launches that the scratch has room for.
    fn pack_pages(&self, halves: &[(HalfPage, Packing)]) -> Vec<PackPages> {
        let Some(scratch) = &self.out.scratch.packed else { return Vec::new() };
        let mut launches: Vec<PackPages> = Vec::new();
        for (i, &(HalfPage { group, page, half }, packing)) in halves.iter().enumerate() {
            if packing == Packing::Exact {
                continue;
            }
            let (alike, room) =
                ((group, half, packing), scratch.room(self.kv[group].layout.packed_half_bytes(half, packing)));
            match launches.iter_mut().rfind(|(of, pages, _)| *of == alike && pages.len() < room) {
                Some((_, pages, of)) => {
                    pages.push(page);
                    of.push(i);
                }
                None => launches.push((alike, vec![page], vec![i])),
            }
        }
        launches
    }
}

/// Numbered halves by group, in launches of at most [`BATCH`] pages.
fn sum_pages(halves: impl Iterator<Item = (usize, HalfPage)>) -> Vec<SumPages> {
    let mut launches: Vec<SumPages> = Vec::new();
    for (i, half) in halves {
        let known = launches.iter_mut().filter(|(group, ..)| *group == half.group);
        let known = known.filter_map(|(_, pages, of)| {
            let at = pages.iter().rposition(|&page| page == half.page)?;
            Some(&mut of[at])
        });
        if let Some(of) = known.last() {
            of[half.half as usize] = Some(i);
            continue;
        }
        let open = launches.iter_mut().rfind(|(group, pages, _)| *group == half.group && pages.len() < BATCH);
        let mut of = [None; 2];
        of[half.half as usize] = Some(i);
        match open {
            Some((_, pages, all)) => {
                pages.push(half.page);
                all.push(of);
            }
            None => launches.push((half.group, vec![half.page], vec![of])),
        }
    }
    launches
}
