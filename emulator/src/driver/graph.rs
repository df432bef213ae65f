//! Graphs: nodes with dependencies, and their executable form.
//!
//! Invariants: dependencies name earlier or later nodes of the same graph and form no cycle in an executable graph; an
//! executable graph is a list of work in an order that fits the dependencies. Among nodes that may run in any order the
//! one captured last runs first, so that a missing dependency shows.

use super::abi::Handle;
use super::error::{CuError, CuResult};
use super::handle::Table;
use super::queue::Marker;
use super::state::lock;
use super::work::Work;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Work and the nodes it comes after.
#[derive(Clone)]
pub struct Node {
    pub work: Work,
    pub after: Vec<usize>,
}

/// A graph under construction. Destroyed nodes leave holes, so that indices stay.
#[derive(Default)]
pub struct Graph {
    nodes: Mutex<Vec<Option<Node>>>,
    /// Handles given out for its nodes: a node has one.
    handles: Mutex<HashMap<usize, Handle>>,
}

/// A node as a handle names it.
pub struct NodeRef {
    pub graph: Arc<Graph>,
    pub index: usize,
}

/// An executable graph.
pub struct GraphExec {
    plan: Mutex<Plan>,
    /// Its last launch: launches of one executable graph do not overlap.
    last: Mutex<Option<Marker>>,
}

#[derive(Clone)]
struct Plan {
    nodes: Vec<Option<Node>>,
    order: Vec<usize>,
}

/// Why an executable graph cannot take another graph's parameters; codes of `CUgraphExecUpdateResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mismatch {
    Topology = 2,
    NodeType = 3,
}

impl Graph {
    pub fn from_nodes(nodes: Vec<Node>) -> Graph {
        Graph::from_snapshot(nodes.into_iter().map(Some).collect())
    }

    /// A copy with the same indices.
    pub fn snapshot(&self) -> Vec<Option<Node>> {
        lock(&self.nodes).clone()
    }

    pub fn from_snapshot(nodes: Vec<Option<Node>>) -> Graph {
        Graph { nodes: Mutex::new(nodes), handles: Mutex::default() }
    }

    /// The handle of a node.
    pub fn handle(self: &Arc<Self>, index: usize, table: &Table<NodeRef>) -> Handle {
        let new = || table.insert(Arc::new(NodeRef { graph: Arc::clone(self), index }));
        *lock(&self.handles).entry(index).or_insert_with(new)
    }

    /// Ends all handles of its nodes, as the graph ends.
    pub fn forget_handles(&self, table: &Table<NodeRef>) {
        for (_, handle) in lock(&self.handles).drain() {
            // A destroyed node's handle has ended already.
            let _ = table.remove(handle);
        }
    }

    /// Adds a node after existing ones.
    pub fn add(&self, work: Work, after: Vec<usize>) -> CuResult<usize> {
        let mut nodes = lock(&self.nodes);
        if after.iter().any(|&n| nodes.get(n).is_none_or(Option::is_none)) {
            return Err(CuError::INVALID_VALUE);
        }
        nodes.push(Some(Node { work, after }));
        Ok(nodes.len() - 1)
    }

    /// Makes `node` come after `dependency`.
    pub fn add_dependency(&self, node: usize, dependency: usize) -> CuResult {
        let mut nodes = lock(&self.nodes);
        if node == dependency || nodes.get(dependency).is_none_or(Option::is_none) {
            return Err(CuError::INVALID_VALUE);
        }
        let node = nodes.get_mut(node).and_then(Option::as_mut).ok_or(CuError::INVALID_VALUE)?;
        if !node.after.contains(&dependency) {
            node.after.push(dependency);
        }
        Ok(())
    }

    pub fn node(&self, index: usize) -> CuResult<Node> {
        lock(&self.nodes).get(index).cloned().flatten().ok_or(CuError::INVALID_VALUE)
    }

    pub fn set_work(&self, index: usize, work: Work) -> CuResult {
        let mut nodes = lock(&self.nodes);
        nodes.get_mut(index).and_then(Option::as_mut).ok_or(CuError::INVALID_VALUE)?.work = work;
        Ok(())
    }

