//! Switching the live curve on and off.
use super::Cache;
use crate::kv::curve::{Curve, CurveConfig, CurveReport};
use crate::kv::key::Keys;
use crate::kv::tree::NodeId;
use std::time::Duration;

impl Cache {
    /// Works out from now on what other capacities and policies would find ([`crate::kv::curve`]).
    pub fn watch(&mut self, config: CurveConfig) {
        self.curve = Some(Box::new(Curve::new(config, (self.counters.pages, self.counters.hits))));
    }

    /// Stops working it out, and forgets what was.
    pub fn unwatch(&mut self) {
        self.curve = None;
    }

    /// How long it took to work out so far.
    pub fn curve_spent(&self) -> Duration {
        self.curve.as_ref().map_or(Duration::ZERO, |curve| curve.spent())
    }

    /// What was worked out since [`Cache::watch`]; `None` if that is off.
    pub fn curve(&mut self) -> Option<CurveReport> {
        let now = (self.counters.pages, self.counters.hits);
        self.curve.as_mut().map(|curve| curve.report(now))
    }

    /// A request for all pages of `keys`, whose nodes are `path`; the first `known` of them were there before.
    pub(super) fn tell_curve(&mut self, keys: &Keys, path: &[NodeId], known: usize, now: u64) {
        if let Some(curve) = &mut self.curve {
            curve.follow(self.policies[0].follows());
            curve.visit(keys, path, known, now);
        }
    }
}
