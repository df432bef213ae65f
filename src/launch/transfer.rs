//! Copies of half pages on streams of their own: one out, one in, each job behind an event of the compute stream and ended
//! by one of its own. Sums are computed on the copy's stream, so that steps do not wait for them either.
//!
//! Scratch for sums is shared by the jobs of a direction, which its stream runs one after another.
use super::{Cuda, page_checksum};
use crate::backend::{
    Admission, Buffer, CopiedHalf, HalfPage, HostBytes, KvGroup, KvHalf, KvLayout, Loss, Packing, Packings,
    PageChecksums, Transferred, Transfers,
};
use crate::device::{Copies, CopyStream, Pinned, PinnedBytes};
use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// Pages of one launch of the sums.
const BATCH: usize = 256;

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
    /// u32 `[BATCH]`.
    pages: Buffer,
    /// u64 `[BATCH, 2]`.
    sums: Buffer,
    /// Oldest first.
    jobs: VecDeque<Job>,
}

struct Job {
    ticket: u64,
    copies: Copies,
    /// Places of the sums among the pieces, in launch order, and of which asked half each is.
    sums: Vec<Summed>,
    /// Halves asked for.
    halves: usize,
    failed: Option<Error>,
}

/// The piece that holds the sums of a launch: for each of its pages, the asked halves that the two sums are of.
struct Summed {
    piece: usize,
    of: Vec<[Option<usize>; 2]>,
}

/// Device memory that [`CudaTransfers`] take.
pub fn bytes(_kv: &[KvLayout], _packed: bool) -> usize {
    2 * 20 * BATCH
}

impl Lane {
    fn new(cuda: &Cuda) -> Result<Self> {
        Ok(Lane {
            stream: cuda.gpu.copy_stream()?,
            pages: cuda.gpu.alloc("pages of a transfer", 4 * BATCH)?,
            sums: cuda.gpu.alloc("sums of a transfer", 16 * BATCH)?,
            jobs: VecDeque::new(),
        })
    }
}

/// Pinned memory for the sums of pages, taken before anything is queued.
struct SumPlan {
    group: usize,
    ids: PinnedBytes,
    sums: PinnedBytes,
    of: Vec<[Option<usize>; 2]>,
}

/// Group, pages, and for each page which of the wanted halves are its K and V.
type OneLaunch = (usize, Vec<u32>, Vec<[Option<usize>; 2]>);

impl CudaTransfers {
    /// Streams, scratch and `host_bytes` of pinned memory.
    pub fn new(cuda: Arc<Cuda>, kv: &[KvGroup], host_bytes: usize, _packed: bool) -> Result<Self> {
        let (out, into) = (Lane::new(&cuda)?, Lane::new(&cuda)?);
        Ok(CudaTransfers { pinned: cuda.gpu.pinned(host_bytes)?, kv: kv.to_vec(), out, into, cuda })
    }

    fn group(&self, group: usize, page: u32) -> Result<&KvGroup> {
        let found = self.kv.get(group).filter(|kv| (page as usize) < kv.pages);
        found.ok_or_else(|| Error::Shape { op: "transfer", message: format!("no page {page} in group {group}") })
    }

    /// The buffer and offset of a half.
    fn place(&self, half: HalfPage) -> Result<(&Buffer, usize, usize)> {
        let kv = self.group(half.group, half.page)?;
        let offset = half.page as usize * kv.layout.page_bytes() + kv.layout.half_offset(half.half);
        Ok((&kv.data, offset, kv.layout.half_bytes(half.half)))
    }

    /// Memory for the sums of these halves, by group and in launches of at most [`BATCH`] pages; `None` if there is none.
    fn plan_sums(&self, halves: &[HalfPage]) -> Option<Vec<SumPlan>> {
        let mut launches: Vec<OneLaunch> = Vec::new();
        for (i, half) in halves.iter().enumerate() {
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
        let plan = |(group, pages, of): (usize, Vec<u32>, Vec<_>)| {
            let mut ids = self.pinned.take(4 * pages.len())?;
            ids.copy_from_slice(bytemuck::cast_slice(&pages));
            Some(SumPlan { group, ids, sums: self.pinned.take(16 * pages.len())?, of })
        };
        launches.into_iter().map(plan).collect()
    }

    /// Queues launches of the sums on a lane, and the copies of what they find.
    fn queue_sums(&self, lane: &Lane, plans: Vec<SumPlan>, job: &mut Job) -> Result<()> {
        for SumPlan { group, ids, sums, of } in plans {
            job.copies.upload(&self.cuda.gpu, ids, &lane.pages, 0)?;
            let op = PageChecksums { kv: &self.kv[group], pages: &lane.pages, count: of.len(), out: &lane.sums };
            page_checksum::run_beside(&self.cuda, &lane.stream, &op)?;
            job.copies.download(&self.cuda.gpu, &lane.sums, 0, sums)?;
            job.sums.push(Summed { piece: job.copies.len() - 1, of });
        }
        Ok(())
    }

    fn queue_out(&self, halves: &[HalfPage], to: Vec<PinnedBytes>, sums: Vec<SumPlan>, job: &mut Job) -> Result<()> {
        self.cuda.gpu.after_compute(&self.out.stream)?;
        for (&half, to) in halves.iter().zip(to) {
            let (data, offset, _) = self.place(half)?;
            job.copies.download(&self.cuda.gpu, data, offset, to)?;
        }
        self.queue_sums(&self.out, sums, job)
    }

    fn queue_in(&self, halves: &[HalfPage], from: Vec<PinnedBytes>, sums: Vec<SumPlan>, job: &mut Job) -> Result<()> {
        self.cuda.gpu.after_compute(&self.into.stream)?;
        for (&half, from) in halves.iter().zip(from) {
            let (data, offset, _) = self.place(half)?;
            job.copies.upload(&self.cuda.gpu, from, data, offset)?;
        }
        self.queue_sums(&self.into, sums, job)
    }

    /// The oldest job of a lane, if it is over.
    fn next(&mut self, out: bool) -> Option<(Job, Result<()>)> {
        let lane = if out { &mut self.out } else { &mut self.into };
        let job = lane.jobs.front_mut()?;
        let over = match job.copies.is_over(&self.cuda.gpu) {
            Ok(false) => return None,
            Ok(true) => job.failed.take().map_or(Ok(()), Err),
            Err(error) => Err(job.failed.take().unwrap_or(error)),
        };
        let over = over.and_then(|()| if out { Ok(()) } else { self.cuda.gpu.before_compute(&job.copies) });
        Some((lane.jobs.pop_front()?, over))
    }
}

impl Job {
    fn new(ticket: u64, lane: &Lane, halves: usize) -> Self {
        Job { ticket, copies: Copies::on(&lane.stream), sums: Vec::new(), halves, failed: None }
    }

