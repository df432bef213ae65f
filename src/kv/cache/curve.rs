//! Switching the live curve on and off.
use super::Cache;
use crate::kv::curve::{Curve, CurveConfig, CurveReport};

impl Cache {
    /// Works out from now on what other capacities and policies would find ([`crate::kv::curve`]).
    pub fn watch(&mut self, config: CurveConfig) {
        self.curve = Some(Box::new(Curve::new(config, (self.counters.pages, self.counters.hits))));
    }

    /// Stops working it out, and forgets what was.
    pub fn unwatch(&mut self) {
        self.curve = None;
    }

    /// What was worked out since [`Cache::watch`]; `None` if that is off.
    pub fn curve(&self) -> Option<CurveReport> {
        self.curve.as_ref().map(|curve| curve.report((self.counters.pages, self.counters.hits)))
    }
}
