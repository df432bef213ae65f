//! What our policy knows of the pages' past, whatever is cached: runs of pages that are asked for together, and their worth.
//!
//! A *run* is the pages between two forks of the tree (in a chat: what one conversation has added). [`Hazards`] learns when
//! runs come back; a run's worth changes only when it is asked for or grows into the next bin of age, so pricing costs a few
//! operations a run and not one a page.
//!
//! Invariants:
//! * Every node that was visited belongs to one run, a stretch of a path; of two runs on a path the deeper hangs on the end of
//!   the upper one. A visit that forks a run splits it; one that goes on after its end makes it longer.
//! * A run is in one list of `ages`: its bin, oldest first.
//! * Nothing here depends on what is resident, so that one history serves caches of several capacities.
use super::hazard::{BINS, Hazards, Traits};
use super::list::{Links, List};
use crate::kv::tree::{NONE, NodeId, View};

const BODY: u8 = 0;
const FORKED: u8 = 1;
const TAIL: u8 = 2;
/// Steps of worth that are told apart: a tenth of an octave each.
pub(super) const SHELVES: usize = 512;
/// The highest shelf, for nothing but what a waiting request wants.
pub(super) const WANTED: usize = SHELVES - 1;
/// Shelves of an octave of worth.
pub(super) const PER_OCTAVE: f32 = 10.0;
const UNPRICED: u16 = u16::MAX;
/// Nodes wanted at once; more are not heeded.
const MOST_WANTED: usize = 64;
/// Touches of a run that another policy is told of at most.
const MOST_TOUCHES: u16 = 16;

#[derive(Clone, Copy, Debug)]
struct Run {
    traits: Traits,
    touched: u64,
    bin: u8,
    /// Where its worth puts it, or [`UNPRICED`].
    shelf: u16,
    /// Known nodes, resident or not.
    nodes: u32,
    /// The deepest known node.
    end: NodeId,
    /// Runs that hang on the end, partly filled pages left out.
    forks: u16,
}

/// A run, for a policy that has seen nothing of it.
pub(super) struct Remembered {
    /// When it was last asked for.
    pub touched: u64,
    /// How often, up to [`MOST_TOUCHES`].
    pub touches: u16,
    /// Depth of its first page.
    pub depth: u32,
    /// Shallow first.
    pub nodes: Vec<NodeId>,
}

/// What a visit changed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// The worth of a run.
    Priced(u32),
    /// The nodes `from..to` of the path, the beginning of `run`, are run `upper` now.
    Split { run: u32, upper: u32, from: usize, to: usize },
}

/// The runs of all nodes ever visited and not forgotten.
pub(in crate::kv) struct Runs {
    hazards: Hazards,
    owner: Vec<u32>,
    runs: Vec<Run>,
    vacant: Vec<u32>,
    ages: [List; BINS],
    age_links: Links,
    now: u64,
    /// Whether a run may grow through several bins of age in one visit: cheaper, and hardly different.
    hurried: bool,
    changes: Vec<Change>,
    /// The deepest nodes that waiting requests will ask for.
    wanted: Vec<NodeId>,
}

impl Default for Runs {
    fn default() -> Self {
        Runs {
            hazards: Hazards::new(),
            owner: Vec::new(),
            runs: Vec::new(),
            vacant: Vec::new(),
            ages: [List::default(); BINS],
            age_links: Links::default(),
            now: 0,
            hurried: false,
            changes: Vec::new(),
            wanted: Vec::new(),
        }
    }
}

impl Runs {
    /// Runs that are priced less often, for simulations.
    pub(in crate::kv) fn hurried() -> Self {
        Runs { hurried: true, ..Runs::default() }
    }

    /// The run of a node that was visited.
    pub(super) fn owner(&self, node: NodeId) -> u32 {
        self.owner[node as usize]
    }

    /// The shelf of a run: those on the lowest go first. Worked out when a cache asks for the first time since the last change.
    pub(super) fn shelf(&mut self, run: u32) -> usize {
        let record = &mut self.runs[run as usize];
        if record.shelf == UNPRICED && self.wanted.iter().any(|&node| self.owner[node as usize] == run) {
            record.shelf = WANTED as u16;
        }
        if record.shelf == UNPRICED {
            let worth = self.hazards.worth(&record.traits, record.bin);
            record.shelf = ((worth.max(1e-20).log2() + 40.0) * PER_OCTAVE).clamp(0.0, WANTED as f32 - 1.0) as u16;
        }
        record.shelf as usize
    }

