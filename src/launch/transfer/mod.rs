//! Copies of half pages on streams of their own: one out, one in, each job behind an event of the compute stream and ended
//! by one of its own. Sums are computed on the copy's stream, so that steps do not wait for them either; so is packing, through
//! scratch that takes some halves at a time.
//!
//! Scratch is shared by the jobs of a direction, which its stream runs one after another.
mod job;
mod plan;
mod scratch;

use super::{Cuda, page_checksum, page_pack};
use crate::backend::{
    Admission, Buffer, HalfPage, KvGroup, KvHalf, KvLayout, Packing, Packings, PageChecksums, Transferred, Transfers,
};
use crate::device::{CopyStream, Pinned, PinnedBytes};
use crate::error::{Error, Result};
use job::{Job, Lost, Summed};
use plan::{PackLaunch, Plan, SumLaunch};
use scratch::Scratch;
use std::collections::VecDeque;
use std::sync::Arc;

/// Copies of one set of groups.
pub struct CudaTransfers {
    cuda: Arc<Cuda>,
    kv: Vec<KvGroup>,
    pinned: Pinned,
    out: Lane,
    into: Lane,
}

/// One direction.
struct Lane {
    stream: CopyStream,
    scratch: Scratch,
    /// Oldest first.
    jobs: VecDeque<Job>,
}

/// Device memory that [`CudaTransfers`] take.
pub fn bytes(kv: &[KvLayout], packed: bool) -> usize {
    2 * Scratch::bytes(kv, packed)
}

impl CudaTransfers {
    /// Streams, scratch and `host_bytes` of pinned memory.
    pub fn new(cuda: Arc<Cuda>, kv: &[KvGroup], host_bytes: usize, packed: bool) -> Result<Self> {
        let layouts: Vec<KvLayout> = kv.iter().map(|kv| kv.layout).collect();
        let lane = || {
            let scratch = Scratch::new(&cuda, &layouts, packed)?;
            Ok::<_, Error>(Lane { stream: cuda.gpu.copy_stream()?, scratch, jobs: VecDeque::new() })
        };
        let (out, into) = (lane()?, lane()?);
        Ok(CudaTransfers { pinned: cuda.gpu.pinned(host_bytes)?, kv: kv.to_vec(), out, into, cuda })
    }

    /// The buffer and offset of a half.
    fn place(&self, half: HalfPage) -> Result<(&Buffer, usize)> {
        let kv = self.kv.get(half.group).filter(|kv| (half.page as usize) < kv.pages);
        let kv = kv.ok_or_else(|| Error::Shape { op: "transfer", message: format!("there is no {half:?}") })?;
        Ok((&kv.data, half.page as usize * kv.layout.page_bytes() + kv.layout.half_offset(half.half)))
    }

    /// Bytes of a half so packed.
    fn packed_bytes(&self, half: HalfPage, packing: Packing) -> Result<usize> {
        self.place(half)?;
        let layout = &self.kv[half.group].layout;
        packing.check_opened(self.out.scratch.packed.is_some())?;
        packing.check(layout, half.half)?;
        Ok(layout.packed_half_bytes(half.half, packing))
    }

    /// Queues launches of the sums on a lane, and the copies of what they find.
    fn queue_sums(&self, lane: &Lane, launches: Vec<SumLaunch>, job: &mut Job) -> Result<()> {
        for SumLaunch { group, ids, sums, of } in launches {
            let Scratch { pages, sums: found, .. } = &lane.scratch;
            job.copies.upload(&self.cuda.gpu, ids, pages, 0)?;
            let op = PageChecksums { kv: &self.kv[group], pages, count: of.len(), out: found };
            page_checksum::run_beside(&self.cuda, &lane.stream, &op)?;
            job.copies.download(&self.cuda.gpu, found, 0, sums)?;
            job.sums.push(Summed { piece: job.last_piece(), of });
        }
        Ok(())
    }

    /// Queues the sums of packed halves that lie in the lane's scratch.
    fn queue_packed_sums(
        &self,
        lane: &Lane,
        bytes: usize,
        sums: PinnedBytes,
        of: &[usize],
        job: &mut Job,
    ) -> Result<()> {
        let Some(packed) = &lane.scratch.packed else { return Ok(()) };
        let found = &lane.scratch.sums;
        page_checksum::run_packed(&self.cuda, &lane.stream, &packed.halves, bytes, &packed.places, of.len(), found)?;
        job.copies.download(&self.cuda.gpu, found, 0, sums)?;
        job.sums.push(Summed { piece: job.last_piece(), of: of.iter().map(|&half| [Some(half), None]).collect() });
        Ok(())
    }

    /// Packs halves, and copies them out of the scratch.
    fn queue_pack(&self, launch: PackLaunch, to: &mut [Option<PinnedBytes>], job: &mut Job) -> Result<()> {
        let lane = &self.out;
        let Some(packed) = &lane.scratch.packed else { return Ok(()) };
        let kv = &self.kv[launch.group];
        let op = lane.scratch.pack_op(packed, kv, &launch);
        let PackLaunch { half, packing, ids, sums, losses, of, .. } = launch;
        job.copies.upload(&self.cuda.gpu, ids, &lane.scratch.pages, 0)?;
        page_pack::pack(&self.cuda, &lane.stream, &op)?;
        let bytes = kv.layout.packed_half_bytes(half, packing);
        for (i, &half) in of.iter().enumerate() {
            let Some(to) = to[half].take() else { continue };
            job.copies.download(&self.cuda.gpu, &packed.halves, i * bytes, to)?;
            job.places.push((half, job.last_piece()));
        }
        if let Some(losses) = losses {
            job.copies.download(&self.cuda.gpu, &packed.losses, 0, losses)?;
            job.losses.push(Lost {
                piece: job.last_piece(),
                of: of.clone(),
                heads: kv.layout.layers * kv.layout.kv_heads,
            });
        }
        sums.map_or(Ok(()), |sums| self.queue_packed_sums(lane, bytes, sums, &of, job))
    }

