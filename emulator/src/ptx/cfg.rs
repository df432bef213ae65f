//! Control flow of a function: basic blocks, the order in which diverged lanes should run, and post-dominators.
//!
//! The order is Bourdoncle's weak topological order: the blocks of a loop are contiguous and precede every block its
//! exits lead to, at each level of nesting, and apart from back edges every block precedes its successors. Lanes at the
//! lowest priority run first, so lanes that left a loop or a branch early wait where the others will join them.

use super::ast::{Function, Operand, Stmt};
use std::ops::Range;

/// A straight run of statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Indices into the function's body.
    pub stmts: Range<usize>,
    /// Where it can continue, branch targets first; empty if it only returns.
    pub successors: Vec<u32>,
    /// Place in the running order, 0 first; each block has its own.
    pub priority: u32,
    /// The first block that all paths to the function's end share; `None` for the end itself, and in endless loops.
    pub post_dominator: Option<u32>,
}

/// The blocks of a function, in textual order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cfg {
    /// The first one is the entry.
    pub blocks: Vec<Block>,
}

impl Cfg {
    /// Analyses a function's body; a prototype has no blocks.
    pub fn new(function: &Function) -> Cfg {
        let body = function.body.as_deref().unwrap_or_default();
        let flows: Vec<Flow> = body.iter().map(|stmt| flow(function, stmt)).collect();
        let places = label_places(function, body);
        let ranges = split(&flows, &places);
        let graph = connect(&ranges, &flows, &places);
        let order = weak_topological_order(&graph);
        let post_dominators = post_dominators(&graph, &returns(&ranges, &flows));
        let mut blocks: Vec<Block> = ranges
            .into_iter()
            .zip(graph)
            .zip(post_dominators)
            .map(|((stmts, successors), post_dominator)| Block { stmts, successors, priority: 0, post_dominator })
            .collect();
        for (priority, block) in order.into_iter().enumerate() {
            blocks[block as usize].priority = priority as u32;
        }
        Cfg { blocks }
    }

    /// The block of a statement.
    pub fn block_of(&self, stmt: usize) -> u32 {
        self.blocks.partition_point(|b| b.stmts.end <= stmt) as u32
    }
}

/// Where control can go after a statement.
struct Flow {
    labels: Vec<u32>,
    /// To the next statement?
    falls: bool,
    /// Out of the function?
    returns: bool,
}

fn flow(function: &Function, stmt: &Stmt) -> Flow {
    let straight = Flow { labels: vec![], falls: true, returns: false };
    let Stmt::Instr(instr) = stmt else { return straight };
    let falls = instr.guard.is_some();
    match instr.op[0].as_str() {
        "bra" => match instr.args.first() {
            Some(Operand::Label(label)) => Flow { labels: vec![*label], falls, returns: false },
            _ => straight,
        },
        "brx" => {
            let list = instr.args.iter().find_map(|a| if let Operand::List(name) = a { Some(name) } else { None });
            let labels = function.targets.iter().find(|(name, _)| Some(name) == list).map(|(_, labels)| labels.clone());
            Flow { labels: labels.unwrap_or_default(), falls, returns: false }
        }
        "ret" | "exit" | "trap" => Flow { labels: vec![], falls, returns: true },
        _ => straight,
    }
}

/// Statement index of every label.
fn label_places(function: &Function, body: &[Stmt]) -> Vec<usize> {
    let mut places = vec![body.len(); function.labels.len()];
    for (index, stmt) in body.iter().enumerate() {
        if let Stmt::Label(label) = stmt {
            places[*label as usize] = index;
        }
    }
    places
}

/// Blocks begin at branch targets and after statements that leave the straight line.
fn split(flows: &[Flow], places: &[usize]) -> Vec<Range<usize>> {
    let mut begins = vec![false; flows.len() + 1];
    for (index, flow) in flows.iter().enumerate() {
        begins[index + 1] |= !flow.labels.is_empty() || !flow.falls || flow.returns;
        for &label in &flow.labels {
            begins[places[label as usize]] = true;
        }
    }
    let mut ranges = vec![];
    let mut first = 0;
    for (index, &begins) in begins.iter().enumerate().skip(1) {
        if begins || index == flows.len() {
            ranges.push(first..index);
            first = index;
        }
    }
    ranges
}

