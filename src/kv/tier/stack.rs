//! The tiers of one engine, nearest first: the one place where records are made, asked for and believed.
//!
//! Invariants: a payload leaves [`Tiers::fetch`] only if every check of [`record::decode`] passed; a record that failed one
//! is counted by its cause, removed from its tier, and the next tier is asked; a store that fails costs at most its own
//! timeout, and after a few failures nothing, until it answers again.
use super::breaker::Breaker;
use super::clock::Clock;
use super::record::{self, Cause, Expected, Meta};
use super::{RecordKey, Store, StoreError};
use crate::kv::key::Fingerprint;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What became of a wanted half page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Found and checked.
    Hit {
        /// Index of the tier.
        tier: usize,
        /// What it is.
        meta: Meta,
        /// The record; the payload begins at `payload`.
        record: Vec<u8>,
        /// Offset of the payload.
        payload: usize,
    },
    /// No tier has it, or none has it whole: compute it.
    Miss,
}

/// What one tier did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierCounters {
    /// Half pages served.
    pub hits: u64,
    /// Half pages asked for and not there.
    pub misses: u64,
    /// Bytes read and believed.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Calls that failed or timed out.
    pub failed: u64,
    /// Half pages not asked for because the store was being left alone.
    pub left_alone: u64,
    /// Writes that found no room.
    pub full: u64,
    /// Records not believed, by the order of [`Cause::ALL`].
    pub refused: [u64; Cause::ALL.len()],
}

struct Tier {
    store: Box<dyn Store>,
    clock: Arc<dyn Clock>,
    state: Mutex<TierState>,
}

#[derive(Default)]
struct TierState {
    breaker: Breaker,
    counters: TierCounters,
    /// Seconds a byte of a payload takes to read, and seconds a call takes, as moving averages; 0 = not seen yet.
    per_byte: f64,
    per_call: f64,
}

/// The tiers below the device.
pub struct Tiers {
    tiers: Vec<Tier>,
    fingerprint: Fingerprint,
    secret: Option<[u8; 32]>,
    clock: Arc<dyn Clock>,
}

/// Weight of the newest measurement in the averages.
const NEWEST: f64 = 0.2;

impl Tiers {
    /// No tiers yet. `secret` (of `--kv-store-secret`) authenticates records against forgery.
    pub fn new(fingerprint: Fingerprint, secret: Option<[u8; 32]>, clock: Arc<dyn Clock>) -> Self {
        Tiers { tiers: Vec::new(), fingerprint, secret, clock }
    }

    /// Adds a tier below the others.
    pub fn push(&mut self, store: Box<dyn Store>) {
        self.push_on(store, Arc::clone(&self.clock));
    }

    /// Adds a tier below the others whose calls pass time on a virtual clock of its own: they end when the clock of all has
    /// come there, and what the others do meanwhile is not held up.
    pub fn push_on(&mut self, store: Box<dyn Store>, clock: Arc<dyn Clock>) {
        self.tiers.push(Tier { store, clock, state: Mutex::default() });
    }

    /// Time on the clock of all.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Whether the calls made to a tier last longer than to now.
    pub(super) fn is_busy(&self, tier: usize) -> bool {
        self.tiers.get(tier).is_some_and(|tier| tier.clock.now() > self.clock.now())
    }

    /// The next call to a tier was asked for at this time, which is over.
    pub(super) fn begin(&self, tier: usize, asked: Duration) {
        if let Some(tier) = self.tiers.get(tier) {
            tier.clock.sleep(asked.saturating_sub(tier.clock.now()));
        }
    }

    /// The stores, nearest first.
    pub fn stores(&self) -> impl Iterator<Item = &dyn Store> {
        self.tiers.iter().map(|t| &*t.store)
    }

    /// Whether nobody else uses a tier's store, so that what is in it is known.
    pub fn is_own(&self, tier: usize) -> bool {
        self.tiers.get(tier).is_some_and(|tier| tier.store.usage().budget != u64::MAX)
    }

