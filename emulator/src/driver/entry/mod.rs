//! The C functions, by topic.

mod context;
mod copy;
mod device;
mod event;
mod graph;
mod graph_nodes;
mod host_memory;
mod launch;
mod library;
mod memory;
mod memset;
mod misc;
mod module;
mod occupancy;
mod pointer;
mod pool;
mod stream;

use super::api::Entry;

/// Every implemented function, by name.
pub fn functions() -> impl Iterator<Item = (&'static str, Entry)> {
    let all = [
        context::FUNCTIONS,
        copy::FUNCTIONS,
        device::FUNCTIONS,
        event::FUNCTIONS,
        graph::FUNCTIONS,
        graph_nodes::FUNCTIONS,
        host_memory::FUNCTIONS,
        launch::FUNCTIONS,
        library::FUNCTIONS,
        memory::FUNCTIONS,
        memset::FUNCTIONS,
        misc::FUNCTIONS,
        module::FUNCTIONS,
        occupancy::FUNCTIONS,
        pointer::FUNCTIONS,
        pool::FUNCTIONS,
        stream::FUNCTIONS,
    ];
    all.into_iter().flatten().copied()
}
