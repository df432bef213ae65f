//! Graphs as a whole: making, instantiating, launching, updating.

use super::context::healthy;
use crate::driver::abi::{GraphUpdateInfo, Handle, Out};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};
use crate::driver::graph::{Graph, GraphExec};
use crate::driver::state::Driver;
use crate::driver::work::Work;
use std::sync::Arc;

fn instantiate(out: Out<Handle>, graph: Handle) -> CuResult {
    let driver = healthy()?.driver;
    let exec = GraphExec::new(&*driver.graphs.get(graph)?)?;
    out.set(driver.graph_execs.insert(Arc::new(exec)))
}

/// Handles of the nodes that `keep`, in a list with its count as the API returns lists: without a list the count is
/// all nodes', else it is the room on entry and the nodes written on return.
fn list_nodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>, keep: impl Fn(&[usize]) -> bool) -> CuResult {
    let driver = healthy()?.driver;
    let graph = driver.graphs.get(graph)?;
    let kept: Vec<usize> = (0..)
        .zip(graph.snapshot())
        .filter(|(_, node)| node.as_ref().is_some_and(|n| keep(&n.after)))
        .map(|(index, _)| index)
        .collect();
    if nodes.is_null() {
        return count.set(kept.len());
    }
    let handle = |&index: &usize| graph.handle(index, &driver.graph_nodes);
    let handles: Vec<Handle> = kept.iter().take(count.get()?).map(handle).collect();
    nodes.set_slice(&handles, handles.len())?;
    count.set(handles.len())
}

api! {
    fn cuGraphCreate(graph: Out<Handle>, flags: u32) {
        if flags != 0 {
            return Err(CuError::INVALID_VALUE);
        }
        graph.set(Driver::healthy()?.graphs.insert(Arc::new(Graph::default())))
    }

    fn cuGraphDestroy(graph: Handle) {
        let driver = Driver::get()?;
        driver.graphs.remove(graph)?.forget_handles(&driver.graph_nodes);
        Ok(())
    }

    fn cuGraphClone(clone: Out<Handle>, graph: Handle) {
        let driver = healthy()?.driver;
        let copy = Graph::from_snapshot(driver.graphs.get(graph)?.snapshot());
        clone.set(driver.graphs.insert(Arc::new(copy)))
    }

    fn cuGraphInstantiateWithFlags(exec: Out<Handle>, graph: Handle, _flags: u64) {
        instantiate(exec, graph)
    }

    fn cuGraphInstantiate_v2(exec: Out<Handle>, graph: Handle, _node: Out<Handle>, _log: Out<u8>, _room: usize) {
        instantiate(exec, graph)
    }

    fn cuGraphExecDestroy(exec: Handle) {
        Driver::get()?.graph_execs.remove(exec).map(|_| ())
    }

    /// Nothing has to be sent ahead.
    fn cuGraphUpload(exec: Handle, stream: Handle) {
        let context = healthy()?;
        context.driver.graph_execs.get(exec)?;
        context.stream(stream).map(|_| ())
    }

    fn cuGraphLaunch(exec: Handle, stream: Handle) {
        let context = healthy()?;
        let exec = context.driver.graph_execs.get(exec)?;
        let stream = context.stream(stream)?;
        if let Some(last) = exec.replace_last(None).filter(|last| !last.is_in(stream.queue()) && !last.is_past()) {
            context.submit(&stream, Work::Wait(last))?;
        }
        let launched = context.submit(&stream, exec.work())?;
        exec.replace_last(launched);
        Ok(())
    }

    fn cuGraphExecGetFlags(exec: Handle, flags: Out<u64>) {
        Driver::healthy()?.graph_execs.get(exec)?;
        flags.set(0)
    }

    fn cuGraphExecUpdate_v2(exec: Handle, graph: Handle, info: Out<GraphUpdateInfo>) {
        let driver = healthy()?.driver;
        let (exec, graph) = (driver.graph_execs.get(exec)?, driver.graphs.get(graph)?);
        match exec.update(&graph) {
            Ok(()) => {
                info.set_if_wanted(GraphUpdateInfo { result: 0, error_node: 0, error_from: 0 });
                Ok(())
            }
            Err((mismatch, index)) => {
                let node = graph.handle(index, &driver.graph_nodes);
                info.set_if_wanted(GraphUpdateInfo { result: mismatch as u32, error_node: node, error_from: 0 });
                Err(CuError::GRAPH_EXEC_UPDATE_FAILURE)
            }
        }
    }

    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list_nodes(graph, nodes, count, |_| true)
    }

    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        list_nodes(graph, nodes, count, <[usize]>::is_empty)
    }
}
