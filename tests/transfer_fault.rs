//! A device that fails while pages are copied says so on their tickets. In a process of its own: after a fault the device of
//! a process does nothing more.
#![cfg(feature = "engine")]
use kvick::backend::{Admission, Backend, Float, KvGroup, KvLayout, Packings, Transferred};
use kvick::device::{Gpu, select};
use kvick::launch::Cuda;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TRAP: &str = ".version 9.0\n.target sm_80\n.address_size 64\n\
    .visible .entry page_checksum(\n\t.param .u64 p\n)\n{\n\ttrap;\n\tret;\n}\n";

#[test]
fn a_fault_is_told_on_the_ticket() {
    let cuda = Cuda::new(Gpu::open(&select("emulator").unwrap().0).unwrap(), Float::F16).unwrap();
    cuda.gpu.replace_ptx("page_checksum", TRAP.into());
    let backend: Arc<dyn Backend> = Arc::new(cuda);
    let layout = KvLayout { layers: 1, kv_heads: 1, head_dim: 64, page_tokens: 8, types: Float::F16.into() };
    let data = backend.alloc("pages", 4 * layout.page_bytes()).unwrap();
    let groups = [KvGroup { layout, pages: 4, data }];
    let mut transfers = backend.transfers(&groups, 1 << 16, false).unwrap();
    let mut tickets = Vec::new();
    for ticket in [7, 8] {
        assert_eq!(transfers.copy_out(ticket, &[(0, ticket as u32 - 7)], Packings::EXACT).unwrap(), Admission::Queued);
        let (mut done, start) = (Vec::new(), Instant::now());
        while done.is_empty() {
            assert!(start.elapsed() < Duration::from_secs(60), "the failed transfer is never reported");
            transfers.poll(&mut done);
        }
        for end in done {
            let Transferred::Failed { ticket, error } = end else { panic!("{end:?} in spite of a trap") };
            assert!(matches!(error, kvick::Error::Device(_)), "{error}");
            tickets.push(ticket);
        }
    }
    assert_eq!(tickets, [7, 8]);
}
