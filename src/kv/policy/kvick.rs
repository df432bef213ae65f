//! Ours: the page that is expected to bring the fewest hits for the room and time it takes goes first.
//!
//! The unit that is priced is a *run*: the pages between two forks of the tree, which are asked for together (in a chat: what
//! one conversation has added). [`Hazards`] learns when runs come back; a run's worth changes only when it is asked for or
//! grows into the next bin of age, so pricing costs a few operations a run and not one a page.
//!
//! Invariants:
//! * Every node that was visited belongs to one run, a stretch of a path; of two runs on a path the deeper hangs on the end of
//!   the upper one. A visit that forks a run splits it; one that goes on after its end makes it longer.
//! * The resident pages of a run are its upper part and end at `tip`, the one page of it that can be evicted.
//! * A run is in one list of `ages` (its bin, oldest first) and, if its tip can be evicted, in one of `shelves` (its worth).
use super::Policy;
use super::hazard::{BINS, Hazards, Traits};
use super::list::{Links, List};
use crate::kv::tree::{NONE, NodeId, View};

const BODY: u8 = 0;
const FORKED: u8 = 1;
const TAIL: u8 = 2;
const SHELVES: usize = 512;
const UNSHELVED: u16 = u16::MAX;

#[derive(Clone, Copy, Debug)]
struct Run {
    traits: Traits,
    touched: u64,
    bin: u8,
    shelf: u16,
    /// Known nodes, resident or not.
    nodes: u32,
    resident: u32,
    /// The deepest resident node, if `resident` is not 0.
    tip: NodeId,
    /// The deepest known node.
    end: NodeId,
    /// Runs that hang on the end, partly filled pages left out.
    forks: u16,
}

/// Keeps what is expected to be asked for soon.
pub struct Kvick {
    hazards: Hazards,
    owner: Vec<u32>,
    runs: Vec<Run>,
    vacant: Vec<u32>,
    ages: [List; BINS],
    age_links: Links,
    shelves: Vec<List>,
    shelf_links: Links,
    stocked: [u64; SHELVES / 64],
    now: u64,
}

impl Default for Kvick {
    fn default() -> Self {
        Kvick {
            hazards: Hazards::new(),
            owner: Vec::new(),
            runs: Vec::new(),
            vacant: Vec::new(),
            ages: [List::default(); BINS],
            age_links: Links::default(),
            shelves: vec![List::default(); SHELVES],
            shelf_links: Links::default(),
            stocked: [0; SHELVES / 64],
            now: 0,
        }
    }
}

impl Policy for Kvick {
    fn visit(&mut self, view: View<'_>, now: u64, path: &[NodeId]) {
        self.now = self.now.max(now);
        self.advance(view);
        self.reach(path);
        let known = path.iter().position(|&node| self.owner[node as usize] == NONE).unwrap_or(path.len());
        let mut at = 0;
        let mut last = None;
        while at < known {
            let run = self.owner[path[at] as usize];
            let length = path[at..known].iter().take_while(|&&node| self.owner[node as usize] == run).count();
            let upper = &path[at..at + length];
            let run = if upper[length - 1] == self.runs[run as usize].end { run } else { self.split(view, run, upper) };
            self.touch(view, run);
            at += length;
            last = Some(run);
        }
        self.extend(view, last, &path[known..]);
    }

    fn grow(&mut self, view: View<'_>, now: u64, nodes: &[NodeId]) {
        let Some(&first) = nodes.first() else { return };
        self.now = self.now.max(now);
        self.reach(nodes);
        let above = view.parent(first).map(|parent| self.owner[parent as usize]).filter(|&run| run != NONE);
        let above = above.filter(|&run| Some(self.runs[run as usize].end) == view.parent(first));
        self.extend(view, above, nodes);
    }

    fn insert(&mut self, view: View<'_>, nodes: &[NodeId]) {
        for &node in nodes {
            let run = self.owner[node as usize];
            let record = &mut self.runs[run as usize];
            record.resident += 1;
            record.tip = node;
            self.shelve(view, run);
        }
    }

    fn victim(&mut self, view: View<'_>) -> Option<NodeId> {
        loop {
            let word = self.stocked.iter().position(|&word| word != 0)?;
            let shelf = word * 64 + self.stocked[word].trailing_zeros() as usize;
            let run = self.shelves[shelf].front()?;
            let tip = self.runs[run as usize].tip;
            if view.evictable(tip) {
                return Some(tip);
            }
            // Comes back with `freed`.
            self.unshelve(run);
        }
    }

