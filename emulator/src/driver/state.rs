//! The driver as a whole: its one GPU, the tables of handles, the current context of each thread, and the fault that
//! ends everything.

use super::abi::Handle;
use super::context::Context;
use super::error::{CuError, CuResult};
use super::event::Event;
use super::graph::{Graph, GraphExec, NodeRef};
use super::handle::Table;
use super::module::{Function, Module};
use super::pinned::PinnedMemory;
use super::pool::Pool;
use super::stream::Stream;
use crate::exec::Fault;
use crate::gpu::{Gpu, process_gpu};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Everything that outlives a call.
pub struct Driver {
    gpu: Arc<Gpu>,
    pub contexts: Table<Context>,
    pub modules: Table<Module>,
    pub functions: Table<Function>,
    pub streams: Table<Stream>,
    pub events: Table<Event>,
    pub graphs: Table<Graph>,
    pub graph_execs: Table<GraphExec>,
    pub graph_nodes: Table<NodeRef>,
    pub pools: Table<Pool>,
    pub pinned: PinnedMemory,
    /// Handle and reference count of the primary context.
    primary: Mutex<Option<(Handle, u32)>>,
    default_pool: Handle,
    /// The pool that `cuMemAllocAsync` uses.
    pub current_pool: Mutex<Handle>,
    fault: OnceLock<Fault>,
    /// Why the last module could not be loaded.
    load_log: Mutex<String>,
}

/// Leaked allocations that a report lists.
const LEAKS_SHOWN: usize = 16;

static INITIALISED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Contexts pushed on this thread, the current one last.
    static STACK: RefCell<Vec<Handle>> = const { RefCell::new(vec![]) };
}

/// Recovers a lock whose holder panicked: every critical section leaves its data whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver {
    fn new(gpu: Arc<Gpu>) -> Driver {
        let pools = Table::new(9);
        let default_pool = pools.insert(Arc::new(Pool::new()));
        Driver {
            gpu,
            contexts: Table::new(1),
            modules: Table::new(2),
            functions: Table::new(3),
            streams: Table::new(4),
            events: Table::new(5),
            graphs: Table::new(6),
            graph_execs: Table::new(7),
            graph_nodes: Table::new(8),
            pools,
            pinned: PinnedMemory::default(),
            primary: Mutex::new(None),
            default_pool,
            current_pool: Mutex::new(default_pool),
            fault: OnceLock::new(),
            load_log: Mutex::default(),
        }
    }

    /// `cuInit`
    pub fn initialise() -> CuResult {
        Driver::instance()?;
        INITIALISED.store(true, Ordering::Release);
        Ok(())
    }

    fn instance() -> CuResult<&'static Driver> {
        static DRIVER: OnceLock<Option<Driver>> = OnceLock::new();
        let driver = DRIVER.get_or_init(|| match process_gpu() {
            Ok(gpu) => Some(Driver::new(Arc::clone(gpu))),
            Err(message) => {
                eprintln!("emulated GPU: {message}");
                None
            }
        });
        driver.as_ref().ok_or(CuError::NO_DEVICE)
    }

    /// The driver after `cuInit`.
    pub fn get() -> CuResult<&'static Driver> {
        if !INITIALISED.load(Ordering::Acquire) {
            return Err(CuError::NOT_INITIALIZED);
        }
        Driver::instance()
    }

    /// The driver, unless a fault has ended its use.
    pub fn healthy() -> CuResult<&'static Driver> {
        let driver = Driver::get()?;
        driver.check_fault().map(|()| driver)
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub fn default_pool(&self) -> Handle {
        self.default_pool
    }

    /// The fault, if there was one.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }

    pub fn check_fault(&self) -> CuResult {
        self.fault().map_or(Ok(()), |fault| Err(CuError(fault.kind.code())))
    }

    /// The first fault stays; it is reported once.
    pub fn set_fault(&self, fault: Fault) {
        let report = fault.report.clone();
        if self.fault.set(fault).is_ok() {
            eprintln!("emulated GPU: {report}");
        }
    }

    /// With the check `leak`: says what device memory is still allocated, once the last context has ended. Variables of
    /// modules are not memory that a program could free.
    pub fn report_leaks(&self) {
        if !self.gpu.memory().checks().leak || !self.contexts.all().is_empty() {
            return;
        }
        let modules = self.modules.all();
        let variable = |base: u64| modules.iter().any(|m| m.program().owns(base));
        let leaks: Vec<_> = self.gpu.memory().live().into_iter().filter(|r| !variable(r.base)).collect();
        if !leaks.is_empty() {
            let bytes: usize = leaks.iter().map(|r| r.size).sum();
            let list = leaks.iter().take(LEAKS_SHOWN).map(|r| format!("\n  {} bytes at {:#x}", r.size, r.base));
            let more = leaks.len().saturating_sub(LEAKS_SHOWN);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            eprintln!(
                "emulated GPU: leak: {} allocations of {bytes} bytes were not freed before their context was destroyed{}{more}",
                leaks.len(),
                list.collect::<String>()
            );
        }
    }

    pub fn set_load_log(&self, text: String) {
        *lock(&self.load_log) = text;
    }

    pub fn load_log(&self) -> String {
        lock(&self.load_log).clone()
    }

    /// The current context of this thread.
    pub fn context(&self) -> CuResult<Arc<Context>> {
        let handle = current().ok_or(CuError::INVALID_CONTEXT)?;
        self.contexts.get(handle).map_err(|_| CuError::CONTEXT_IS_DESTROYED)
    }

    pub fn retain_primary(&'static self) -> Handle {
        let mut primary = lock(&self.primary);
        let (handle, count) = match *primary {
            Some((handle, count)) => (handle, count + 1),
            None => (self.contexts.insert(Context::new(self, 0)), 1),
        };
        *primary = Some((handle, count));
        handle
    }

    /// Gives one reference back; with the last one the context ends.
    pub fn release_primary(&self) -> CuResult {
        let mut primary = lock(&self.primary);
        let Some((handle, count)) = *primary else { return Err(CuError::INVALID_CONTEXT) };
        *primary = (count > 1).then_some((handle, count - 1));
        if count == 1 {
            self.contexts.remove(handle)?.destroy();
        }
        Ok(())
    }

    /// Ends the primary context whatever its count.
    pub fn reset_primary(&self) {
        if let Some((handle, _)) = lock(&self.primary).take()
            && let Ok(context) = self.contexts.remove(handle)
        {
            context.destroy();
        }
    }

    pub fn primary_is_active(&self) -> bool {
        lock(&self.primary).is_some()
    }
}

/// Handle of this thread's current context.
pub fn current() -> Option<Handle> {
    STACK.with_borrow(|stack| stack.last().copied().filter(|&h| h != 0))
}

/// Replaces the top of the stack; 0 empties it.
pub fn set_current(handle: Handle) {
    STACK.with_borrow_mut(|stack| {
        stack.pop();
        if handle != 0 {
            stack.push(handle);
        }
    });
}

pub fn push_current(handle: Handle) {
    STACK.with_borrow_mut(|stack| stack.push(handle));
}

pub fn pop_current() -> Option<Handle> {
    STACK.with_borrow_mut(Vec::pop)
}

/// Shows `message` if `KVICK_EMU_TRACE` is set and not empty.
pub fn trace(message: &str) {
    static ON: OnceLock<bool> = OnceLock::new();
    if *ON.get_or_init(|| std::env::var_os("KVICK_EMU_TRACE").is_some_and(|v| !v.is_empty())) {
        eprintln!("emulated GPU: {message}");
    }
}
