//! Device memory of one direction of transfers, planned before the load.
use super::super::{Cuda, page_pack};
use super::plan::PackLaunch;
use crate::backend::{Buffer, KvGroup, KvHalf, KvLayout, Packing};
use crate::error::Result;

/// Pages of one launch of the sums.
pub const BATCH: usize = 256;
/// Halves of one launch of packing, at most.
const PACK_BATCH: usize = 64;
/// Packed halves that a launch makes lie in this much memory, or in that of one half.
const PACKED: usize = 4 << 20;

/// Shared by the jobs of a direction, which its stream runs one after another.
pub struct Scratch {
    /// u32 `[BATCH]`.
    pub pages: Buffer,
    /// u64 `[BATCH, 2]`.
    pub sums: Buffer,
    /// Where transfers may be packed.
    pub packed: Option<Packed>,
}

/// What packing needs.
pub struct Packed {
    /// Packed halves, one after another.
    pub halves: Buffer,
    /// f32 `[PACK_BATCH, heads of all layers, 2]`.
    pub losses: Buffer,
    /// u32 `[PACK_BATCH]`: 0, 1, 2 ...; the packed halves as pages.
    pub places: Buffer,
}

/// Bytes of each buffer of [`Packed`].
fn packed_sizes(kv: &[KvLayout]) -> [usize; 3] {
    let halves = |l: &KvLayout| {
        let l = *l;
        KvHalf::BOTH.into_iter().flat_map(move |half| Packing::ALL.map(|packing| l.packed_half_bytes(half, packing)))
    };
    let largest = kv.iter().flat_map(halves).max().unwrap_or(0);
    let losses = kv.iter().map(|l| page_pack::loss_bytes(l.layers, l.kv_heads)).max().unwrap_or(0);
    [largest.max(PACKED.min(PACK_BATCH * largest)), PACK_BATCH * losses, 4 * PACK_BATCH]
}

impl Scratch {
    /// Bytes of one direction.
    pub fn bytes(kv: &[KvLayout], packed: bool) -> usize {
        20 * BATCH + if packed { packed_sizes(kv).iter().sum() } else { 0 }
    }

    pub fn new(cuda: &Cuda, kv: &[KvLayout], packed: bool) -> Result<Self> {
        Ok(Scratch {
            pages: cuda.gpu.alloc("pages of a transfer", 4 * BATCH)?,
            sums: cuda.gpu.alloc("sums of a transfer", 16 * BATCH)?,
            packed: if packed { Some(Packed::new(cuda, kv)?) } else { None },
        })
    }

    /// What a launch packs or unpacks: pages of its group, and this scratch.
    pub fn pack_op<'a>(&'a self, packed: &'a Packed, kv: &'a KvGroup, launch: &PackLaunch) -> page_pack::PagePack<'a> {
        page_pack::PagePack {
            kv,
            half: launch.half,
            packing: launch.packing,
            pages: &self.pages,
            count: launch.of.len(),
            packed: &packed.halves,
            losses: &packed.losses,
        }
    }
}

impl Packed {
    fn new(cuda: &Cuda, kv: &[KvLayout]) -> Result<Self> {
        let [halves, losses, places] = packed_sizes(kv);
        let packed = Packed {
            halves: cuda.gpu.alloc("packed pages of a transfer", halves)?,
            losses: cuda.gpu.alloc("losses of a transfer", losses)?,
            places: cuda.gpu.alloc("places of a transfer", places)?,
        };
        let order: Vec<u32> = (0..PACK_BATCH as u32).collect();
        cuda.gpu.upload(&packed.places, 0, bytemuck::cast_slice(&order))?;
        // Other streams read them, in no order with the compute stream.
        cuda.gpu.synchronize()?;
        Ok(packed)
    }

    /// How many packed halves of this size one launch may make.
    pub fn room(&self, half_bytes: usize) -> usize {
        room(self.halves.bytes(), half_bytes)
    }
}

fn room(bytes: usize, half_bytes: usize) -> usize {
    (bytes / half_bytes.max(1)).clamp(1, PACK_BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Float;

    /// Halves that are small, of which fewer than a launch's most fit, and of which one does; of two groups at once too.
    #[test]
    fn a_launch_makes_no_more_than_the_scratch_holds() {
        let layout =
            |layers, head_dim| KvLayout { layers, kv_heads: 4, head_dim, page_tokens: 32, types: Float::F16.into() };
        let (small, middle, large) = (layout(1, 64), layout(12, 64), layout(160, 256));
        for (kv, least) in [(vec![small], 64), (vec![middle], 21), (vec![large], 1), (vec![small, large], 1)] {
            let [halves, losses, places] = packed_sizes(&kv);
            assert!(places >= 4 * PACK_BATCH);
            let all = kv.iter().flat_map(|l| KvHalf::BOTH.map(|half| (l, half)));
            let rooms = all.flat_map(|(l, half)| Packing::ALL.map(|packing| (l, l.packed_half_bytes(half, packing))));
            let rooms: Vec<_> = rooms.map(|(l, bytes)| (l, bytes, room(halves, bytes))).collect();
            for &(l, bytes, room) in &rooms {
                assert!(room >= 1 && room * bytes <= halves, "{room} halves of {bytes} in {halves}");
                assert!(room * page_pack::loss_bytes(l.layers, l.kv_heads) <= losses, "losses of {l:?}");
            }
            assert_eq!(rooms.iter().map(|(.., room)| *room).min(), Some(least), "{kv:?}");
        }
    }
}
