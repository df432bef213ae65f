//! Session handles: a text of one tenant, and what the KV cache is to do with its pages.
//!
//! A session is its tokens; their pages are wherever the cache has them, and are found by their keys. So nothing here can make
//! an answer wrong: a page that is gone is computed again. Every call says what really happened.
use super::pages::Pages;
use super::pins::Pinned;
use super::prefetch::Prefetched;
use super::request::{Completion, Prompt, Request};
use super::session::{Engine, Message};
use super::stream::Stream;
use crate::error::{Error, Result};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A text that grows, turn by turn or token by token. Dropping it ends its pin.
///
/// ```no_run
/// # use kvick::{Engine, EngineConfig, Request};
/// # let engine = Engine::load(EngineConfig::default())?;
/// let mut chat = engine.session("tenant 7");
/// let answer = chat.submit(Request::text("The capital of France is"))?.wait()?;
/// chat.accept(&answer)?;
/// let held = chat.pin(None)?;
/// let other = chat.fork()?.session;
/// # Ok::<(), kvick::Error>(())
/// ```
pub struct Session<'e> {
    engine: &'e Engine,
    salt: Vec<u8>,
    ids: Vec<u32>,
    priority: i32,
    pin: Option<u64>,
}

/// A second session on the same tokens.
pub struct Forked<'e> {
    /// The new session.
    pub session: Session<'e>,
    /// Tokens whose pages the two share now, if they are not evicted.
    pub shared: usize,
    /// What its pin holds, if the forked session had one.
    pub pinned: Option<Pinned>,
}

/// What a demotion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demoted {
    /// Device pages freed, over all groups; tiers below have what was in them.
    pub pages: usize,
    /// Pages of the session that are on the device still.
    pub left: usize,
}

/// What an invalidation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidated {
    /// Pages freed at once, over all groups. Pages in use are not found any more, and freed later.
    pub pages: usize,
    /// The epoch in which no page is served that was invalidated by model or salt so far, for
    /// [`crate::EngineConfig::kv_epoch`] of the next engine on the same tiers.
    pub epoch: u64,
}

impl Engine {
    /// A session of the tenant with this salt, without any tokens.
    pub fn session(&self, salt: impl Into<Vec<u8>>) -> Session<'_> {
        Session { engine: self, salt: salt.into(), ids: Vec::new(), priority: 0, pin: None }
    }

    /// Takes everything that was computed out of service, on every tier.
    pub fn invalidate_model(&self) -> Result<Invalidated> {
        self.invalidate(|pages| pages.cache.invalidate_all())
    }

    /// Takes everything that was computed for one tenant out of service, on every tier.
    pub fn invalidate_salt(&self, salt: &[u8]) -> Result<Invalidated> {
        let salt = salt.to_vec();
        self.invalidate(move |pages| pages.cache.invalidate_salt(&salt))
    }

    /// Takes the page that a tenant's prompt ends in and all that continues the prompt out of service.
    pub fn invalidate_prefix(&self, salt: &[u8], prompt: &Prompt) -> Result<Invalidated> {
        let (salt, ids) = (salt.to_vec(), self.encode(prompt)?);
        self.invalidate(move |pages| pages.invalidate_prefix(&salt, &ids))
    }

    fn invalidate(&self, job: impl FnOnce(&mut Pages) -> usize + Send + 'static) -> Result<Invalidated> {
        self.inner.call(|scheduler| {
            let pages = job(&mut scheduler.pages);
            Invalidated { pages, epoch: scheduler.pages.cache.latest_epoch() }
        })
    }
}

impl<'e> Session<'e> {
    /// All tokens so far.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Whose pages it finds.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Appends a text, a conversation's turn or tokens. Returns how many tokens that were.
    pub fn extend(&mut self, prompt: &Prompt) -> Result<usize> {
        let ids = self.encode(prompt)?;
        self.ids.extend_from_slice(&ids);
        Ok(ids.len())
    }

    /// Appends the request's prompt, and queues the request for all tokens, with the session's salt and priority.
    /// [`Session::accept`] appends the answer.
    ///
    /// # Errors
    /// As [`Engine::submit`]; the session is as it was then.
    pub fn submit(&mut self, request: Request) -> Result<Stream> {
        let more = self.encode(&request.prompt)?;
        let ids = [&self.ids[..], &more].concat();
        let request = Request { salt: self.salt.clone(), priority: self.priority, ..request };
        let stream = self.engine.submit_ids(ids.clone(), &request)?;
        self.ids = ids;
        Ok(stream)
    }

    /// Appends an answer. Returns how many tokens that were.
    pub fn accept(&mut self, answer: &Completion) -> Result<usize> {
        self.extend(&Prompt::Ids(answer.ids.clone()))
    }

    fn encode(&self, prompt: &Prompt) -> Result<Vec<u32>> {
        match prompt {
            Prompt::Text(text, spelling) if !self.ids.is_empty() => {
                self.engine.tokenizer().encode_inner(text, *spelling)
            }
            other => self.engine.encode(other),
        }
    }