    /// Copies packed halves into the scratch, and unpacks them.
    fn queue_unpack(&self, launch: PackLaunch, from: &mut [Option<PinnedBytes>], job: &mut Job) -> Result<()> {
        let lane = &self.into;
        let Some(packed) = &lane.scratch.packed else { return Ok(()) };
        let kv = &self.kv[launch.group];
        let op = lane.scratch.pack_op(packed, kv, &launch);
        let PackLaunch { half, packing, ids, sums, of, .. } = launch;
        job.copies.upload(&self.cuda.gpu, ids, &lane.scratch.pages, 0)?;
        let bytes = kv.layout.packed_half_bytes(half, packing);
        for (i, &half) in of.iter().enumerate() {
            let Some(from) = from[half].take() else { continue };
            job.copies.upload(&self.cuda.gpu, from, &packed.halves, i * bytes)?;
        }
        if let Some(sums) = sums {
            self.queue_packed_sums(lane, bytes, sums, &of, job)?;
        }
        page_pack::unpack(&self.cuda, &lane.stream, &op)
    }

    fn queue_out(&self, halves: &[(HalfPage, Packing)], plan: Plan, job: &mut Job) -> Result<()> {
        self.cuda.gpu.after_compute(&self.out.stream)?;
        let Plan { mut pieces, sums, packs } = plan;
        for (i, &(half, _)) in halves.iter().enumerate().filter(|(_, (_, packing))| *packing == Packing::Exact) {
            let (data, offset) = self.place(half)?;
            let Some(to) = pieces[i].take() else { continue };
            job.copies.download(&self.cuda.gpu, data, offset, to)?;
            job.places.push((i, job.last_piece()));
        }
        self.queue_sums(&self.out, sums, job)?;
        packs.into_iter().try_for_each(|launch| self.queue_pack(launch, &mut pieces, job))
    }

    fn queue_in(&self, halves: &[(HalfPage, Packing)], plan: Plan, job: &mut Job) -> Result<()> {
        self.cuda.gpu.after_compute(&self.into.stream)?;
        let Plan { mut pieces, sums, packs } = plan;
        for (i, &(half, _)) in halves.iter().enumerate().filter(|(_, (_, packing))| *packing == Packing::Exact) {
            let (data, offset) = self.place(half)?;
            let Some(from) = pieces[i].take() else { continue };
            job.copies.upload(&self.cuda.gpu, from, data, offset)?;
        }
        self.queue_sums(&self.into, sums, job)?;
        packs.into_iter().try_for_each(|launch| self.queue_unpack(launch, &mut pieces, job))
    }

    /// The oldest job of a lane, if it is over.
    fn next(&mut self, out: bool) -> Option<(Job, Result<()>)> {
        let lane = if out { &mut self.out } else { &mut self.into };
        let job = lane.jobs.front_mut()?;
        let over = match job.copies.is_over(&self.cuda.gpu) {
            Ok(false) => return None,
            Ok(true) => job.failed(),
            Err(error) => Err(job.failed().err().unwrap_or(error)),
        };
        let over = over.and_then(|()| if out { Ok(()) } else { self.cuda.gpu.before_compute(&job.copies) });
        Some((lane.jobs.pop_front()?, over))
    }
}

impl Transfers for CudaTransfers {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, u32)], packing: Packings) -> Result<Admission> {
        let both =
            |&(group, page): &(usize, u32)| KvHalf::BOTH.map(|half| (HalfPage { group, page, half }, packing.of(half)));
        let halves: Vec<_> = pages.iter().flat_map(both).collect();
        let Some(plan) = self.plan(&halves, true, true)? else { return Ok(Admission::Busy) };
        let mut job = Job::new(ticket, &self.out.stream, halves.len());
        let queued = self.queue_out(&halves, plan, &mut job);
        self.out.jobs.push_back(job.close(queued));
        Ok(Admission::Queued)
    }

    fn copy_in(&mut self, ticket: u64, halves: &[(HalfPage, Packing, &[u8])], sums: bool) -> Result<Admission> {
        for &(half, packing, bytes) in halves {
            let expected = self.packed_bytes(half, packing)?;
            if bytes.len() != expected {
                let message = format!("{} bytes for a half page of {expected} ({packing})", bytes.len());
                return Err(Error::Shape { op: "transfer", message });
            }
        }
        let wanted: Vec<_> = halves.iter().map(|&(half, packing, _)| (half, packing)).collect();
        let Some(mut plan) = self.plan(&wanted, sums, false)? else { return Ok(Admission::Busy) };
        for (piece, (.., bytes)) in plan.pieces.iter_mut().flatten().zip(halves) {
            piece.copy_from_slice(bytes);
        }
        let mut job = Job::new(ticket, &self.into.stream, halves.len());
        let queued = self.queue_in(&wanted, plan, &mut job);
        self.into.jobs.push_back(job.close(queued));
        Ok(Admission::Queued)
    }

    fn poll(&mut self, done: &mut Vec<Transferred>) {
        for out in [true, false] {
            while let Some((job, over)) = self.next(out) {
                let ticket = job.ticket;
                done.push(match over {
                    Err(error) => Transferred::Failed { ticket, error },
                    Ok(()) if out => Transferred::Out { ticket, pages: job.into_pages() },
                    Ok(()) => Transferred::In { ticket, sums: job.into_sums() },
                });
            }
        }
    }
}
