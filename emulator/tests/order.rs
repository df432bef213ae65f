//! Random programs over several streams: what must come before what, does, run directly and as a captured graph.
//!
//! The oracle is the definition: work of a stream is in order, a wait comes after what the event was recorded after,
//! and the legacy stream keeps order with blocking streams.

use cudarc::driver::CudaContext;
use cudarc::driver::sys::{self, CUevent, CUstream, CUstreamCaptureMode};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const STREAMS: usize = 4;
const EVENTS: usize = 3;
/// Stream 0 is the legacy one, the last one is non-blocking, those between are blocking.
const LEGACY: usize = 0;
const NON_BLOCKING: usize = STREAMS - 1;

#[derive(Clone, Copy, Debug)]
enum Op {
    /// A host function.
    Call(usize),
    Record(usize, usize),
    Wait(usize, usize),
}

fn ops(first_stream: usize) -> impl Strategy<Value = Vec<Op>> {
    let stream = first_stream..STREAMS;
    let op = prop_oneof![
        3 => stream.clone().prop_map(Op::Call),
        1 => (stream.clone(), 0..EVENTS).prop_map(|(s, e)| Op::Record(s, e)),
        1 => (stream, 0..EVENTS).prop_map(|(s, e)| Op::Wait(s, e)),
    ];
    prop::collection::vec(op, 1..40)
}

/// For each call in turn, the calls that must come before it.
fn must_precede(ops: &[Op]) -> Vec<BTreeSet<usize>> {
    let mut before: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); STREAMS];
    let mut events: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); EVENTS];
    let mut calls = vec![];
    for &op in ops {
        if let Op::Call(s) | Op::Record(s, _) = op {
            let joined: BTreeSet<usize> = match s {
                LEGACY => before[1..NON_BLOCKING].iter().flatten().copied().collect(),
                NON_BLOCKING => BTreeSet::new(),
                _ => before[LEGACY].clone(),
            };
            before[s].extend(joined);
        }
        match op {
            Op::Call(s) => {
                calls.push(before[s].clone());
                before[s].insert(calls.len() - 1);
            }
            Op::Record(s, e) => events[e] = before[s].clone(),
            Op::Wait(s, e) => before[s].extend(events[e].iter().copied()),
        }
    }
    calls
}

/// What a host function gets: the list, and its number.
struct Call {
    log: Arc<Mutex<Vec<usize>>>,
    number: usize,
}

unsafe extern "C" fn note(call: *mut c_void) {
    // SAFETY: the call outlives the program it is part of.
    let call = unsafe { &*call.cast::<Call>() };
    // Long enough for another stream to overtake.
    std::thread::sleep(std::time::Duration::from_micros(20));
    call.log.lock().unwrap().push(call.number);
}

struct Machine {
    _guard: MutexGuard<'static, ()>,
    context: Arc<CudaContext>,
    streams: [CUstream; STREAMS],
    events: [CUevent; EVENTS],
}

impl Machine {
    fn new() -> Machine {
        static ONE: Mutex<()> = Mutex::new(());
        let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        kvick_emulator::install().unwrap();
        let context = CudaContext::new(0).unwrap();
        let (mut streams, mut events) = ([null_mut(); STREAMS], [null_mut(); EVENTS]);
        // SAFETY: pointers to locals.
        unsafe {
            for (index, stream) in streams.iter_mut().enumerate().skip(1) {
                sys::cuStreamCreate(stream, u32::from(index == NON_BLOCKING)).result().unwrap();
            }
            for event in &mut events {
                sys::cuEventCreate(event, 2).result().unwrap();
            }
        }
        Machine { _guard: guard, context, streams, events }
    }

    fn issue(&self, ops: &[Op], calls: &mut [Call]) {
        let mut calls = calls.iter_mut();
        for &op in ops {
            // SAFETY: live handles; each call's data outlives the program.
            let code = unsafe {
                match op {
                    Op::Call(s) => {
                        let data = std::ptr::from_mut(calls.next().unwrap()).cast();
                        sys::cuLaunchHostFunc(self.streams[s], Some(note), data)
                    }
                    Op::Record(s, e) => sys::cuEventRecord(self.events[e], self.streams[s]),
                    Op::Wait(s, e) => sys::cuStreamWaitEvent(self.streams[s], self.events[e], 0),
                }
            };
            code.result().unwrap();
        }
    }

    fn finish(&self, ops: &[Op], log: &Mutex<Vec<usize>>) -> Result<(), TestCaseError> {
        self.context.synchronize().unwrap();
        let order = std::mem::take(&mut *log.lock().unwrap());
        let place = |call: usize| order.iter().position(|&c| c == call);
        for (call, before) in must_precede(ops).into_iter().enumerate() {
            prop_assert!(place(call).is_some(), "call {} did not run", call);
            for earlier in before {
                prop_assert!(place(earlier) < place(call), "{} ran before {}: {:?}", call, earlier, order);
            }
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: handles made by `new`.
        unsafe {
            self.streams
                .iter()
                .skip(1)
                .for_each(|&s| assert_eq!(sys::cuStreamDestroy_v2(s), sys::CUresult::CUDA_SUCCESS));
            self.events.iter().for_each(|&e| assert_eq!(sys::cuEventDestroy_v2(e), sys::CUresult::CUDA_SUCCESS));
        }
    }
}

fn calls(ops: &[Op], log: &Arc<Mutex<Vec<usize>>>) -> Vec<Call> {
    let count = ops.iter().filter(|op| matches!(op, Op::Call(_))).count();
    (0..count).map(|number| Call { log: Arc::clone(log), number }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn streams_keep_the_order_they_promise(ops in ops(LEGACY)) {
        let machine = Machine::new();
        let log = Arc::default();
        let mut calls = calls(&ops, &log);
        machine.issue(&ops, &mut calls);
        machine.finish(&ops, &log)?;
    }

    #[test]
    fn captured_streams_keep_it_too(ops in ops(1)) {
        let machine = Machine::new();
        let log = Arc::default();
        let mut calls = calls(&ops, &log);
        let origin = machine.streams[1];
        // All streams take part from the beginning, and all are joined at the end.
        let mut whole = vec![];
        (0..EVENTS).for_each(|e| whole.push(Op::Record(1, e)));
        (2..STREAMS).for_each(|s| whole.push(Op::Wait(s, 0)));
        whole.extend(&ops);
        (2..STREAMS).for_each(|s| whole.extend([Op::Record(s, 0), Op::Wait(1, 0)]));
        let (mut graph, mut exec) = (null_mut(), null_mut());
        // SAFETY: live handles and pointers to locals.
        unsafe {
            let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            sys::cuStreamBeginCapture_v2(origin, mode).result().unwrap();
            machine.issue(&whole, &mut calls);
            sys::cuStreamEndCapture(origin, &mut graph).result().unwrap();
            sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0).result().unwrap();
            for _ in 0..2 {
                sys::cuGraphLaunch(exec, origin).result().unwrap();
                machine.finish(&whole, &log)?;
            }
            sys::cuGraphExecDestroy(exec).result().unwrap();
            sys::cuGraphDestroy(graph).result().unwrap();
        }
    }
}
