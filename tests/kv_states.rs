//! Every order in which the thread that decides, the device's copies and a store can meet over two pages, by the transitions of
//! `kv::tier::state`: no page is read while it is written, none is given away while it is copied, no news is lost.
#![cfg(feature = "kv")]
use kvick::kv::tier::state::{Below, BelowEvent, DeviceEvent, OnDevice};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread;

/// The bytes of the device's pages; loom refuses an access beside a write.
struct Pages([UnsafeCell<u8>; 2]);

// SAFETY: what is checked here: the states let one thread at a time write to a page, and none read beside it.
unsafe impl Sync for Pages {}
// SAFETY: as above.
unsafe impl Send for Pages {}

impl Pages {
    fn read(&self, page: usize) -> u8 {
        // SAFETY: loom's cell panics where this is not alone with other reads.
        self.0[page].with(|byte| unsafe { *byte })
    }
    fn write(&self, page: usize, value: u8) {
        // SAFETY: loom's cell panics where this is not alone.
        self.0[page].with_mut(|byte| unsafe { *byte = value });
    }
}

enum Copy {
    Out(usize),
    In(usize, u8),
}

enum Call {
    Put(usize, u8),
    Get(usize),
    Remove(usize),
}

#[derive(Debug)]
enum News {
    Out(usize, u8),
    In(usize),
    Stored(usize),
    Got(usize, Option<u8>),
}

fn copies(pages: &Pages, commands: &Receiver<Copy>, news: &Sender<News>, count: usize) {
    for _ in 0..count {
        let told = match commands.recv().unwrap() {
            Copy::Out(page) => News::Out(page, pages.read(page)),
            Copy::In(page, value) => {
                pages.write(page, value);
                News::In(page)
            }
        };
        news.send(told).unwrap();
    }
}

fn store(commands: &Receiver<Call>, news: &Sender<News>, count: usize) {
    let mut held = [None; 2];
    let told = |what| news.send(what).unwrap();
    for _ in 0..count {
        match commands.recv().unwrap() {
            Call::Put(page, value) => {
                held[page] = Some(value);
                told(News::Stored(page));
            }
            Call::Get(page) => told(News::Got(page, held[page])),
            Call::Remove(page) => held[page] = None,
        }
    }
}

/// The thread that decides.
struct Decider {
    pages: Arc<Pages>,
    device: [OnDevice; 2],
    below: [Below; 2],
    copier: Sender<Copy>,
    store: Sender<Call>,
    news: Receiver<News>,
    got: Option<u8>,
    learnt: usize,
}

impl Decider {
    fn on_device(&mut self, page: usize, event: DeviceEvent) -> bool {
        let next = self.device[page].next(event);
        self.device[page] = next.unwrap_or(self.device[page]);
        next.is_some()
    }

    fn below(&mut self, page: usize, event: BelowEvent) -> bool {
        let next = self.below[page].next(event);
        self.below[page] = next.unwrap_or(self.below[page]);
        next.is_some()
    }

    /// Computes a page, publishes it and begins its way down.
    fn compute(&mut self, page: usize, value: u8) {
        assert!(self.on_device(page, DeviceEvent::Allocate));
        self.pages.write(page, value);
        assert!(self.on_device(page, DeviceEvent::Publish));
        assert!(self.below(page, BelowEvent::Begin) && self.on_device(page, DeviceEvent::CopyOut));
        self.copier.send(Copy::Out(page)).unwrap();
    }

    /// Takes the next news.
    fn learn(&mut self) {
        self.learnt += 1;
        match self.news.recv().unwrap() {
            News::Out(page, value) => {
                assert_eq!(value, 1 + page as u8, "the copy has what was computed");
                assert!(self.on_device(page, DeviceEvent::Copied));
                // Given up while it was copied: nothing is written.
                if self.below(page, BelowEvent::Copied) {
                    self.store.send(Call::Put(page, value)).unwrap();
                }
            }
            News::In(page) => assert!(self.on_device(page, DeviceEvent::Arrived)),
            News::Stored(page) => drop(self.below(page, BelowEvent::Stored)),
            News::Got(page, value) => {
                assert!(value.is_some() || !self.below[page].readable());
                self.got = self.got.or(value.filter(|_| page == 0));
            }
        }
    }

