//! Graph nodes: adding them by hand, and changing what they do.

use super::context::healthy;
use super::copy::box_3d;
use super::launch::Request;
use super::memset::checked;
use crate::driver::abi::{
    Handle, HostNodeParams, In, KernelNodeParams, KernelNodeParams2, Memcpy3D, MemsetNodeParams, Out,
};
use crate::driver::api::api;
use crate::driver::error::{CuError, CuResult};
use crate::driver::graph::GraphExec;
use crate::driver::state::Driver;
use crate::driver::work::{Fill, HostCall, UserData, Work};
use std::sync::Arc;

/// The nodes a new one comes after.
#[derive(Clone, Copy)]
struct After(In<Handle>, usize);

/// Index of a node in its graph; the node must be `graph`'s.
fn index_in(graph: Handle, node: Handle) -> CuResult<usize> {
    let driver = healthy()?.driver;
    let (node, graph) = (driver.graph_nodes.get(node)?, driver.graphs.get(graph)?);
    if Arc::ptr_eq(&node.graph, &graph) { Ok(node.index) } else { Err(CuError::INVALID_VALUE) }
}

fn add(out: Out<Handle>, graph: Handle, after: After, work: Work) -> CuResult {
    let driver = healthy()?.driver;
    let before = after.0.to_vec(after.1)?.into_iter().map(|n| index_in(graph, n)).collect::<CuResult<_>>()?;
    let graph = driver.graphs.get(graph)?;
    let index = graph.add(work, before)?;
    out.set(graph.handle(index, &driver.graph_nodes))
}

fn kernel(p: &KernelNodeParams) -> CuResult<Work> {
    let &KernelNodeParams { function, grid, block, shared, params, extra } = p;
    Request { function, grid, block, shared, cooperative: false, params, extra }.work(&*healthy()?)
}

fn kernel2(p: &KernelNodeParams2) -> CuResult<Work> {
    let function = if p.first.function == 0 { p.kernel } else { p.first.function };
    kernel(&KernelNodeParams { function, ..p.first })
}

fn memcpy(p: &Memcpy3D) -> CuResult<Work> {
    Ok(Work::Copy(box_3d(&*healthy()?, p)?))
}

fn memset(p: &MemsetNodeParams) -> CuResult<Work> {
    let element = p.element_size as usize;
    if !matches!(element, 1 | 2 | 4) {
        return Err(CuError::INVALID_VALUE);
    }
    let fill = Fill { dst: p.dst, value: p.value, element, width: p.width, height: p.height, pitch: p.pitch };
    Ok(Work::Fill(checked(&*healthy()?, fill)?))
}

fn host(p: &HostNodeParams) -> Work {
    Work::Host(HostCall::Function(p.function, UserData(p.data)))
}

/// Changes what a node of a graph does.
fn set(node: Handle, work: Work) -> CuResult {
    let node = healthy()?.driver.graph_nodes.get(node)?;
    node.graph.set_work(node.index, work)
}

/// Changes what the node does in an executable graph made from its graph.
fn set_in_exec(exec: Handle, node: Handle, work: Work) -> CuResult {
    let driver = healthy()?.driver;
    let (exec, node): (Arc<GraphExec>, _) = (driver.graph_execs.get(exec)?, driver.graph_nodes.get(node)?);
    exec.set_work(node.index, work)
}

fn add_dependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) -> CuResult {
    let driver = healthy()?.driver;
    let object = driver.graphs.get(graph)?;
    (0..count).try_for_each(|i| object.add_dependency(index_in(graph, to.at(i)?)?, index_in(graph, from.at(i)?)?))
}

/// `CUgraphNodeType`
fn kind(work: &Work) -> u32 {
    match work {
        Work::Launch(_) => 0,
        Work::Copy(_) => 1,
        Work::Fill(_) => 2,
        Work::Host(_) => 3,
        Work::Graph(_) => 4,
        Work::Nothing => 5,
        Work::Wait(_) => 6,
        Work::Record(_) => 7,
        Work::Free(_) => 11,
    }
}

