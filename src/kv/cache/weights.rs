//! What misses cost, for policies that weigh pages by it.
use super::Cache;
use crate::kv::policy::{CacheCosts, Costs, Source};
use crate::kv::tree::NodeId;

impl Cache {
    /// Tells the policies what pages cost from now on. Changes too small to matter are left out, so this may be called often.
    pub fn weigh(&mut self, costs: CacheCosts) {
        if !costs.differs(&self.costs) {
            return;
        }
        for tier in 0..=self.tiers() {
            for group in (0..self.groups()).filter(|&group| self.tree.window(group).is_none()) {
                let (at, costs) = (self.groups() * tier + group, self.costs_of(tier, group, &costs));
                self.policies[at].weigh(self.tree.view(at), &costs);
            }
        }
        self.costs = costs;
    }

    /// Those of a group on the device (0) or a tier below (from 1 on).
    fn costs_of(&self, tier: usize, group: usize, costs: &CacheCosts) -> Costs {
        let (page, (token, context)) = (self.page_tokens as f64, costs.compute);
        let computing = Costs::computing(
            (page * token + page * (page - 1.0) / 2.0 * context) as f32,
            (page * page * context) as f32,
        );
        let from = |tier: usize| -> Option<f32> {
            let seconds = costs.own.get(tier - 1)?.as_ref()?;
            seconds.get(group).map(|&seconds| seconds as f32)
        };
        let source = |below: usize| Some(Source { group: self.groups() * below + group, seconds: from(below)? });
        let kept = if tier == 0 { 0.0 } else { from(tier).unwrap_or(0.0) };
        let shared = costs.shared.as_ref().and_then(|seconds| seconds.get(group)).map(|&seconds| seconds as f32);
        computing.with_copies(kept, (tier + 1..=self.tiers()).filter_map(source).collect(), shared)
    }

    /// The tier of group `at` got or lost a copy of a page: the policies of those above price it anew.
    pub(super) fn tell_moved(&mut self, at: usize, node: NodeId) {
        let groups = self.groups();
        for above in (at % groups..at).step_by(groups) {
            if self.tree.page(above, node).is_some() {
                self.policies[above].moved(self.tree.view(above), node);
            }
        }
    }
}