    /// Removes a node and all dependencies on it.
    pub fn remove(&self, index: usize) -> CuResult {
        let mut nodes = lock(&self.nodes);
        nodes.get_mut(index).and_then(Option::take).ok_or(CuError::INVALID_VALUE)?;
        nodes.iter_mut().flatten().for_each(|node| node.after.retain(|&n| n != index));
        Ok(())
    }

    /// Does every node come before, or is one of, `last`?
    pub fn all_lead_to(&self, last: &[usize]) -> bool {
        let nodes = lock(&self.nodes);
        let mut seen = vec![false; nodes.len()];
        let mut todo = last.to_vec();
        while let Some(index) = todo.pop() {
            if !std::mem::replace(&mut seen[index], true)
                && let Some(node) = &nodes[index]
            {
                todo.extend(&node.after);
            }
        }
        seen.iter().zip(nodes.iter()).all(|(&seen, node)| seen || node.is_none())
    }
}

/// An order in which every node follows those it depends on; an error for a cycle.
fn order(nodes: &[Option<Node>]) -> CuResult<Vec<usize>> {
    let mut missing: Vec<usize> = nodes.iter().map(|n| n.as_ref().map_or(0, |n| n.after.len())).collect();
    let mut followers = vec![vec![]; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for &before in node.iter().flat_map(|n| &n.after) {
            followers[before].push(index);
        }
    }
    let mut ready: Vec<usize> = (0..nodes.len()).filter(|&n| nodes[n].is_some() && missing[n] == 0).collect();
    let mut order = vec![];
    while let Some(node) = ready.pop() {
        order.push(node);
        for &next in &followers[node] {
            missing[next] -= 1;
            if missing[next] == 0 {
                ready.push(next);
            }
        }
    }
    if order.len() == nodes.iter().flatten().count() { Ok(order) } else { Err(CuError::INVALID_VALUE) }
}

impl GraphExec {
    /// # Errors
    /// `INVALID_VALUE` for a cycle.
    pub fn new(graph: &Graph) -> CuResult<GraphExec> {
        let nodes = graph.snapshot();
        let order = order(&nodes)?;
        Ok(GraphExec { plan: Mutex::new(Plan { nodes, order }), last: Mutex::new(None) })
    }

    /// All work in order, as one piece.
    pub fn work(&self) -> Work {
        let plan = lock(&self.plan);
        let all = plan.order.iter().filter_map(|&n| plan.nodes[n].as_ref()).map(|n| n.work.clone()).collect();
        Work::Graph(Arc::new(all))
    }

    /// The last launch, replaced by `next`.
    pub fn replace_last(&self, next: Option<Marker>) -> Option<Marker> {
        std::mem::replace(&mut *lock(&self.last), next)
    }

    /// Takes the parameters of a graph of the same shape; else nothing changes and the culprit node is returned.
    pub fn update(&self, graph: &Graph) -> Result<(), (Mismatch, usize)> {
        let new = graph.snapshot();
        let mut plan = lock(&self.plan);
        let old: Vec<&Node> = plan.nodes.iter().flatten().collect();
        if old.len() != new.iter().flatten().count() || plan.nodes.len() != new.len() {
            return Err((Mismatch::Topology, 0));
        }
        for (index, pair) in plan.nodes.iter().zip(&new).enumerate() {
            match pair {
                (Some(a), Some(b)) if a.after != b.after => return Err((Mismatch::Topology, index)),
                (Some(a), Some(b)) if !same_kind(&a.work, &b.work) => return Err((Mismatch::NodeType, index)),
                (Some(_), None) | (None, Some(_)) => return Err((Mismatch::Topology, index)),
                _ => {}
            }
        }
        plan.nodes = new;
        Ok(())
    }

    /// Replaces one node's work by work of the same kind.
    pub fn set_work(&self, index: usize, work: Work) -> CuResult {
        let mut plan = lock(&self.plan);
        let node = plan.nodes.get_mut(index).and_then(Option::as_mut).ok_or(CuError::INVALID_VALUE)?;
        if !same_kind(&node.work, &work) {
            return Err(CuError::INVALID_VALUE);
        }
        node.work = work;
        Ok(())
    }
}

fn same_kind(a: &Work, b: &Work) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}
