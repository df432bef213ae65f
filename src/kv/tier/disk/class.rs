//! The slots of one size: a file of slots and a table that says what is in them.
//!
//! An entry is 128 bytes: `valid u32, record bytes u32, sequence u64, half u16, group u16, zeros u32, key 32, parent 32, zeros, check u64`
//! (the check is over the bytes before it). A cleared, torn or damaged entry is an empty slot.
use crate::kv::integrity;
use crate::kv::key::Key;
use crate::kv::tier::{Half, RecordKey, record};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a table entry.
pub const ENTRY: usize = 128;
const VALID: u32 = 0x5047_4b56;

#[derive(Clone, Copy)]
struct Entry {
    name: RecordKey,
    parent: Key,
    bytes: u32,
    sequence: u64,
}

/// A pair of files.
pub struct Class {
    slot: usize,
    table: File,
    pages: File,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
}

impl Class {
    /// Opens or creates the pair for slots of `slot` bytes.
    pub fn open(dir: &Path, slot: usize) -> io::Result<Self> {
        let open = |ending: &str| {
            let path = dir.join(format!("{slot}.{ending}"));
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        };
        let (table, pages) = (open("table")?, open("pages")?);
        let bytes = {
            use std::io::Read;
            let mut all = Vec::new();
            (&table).read_to_end(&mut all)?;
            all
        };
        let mut entries: Vec<Option<Entry>> = bytes.chunks_exact(ENTRY).map(parse).collect();
        let whole = pages.metadata()?.len();
        for (i, entry) in entries.iter_mut().enumerate() {
            let end = entry.map_or(0, |e| i as u64 * slot as u64 + u64::from(e.bytes));
            if end > whole {
                *entry = None;
            }
        }
        let free = (0..entries.len() as u32).rev().filter(|&i| entries[i as usize].is_none()).collect();
        Ok(Class { slot, table, pages, entries, free })
    }

    /// Writes a record into a free slot, then its entry. Returns the slot.
    pub fn write(&mut self, name: RecordKey, bytes: &[u8], sequence: u64) -> io::Result<u32> {
        let place = self.free.pop().unwrap_or(self.entries.len() as u32);
        let parent = record::identify(bytes).map_or(Key([0; 32]), |(_, parent)| parent);
        let entry = Entry { name, parent, bytes: bytes.len() as u32, sequence };
        let done = self
            .pages
            .write_all_at(bytes, u64::from(place) * self.slot as u64)
            .and_then(|()| self.table.write_all_at(&render(&entry), u64::from(place) * ENTRY as u64));
        if place as usize == self.entries.len() {
            self.entries.push(None);
        }
        match done {
            Ok(()) => self.entries[place as usize] = Some(entry),
            Err(_) => self.free.push(place),
        }
        done.map(|()| place)
    }

    /// Empties a slot.
    pub fn clear(&mut self, place: u32) -> io::Result<()> {
        if let Some(entry) = self.entries.get_mut(place as usize)
            && entry.take().is_some()
        {
            self.free.push(place);
            self.table.write_all_at(&[0; ENTRY], u64::from(place) * ENTRY as u64)?;
        }
        Ok(())
    }

    /// The record in a slot; empty if there is none.
    pub fn read(&self, place: u32) -> io::Result<Vec<u8>> {
        let mut out = vec![0; self.bytes(place)];
        self.pages.read_exact_at(&mut out, u64::from(place) * self.slot as u64)?;
        Ok(out)
    }

    /// Bytes of the record in a slot.
    pub fn bytes(&self, place: u32) -> usize {
        self.entries.get(place as usize).copied().flatten().map_or(0, |e| e.bytes as usize)
    }

    /// Parent of the page in a slot.
    pub fn parent(&self, place: u32) -> Key {
        self.entries.get(place as usize).copied().flatten().map_or(Key([0; 32]), |e| e.parent)
    }

    /// Slots that hold a record: place, name, sequence.
    pub fn live(&self) -> impl Iterator<Item = (u32, RecordKey, u64)> {
        self.entries.iter().enumerate().filter_map(|(i, e)| e.map(|e| (i as u32, e.name, e.sequence)))
    }
}

fn render(entry: &Entry) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    out[..4].copy_from_slice(&VALID.to_le_bytes());
    out[4..8].copy_from_slice(&entry.bytes.to_le_bytes());
    out[8..16].copy_from_slice(&entry.sequence.to_le_bytes());
    out[16] = entry.name.half.code();
    out[18..20].copy_from_slice(&entry.name.group.to_le_bytes());
    out[24..56].copy_from_slice(&entry.name.key.0);
    out[56..88].copy_from_slice(&entry.parent.0);
    let check = integrity::sum(&out[..120]);
    out[120..].copy_from_slice(&check.to_le_bytes());
    out
}

fn parse(b: &[u8]) -> Option<Entry> {
    let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let key = |at: usize| {
        let mut k = [0; 32];
        k.copy_from_slice(&b[at..at + 32]);
        Key(k)
    };
    if word(0) != VALID || integrity::sum(&b[..120]) != long(120) {
        return None;
    }
    let half = *Half::ALL.get(b[16] as usize)?;
    let group = u16::from_le_bytes([b[18], b[19]]);
    Some(Entry { name: RecordKey { key: key(24), group, half }, parent: key(56), bytes: word(4), sequence: long(8) })
}
