//! What pages cost, by what was measured of computing and of the tiers.
use super::Manager;
use crate::kv::pace::Pace;
use crate::kv::policy::CacheCosts;

impl Manager {
    /// For [`crate::kv::Cache::weigh`]; `None` before anything was computed.
    pub fn costs(&self, pace: &Pace) -> Option<CacheCosts> {
        let mut costs = CacheCosts { compute: pace.seconds()?, ..CacheCosts::default() };
        for (index, tier) in self.below.iter().enumerate() {
            let seconds = self.seconds_of_pages(index);
            match tier.own {
                Some(_) => costs.own.push(seconds),
                None => costs.shared = costs.shared.or(seconds),
            }
        }
        Some(costs)
    }

    /// Seconds that a page of each group takes to come from a tier, in batches as loads fetch them.
    fn seconds_of_pages(&self, index: usize) -> Option<Vec<f64>> {
        let batch = self.config.batch.max(1) as u64;
        let tier = &self.below[index];
        let page = |group: usize| {
            let time = self.tiers.estimate(index, tier.page_bytes(group) * batch)?;
            Some(time.as_secs_f64() / batch as f64)
        };
        (0..tier.shapes.len()).map(page).collect()
    }
}
