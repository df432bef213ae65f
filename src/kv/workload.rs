//! Seeded traces that look like real ones, for tests and benchmarks.
//!
//! [`chat`] has the statistics of a published trace of conversations: a system prompt shared by all, prompts of a few thousand
//! tokens with a long tail, a chance of another turn that rises from a third after the first to 0.78 from the seventh on, and
//! pauses of 45, 129 and 537 s (10th percentile, median, 90th). [`documents`] asks questions about texts whose popularity
//! follows a power law and drifts. [`surges`] asks for texts whose popularity stays, at times a hundred times as often as at
//! others. [`scans`] is chat with one prompt in three that nobody ever comes back to.
use super::trace::{BLOCK_TOKENS, Trace};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers depend on the seed only.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Uniform in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform below `n`, which is at least 1.
    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Log-normal with this median; the spreads are those of the logarithm below and above it.
    fn spread(&mut self, median: f64, below: f64, above: f64) -> f64 {
        let normal = self.normal();
        median * (normal * if normal < 0.0 { below } else { above }).exp()
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }
}

/// Chance of another turn after the first, second, ...
const GOES_ON: [f64; 7] = [0.33, 0.42, 0.51, 0.59, 0.65, 0.71, 0.78];
/// Chance that a turn replaces the last answers instead of following them.
const REGENERATES: f64 = 0.06;
const START_EVERY_MS: f64 = 530.0;
const TIME_STEP_MS: u64 = 3000;
const LONGEST_TOKENS: f64 = 120_000.0;

#[derive(Clone, Debug, Default)]
struct Conversation {
    blocks: Vec<u32>,
    tokens: usize,
    turn: usize,
}

/// Conversations in order of their next turn, ties in order of their start.
#[derive(Default)]
struct Writer {
    trace: Trace,
    next_block: u32,
    queue: BinaryHeap<Reverse<(u64, usize)>>,
    conversations: Vec<Conversation>,
}

impl Writer {
    /// A conversation or prompt of this many tokens; the first block is that of the system prompt.
    fn cover(&mut self, conversation: &mut Conversation, tokens: usize) {
        // A block that was partly filled is another block now.
        conversation.blocks.truncate(conversation.tokens.min(tokens) / BLOCK_TOKENS);
        if conversation.blocks.is_empty() {
            conversation.blocks.push(0);
        }
        conversation.tokens = tokens.max(BLOCK_TOKENS + 1);
        while conversation.blocks.len() < conversation.tokens.div_ceil(BLOCK_TOKENS) {
            self.next_block += 1;
            conversation.blocks.push(self.next_block);
        }
    }

    fn emit(&mut self, time: u64, conversation: &Conversation, output: usize) {
        let time = time / TIME_STEP_MS * TIME_STEP_MS;
        self.trace.push(time, conversation.tokens, output, &conversation.blocks);
    }

    fn start(&mut self, time: u64) {
        self.queue.push(Reverse((time, self.conversations.len())));
        self.conversations.push(Conversation::default());
    }

    fn turn(&mut self, random: &mut Random, time: u64, which: usize) {
        let mut conversation = std::mem::take(&mut self.conversations[which]);
        let tokens = match conversation.turn {
            0 => random.spread(5300.0, 1.3, 1.25),
            _ if random.unit() < REGENERATES => conversation.tokens as f64 * random.unit(),
            _ => conversation.tokens as f64 + random.spread(450.0, 1.0, 1.8),
        };
        self.cover(&mut conversation, tokens.min(LONGEST_TOKENS) as usize);
        conversation.turn += 1;
        self.emit(time, &conversation, random.spread(350.0, 1.2, 0.4) as usize);
        if random.unit() < GOES_ON[(conversation.turn - 1).min(GOES_ON.len() - 1)] {
            let pause = random.spread(129_000.0, 0.82, 1.11);
            self.queue.push(Reverse((time + pause as u64, which)));
            self.conversations[which] = conversation;
        }
    }
}

/// A chat service.
pub fn chat(seed: u64, requests: usize) -> Trace {
    conversations(seed, requests, 0.0)
}

/// A chat service that also serves prompts that never come back, a third of all.
pub fn scans(seed: u64, requests: usize) -> Trace {
    conversations(seed, requests, 0.8)
}

