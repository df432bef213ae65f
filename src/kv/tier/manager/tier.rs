//! One tier as the manager sees it: its queue, what it keeps of pages and how, its budget and what is known of its content.
use super::super::queue::{Command, Queue};
use super::super::{Half, Store, record};
use super::unclaimed::Unclaimed;
use super::{Form, ManagerConfig, PageShape, TierReport};
use crate::kv::cache::Cache;
use crate::kv::key::Elements;

/// A tier as the manager sees it.
pub(super) struct Tier {
    pub(super) queue: Queue,
    /// Its number in the cache, if it is our own.
    pub(super) own: Option<usize>,
    /// The only half that it keeps.
    pub(super) half: Option<Half>,
    /// How it keeps pages, and the elements of that where they are not the device's.
    pub(super) shapes: Vec<PageShape>,
    pub(super) elements: Option<Elements>,
    /// The most that K and V may lose.
    pub(super) error: [f32; 2],
    pub(super) budget: u64,
    /// Bytes of the budget that a page of each group takes.
    pub(super) costs: Vec<u64>,
    /// Bytes of the budget in use, by what was decided.
    pub(super) bytes: u64,
    pub(super) unclaimed: Unclaimed,
    pub(super) report: TierReport,
}

impl Tier {
    pub(super) fn new(
        cache: &mut Cache,
        queue: Queue,
        store: &dyn Store,
        config: &ManagerConfig,
        (form, half): (Option<Form>, Option<Half>),
    ) -> Self {
        let (elements, error) =
            (form.as_ref().and_then(Form::elements), form.as_ref().map_or([0.0; 2], |form| form.error));
        let shapes = form.map_or_else(|| config.shapes.clone(), |form| form.shapes);
        let cost = |bytes: usize| store.cost(record::size(cache.page_tokens(), bytes));
        let costs: Vec<u64> = shapes.iter().map(|page| kept(page, half).map(|(_, n)| cost(*n)).sum()).collect();
        let usage = store.usage();
        let own = (usage.budget != u64::MAX).then(|| {
            let pages = usage.budget / costs.iter().copied().max().unwrap_or(1).max(1);
            cache.add_tier(elements, half, || config.policy.build(pages as usize, None))
        });
        elements.into_iter().for_each(|elements| cache.know_packing(elements));
        let unclaimed = if own.is_some() { Unclaimed::of(store, half) } else { Unclaimed::default() };
        let report = TierReport { name: store.name().into(), budget: usage.budget, ..TierReport::default() };
        let bytes = unclaimed.pages().map(|(_, group)| costs.get(group).copied().unwrap_or(0)).sum();
        let mut tier =
            Tier { queue, own, half, shapes, elements, error, budget: usage.budget, costs, bytes, unclaimed, report };
        tier.queue.send(Command::Remove(std::mem::take(&mut tier.unclaimed.orphans)));
        tier
    }

    /// Bytes of a page of a group.
    pub(super) fn page_bytes(&self, group: usize) -> u64 {
        kept(&self.shapes[group], self.half).map(|(_, bytes)| *bytes as u64).sum()
    }
}

/// Of a page's halves, those that are kept.
fn kept(page: &PageShape, half: Option<Half>) -> impl Iterator<Item = &(u8, usize)> {
    let of = move |other: &Half| half.is_none_or(|half| half == *other);
    page.iter().zip(Half::ALL).filter(move |(_, half)| of(half)).map(|(shape, _)| shape)
}

impl Form {
    fn elements(&self) -> Option<Elements> {
        self.shapes.first().map(|page| page.map(|(element, _)| element))
    }
}
