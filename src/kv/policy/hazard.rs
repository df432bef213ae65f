//! When will a run of pages be asked for again? Chances learnt online, and what they make a page worth.
//!
//! Age is cut into bins that grow geometrically. In each bin a run is asked for again with some chance; the chances are a
//! logistic function of what is known of the run ([`Traits`]), learnt from every bin that a run lives through (no) or in which
//! it is asked for (yes), whether its pages are still cached or not. Each weight takes a Newton step on its own: the error over
//! the evidence it has seen, which is bounded so that it follows a load that changes.
//!
//! Before there is evidence, all bins have the same chance, which is the order of LRU, and what was asked for more often has a
//! better one.
//!
//! A run is worth its Gittins index: over the best stretch of time ahead, the expected hits per expected time that its pages
//! occupy room. What is hardly ever asked for within its first minute is worth less than what is due.

/// Bins of age. The last one is open.
pub(super) const BINS: usize = 48;
const PER_OCTAVE: f64 = 3.0;
const FIRST_MS: f64 = 500.0;
/// Values of [`Traits::class`].
const CLASSES: usize = 3;
/// Groups of [`Traits::touches`].
const TOUCHES: usize = 10;
/// Groups of [`Traits::gap`].
const GAPS: usize = 1 + BINS.div_ceil(2);
/// Touches over which the mean gap looks back.
const GAP_MEMORY: f32 = 4.0;
/// Bins of age over which the number of touches speaks alike.
const COARSE: usize = 4;
/// Groups of the age compared with the gap before.
const RATIOS: usize = 25;
/// Groups of [`Traits::pages`]: by powers of two.
const SIZES: usize = 10;
/// The chance before there is evidence, as a logit, and what each touch adds to it.
const START: f32 = -3.0;
const START_PER_TOUCH: f32 = 0.3;
/// Evidence that the start is worth, and the most that is counted.
const START_EVIDENCE: f32 = 2.0;
const MOST_EVIDENCE: f32 = 1000.0;

/// What is known of a run of pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Traits {
    /// 0 the end of what was asked for, 1 with different continuations, 2 a partly filled page.
    pub class: u8,
    /// How often it was asked for.
    pub touches: u16,
    /// Mean bin of the times between them, the last few counting most; `None` if it was asked for once.
    pub gap: Option<f32>,
    /// Pages that are known of it.
    pub pages: u32,
}

impl Traits {
    /// One more touch, in this bin after the last one.
    pub(super) fn touch(&mut self, bin: u8) {
        let gap = f32::from(bin);
        self.gap = Some(self.gap.map_or(gap, |mean| mean + (gap - mean) / f32::from(self.touches).min(GAP_MEMORY)));
        self.touches = self.touches.saturating_add(1);
    }

    fn touches_group(&self) -> usize {
        match self.touches {
            n @ 0..=6 => n as usize,
            7..=9 => 7,
            10..=19 => 8,
            _ => 9,
        }
    }

    fn size_group(&self) -> usize {
        ((u32::BITS - self.pages.leading_zeros()) as usize).min(SIZES - 1)
    }

    /// A number that is the same for all that have the same chances.
    fn alike(&self) -> u32 {
        let gap = self.gap.map_or(0, |gap| 1 + gap as usize);
        (((gap * SIZES + self.size_group()) * TOUCHES + self.touches_group()) * CLASSES + self.class as usize) as u32
    }
}

/// The first ms of age of each bin.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    edges: [u64; BINS],
    /// Lengths; of the last, what has passed before it.
    seconds: [f32; BINS],
}

impl Bins {
    pub(super) fn new() -> Self {
        let mut edges = [0; BINS];
        for (bin, edge) in edges.iter_mut().enumerate().skip(1) {
            *edge = (FIRST_MS * ((bin - 1) as f64 / PER_OCTAVE).exp2()) as u64;
        }
        let mut seconds = [edges[BINS - 1] as f32 / 1000.0; BINS];
        for (seconds, edges) in seconds.iter_mut().zip(edges.windows(2)) {
            *seconds = (edges[1] - edges[0]) as f32 / 1000.0;
        }
        Bins { edges, seconds }
    }

    /// The bin of an age.
    pub(super) fn of(&self, age: u64) -> u8 {
        (self.edges.partition_point(|&edge| edge <= age) - 1) as u8
    }

    /// The age at which a bin ends; `None` for the last.
    pub(super) fn end(&self, bin: u8) -> Option<u64> {
        self.edges.get(bin as usize + 1).copied()
    }
}

/// A summand of a logit.
#[derive(Clone, Copy, Debug)]
struct Weight {
    value: f32,
    /// Sum of the variances of the answers it has seen.
    evidence: f32,
}