    /// Of the engine.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// What each tier did so far.
    pub fn counters(&self) -> Vec<TierCounters> {
        self.tiers.iter().map(|t| t.state().counters.clone()).collect()
    }

    /// The record of a half page. `sum` is the payload's [`crate::kv::integrity::sum`] as the device computed it.
    pub fn record(&self, meta: &Meta, payload: &[u8], sum: u64) -> Vec<u8> {
        record::encode(meta, payload, sum, self.secret.as_ref())
    }

    /// Keeps a half page on tier `tier`; see [`Tiers::record`].
    pub fn put(&self, tier: usize, meta: &Meta, payload: &[u8], sum: u64) -> Result<(), StoreError> {
        let name = RecordKey { key: meta.key, group: meta.group, half: meta.half };
        self.put_record(tier, name, &self.record(meta, payload, sum))
    }

    /// Keeps a record on tier `tier`.
    pub fn put_record(&self, tier: usize, name: RecordKey, record: &[u8]) -> Result<(), StoreError> {
        let Some(tier) = self.tiers.get(tier) else {
            return Err(StoreError::Unavailable(format!("there is no tier {tier}")));
        };
        if !tier.state().breaker.allows(tier.clock.now()) {
            tier.state().counters.left_alone += 1;
            return Err(StoreError::Unavailable(format!("{} is being left alone after failures", tier.store.name())));
        }
        let done = tier.store.put(&[(name, record)]).pop().unwrap_or(Ok(()));
        let mut state = tier.state();
        match &done {
            Ok(()) => {
                state.breaker.succeeded();
                state.counters.bytes_written += record.len() as u64;
            }
            Err(StoreError::Full(_)) => state.counters.full += 1,
            Err(_) => {
                state.counters.failed += 1;
                state.breaker.failed(tier.clock.now());
            }
        }
        done
    }

