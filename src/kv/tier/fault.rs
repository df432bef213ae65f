//! A store that misbehaves on purpose: the tests' picture of bad disks, dying servers and broken networks.
//!
//! Every fault is drawn from a seeded generator, so a failing run repeats; time passes on the clock that it is given.
use super::clock::Clock;
use super::{Listed, RecordKey, Store, StoreError, Usage};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Chances of each fault, in 1/1000 of the calls it can happen to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// A bit of a returned record is flipped.
    pub flip: u32,
    /// A returned record ends early, or goes on with rubbish.
    pub tear: u32,
    /// Another name's record is returned.
    pub swap: u32,
    /// An earlier record of the same name is returned.
    pub stale: u32,
    /// A record is written and lost.
    pub lose: u32,
    /// A call fails.
    pub error: u32,
    /// A call takes a second.
    pub slow: u32,
    /// A write finds no room.
    pub full: u32,
}

impl FaultPlan {
    /// Every fault at the same chance.
    pub fn all(per_mille: u32) -> Self {
        let p = per_mille;
        FaultPlan { flip: p, tear: p, swap: p, stale: p, lose: p, error: p, slow: p, full: p }
    }
}

/// A store with faults.
pub struct FaultStore<S> {
    inner: S,
    plan: FaultPlan,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    random: u64,
    /// The record before the present one, by name.
    before: HashMap<RecordKey, Vec<u8>>,
    now: HashMap<RecordKey, Vec<u8>>,
    injected: u64,
}

impl State {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn happens(&mut self, per_mille: u32) -> bool {
        let hit = self.next() % 1000 < u64::from(per_mille);
        self.injected += u64::from(hit);
        hit
    }
}

impl<S: Store> FaultStore<S> {
    /// Wraps a store.
    pub fn new(inner: S, plan: FaultPlan, seed: u64, clock: Arc<dyn Clock>) -> Self {
        let state = State { random: seed, before: HashMap::new(), now: HashMap::new(), injected: 0 };
        FaultStore { inner, plan, clock, state: Mutex::new(state) }
    }

    /// Faults so far.
    pub fn injected(&self) -> u64 {
        self.state().injected
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A second's delay or a failed call, by chance.
    fn call(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        let (slow, error) = (state.happens(self.plan.slow), state.happens(self.plan.error));
        drop(state);
        if slow {
            self.clock.sleep(Duration::from_secs(1));
        }
        if error {
            return Err(StoreError::Unavailable("injected failure".into()));
        }
        Ok(())
    }

    fn damage(&self, name: &RecordKey, mut record: Vec<u8>) -> Vec<u8> {
        let mut state = self.state();
        if state.happens(self.plan.swap) {
            let others: Vec<RecordKey> = state.now.keys().filter(|n| *n != name).copied().collect();
            if !others.is_empty() {
                let pick = state.next() as usize % others.len();
                record = state.now[&others[pick]].clone();
            }
        }
        if state.happens(self.plan.stale)
            && let Some(old) = state.before.get(name)
        {
            record = old.clone();
        }
        if state.happens(self.plan.flip) && !record.is_empty() {
            let bit = state.next() as usize % (record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
        }
        if state.happens(self.plan.tear) {
            let length = state.next() as usize % (record.len() + 64);
            record.resize(length, 0xa5);
        }
        record
    }
}

impl<S: Store> Store for FaultStore<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn put(&self, items: &[(RecordKey, &[u8])]) -> Vec<Result<(), StoreError>> {
        let put = |(name, record): &(RecordKey, &[u8])| {
            self.call()?;
            let mut state = self.state();
            if state.happens(self.plan.full) {
                return Err(StoreError::Full("injected".into()));
            }
            if state.happens(self.plan.lose) {
                return Ok(());
            }
            if let Some(old) = state.now.insert(*name, record.to_vec()) {
                state.before.insert(*name, old);
            }
            drop(state);
            self.inner.put(&[(*name, record)]).pop().unwrap_or(Ok(()))
        };
        items.iter().map(put).collect()
    }

    fn get(&self, names: &[RecordKey]) -> Vec<Result<Option<Vec<u8>>, StoreError>> {
        let get = |name: &RecordKey| {
            self.call()?;
            let found = self.inner.get(std::slice::from_ref(name)).pop().unwrap_or(Ok(None))?;
            Ok(found.map(|record| self.damage(name, record)))
        };
        names.iter().map(get).collect()
    }

    fn has(&self, names: &[RecordKey]) -> Vec<Result<bool, StoreError>> {
        names
            .iter()
            .map(|name| {
                self.call()?;
                self.inner.has(std::slice::from_ref(name)).pop().unwrap_or(Ok(false))
            })
            .collect()
    }

    fn remove(&self, names: &[RecordKey]) -> Vec<Result<(), StoreError>> {
        names
            .iter()
            .map(|name| {
                self.call()?;
                self.inner.remove(std::slice::from_ref(name)).pop().unwrap_or(Ok(()))
            })
            .collect()
    }

    fn list(&self) -> Result<Vec<Listed>, StoreError> {
        self.call()?;
        self.inner.list()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn cost(&self, bytes: usize) -> u64 {
        self.inner.cost(bytes)
    }
}