fn connect(ranges: &[Range<usize>], flows: &[Flow], places: &[usize]) -> Vec<Vec<u32>> {
    let block_of = |stmt: usize| ranges.partition_point(|r| r.end <= stmt) as u32;
    let count = ranges.len() as u32;
    let successors = |(index, range): (usize, &Range<usize>)| {
        let last = &flows[range.end - 1];
        let jumps = last.labels.iter().map(|&l| block_of(places[l as usize]));
        let next = last.falls.then_some(index as u32 + 1);
        let mut all: Vec<u32> = vec![];
        for block in jumps.chain(next).filter(|&b| b < count) {
            if !all.contains(&block) {
                all.push(block);
            }
        }
        all
    };
    ranges.iter().enumerate().map(successors).collect()
}

/// Blocks after which the function may be over: returns, and the end of the text.
fn returns(ranges: &[Range<usize>], flows: &[Flow]) -> Vec<bool> {
    let over = |r: &Range<usize>| flows[r.end - 1].returns || (r.end == flows.len() && flows[r.end - 1].falls);
    ranges.iter().map(over).collect()
}

/// All blocks, each loop contiguous with its header first. Blocks that cannot be reached come last.
fn weak_topological_order(graph: &[Vec<u32>]) -> Vec<u32> {
    let predecessors = reverse(graph);
    let reachable = reachable_from(graph, 0);
    let mut order = vec![];
    // Work still to be ordered, the next part last.
    let mut parts: Vec<Vec<u32>> = vec![(0..graph.len() as u32).filter(|&b| reachable[b as usize]).collect()];
    let mut inside = vec![false; graph.len()];
    while let Some(part) = parts.pop() {
        if let [block] = part[..] {
            order.push(block);
            continue;
        }
        let mut components = strongly_connected(graph, &part, &mut inside);
        if components.len() > 1 || part.is_empty() {
            parts.append(&mut components);
            continue;
        }
        let header = header(&part, &predecessors, &mut inside);
        order.push(header);
        let rest: Vec<u32> = part.into_iter().filter(|&b| b != header).collect();
        parts.append(&mut strongly_connected(graph, &rest, &mut inside));
    }
    order.extend((0..graph.len() as u32).filter(|&b| !reachable[b as usize]));
    order
}

/// Where a loop is entered: its first block with a predecessor outside, or the function's entry.
fn header(part: &[u32], predecessors: &[Vec<u32>], inside: &mut [bool]) -> u32 {
    part.iter().for_each(|&b| inside[b as usize] = true);
    let entered = |&&b: &&u32| b == 0 || predecessors[b as usize].iter().any(|&p| !inside[p as usize]);
    let header = part.iter().find(entered).unwrap_or(&part[0]);
    part.iter().for_each(|&b| inside[b as usize] = false);
    *header
}

/// Strongly connected components of the subgraph `part` (sorted), last in topological order first; each one sorted.
/// Tarjan's algorithm with its own stack. `inside` is all false before and after.
fn strongly_connected(graph: &[Vec<u32>], part: &[u32], inside: &mut [bool]) -> Vec<Vec<u32>> {
    part.iter().for_each(|&b| inside[b as usize] = true);
    let mut tarjan = Tarjan { graph, inside, number: Default::default(), stack: vec![], components: vec![] };
    // Roots visited later come earlier in the order, so begin with the last one in the text.
    for &root in part.iter().rev() {
        tarjan.visit(root);
    }
    let components = tarjan.components;
    part.iter().for_each(|&b| inside[b as usize] = false);
    components
}

struct Tarjan<'a> {
    graph: &'a [Vec<u32>],
    inside: &'a [bool],
    /// Discovery number and lowest number reached; `u32::MAX` once the component is known.
    number: std::collections::HashMap<u32, (u32, u32)>,
    stack: Vec<u32>,
    components: Vec<Vec<u32>>,
}

