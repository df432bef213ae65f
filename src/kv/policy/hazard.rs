//! When will a run of pages be asked for again? Chances learnt online, and what they make a page worth.
//!
//! Age is cut into bins that grow geometrically. In each bin a run is asked for again with some chance; the chances are a
//! logistic function of what is known of the run ([`Traits`]), learnt from every bin that a run lives through (no) or in which
//! it is asked for (yes), whether its pages are still cached or not. Nothing about workloads is built in but the start: equal
//! chances in all bins, which makes the order LRU's.
//!
//! A run is worth its Gittins index: over the best stretch of time ahead, the expected hits per expected time that its pages
//! occupy room. A young run that is never asked for within a minute is thus worth less than one that is due.

/// Bins of age. The last one is open.
pub(super) const BINS: usize = 48;
const PER_OCTAVE: f64 = 3.0;
const FIRST_MS: f64 = 500.0;
const CLASSES: usize = 3;
const TOUCHES: usize = 10;
const GAPS: usize = 26;
const SIZES: usize = 10;
const COARSE: usize = BINS / 4;
const RATIO: usize = 13;
const START: f32 = -3.0;
const RATE: f32 = 0.15;

/// What is known of a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    /// 0 the end of what was asked for, 1 with different continuations, 2 a partly filled page.
    pub class: u8,
    /// How often it was asked for.
    pub touches: u16,
    /// Bin of the time between the last two times; `None` if there was one only.
    pub gap: Option<u8>,
    /// Pages of the request.
    pub pages: u32,
}

/// The first ms of age of each bin.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    edges: [u64; BINS],
}

impl Bins {
    pub(super) fn new() -> Self {
        let mut edges = [0; BINS];
        for (bin, edge) in edges.iter_mut().enumerate().skip(1) {
            *edge = (FIRST_MS * ((bin - 1) as f64 / PER_OCTAVE).exp2()) as u64;
        }
        Bins { edges }
    }

    /// The bin of an age.
    pub(super) fn of(&self, age: u64) -> u8 {
        (self.edges.partition_point(|&edge| edge <= age) - 1) as u8
    }

    /// The age at which a bin ends; `None` for the last.
    pub(super) fn end(&self, bin: u8) -> Option<u64> {
        self.edges.get(bin as usize + 1).copied()
    }

    fn seconds(&self, bin: usize) -> f32 {
        match self.edges.get(bin + 1) {
            Some(&end) => (end - self.edges[bin]) as f32 / 1000.0,
            None => self.edges[bin] as f32 / 1000.0,
        }
    }
}

/// A weight with the sum of its squared gradients (Adagrad).
#[derive(Clone, Copy, Debug)]
struct Weight {
    value: f32,
    squares: f32,
}

/// The chances.
#[derive(Clone, Debug)]
pub(super) struct Hazards {
    pub(super) bins: Bins,
    weights: Vec<Weight>,
}

const BIN_AT: usize = 0;
const TOUCH_AT: usize = BIN_AT + BINS;
const GAP_AT: usize = TOUCH_AT + TOUCHES * COARSE;
const RATIO_AT: usize = GAP_AT + GAPS;
const SIZE_AT: usize = RATIO_AT + RATIO;
const CLASS: usize = SIZE_AT + SIZES;

impl Hazards {
    pub(super) fn new() -> Self {
        let mut weights = vec![Weight { value: 0.0, squares: 1.0 }; CLASSES * CLASS];
        for class in 0..CLASSES {
            weights[class * CLASS..][..BINS].iter_mut().for_each(|weight| weight.value = START);
        }
        Hazards { bins: Bins::new(), weights }
    }

    /// Indices of the weights that speak in a bin.
    fn active(traits: &Traits, bin: usize) -> [usize; 5] {
        let base = traits.class as usize * CLASS;
        let touches = match traits.touches {
            n @ 0..=6 => n as usize,
            7..=9 => 7,
            10..=19 => 8,
            _ => 9,
        };
        let gap = traits.gap.map_or(0, |gap| 1 + gap as usize / 2);
        let ratio = traits.gap.map_or(0, |gap| (bin as i32 - gap as i32).clamp(-6, 5) as i32 + 7) as usize;
        let size = (u32::BITS - traits.pages.leading_zeros()).min(SIZES as u32 - 1) as usize;
        [
            base + BIN_AT + bin,
            base + TOUCH_AT + touches * COARSE + bin / 4,
            base + GAP_AT + gap,
            base + RATIO_AT + ratio,
            base + SIZE_AT + size,
        ]
    }

    fn chance(&self, traits: &Traits, bin: usize) -> f32 {
        let logit: f32 = Hazards::active(traits, bin).iter().map(|&at| self.weights[at].value).sum();
        1.0 / (1.0 + (-logit).exp())
    }

    /// A run of these traits was asked for in this bin, or lived through it.
    pub(super) fn learn(&mut self, traits: &Traits, bin: u8, asked: bool) {
        let error = f32::from(u8::from(asked)) - self.chance(traits, bin as usize);
        for at in Hazards::active(traits, bin as usize) {
            let weight = &mut self.weights[at];
            weight.squares += error * error;
            weight.value += RATE * error / weight.squares.sqrt();
        }
    }

    /// Expected hits per second of occupied room over the best stretch ahead of a run that enters this bin.
    pub(super) fn worth(&self, traits: &Traits, bin: u8) -> f32 {
        let (mut alive, mut hits, mut seconds, mut best) = (1.0f32, 0.0f32, 0.0f32, 0.0f32);
        for bin in bin as usize..BINS {
            let chance = self.chance(traits, bin);
            hits += alive * chance;
            seconds += alive * (1.0 - chance / 2.0) * self.bins.seconds(bin);
            alive *= 1.0 - chance;
            best = best.max(hits / seconds);
        }
        best
    }
}
