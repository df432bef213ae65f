//! What it costs to do without a page: computing it again, which takes longer the deeper it is, or bringing it from where a
//! copy is, whichever is less.
use super::runs::PER_OCTAVE;
use crate::kv::tree::{NodeId, View};

/// The least part of computing a page that one is weighted with: what costs nothing to lose goes in order of its hits.
const LEAST: f32 = 1e-3;
/// Costs that changed by less than this are the same.
const NOTABLE: f64 = 1.25;

/// What pages of a cache cost, by what was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheCosts {
    /// Seconds to compute a token, and more for each token before it.
    pub compute: (f64, f64),
    /// Seconds to bring a page of each group from each tier of our own, nearest first; `None` before the first was brought.
    pub own: Vec<Option<Vec<f64>>>,
    /// Seconds to bring a page of each group from the nearest store that others use too. It is taken to have all pages.
    pub shared: Option<Vec<f64>>,
}

impl CacheCosts {
    /// Whether policies should be told: something is known that was not, or differs by a quarter of what it was.
    pub(in crate::kv) fn differs(&self, before: &CacheCosts) -> bool {
        let sets = |costs: &CacheCosts| -> Vec<Option<Vec<f64>>> {
            let compute = Some(vec![costs.compute.0, costs.compute.1]);
            costs.own.iter().chain([&costs.shared]).cloned().chain([compute]).collect()
        };
        let near = |a: &f64, b: &f64| a == b || (a / b < NOTABLE && b / a < NOTABLE);
        let same = |(a, b): (Option<Vec<f64>>, Option<Vec<f64>>)| match (a, b) {
            (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| near(a, b)),
            (a, b) => a == b,
        };
        self.own.len() != before.own.len() || !sets(self).into_iter().zip(sets(before)).all(same)
    }
}

/// Where copies of the pages of one policy may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::kv) struct Source {
    /// The tree's group of the tier.
    pub group: usize,
    /// To bring a page from there.
    pub seconds: f32,
}

/// What the misses of one policy's pages cost. By default all the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    /// Seconds to compute a first page, and more for each page before.
    page: f32,
    depth: f32,
    /// Seconds to bring a page that was kept.
    kept: f32,
    sources: Vec<Source>,
    shared: Option<f32>,
}

impl Costs {
    /// Of computing alone: seconds of a first page, and more for each page before.
    pub fn computing(page: f32, depth: f32) -> Self {
        Costs { page, depth, ..Costs::default() }
    }

    /// With copies below, nearest first, and one that is always there; a page that is kept costs `kept` seconds to use.
    pub(in crate::kv) fn with_copies(self, kept: f32, sources: Vec<Source>, shared: Option<f32>) -> Self {
        Costs { kept, sources, shared, ..self }
    }

    /// Whether what a page costs depends on copies of it.
    pub(super) fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }

    fn are_equal(&self) -> bool {
        self.depth == 0.0 && self.sources.is_empty()
    }

    /// Seconds that are lost with a page when it is asked for.
    fn of(&self, view: View<'_>, node: NodeId) -> f32 {
        let computing = self.computing_at(view.depth(node));
        let copy = self.sources.iter().find(|source| view.copied(source.group, node));
        let without = copy.map(|copy| copy.seconds).or(self.shared).map_or(computing, |copy| copy.min(computing));
        (without - self.kept).max(LEAST * computing)
    }

    /// `depth` counts the page itself.
    fn computing_at(&self, depth: u32) -> f32 {
        self.page + self.depth * depth.saturating_sub(1) as f32
    }

    /// By how many shelves a page is worth more than by its hits alone.
    pub(super) fn shelves(&self, view: View<'_>, node: NodeId) -> i32 {
        if self.are_equal() {
            return 0;
        }
        let one = self.computing_at(2).max(f32::MIN_POSITIVE);
        ((self.of(view, node) / one).max(f32::MIN_POSITIVE).log2() * PER_OCTAVE).round() as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::key::{Fingerprint, Keys};
    use crate::kv::pool::PageId;
    use crate::kv::tier::state::Below;
    use crate::kv::tree::Tree;

    /// A path of three pages on the device (group 0), the first two copied to a tier (group 1).
    fn path() -> (Tree, Vec<NodeId>) {
        let mut tree = Tree::new(2, &[None, None], 10);
        let keys = Keys::from_ids(Fingerprint::new([]).root(b"", 0), &[1, 2, 3], false);
        let mut nodes = vec![tree.root(keys.root())];
        for index in 0..3 {
            nodes.push(tree.add(nodes[index], keys.key(index).unwrap(), keys.page(index)));
            tree.settle(0, nodes[index + 1], PageId(index as u32));
        }
        for &node in &nodes[1..3] {
            tree.settle(1, node, PageId(Below::There.code()));
        }
        (tree, nodes.split_off(1))
    }

    #[test]
    fn a_page_costs_computing_at_its_depth_or_a_copy() {
        let (mut tree, nodes) = path();
        let of = |tree: &Tree, costs: &Costs| nodes.iter().map(|&n| costs.of(tree.view(0), n)).collect::<Vec<_>>();
        let computing = Costs::computing(2.0, 0.5);
        assert_eq!(of(&tree, &computing), [2.0, 2.5, 3.0]);
        let near = |seconds| vec![Source { group: 1, seconds }];
        assert_eq!(of(&tree, &computing.clone().with_copies(0.0, near(0.25), None)), [0.25, 0.25, 3.0]);
        assert_eq!(of(&tree, &computing.clone().with_copies(0.0, near(2.25), None)), [2.0, 2.25, 3.0], "is computed");
        assert_eq!(of(&tree, &computing.clone().with_copies(0.0, near(0.25), Some(1.0))), [0.25, 0.25, 1.0]);
        assert_eq!(of(&tree, &computing.clone().with_copies(0.25, near(0.25), None))[0], 2.0 * LEAST);
        tree.replace(1, nodes[0], PageId(Below::Lost.code()));
        assert_eq!(of(&tree, &computing.with_copies(0.0, near(0.25), None)), [2.0, 0.25, 3.0]);
    }

    #[test]
    fn equal_costs_weigh_nothing() {
        let (tree, nodes) = path();
        for costs in [Costs::default(), Costs::computing(3.0, 0.0)] {
            assert!(nodes.iter().all(|&node| costs.shelves(tree.view(0), node) == 0), "{costs:?}");
        }
        let shelves = |node| Costs::computing(1.0, 1.0).shelves(tree.view(0), node);
        assert_eq!(shelves(nodes[0]) + PER_OCTAVE as i32, shelves(nodes[1]), "twice as dear");
    }

    #[test]
    fn only_notable_changes_are_told() {
        let costs = |own: Option<f64>, slope: f64| CacheCosts {
            compute: (1.0, slope),
            own: vec![own.map(|seconds| vec![seconds])],
            shared: None,
        };
        assert!(!costs(Some(1.0), 0.1).differs(&costs(Some(1.1), 0.11)));
        for other in [costs(None, 0.1), costs(Some(1.5), 0.1), costs(Some(1.0), 0.05), costs(Some(1.0), 0.0)] {
            assert!(other.differs(&costs(Some(1.0), 0.1)) && costs(Some(1.0), 0.1).differs(&other), "{other:?}");
        }
        assert!(costs(None, 0.0).differs(&CacheCosts::default()));
    }
}