    fn learn_until(&mut self, done: impl Fn(&Decider) -> bool) {
        while !done(self) {
            self.learn();
        }
    }
}

/// Two pages go down; page 0 gives its place away and comes back in page 1's, which is given up below at any time.
fn two_pages() {
    let pages = Arc::new(Pages([UnsafeCell::new(0), UnsafeCell::new(0)]));
    let (copier, copy_commands) = channel();
    let (store_sender, calls) = channel();
    let (sender, news) = channel();
    let copy_thread = thread::spawn({
        let (pages, sender) = (Arc::clone(&pages), sender.clone());
        move || copies(&pages, &copy_commands, &sender, 3)
    });
    // Two writes, a removal and a read, or one write and three reads.
    let store_thread = thread::spawn(move || store(&calls, &sender, 4));
    let (device, below) = ([OnDevice::Free; 2], [Below::Absent; 2]);
    let mut d = Decider { pages, device, below, copier, store: store_sender, news, got: None, learnt: 0 };
    d.compute(0, 1);
    d.compute(1, 2);
    d.learn();
    let page_1_was_queued = d.below[1].readable();
    assert!(d.below(1, BelowEvent::Evict));
    if page_1_was_queued {
        d.store.send(Call::Remove(1)).unwrap();
    }
    d.learn_until(|d| d.below[0].readable());
    d.store.send(Call::Get(0)).unwrap();
    if !page_1_was_queued {
        // Nothing of page 1 was queued.
        (0..2).for_each(|_| d.store.send(Call::Get(1)).unwrap());
    }
    d.learn_until(|d| d.device[1] == OnDevice::Ready && d.got.is_some());
    // Only a page that nothing copies can be given away.
    assert!(d.on_device(1, DeviceEvent::Release) && d.on_device(1, DeviceEvent::Allocate));
    assert!(d.on_device(1, DeviceEvent::CopyIn) && !d.on_device(1, DeviceEvent::Release));
    let value = d.got.unwrap();
    d.copier.send(Copy::In(1, value)).unwrap();
    d.learn_until(|d| d.device == [OnDevice::Ready, OnDevice::Filling] && d.below[0] == Below::There);
    // Three copies; a removal is told by nobody.
    let told = if page_1_was_queued { 6 } else { 7 };
    d.learn_until(|d| d.learnt == told);
    assert_eq!(d.device, [OnDevice::Ready, OnDevice::Filling]);
    assert_eq!(d.pages.read(1), 1, "what came back");
    assert_eq!((d.pages.read(0), d.below[1]), (1, Below::Absent));
    copy_thread.join().unwrap();
    drop(d);
    store_thread.join().unwrap();
}

#[test]
fn two_pages_in_every_order() {
    loom::model(two_pages);
}

#[test]
fn every_transition_leads_to_a_state_from_which_the_page_can_be_had_or_given_up() {
    use BelowEvent::{Begin, Copied, Damaged, Evict, Failed, Stored};
    for state in Below::ALL {
        assert_eq!(state.next(Evict).is_some(), state != Below::Absent, "{state:?}");
        let written = [Begin, Copied, Stored].into_iter().fold(state, |s, event| s.next(event).unwrap_or(s));
        assert_eq!(written, Below::There, "{state:?}");
        for event in [Begin, Copied, Stored, Failed, Damaged] {
            assert_ne!(state.next(event), Some(Below::Absent), "{state:?}, {event:?}");
            assert_ne!(state.next(event), Some(state), "{state:?}, {event:?}");
        }
    }
    for state in OnDevice::ALL {
        let copied = matches!(state, OnDevice::CopyingIn | OnDevice::CopyingOut);
        let free = state.next(DeviceEvent::Release).is_some();
        assert_eq!(free, !copied && state != OnDevice::Free, "{state:?}");
        let writable = state.next(DeviceEvent::CopyIn).is_some();
        assert_eq!(writable, state == OnDevice::Filling, "{state:?}");
    }
}