    /// Whether a waiting request will ask for the run of a node.
    pub(super) fn is_wanted(&self, node: NodeId) -> bool {
        let run = self.owner(node);
        self.wanted.iter().any(|&wanted| self.owner.get(wanted as usize) == Some(&run))
    }

    /// All runs, what others hang on first.
    pub(super) fn remembered(&self, view: View<'_>) -> Vec<Remembered> {
        let mut found = Vec::new();
        for run in self.ages.iter().flat_map(|age| age.iter(&self.age_links)) {
            let Run { touched, traits, nodes, end, .. } = self.runs[run as usize];
            let upwards = std::iter::successors(Some(end), |&node| view.parent(node)).take(nodes as usize);
            let mut nodes: Vec<NodeId> = upwards.collect();
            nodes.reverse();
            let depth = nodes.first().map_or(0, |&first| view.depth(first));
            found.push(Remembered { touched, touches: traits.touches.clamp(1, MOST_TOUCHES), depth, nodes });
        }
        found.sort_by_key(|run| run.depth);
        found
    }

    /// Ids of runs are below this.
    pub(super) fn ids(&self) -> usize {
        self.runs.len()
    }

    /// What the last visit changed, in order.
    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// See [`super::Policy::visit`].
    pub(in crate::kv) fn visit(&mut self, view: View<'_>, now: u64, path: &[NodeId]) {
        self.now = self.now.max(now);
        self.changes.clear();
        self.advance();
        self.reach(path);
        let known = path.iter().position(|&node| self.owner[node as usize] == NONE).unwrap_or(path.len());
        let mut at = 0;
        let mut last = None;
        while at < known {
            let run = self.owner[path[at] as usize];
            let length = path[at..known].iter().take_while(|&&node| self.owner[node as usize] == run).count();
            let whole = path[at + length - 1] == self.runs[run as usize].end;
            let run = if whole { run } else { self.split(run, path, at, at + length) };
            self.touch(run);
            at += length;
            last = Some(run);
        }
        self.extend(view, last, &path[known..]);
    }

    /// See [`super::Policy::grow`].
    pub(in crate::kv) fn grow(&mut self, view: View<'_>, now: u64, nodes: &[NodeId]) {
        self.changes.clear();
        let Some(&first) = nodes.first() else { return };
        self.now = self.now.max(now);
        self.reach(nodes);
        let above = view.parent(first).map(|parent| self.owner[parent as usize]).filter(|&run| run != NONE);
        let above = above.filter(|&run| Some(self.runs[run as usize].end) == view.parent(first));
        self.extend(view, above, nodes);
    }

    /// See [`super::Policy::want`].
    pub(super) fn want(&mut self, node: NodeId, wanted: bool) {
        self.changes.clear();
        match self.wanted.iter().position(|&other| other == node) {
            Some(at) if !wanted => {
                self.wanted.swap_remove(at);
            }
            _ if wanted && self.wanted.len() < MOST_WANTED => self.wanted.push(node),
            _ => return,
        }
        if let Some(&run) = self.owner.get(node as usize).filter(|&&run| run != NONE) {
            self.price(run);
        }
    }

    /// See [`super::Policy::forget`].
    pub(in crate::kv) fn forget(&mut self, view: View<'_>, node: NodeId) {
        let Some(owner) = self.owner.get_mut(node as usize) else { return };
        let run = std::mem::replace(owner, NONE);
        self.wanted.retain(|&wanted| wanted != node);
        if run == NONE {
            return;
        }
        let record = &mut self.runs[run as usize];
        record.nodes -= 1;
        match view.parent(node) {
            Some(parent) if record.nodes > 0 => record.end = parent,
            parent => self.end_run(run, parent),
        }
    }

    fn reach(&mut self, nodes: &[NodeId]) {
        let top = nodes.iter().max().map_or(0, |&top| top as usize + 1);
        if self.owner.len() < top {
            self.owner.resize(top, NONE);
        }
    }