    /// A second session on the same tokens. What either computes after them goes to pages of its own. It inherits salt and
    /// priority, and a pin that ends when this one's does.
    pub fn fork(&self) -> Result<Forked<'e>> {
        let (salt, ids, priority, pin) = (self.salt.clone(), self.ids.clone(), self.priority, self.pin);
        let (shared, pinned) = self.engine.inner.call(move |scheduler| {
            let pages = &mut scheduler.pages;
            let keys = pages.keys(&salt, &ids);
            let shared = pages.cached(&keys);
            let until = pin.and_then(|pin| pages.pinned_until(pin));
            (shared, until.map(|until| pages.pin(&keys, priority, until)))
        })?;
        let (pin, pinned) = pinned.map_or((None, None), |(pin, pinned)| (pin, Some(pinned)));
        let session = Session { salt: self.salt.clone(), ids: self.ids.clone(), pin, ..*self };
        Ok(Forked { session, shared, pinned })
    }

    /// Holds what is cached of the session now, for `ttl` or until it is unpinned, in place of what was pinned before. Pages
    /// computed later are not held until this is called again. A pin ends early only where a running request could not go on
    /// otherwise.
    pub fn pin(&mut self, ttl: Option<Duration>) -> Result<Pinned> {
        let (salt, ids, priority, old) = (self.salt.clone(), self.ids.clone(), self.priority, self.pin.take());
        let ttl = ttl.map_or(u64::MAX, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let (pin, pinned) = self.engine.inner.call(move |scheduler| {
            let pages = &mut scheduler.pages;
            let keys = pages.keys(&salt, &ids);
            let new = pages.pin(&keys, priority, pages.now.saturating_add(ttl));
            old.map(|old| pages.unpin(old));
            new
        })?;
        self.pin = pin;
        Ok(pinned)
    }

    /// Ends the pin. Returns the pages it held, over all groups: 0 if there was none, or its time was over, or it had to go.
    pub fn unpin(&mut self) -> Result<usize> {
        match self.pin.take() {
            None => Ok(0),
            Some(pin) => self.engine.inner.call(move |scheduler| {
                scheduler.pages.expire_pins();
                scheduler.pages.unpin(pin)
            }),
        }
    }

    /// Sets the priority of the pin and of requests submitted from now on (see [`Request::priority`]): pins of lower priority
    /// go first. Returns the one before.
    pub fn set_priority(&mut self, priority: i32) -> Result<i32> {
        if let Some(pin) = self.pin {
            self.engine.inner.call(move |scheduler| scheduler.pages.prioritise(pin, priority))?;
        }
        Ok(std::mem::replace(&mut self.priority, priority))
    }

    /// Serves the pages that are cached of the session only for this long from now, on the device and on every tier. Returns
    /// for how many tokens that is. Pages shared with other sessions of the tenant are included.
    pub fn expire_after(&self, ttl: Duration) -> Result<usize> {
        let (salt, ids) = (self.salt.clone(), self.ids.clone());
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.engine.inner.call(move |scheduler| scheduler.pages.expire_after(&salt, &ids, ttl))
    }

    /// Tokens whose pages are on the device now.
    pub fn cached(&self) -> Result<usize> {
        let (salt, ids) = (self.salt.clone(), self.ids.clone());
        self.engine.inner.call(move |scheduler| {
            let keys = scheduler.pages.keys(&salt, &ids);
            scheduler.pages.cached(&keys)
        })
    }

    /// Brings what the tiers below have of the session to the device, and waits for it. Without tiers it says what is there.
    pub fn prefetch(&self) -> Result<Prefetched> {
        let (salt, ids) = (self.salt.clone(), self.ids.clone());
        let (sender, receiver) = channel();
        self.engine.inner.call(move |scheduler| {
            let keys = scheduler.pages.keys(&salt, &ids);
            scheduler.prefetch(&keys, sender);
        })?;
        receiver.recv().map_err(|_| Error::Device("the engine has ended".into()))
    }

    /// Ends the pin and frees the session's device pages that a tier of our own (host memory, disk) has too, from the end of the
    /// text up to the first one that is in use or that another text continues. Pages are written to tiers in the background
    /// when they are computed: one that is not there yet stays. Without tiers nothing is freed.
    pub fn demote(&mut self) -> Result<Demoted> {
        let (salt, ids, pin) = (self.salt.clone(), self.ids.clone(), self.pin.take());
        self.engine.inner.call(move |scheduler| {
            pin.map(|pin| scheduler.pages.unpin(pin));
            let keys = scheduler.pages.keys(&salt, &ids);
            let restored = scheduler.pages.renamed(&keys);
            let (pages, left) = scheduler.pages.cache.demote(&restored);
            Demoted { pages, left }
        })
    }

    /// Ends the session and frees the pages of its text, on the device and on every tier, from its end up to the first one that
    /// another text continues or that is in use. Returns how many device pages, over all groups.
    pub fn discard(mut self) -> Result<usize> {
        let (salt, ids, pin) = (std::mem::take(&mut self.salt), std::mem::take(&mut self.ids), self.pin.take());
        self.engine.inner.call(move |scheduler| {
            pin.map(|pin| scheduler.pages.unpin(pin));
            let keys = scheduler.pages.keys(&salt, &ids);
            scheduler.pages.cache.discard(&keys)
        })
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if let Some(pin) = self.pin.take() {
            // An engine that has ended holds nothing.
            let _: Result<(), Error> = self.engine.inner.send(Message::Call(Box::new(move |scheduler| {
                scheduler.pages.unpin(pin);
                Box::new(|| {})
            })));
        }
    }
}