    /// Looks for half pages, each on the nearest tier that has it whole. One answer per item.
    pub fn fetch(&self, wanted: &[Expected<'_>]) -> Vec<Fetched> {
        let mut out = vec![Fetched::Miss; wanted.len()];
        for (index, tier) in self.tiers.iter().enumerate() {
            let missing: Vec<usize> = (0..wanted.len()).filter(|&i| out[i] == Fetched::Miss).collect();
            if missing.is_empty() {
                break;
            }
            self.fetch_from(index, tier, wanted, &missing, &mut out);
        }
        out
    }

    /// Looks for half pages on one tier.
    pub fn fetch_tier(&self, index: usize, wanted: &[Expected<'_>]) -> Vec<Fetched> {
        let mut out = vec![Fetched::Miss; wanted.len()];
        if let Some(tier) = self.tiers.get(index) {
            self.fetch_from(index, tier, wanted, &(0..wanted.len()).collect::<Vec<_>>(), &mut out);
        }
        out
    }

    fn fetch_from(&self, index: usize, tier: &Tier, wanted: &[Expected<'_>], missing: &[usize], out: &mut [Fetched]) {
        if !tier.state().breaker.allows(tier.clock.now()) {
            tier.state().counters.left_alone += missing.len() as u64;
            return;
        }
        let names: Vec<RecordKey> = missing.iter().map(|&i| wanted[i].name()).collect();
        let before = tier.clock.now();
        let answers = tier.store.get(&names);
        let (after, mut refused, mut bytes, mut data) = (tier.clock.now(), Vec::new(), 0, 0);
        let mut state = tier.state();
        let mut answered = true;
        for ((&i, name), answer) in missing.iter().zip(&names).zip(answers) {
            match answer {
                Ok(None) => state.counters.misses += 1,
                Ok(Some(record)) => match record::decode(&record, &wanted[i], self.secret.as_ref()) {
                    Ok((meta, payload)) => {
                        state.counters.hits += 1;
                        bytes += record.len() as u64;
                        data += (record.len() - payload) as u64;
                        out[i] = Fetched::Hit { tier: index, meta, record, payload };
                    }
                    Err(cause) => {
                        state.counters.refused[cause as usize] += 1;
                        refused.push(*name);
                    }
                },
                Err(_) => {
                    state.counters.failed += 1;
                    answered = false;
                }
            }
        }
        if answered {
            state.breaker.succeeded()
        } else {
            state.breaker.failed(after)
        }
        state.counters.bytes_read += bytes;
        state.measure(data, after.saturating_sub(before));
        drop(state);
        if !refused.is_empty() {
            // A store that cannot remove them serves them again, and they are refused again.
            tier.store.remove(&refused);
        }
    }

    /// The nearest tier that says it has each half page, without reading any.
    pub fn locate(&self, names: &[RecordKey]) -> Vec<Option<usize>> {
        let mut out = vec![None; names.len()];
        for index in 0..self.tiers.len() {
            let missing: Vec<usize> = (0..names.len()).filter(|&i| out[i].is_none()).collect();
            let asked: Vec<RecordKey> = missing.iter().map(|&i| names[i]).collect();
            for (i, there) in missing.into_iter().zip(self.locate_on(index, &asked)) {
                out[i] = there.then_some(index);
            }
        }
        out
    }

    /// Which half pages one tier says it has. One answer per name; a tier that fails has none.
    pub fn locate_on(&self, index: usize, names: &[RecordKey]) -> Vec<bool> {
        let none = vec![false; names.len()];
        let Some(tier) = self.tiers.get(index).filter(|_| !names.is_empty()) else { return none };
        if !tier.state().breaker.allows(tier.clock.now()) {
            return none;
        }
        let before = tier.clock.now();
        let answers = tier.store.has(names);
        let after = tier.clock.now();
        let mut state = tier.state();
        if answers.iter().any(Result::is_err) {
            state.counters.failed += 1;
            state.breaker.failed(after);
        } else {
            state.breaker.succeeded();
            state.measure(0, after.saturating_sub(before));
        }
        answers.into_iter().map(|answer| answer == Ok(true)).collect()
    }

    /// Forgets half pages on every tier, as far as the stores answer; what stays is refused by its epoch.
    pub fn remove(&self, names: &[RecordKey]) {
        for index in 0..self.tiers.len() {
            self.remove_from(index, names);
        }
    }

    /// Forgets half pages on one tier; returns those that it did not.
    pub fn remove_from(&self, index: usize, names: &[RecordKey]) -> Vec<RecordKey> {
        let Some(tier) = self.tiers.get(index).filter(|_| !names.is_empty()) else { return Vec::new() };
        if !tier.state().breaker.allows(tier.clock.now()) {
            return names.to_vec();
        }
        let answers = tier.store.remove(names);
        let left: Vec<RecordKey> =
            names.iter().zip(&answers).filter(|(_, answer)| answer.is_err()).map(|(name, _)| *name).collect();
        let mut state = tier.state();
        if left.is_empty() {
            state.breaker.succeeded()
        } else {
            state.breaker.failed(tier.clock.now())
        }
        left
    }

    /// How long reading `bytes` of payloads from tier `tier` should take, by what was measured; `None` before the first read.
    pub fn estimate(&self, tier: usize, bytes: u64) -> Option<Duration> {
        let state = self.tiers.get(tier)?.state();
        (state.per_byte > 0.0).then(|| Duration::from_secs_f64(state.per_call + state.per_byte * bytes as f64))
    }
}

impl Tier {
    fn state(&self) -> MutexGuard<'_, TierState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TierState {
    /// Folds a call into the averages: calls without data measure the call, others the bytes.
    fn measure(&mut self, bytes: u64, took: Duration) {
        let seconds = took.as_secs_f64();
        let fold = |average: &mut f64, new: f64| {
            *average = if *average == 0.0 { new } else { *average + NEWEST * (new - *average) };
        };
        if bytes == 0 {
            fold(&mut self.per_call, seconds);
        } else {
            let data = (seconds - self.per_call).max(seconds * 0.1);
            fold(&mut self.per_byte, data.max(1e-12) / bytes as f64);
        }
    }
}