api! {
    fn cuGraphAddKernelNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, params: In<KernelNodeParams>,
    ) {
        add(node, graph, After(after, count), kernel(&params.get()?)?)
    }

    fn cuGraphAddKernelNode_v2(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, params: In<KernelNodeParams2>,
    ) {
        add(node, graph, After(after, count), kernel2(&params.get()?)?)
    }

    fn cuGraphAddMemcpyNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, params: In<Memcpy3D>, _context: Handle,
    ) {
        add(node, graph, After(after, count), memcpy(&params.get()?)?)
    }

    fn cuGraphAddMemsetNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, params: In<MemsetNodeParams>, _context: Handle,
    ) {
        add(node, graph, After(after, count), memset(&params.get()?)?)
    }

    fn cuGraphAddHostNode(
        node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, params: In<HostNodeParams>,
    ) {
        add(node, graph, After(after, count), host(&params.get()?))
    }

    fn cuGraphAddEmptyNode(node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize) {
        add(node, graph, After(after, count), Work::Nothing)
    }

    fn cuGraphAddChildGraphNode(node: Out<Handle>, graph: Handle, after: In<Handle>, count: usize, child: Handle) {
        let child = healthy()?.driver.graphs.get(child)?;
        add(node, graph, After(after, count), GraphExec::new(&child)?.work())
    }

    fn cuGraphAddDependencies(graph: Handle, from: In<Handle>, to: In<Handle>, count: usize) {
        add_dependencies(graph, from, to, count)
    }

    /// Edge data asks for programmatic launches; a whole dependency is always enough.
    fn cuGraphAddDependencies_v2(graph: Handle, from: In<Handle>, to: In<Handle>, _data: usize, count: usize) {
        add_dependencies(graph, from, to, count)
    }

    fn cuGraphDestroyNode(node: Handle) {
        let node = Driver::get()?.graph_nodes.remove(node)?;
        node.graph.remove(node.index)
    }

    fn cuGraphNodeGetType(node: Handle, out: Out<u32>) {
        let node = healthy()?.driver.graph_nodes.get(node)?;
        out.set(kind(&node.graph.node(node.index)?.work))
    }

    fn cuGraphKernelNodeSetParams(node: Handle, params: In<KernelNodeParams>) {
        set(node, kernel(&params.get()?)?)
    }

    fn cuGraphKernelNodeSetParams_v2(node: Handle, params: In<KernelNodeParams2>) {
        set(node, kernel2(&params.get()?)?)
    }

    fn cuGraphMemcpyNodeSetParams(node: Handle, params: In<Memcpy3D>) {
        set(node, memcpy(&params.get()?)?)
    }

    fn cuGraphMemsetNodeSetParams(node: Handle, params: In<MemsetNodeParams>) {
        set(node, memset(&params.get()?)?)
    }

    fn cuGraphHostNodeSetParams(node: Handle, params: In<HostNodeParams>) {
        set(node, host(&params.get()?))
    }

    fn cuGraphExecKernelNodeSetParams(exec: Handle, node: Handle, params: In<KernelNodeParams>) {
        set_in_exec(exec, node, kernel(&params.get()?)?)
    }

    fn cuGraphExecKernelNodeSetParams_v2(exec: Handle, node: Handle, params: In<KernelNodeParams2>) {
        set_in_exec(exec, node, kernel2(&params.get()?)?)
    }

    fn cuGraphExecMemcpyNodeSetParams(exec: Handle, node: Handle, params: In<Memcpy3D>, _context: Handle) {
        set_in_exec(exec, node, memcpy(&params.get()?)?)
    }

    fn cuGraphExecMemsetNodeSetParams(exec: Handle, node: Handle, params: In<MemsetNodeParams>, _context: Handle) {
        set_in_exec(exec, node, memset(&params.get()?)?)
    }

    fn cuGraphExecHostNodeSetParams(exec: Handle, node: Handle, params: In<HostNodeParams>) {
        set_in_exec(exec, node, host(&params.get()?))
    }
}
