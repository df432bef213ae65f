//! Checksums of half pages.
use super::memory;
use crate::backend::{KvHalf, PageChecksums};
use crate::checksum;
use crate::error::{Error, Result};

pub fn run(op: &PageChecksums<'_>) -> Result<()> {
    let bytes = op.kv.layout.page_bytes();
    let (data, pages) = (memory::read(&op.kv.data)?, memory::read(op.pages)?);
    let mut out = memory::write(op.out)?;
    let sums = out.get::<u64>("page checksums", 2 * op.count)?;
    for (&page, sums) in pages.get::<u32>("page checksums", op.count)?.iter().zip(sums.chunks_exact_mut(2)) {
        let page = data
            .bytes()
            .chunks_exact(bytes)
            .nth(page as usize)
            .ok_or_else(|| Error::Shape { op: "page checksums", message: format!("page {page} of {}", op.kv.pages) })?;
        let (k, v) = page.split_at(op.kv.layout.half_bytes(KvHalf::K));
        sums.copy_from_slice(&[checksum::sum(k), checksum::sum(v)]);
    }
    Ok(())
}
