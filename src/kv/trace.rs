//! Request traces in Mooncake's format: one JSON object a line, with the time in ms, the lengths in tokens and the ids of the
//! prompt's blocks. Equal ids are equal blocks after equal prefixes.
use super::error::{Error, Result};
use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

/// Tokens of a block in the published traces.
pub const BLOCK_TOKENS: usize = 512;

/// One request of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Request<'a> {
    /// ms.
    pub timestamp: u64,
    pub input_length: usize,
    pub output_length: usize,
    /// Blocks of the prompt, renumbered from 0 in order of first appearance.
    pub blocks: &'a [u32],
    /// Whether the last block is only partly filled.
    pub partial: bool,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    timestamp: u64,
    input_length: usize,
    output_length: usize,
    end: usize,
}

/// A trace in memory, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Vec<Line>,
    blocks: Vec<u32>,
    distinct: usize,
}

#[derive(serde::Deserialize)]
struct Json {
    timestamp: f64,
    input_length: usize,
    output_length: usize,
    hash_ids: Vec<u64>,
}

impl Trace {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|error| Error::io(path, error))?;
        Trace::read(std::io::BufReader::new(file)).map_err(|error| match error {
            Error::Io { source, .. } => Error::io(path, source),
            other => other,
        })
    }

    /// Reads lines; empty ones are skipped.
    pub fn read(reader: impl BufRead) -> Result<Self> {
        let mut trace = Trace::default();
        let mut numbers = HashMap::new();
        for (index, line) in reader.lines().enumerate() {
            let line = line.map_err(|error| Error::io("", error))?;
            if line.trim().is_empty() {
                continue;
            }
            let bad = |reason: String| Error::Trace { line: index + 1, reason };
            let json: Json = serde_json::from_str(&line).map_err(|error| bad(error.to_string()))?;
            if !(json.timestamp >= 0.0 && json.timestamp < 1e15) {
                return Err(bad(format!("the timestamp {} is not a time in ms", json.timestamp)));
            }
            let blocks: Vec<u32> = json
                .hash_ids
                .iter()
                .map(|&id| {
                    let next = numbers.len() as u32;
                    *numbers.entry(id).or_insert(next)
                })
                .collect();
            trace.push(json.timestamp as u64, json.input_length, json.output_length, &blocks);
        }
        trace.distinct = numbers.len();
        Ok(trace)
    }

    /// Appends a request. Times that go back are raised to the latest one.
    pub(crate) fn push(&mut self, timestamp: u64, input_length: usize, output_length: usize, blocks: &[u32]) {
        let latest = self.lines.last().map_or(0, |line| line.timestamp);
        self.blocks.extend_from_slice(blocks);
        let end = self.blocks.len();
        self.lines.push(Line { timestamp: timestamp.max(latest), input_length, output_length, end });
        self.distinct = self.distinct.max(blocks.iter().max().map_or(0, |&block| block as usize + 1));
    }

    /// Requests.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Block references of all requests.
    pub fn references(&self) -> usize {
        self.blocks.len()
    }

    /// Distinct blocks.
    pub fn distinct(&self) -> usize {
        self.distinct
    }

    /// A request, if there is one of this number.
    pub fn get(&self, index: usize) -> Option<Request<'_>> {
        let line = self.lines.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.lines[before].end);
        let blocks = &self.blocks[start..line.end];
        Some(Request {
            timestamp: line.timestamp,
            input_length: line.input_length,
            output_length: line.output_length,
            blocks,
            partial: line.input_length < blocks.len() * BLOCK_TOKENS,
        })
    }

    /// All requests in order.
    pub fn requests(&self) -> impl Iterator<Item = Request<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// Blocks of the longest request.
    pub fn longest(&self) -> usize {
        self.requests().map(|request| request.blocks.len()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_renumbers() {
        let text = r#"{"timestamp": 5, "input_length": 1000, "output_length": 3, "hash_ids": [7, 900000000000]}

{"timestamp": 3, "input_length": 1024, "output_length": 4, "hash_ids": [7, 8], "extra": 1}"#;
        let trace = Trace::read(text.as_bytes()).unwrap();
        assert_eq!((trace.len(), trace.references(), trace.distinct(), trace.longest()), (2, 4, 3, 2));
        let expected = Request { timestamp: 5, input_length: 1024, output_length: 4, blocks: &[0, 2], partial: false };
        assert_eq!(trace.get(1), Some(expected), "time does not go back");
        assert!(trace.get(0).unwrap().partial);
        assert_eq!(trace.get(2), None);
    }

    #[test]
    fn broken_lines_are_named() {
        let good = r#"{"timestamp": 0, "input_length": 1, "output_length": 1, "hash_ids": []}"#;
        for (bad, reason) in [
            ("{", "EOF"),
            (r#"{"timestamp": 0, "input_length": 1, "output_length": 1}"#, "hash_ids"),
            (r#"{"timestamp": -1, "input_length": 1, "output_length": 1, "hash_ids": []}"#, "timestamp -1"),
            (r#"{"timestamp": 0, "input_length": "x", "output_length": 1, "hash_ids": []}"#, "usize"),
        ] {
            let message = Trace::read(format!("{good}\n{bad}\n").as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with("line 2 of the trace: ") && message.contains(reason), "{message}");
        }
    }
}