// Where the weights of a class are.
const BIN_AT: usize = 0;
const TOUCH_AT: usize = BIN_AT + BINS;
const GAP_AT: usize = TOUCH_AT + TOUCHES * BINS / COARSE;
const RATIO_AT: usize = GAP_AT + GAPS;
const SIZE_AT: usize = RATIO_AT + RATIOS;
const PER_CLASS: usize = SIZE_AT + SIZES;

/// A worth worked out before, which is most of the time of pricing.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Which traits and bin.
    of: u32,
    /// After how many lessons.
    lessons: u64,
    worth: f32,
}

/// Worths remembered, and lessons after which one is worked out again: chances move slowly, after a while.
const KNOWN: usize = 1 << 12;
const KNOWN_LESSONS: u64 = 2048;

/// The chances.
#[derive(Clone, Debug)]
pub(super) struct Hazards {
    pub(super) bins: Bins,
    weights: Vec<Weight>,
    lessons: u64,
    known: Vec<Known>,
}

impl Hazards {
    pub(super) fn new() -> Self {
        let mut weights = vec![Weight { value: 0.0, evidence: START_EVIDENCE }; CLASSES * PER_CLASS];
        for class in weights.chunks_mut(PER_CLASS) {
            class[BIN_AT..TOUCH_AT].iter_mut().for_each(|weight| weight.value = START);
            for (at, weight) in class[TOUCH_AT..GAP_AT].iter_mut().enumerate() {
                let touches = at / (BINS / COARSE);
                weight.value = START_PER_TOUCH * touches.saturating_sub(1) as f32;
            }
        }
        let known = vec![Known { of: u32::MAX, lessons: 0, worth: 0.0 }; KNOWN];
        Hazards { bins: Bins::new(), weights, lessons: 0, known }
    }

    /// Indices of the weights that speak in a bin.
    fn active(traits: &Traits, bin: usize) -> [usize; 5] {
        let (touches, size) = (traits.touches_group(), traits.size_group());
        let (gap, ratio) = match traits.gap {
            None => (0, 0),
            Some(gap) => (1 + gap as usize / 2, ratio_of(bin, gap)),
        };
        let class = traits.class as usize * PER_CLASS;
        [
            class + BIN_AT + bin,
            class + TOUCH_AT + touches * (BINS / COARSE) + bin / COARSE,
            class + GAP_AT + gap,
            class + RATIO_AT + ratio,
            class + SIZE_AT + size,
        ]
    }

    fn chance(&self, traits: &Traits, bin: usize) -> f32 {
        let logit: f32 = Hazards::active(traits, bin).iter().map(|&at| self.weights[at].value).sum();
        sigmoid(logit)
    }

    /// The chances in all bins, worked out side by side.
    fn chances(&self, traits: &Traits) -> [f32; BINS] {
        let [bin, touches, gap, ratio, size] = Hazards::active(traits, 0);
        let same = self.weights[gap].value + self.weights[size].value;
        let mut chances = [same; BINS];
        let touches = &self.weights[touches..][..BINS / COARSE];
        for (chances, touches) in chances.chunks_exact_mut(COARSE).zip(touches) {
            chances.iter_mut().for_each(|chance| *chance += touches.value);
        }
        let ratios = &self.weights[ratio - traits.gap.map_or(0, |gap| ratio_of(0, gap))..][..RATIOS];
        for (at, (chance, bin)) in chances.iter_mut().zip(&self.weights[bin..][..BINS]).enumerate() {
            let ratio = traits.gap.map_or(0, |gap| ratio_of(at, gap));
            *chance += bin.value + ratios[ratio].value;
        }
        chances.iter_mut().for_each(|chance| *chance = sigmoid(*chance));
        chances
    }

    /// A run of these traits was asked for in this bin, or lived through it.
    pub(super) fn learn(&mut self, traits: &Traits, bin: u8, asked: bool) {
        let chance = self.chance(traits, bin as usize);
        let error = f32::from(u8::from(asked)) - chance;
        self.lessons += 1;
        for at in Hazards::active(traits, bin as usize) {
            let weight = &mut self.weights[at];
            weight.evidence = (weight.evidence + chance * (1.0 - chance)).min(MOST_EVIDENCE);
            weight.value += error / weight.evidence;
        }
    }

    /// Expected hits per second of occupied room over the best stretch ahead of a run that enters this bin, as of at most
    /// [`KNOWN_LESSONS`] lessons ago, or a sixteenth of all.
    pub(super) fn worth(&mut self, traits: &Traits, bin: u8) -> f32 {
        let of = traits.alike() * BINS as u32 + u32::from(bin);
        let at = (of.wrapping_mul(0x9e37_79b1) >> 16) as usize % KNOWN;
        let known = self.known[at];
        if known.of == of && self.lessons - known.lessons <= (self.lessons / 16).min(KNOWN_LESSONS) {
            return known.worth;
        }
        let worth = self.work_out(traits, bin);
        self.known[at] = Known { of, lessons: self.lessons, worth };
        worth
    }