    /// Marks the end; an error of the queueing is told with the ticket.
    fn close(mut self, queued: Result<()>) -> Self {
        self.failed = queued.and(self.copies.end()).err();
        self
    }

    /// The pieces, and the sums of the asked halves in their order.
    fn results(self) -> (Vec<PinnedBytes>, Vec<u64>) {
        let pieces = self.copies.finished();
        let mut sums = vec![0; if self.sums.is_empty() { 0 } else { self.halves }];
        for Summed { piece, of } in &self.sums {
            let words = pieces[*piece].chunks_exact(8).map(|b| u64::from_le_bytes(b.try_into().unwrap_or_default()));
            for (half, sum) in of.iter().flatten().zip(words) {
                if let Some(half) = *half {
                    sums[half] = sum;
                }
            }
        }
        (pieces, sums)
    }
}

impl Transfers for CudaTransfers {
    fn copy_out(&mut self, ticket: u64, pages: &[(usize, u32)], packing: Packings) -> Result<Admission> {
        KvHalf::BOTH.into_iter().try_for_each(|half| packing.of(half).check_opened(false))?;
        let both = |&(group, page): &(usize, u32)| KvHalf::BOTH.map(|half| HalfPage { group, page, half });
        let halves: Vec<HalfPage> = pages.iter().flat_map(both).collect();
        let mut to = Vec::with_capacity(halves.len());
        for &half in &halves {
            let (.., bytes) = self.place(half)?;
            let Some(piece) = self.pinned.take(bytes) else { return Ok(Admission::Busy) };
            to.push(piece);
        }
        let Some(sums) = self.plan_sums(&halves) else { return Ok(Admission::Busy) };
        let mut job = Job::new(ticket, &self.out, halves.len());
        let queued = self.queue_out(&halves, to, sums, &mut job);
        self.out.jobs.push_back(job.close(queued));
        Ok(Admission::Queued)
    }

    fn copy_in(&mut self, ticket: u64, halves: &[(HalfPage, Packing, &[u8])], sums: bool) -> Result<Admission> {
        halves.iter().try_for_each(|(_, packing, _)| packing.check_opened(false))?;
        let mut from = Vec::with_capacity(halves.len());
        for &(half, _, bytes) in halves {
            let (.., expected) = self.place(half)?;
            if bytes.len() != expected {
                let message = format!("{} bytes for a half page of {expected}", bytes.len());
                return Err(Error::Shape { op: "transfer", message });
            }
            let Some(mut piece) = self.pinned.take(expected) else { return Ok(Admission::Busy) };
            piece.copy_from_slice(bytes);
            from.push(piece);
        }
        let halves: Vec<HalfPage> = halves.iter().map(|&(half, ..)| half).collect();
        let plans = if sums { self.plan_sums(&halves) } else { Some(Vec::new()) };
        let Some(plans) = plans else { return Ok(Admission::Busy) };
        let mut job = Job::new(ticket, &self.into, halves.len());
        let queued = self.queue_in(&halves, from, plans, &mut job);
        self.into.jobs.push_back(job.close(queued));
        Ok(Admission::Queued)
    }

    fn poll(&mut self, done: &mut Vec<Transferred>) {
        for out in [true, false] {
            while let Some((job, over)) = self.next(out) {
                let ticket = job.ticket;
                done.push(match over {
                    Err(error) => Transferred::Failed { ticket, error },
                    Ok(()) if out => Transferred::Out { ticket, pages: pages(job) },
                    Ok(()) => Transferred::In { ticket, sums: job.results().1 },
                });
            }
        }
    }
}

/// What a copy out brought: the first pieces are the halves.
fn pages(job: Job) -> Vec<[CopiedHalf; 2]> {
    let (pieces, sums) = job.results();
    let copied = |(bytes, sum)| CopiedHalf { bytes: HostBytes::new(bytes), sum, loss: Loss::default() };
    let mut halves = pieces.into_iter().zip(sums).map(copied);
    std::iter::from_fn(|| Some([halves.next()?, halves.next()?])).collect()
}