    /// Runs that have grown into the next bin of age were not asked for in the last one.
    fn advance(&mut self) {
        for bin in (0..BINS as u8 - 1).rev() {
            let Some(end) = self.hazards.bins.end(bin) else { continue };
            while let Some(run) = self.ages[bin as usize].front() {
                let record = self.runs[run as usize];
                if self.now - record.touched < end {
                    break;
                }
                let next = if self.hurried { self.hazards.bins.of(self.now - record.touched) } else { bin + 1 };
                (bin..next).for_each(|bin| self.hazards.learn(&record.traits, bin, false));
                self.set_bin(run, next);
                self.price(run);
            }
        }
    }

    /// The run was asked for, all of it.
    fn touch(&mut self, run: u32) {
        let record = self.runs[run as usize];
        self.hazards.learn(&record.traits, record.bin, true);
        let gap = self.hazards.bins.of(self.now - record.touched);
        self.runs[run as usize].traits.touch(gap);
        self.runs[run as usize].touched = self.now;
        self.set_bin(run, 0);
        self.price(run);
    }

    fn price(&mut self, run: u32) {
        self.runs[run as usize].shelf = UNPRICED;
        self.changes.push(Change::Priced(run));
    }

    /// Cuts the nodes `from..to` of the path off a run that goes on below them; returns their new run.
    fn split(&mut self, run: u32, path: &[NodeId], from: usize, to: usize) -> u32 {
        let (nodes, end) = ((to - from) as u32, path[to - 1]);
        let record = &mut self.runs[run as usize];
        record.nodes -= nodes;
        let mut upper = Run { nodes, end, forks: 1, ..*record };
        upper.traits.class = FORKED;
        upper.traits.pages = nodes;
        let upper = self.add(upper);
        path[from..to].iter().for_each(|&node| self.owner[node as usize] = upper);
        self.changes.push(Change::Split { run, upper, from, to });
        upper
    }

    /// New nodes at the end of a path, below the end of run `above`.
    fn extend(&mut self, view: View<'_>, above: Option<u32>, new: &[NodeId]) {
        let full = new.len() - usize::from(new.last().is_some_and(|&node| view.partial(node)));
        if full > 0 {
            let end = new[full - 1];
            let run = match above {
                Some(run) if self.runs[run as usize].forks == 0 && self.runs[run as usize].traits.class == BODY => {
                    let record = &mut self.runs[run as usize];
                    record.nodes += full as u32;
                    record.traits.pages += full as u32;
                    record.end = end;
                    self.price(run);
                    run
                }
                _ => {
                    if let Some(run) = above {
                        let record = &mut self.runs[run as usize];
                        record.forks = record.forks.saturating_add(1);
                        record.traits.class = FORKED;
                    }
                    self.add_new(BODY, full as u32, end)
                }
            };
            new[..full].iter().for_each(|&node| self.owner[node as usize] = run);
        }
        if full < new.len() {
            self.owner[new[full] as usize] = self.add_new(TAIL, 1, new[full]);
        }
    }

    fn add_new(&mut self, class: u8, nodes: u32, end: NodeId) -> u32 {
        let traits = Traits { class, touches: 1, gap: None, pages: nodes };
        let run = self.add(Run { traits, touched: self.now, bin: 0, shelf: UNPRICED, nodes, end, forks: 0 });
        self.price(run);
        run
    }

    fn add(&mut self, run: Run) -> u32 {
        let id = match self.vacant.pop() {
            Some(id) => {
                self.runs[id as usize] = run;
                id
            }
            None => {
                self.runs.push(run);
                self.runs.len() as u32 - 1
            }
        };
        self.ages[run.bin as usize].push_back(&mut self.age_links, id);
        id
    }

    /// Nothing is known of the run's nodes any more.
    fn end_run(&mut self, run: u32, parent: Option<NodeId>) {
        let record = self.runs[run as usize];
        self.ages[record.bin as usize].remove(&mut self.age_links, run);
        self.vacant.push(run);
        let above = parent.map(|parent| self.owner[parent as usize]).filter(|&run| run != NONE);
        if let (Some(above), true) = (above, record.traits.class != TAIL) {
            let record = &mut self.runs[above as usize];
            record.forks = record.forks.saturating_sub(1);
        }
    }

    fn set_bin(&mut self, run: u32, bin: u8) {
        let record = &mut self.runs[run as usize];
        self.ages[record.bin as usize].remove(&mut self.age_links, run);
        record.bin = bin;
        self.ages[bin as usize].push_back(&mut self.age_links, run);
    }
}