fn conversations(seed: u64, requests: usize, scans_per_start: f64) -> Trace {
    let (mut random, mut writer) = (Random::new(seed), Writer::default());
    let mut newest = 0;
    writer.start(0);
    while let Some(Reverse((time, which))) = writer.queue.pop() {
        if writer.trace.len() >= requests {
            break;
        }
        writer.turn(&mut random, time, which);
        if which == newest {
            if random.unit() < scans_per_start {
                let mut scan = Conversation::default();
                writer.cover(&mut scan, random.spread(9000.0, 1.0, 1.0).min(LONGEST_TOKENS) as usize);
                writer.emit(time, &scan, 100);
            }
            newest = writer.conversations.len();
            writer.start(time + random.exponential(START_EVERY_MS) as u64);
        }
    }
    writer.trace
}

/// Questions about `requests / 20` texts of 30 blocks or so. The most popular tenth of the texts is new every tenth of the trace.
pub fn documents(seed: u64, requests: usize) -> Trace {
    let (mut random, mut writer) = (Random::new(seed), Writer::default());
    let texts = (requests / 20).max(10);
    let mut lengths: Vec<Vec<u32>> = vec![Vec::new(); texts];
    let mut time = 0.0;
    for request in 0..requests {
        time += random.exponential(250.0);
        if request % (requests / 10).max(1) == 0 {
            for text in 0..texts / 10 {
                lengths[random.below(texts)] = Vec::new();
                lengths[text] = Vec::new();
            }
        }
        // Popularity falls with the rank to the power 0.9.
        let rank = ((random.unit() * (texts as f64).powf(0.1) * 0.9 + 0.1).powf(10.0) as usize).min(texts - 1);
        if lengths[rank].is_empty() {
            let mut text = Conversation::default();
            writer.cover(&mut text, random.spread(30.0 * BLOCK_TOKENS as f64, 0.8, 0.8).min(LONGEST_TOKENS) as usize);
            lengths[rank] = text.blocks;
        }
        let blocks = lengths[rank].clone();
        let mut question = Conversation { tokens: blocks.len() * BLOCK_TOKENS, blocks, turn: 0 };
        let tokens = question.tokens + random.spread(300.0, 0.7, 0.7) as usize;
        writer.cover(&mut question, tokens);
        writer.emit(time as u64, &question, 100);
    }
    writer.trace
}

/// Requests for texts of four blocks, whose popularity follows a power law. For a thousand requests they come every 50 ms, for
/// the next thousand every 5 s, and so on: the time since a text was asked for says little.
pub fn surges(seed: u64, requests: usize) -> Trace {
    const TEXTS: usize = 5000;
    let mut random = Random::new(seed);
    let mut trace = Trace::default();
    let mut below = vec![0.0];
    for rank in 1..=TEXTS {
        below.push(below[rank - 1] + (rank as f64).powf(-0.9));
    }
    let mut time = 0;
    for request in 0..requests {
        time += if request / 1000 % 2 == 0 { 50 } else { 5000 };
        let at = random.unit() * below[TEXTS];
        let text = (below.partition_point(|&sum| sum <= at) - 1).min(TEXTS - 1) as u32;
        trace.push(time, 4 * BLOCK_TOKENS, 100, &[4 * text, 4 * text + 1, 4 * text + 2, 4 * text + 3]);
    }
    trace
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn depends_on_the_seed_only() {
        for make in [chat, scans, documents, surges] {
            let (a, b, c) = (make(1, 500), make(1, 500), make(2, 500));
            let blocks =
                |trace: &Trace| trace.requests().flat_map(|request| request.blocks.to_vec()).collect::<Vec<_>>();
            assert_eq!((a.len(), blocks(&a)), (500, blocks(&b)));
            assert_ne!(blocks(&a), blocks(&c));
        }
    }

    /// A block has one predecessor, and what can be reused of a chat is what the published trace has: 37 %, give or take.
    #[test]
    fn is_a_tree_with_the_published_reuse() {
        for make in [chat, scans, documents] {
            let trace = make(3, 6000);
            let mut before = HashMap::new();
            for request in trace.requests() {
                for pair in request.blocks.windows(2) {
                    assert_eq!(*before.entry(pair[1]).or_insert(pair[0]), pair[0]);
                }
                assert!(request.blocks.len() == request.input_length.div_ceil(BLOCK_TOKENS));
            }
        }
        let trace = chat(3, 12_000);
        let reuse = 1.0 - trace.distinct() as f64 / trace.references() as f64;
        assert!((0.33..0.43).contains(&reuse), "{reuse}");
        let mean = trace.references() as f64 / trace.len() as f64;
        assert!((20.0..29.0).contains(&mean), "{mean} blocks a request, published 24");
    }
}
