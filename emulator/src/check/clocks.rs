//! What has happened before what among the warps of a block: vector clocks.
//!
//! Each warp counts its own releases. A warp that waits at a barrier learns the counts of all that arrived, so an access
//! of another warp is ordered before it exactly if its count is not above what the warp knows.

/// What a warp knows of all warps, by index.
type Clock = Vec<u32>;

fn join(into: &mut Clock, from: &Clock) {
    into.iter_mut().zip(from).for_each(|(a, b)| *a = (*a).max(*b));
}

/// The clocks of a block.
pub struct Clocks {
    warps: Vec<Clock>,
    /// What those who arrived at each barrier knew.
    barriers: Vec<Clock>,
    /// What those knew that have ended: they count as arrived at every barrier.
    ended: Clock,
    /// What atomics at an address have passed on.
    words: std::collections::HashMap<u32, Clock>,
    /// Warp barriers that each warp has passed: they order its own lanes.
    syncs: Vec<u32>,
}

impl Clocks {
    /// Of a block that begins.
    pub fn new(warps: usize, barriers: usize) -> Clocks {
        let own = |w: usize| (0..warps).map(|i| u32::from(i == w)).collect();
        Clocks {
            warps: (0..warps).map(own).collect(),
            barriers: vec![vec![0; warps]; barriers],
            ended: vec![0; warps],
            words: std::collections::HashMap::new(),
            syncs: vec![0; warps],
        }
    }

    /// The warp's own count.
    pub fn now(&self, warp: usize) -> u32 {
        self.warps[warp][warp]
    }

    /// Warp barriers that the warp has passed.
    pub fn syncs(&self, warp: usize) -> u32 {
        self.syncs[warp]
    }

    /// Does `warp` know what `other` did at its count `then`?
    pub fn knows(&self, warp: usize, other: usize, then: u32) -> bool {
        self.warps[warp][other] >= then
    }

    /// The lanes of a warp have met.
    pub fn meet(&mut self, warp: usize) {
        self.syncs[warp] += 1;
    }

    /// The warp has arrived at a barrier.
    pub fn arrive(&mut self, warp: usize, barrier: usize) {
        join(&mut self.barriers[barrier], &self.warps[warp]);
        self.released(warp);
    }

    /// The warp goes on after a barrier for which enough have arrived.
    pub fn pass(&mut self, warp: usize, barrier: usize) {
        join(&mut self.warps[warp], &self.barriers[barrier]);
        join(&mut self.warps[warp], &self.ended);
        self.syncs[warp] += 1;
    }

    /// The barrier is complete: the next round begins.
    pub fn complete(&mut self, barrier: usize) {
        self.barriers[barrier].fill(0);
    }

    /// The warp has ended.
    pub fn end(&mut self, warp: usize) {
        join(&mut self.ended, &self.warps[warp]);
    }

    /// An atomic or another strong access of the warp to a word: it learns what earlier ones passed on, and passes on what it knows.
    pub fn exchange(&mut self, warp: usize, word: u32) {
        let known = self.words.entry(word).or_insert_with(|| vec![0; self.warps[warp].len()]);
        join(known, &self.warps[warp]);
        join(&mut self.warps[warp], known);
        self.released(warp);
    }

    fn released(&mut self, warp: usize) {
        self.warps[warp][warp] += 1;
        self.syncs[warp] += 1;
    }
}