impl Tarjan<'_> {
    fn enter(&mut self, block: u32, path: &mut Vec<(u32, usize)>) {
        let number = self.number.len() as u32;
        self.number.insert(block, (number, number));
        self.stack.push(block);
        path.push((block, 0));
    }

    fn lower(&mut self, block: u32, low: u32) {
        if let Some((_, lowest)) = self.number.get_mut(&block) {
            *lowest = (*lowest).min(low);
        }
    }

    fn visit(&mut self, root: u32) {
        if self.number.contains_key(&root) {
            return;
        }
        let mut path = vec![];
        self.enter(root, &mut path);
        while let Some((block, edge)) = path.last_mut() {
            let block = *block;
            if let Some(&next) = self.graph[block as usize].get(*edge) {
                *edge += 1;
                if !self.inside[next as usize] {
                    continue;
                }
                match self.number.get(&next) {
                    Some(&(number, _)) => self.lower(block, number),
                    None => self.enter(next, &mut path),
                }
                continue;
            }
            path.pop();
            let (number, lowest) = self.number[&block];
            if let Some(&(parent, _)) = path.last() {
                self.lower(parent, lowest);
            }
            if number == lowest {
                self.finish(block);
            }
        }
    }

    fn finish(&mut self, root: u32) {
        let from = self.stack.iter().rposition(|&b| b == root).unwrap_or(0);
        let mut component = self.stack.split_off(from);
        for block in &component {
            self.number.insert(*block, (u32::MAX, u32::MAX));
        }
        component.sort_unstable();
        self.components.push(component);
    }
}

fn reverse(graph: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let mut reversed = vec![vec![]; graph.len()];
    for (block, successors) in graph.iter().enumerate() {
        for &next in successors {
            reversed[next as usize].push(block as u32);
        }
    }
    reversed
}

fn reachable_from(graph: &[Vec<u32>], start: u32) -> Vec<bool> {
    let mut seen = vec![false; graph.len()];
    let mut todo = if graph.is_empty() { vec![] } else { vec![start] };
    while let Some(block) = todo.pop() {
        if !std::mem::replace(&mut seen[block as usize], true) {
            todo.extend(&graph[block as usize]);
        }
    }
    seen
}

/// Immediate post-dominators, by Cooper, Harvey and Kennedy's iteration over the reversed graph with one virtual end.
fn post_dominators(graph: &[Vec<u32>], returns: &[bool]) -> Vec<Option<u32>> {
    let end = graph.len() as u32;
    let mut forward: Vec<Vec<u32>> = graph.to_vec();
    for (block, successors) in forward.iter_mut().enumerate() {
        if returns[block] {
            successors.push(end);
        }
    }
    forward.push(vec![]);
    let order = post_order(&reverse(&forward), end);
    let mut number = vec![None; forward.len()];
    for (place, &block) in order.iter().enumerate() {
        number[block as usize] = Some(place);
    }
    let mut dominator: Vec<Option<u32>> = vec![None; forward.len()];
    dominator[end as usize] = Some(end);
    let mut changed = true;
    while std::mem::take(&mut changed) {
        for &block in order.iter().rev().filter(|&&b| b != end) {
            let known = forward[block as usize].iter().filter(|&&s| dominator[s as usize].is_some());
            let new = known.copied().reduce(|a, b| meet(a, b, &number, &dominator));
            changed |= new != dominator[block as usize];
            dominator[block as usize] = new;
        }
    }
    dominator.truncate(graph.len());
    dominator.into_iter().map(|d| d.filter(|&d| d != end)).collect()
}

/// The nearest common post-dominator of two blocks.
fn meet(mut a: u32, mut b: u32, number: &[Option<usize>], dominator: &[Option<u32>]) -> u32 {
    while a != b {
        let behind = if number[a as usize] < number[b as usize] { &mut a } else { &mut b };
        match dominator[*behind as usize] {
            Some(up) => *behind = up,
            None => break,
        }
    }
    a
}

/// Blocks reachable from `start`, each after those first reached through it.
fn post_order(graph: &[Vec<u32>], start: u32) -> Vec<u32> {
    let mut seen = vec![false; graph.len()];
    let mut path = vec![(start, 0)];
    let mut order = vec![];
    seen[start as usize] = true;
    while let Some((block, edge)) = path.last_mut() {
        match graph[*block as usize].get(*edge) {
            Some(&next) => {
                *edge += 1;
                if !std::mem::replace(&mut seen[next as usize], true) {
                    path.push((next, 0));
                }
            }
            None => {
                order.push(*block);
                path.pop();
            }
        }
    }
    order
}

#[cfg(test)]
#[path = "cfg_tests.rs"]
mod tests;