    fn remove(&mut self, view: View<'_>, node: NodeId, _evicted: bool) {
        let run = self.owner[node as usize];
        let record = &mut self.runs[run as usize];
        record.resident -= 1;
        match view.parent(node) {
            Some(parent) if record.resident > 0 => record.tip = parent,
            _ => self.unshelve(run),
        }
    }

    fn freed(&mut self, view: View<'_>, node: NodeId) {
        let run = self.owner[node as usize];
        if self.runs[run as usize].tip == node {
            self.shelve(view, run);
        }
    }

    fn forget(&mut self, view: View<'_>, node: NodeId) {
        let Some(owner) = self.owner.get_mut(node as usize) else { return };
        let run = std::mem::replace(owner, NONE);
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
}

impl Kvick {
    fn reach(&mut self, nodes: &[NodeId]) {
        let top = nodes.iter().max().map_or(0, |&top| top as usize + 1);
        if self.owner.len() < top {
            self.owner.resize(top, NONE);
        }
    }

    /// Runs that have grown into the next bin of age were not asked for in the last one.
    fn advance(&mut self, view: View<'_>) {
        for bin in (0..BINS as u8 - 1).rev() {
            let Some(end) = self.hazards.bins.end(bin) else { continue };
            while let Some(run) = self.ages[bin as usize].front() {
                let record = self.runs[run as usize];
                if self.now - record.touched < end {
                    break;
                }
                self.hazards.learn(&record.traits, bin, false);
                self.set_bin(run, bin + 1);
                self.reshelve(view, run);
            }
        }
    }

    /// The run was asked for, all of it.
    fn touch(&mut self, view: View<'_>, run: u32) {
        let record = self.runs[run as usize];
        self.hazards.learn(&record.traits, record.bin, true);
        let gap = self.hazards.bins.of(self.now - record.touched);
        self.runs[run as usize].traits.touch(gap);
        self.runs[run as usize].touched = self.now;
        self.set_bin(run, 0);
        self.reshelve(view, run);
    }

    /// Cuts the `upper` nodes off a run that goes on below them; returns their new run.
    fn split(&mut self, view: View<'_>, run: u32, upper: &[NodeId]) -> u32 {
        let resident = upper.iter().filter(|&&node| view.resident(node)).count();
        let end = upper[upper.len() - 1];
        let record = &mut self.runs[run as usize];
        record.nodes -= upper.len() as u32;
        record.resident -= resident as u32;
        let mut traits = record.traits;
        traits.class = FORKED;
        traits.pages = upper.len() as u32;
        let tip = if resident > 0 { upper[resident - 1] } else { NONE };
        let (touched, bin) = (record.touched, record.bin);
        if record.resident == 0 {
            self.unshelve(run);
        }
        let nodes = upper.len() as u32;
        let resident = resident as u32;
        let new = self.add(Run { traits, touched, bin, shelf: UNSHELVED, nodes, resident, tip, end, forks: 1 });
        upper.iter().for_each(|&node| self.owner[node as usize] = new);
        new
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
        let touched = self.now;
        self.add(Run { traits, touched, bin: 0, shelf: UNSHELVED, nodes, resident: 0, tip: NONE, end, forks: 0 })
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

    fn reshelve(&mut self, view: View<'_>, run: u32) {
        self.unshelve(run);
        self.shelve(view, run);
    }

    /// Puts a run where its worth belongs, if its tip can be evicted and it is nowhere yet.
    fn shelve(&mut self, view: View<'_>, run: u32) {
        let record = self.runs[run as usize];
        if record.shelf != UNSHELVED || record.resident == 0 || !view.evictable(record.tip) {
            return;
        }
        let worth = self.hazards.worth(&record.traits, record.bin);
        let shelf = ((worth.max(1e-20).log2() + 40.0) * 10.0).clamp(0.0, SHELVES as f32 - 1.0) as usize;
        self.runs[run as usize].shelf = shelf as u16;
        self.shelves[shelf].push_back(&mut self.shelf_links, run);
        self.stocked[shelf / 64] |= 1 << (shelf % 64);
    }

    fn unshelve(&mut self, run: u32) {
        let shelf = std::mem::replace(&mut self.runs[run as usize].shelf, UNSHELVED);
        if shelf == UNSHELVED {
            return;
        }
        let list = &mut self.shelves[shelf as usize];
        list.remove(&mut self.shelf_links, run);
        if list.is_empty() {
            self.stocked[shelf as usize / 64] &= !(1 << (shelf % 64));
        }
    }
}