    /// [`Hazards::worth`] by what is learnt now.
    fn work_out(&self, traits: &Traits, bin: u8) -> f32 {
        let chances = self.chances(traits);
        let (mut alive, mut hits, mut seconds) = (1.0f32, 0.0f32, 0.0f32);
        // Hits and seconds of the best stretch.
        let mut best = (0.0f32, 1.0f32);
        for (chance, length) in chances.into_iter().zip(self.bins.seconds).skip(bin as usize) {
            hits += alive * chance;
            seconds += alive * (1.0 - chance / 2.0) * length;
            alive *= 1.0 - chance;
            if hits * best.1 > best.0 * seconds {
                best = (hits, seconds);
            }
            // Even if all that are left were asked for at once.
            if (hits + alive) * best.1 <= best.0 * seconds {
                break;
            }
        }
        best.0 / best.1
    }
}

/// The group of an age compared with a gap, both as bins. The first is for runs without a gap.
fn ratio_of(bin: usize, gap: f32) -> usize {
    (bin as i32 - gap as i32 + 13).clamp(1, 24) as usize
}

const ROUND: f32 = 1.5 * (1u32 << 23) as f32;

/// The logistic function within 1e-6, without branches or calls, so that the compiler takes several at once.
fn sigmoid(logit: f32) -> f32 {
    let octaves = (-logit * std::f32::consts::LOG2_E).clamp(-126.0, 126.0);
    // Rounds: f32 has no bits below 1 there.
    let whole = (octaves + ROUND) - ROUND;
    let part = (octaves - whole) * std::f32::consts::LN_2;
    let exp = 1.0 + part * (1.0 + part * (0.5 + part * (1.0 / 6.0 + part * (1.0 / 24.0 + part * (1.0 / 120.0)))));
    1.0 / (1.0 + exp * f32::from_bits(((whole as i32 + 127) as u32) << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Traits = Traits { class: 0, touches: 1, gap: None, pages: 1 };

    #[test]
    fn bins_cover_all_ages() {
        let bins = Bins::new();
        assert_eq!((bins.of(0), bins.of(499), bins.of(500), bins.of(u64::MAX)), (0, 0, 1, BINS as u8 - 1));
        for bin in 0..BINS as u8 - 1 {
            let end = bins.end(bin).unwrap();
            assert_eq!((bins.of(end - 1), bins.of(end)), (bin, bin + 1));
        }
        assert_eq!(bins.end(BINS as u8 - 1), None);
    }

    #[test]
    fn chances_side_by_side_are_those_one_by_one() {
        let mut hazards = Hazards::new();
        for lesson in 0..2000u32 {
            let gap = (lesson % 3 > 0).then_some((lesson % 47) as f32 + 0.5);
            let traits = Traits { class: (lesson % 3) as u8, touches: (lesson % 21) as u16, gap, pages: lesson % 700 };
            hazards.learn(&traits, (lesson % 48) as u8, lesson % 7 == 0);
            let chances = hazards.chances(&traits);
            (0..BINS).for_each(|bin| assert!((chances[bin] - hazards.chance(&traits, bin)).abs() < 1e-6, "{lesson}"));
        }
        for logit in [-90.0f32, -20.0, -3.0, -0.1, 0.0, 0.7, 5.0, 90.0] {
            let exact = (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32;
            assert!((sigmoid(logit) - exact).abs() < 1e-6, "{logit}: {} {exact}", sigmoid(logit));
        }
    }

    #[test]
    fn starts_as_lru_with_a_bonus_for_frequency() {
        let hazards = Hazards::new();
        for bin in 2..BINS as u8 {
            let worth = |traits: &Traits, bin| hazards.work_out(traits, bin);
            assert!(worth(&NEW, bin) < worth(&NEW, bin - 1), "bin {bin}");
            assert!(worth(&Traits { touches: 3, ..NEW }, bin) > worth(&NEW, bin), "bin {bin}");
        }
    }

    /// Runs that come back after 60 s or never: worth most just before, little when young, least when overdue.
    #[test]
    fn learns_what_is_due() {
        let mut hazards = Hazards::new();
        let due = hazards.bins.of(60_000);
        for round in 0..400 {
            for bin in 0..BINS as u8 - 1 {
                let asked = bin == due && round % 2 == 0;
                hazards.learn(&NEW, bin, asked);
                if asked {
                    break;
                }
            }
        }
        let chance = hazards.chance(&NEW, due as usize);
        assert!((0.4..0.6).contains(&chance), "{chance}");
        let worth = |bin| hazards.work_out(&NEW, bin);
        assert!(worth(due) > 4.0 * worth(due - 6), "{} {}", worth(due), worth(due - 6));
        assert!(worth(due - 6) > 1.1 * worth(0), "{} {}", worth(due - 6), worth(0));
        assert!(worth(due) > 20.0 * worth(due + 1), "{} {}", worth(due), worth(due + 1));
    }
}
