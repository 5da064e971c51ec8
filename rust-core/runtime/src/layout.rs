//! Which nodes of a plan run as one.
//!
//! A node that is heavy, that waits, that the host implements, or that has several instances is a
//! stage of its own; so are the nodes at both ends of a connection with a queue of its own apart
//! from each other. All the other connections cost nothing: what they hold together is one stage.
//! A plan of cheap nodes is a single one.

use crate::manifest::{Edge, PlanNode};
use crate::node::Kind;
use crate::queue::Bounds;

/// The stages of a plan and the connections between them.
pub(crate) struct Layout {
    /// Upstream before downstream.
    pub stages: Vec<Stage>,
    /// For every node its stage, and its place in there.
    pub places: Vec<(usize, usize)>,
    /// For every node its place in the order of the plan.
    pub ranks: Vec<usize>,
    /// The connections between stages, and those through which sources get the input.
    pub links: Vec<Link>,
    /// Those through which sources get the input.
    pub feeds: Vec<usize>,
    /// Whether there are nodes that must not run on a thread that has other things to do.
    pub threaded: bool,
}

/// How a stage is run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Role {
    /// By calls.
    Sync,
    /// By futures.
    Async,
    /// By whoever takes its work.
    Host,
    /// By so many instances.
    Crew(usize),
}

pub(crate) struct Stage {
    /// In the order of the plan.
    pub nodes: Vec<usize>,
    pub role: Role,
    /// The rank of its first node.
    pub first: usize,
    /// For every node where its values come from, in the order of the connections.
    pub inputs: Vec<Vec<Input>>,
    /// For every node how many others in this stage take what it gives.
    pub readers: Vec<usize>,
    /// For every node which of `outs` take what it gives.
    pub leads: Vec<Vec<usize>>,
    /// Links that lead here: its ports.
    pub ins: Vec<usize>,
    /// Links that lead away.
    pub outs: Vec<usize>,
    /// Whether a link to or from it has bounds of its own, so that packets must be taken and given
    /// one by one to keep them.
    pub bounded: bool,
    /// How many of its nodes are sinks.
    pub sinks: usize,
}

/// Where a node of a stage gets values from.
#[derive(Clone, Copy)]
pub(crate) enum Input {
    /// The node at this place in the stage.
    Local(usize),
    /// This port of the stage.
    Port(usize),
    /// The input of the run, which comes through this port unless it was there from the start.
    Feed(usize),
}

pub(crate) struct Link {
    /// None for the input of the run.
    pub from: Option<usize>,
    pub to: usize,
    pub to_stage: usize,
    pub bounds: Bounds,
}

impl Layout {
    pub fn new(nodes: &[PlanNode], order: &[usize], edges: &[Edge]) -> Layout {
        let alone = |node: usize| nodes[node].kind != Kind::Cheap || nodes[node].parallelism > 1;
        let apart = |edge: &Edge| edge.queue.is_some() || alone(edge.from) || alone(edge.to);
        let mut incoming: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        edges.iter().enumerate().for_each(|(at, edge)| incoming[edge.to].push(at));

        // How many boundaries lie before a node, on the way with the most of them.
        let mut levels = vec![0; nodes.len()];
        for &node in order {
            let above = incoming[node].iter().map(|&at| {
                let edge = &edges[at];
                levels[edge.from] + usize::from(apart(edge))
            });
            levels[node] = above.max().unwrap_or(0);
        }

        // Stages as the trees of a union-find.
        let mut parents: Vec<usize> = (0..nodes.len()).collect();
        fn root(parents: &mut [usize], mut node: usize) -> usize {
            while parents[node] != node {
                parents[node] = parents[parents[node]];
                node = parents[node];
            }
            node
        }
        let mut unite = |a: usize, b: usize| {
            let (a, b) = (root(&mut parents, a), root(&mut parents, b));
            parents[a] = b;
        };
        for edge in edges.iter().filter(|&edge| !apart(edge)) {
            if levels[edge.from] == levels[edge.to] {
                unite(edge.from, edge.to);
            }
        }
        let mut ground = (0..nodes.len()).filter(|&node| levels[node] == 0 && !alone(node));
        if let Some(first) = ground.next() {
            ground.for_each(|node| unite(first, node));
        }

        // Numbered by level, and within a level by their first nodes in the order of the plan.
        let mut found: Vec<(usize, usize)> = Vec::new();
        let mut numbers = vec![usize::MAX; nodes.len()];
        for &node in order {
            let root = root(&mut parents, node);
            if numbers[root] == usize::MAX {
                numbers[root] = found.len();
                found.push((levels[node], root));
            }
        }
        found.sort_by_key(|&(level, root)| (level, numbers[root]));
        for (number, &(_, root)) in found.iter().enumerate() {
            numbers[root] = number;
        }

        let mut stages: Vec<Stage> = found.iter().map(|_| Stage::default()).collect();
        let mut places = vec![(0, 0); nodes.len()];
        let mut ranks = vec![0; nodes.len()];
        let (mut links, mut feeds) = (Vec::new(), Vec::new());
        for (rank, &node) in order.iter().enumerate() {
            let number = numbers[root(&mut parents, node)];
            ranks[node] = rank;
            places[node] = (number, stages[number].nodes.len());
            let mut inputs = Vec::new();
            for &at in &incoming[node] {
                let edge = &edges[at];
                let (from_stage, from) = places[edge.from];
                if from_stage == number {
                    stages[number].readers[from] += 1;
                    inputs.push(Input::Local(from));
                    continue;
                }
                let upstream = &mut stages[from_stage];
                upstream.leads[from].push(upstream.outs.len());
                upstream.outs.push(links.len());
                upstream.bounded |= edge.queue.is_some();
                let stage = &mut stages[number];
                inputs.push(Input::Port(stage.ins.len()));
                stage.ins.push(links.len());
                stage.bounded |= edge.queue.is_some();
                links.push(Link {
                    from: Some(edge.from),
                    to: node,
                    to_stage: number,
                    bounds: edge.queue.unwrap_or_default(),
                });
            }
            let stage = &mut stages[number];
            if incoming[node].is_empty() {
                inputs.push(Input::Feed(stage.ins.len()));
                stage.ins.push(links.len());
                feeds.push(links.len());
                let bounds = Bounds::default();
                links.push(Link { from: None, to: node, to_stage: number, bounds });
            }
            if stage.nodes.is_empty() {
                stage.first = rank;
                stage.role = match (nodes[node].kind, nodes[node].parallelism) {
                    (Kind::Host, _) => Role::Host,
                    (_, count @ 2..) => Role::Crew(count),
                    (Kind::Async, _) => Role::Async,
                    (Kind::Cheap | Kind::Heavy, _) => Role::Sync,
                };
            }
            stage.nodes.push(node);
            stage.inputs.push(inputs);
            stage.readers.push(0);
            stage.leads.push(Vec::new());
            stage.sinks += usize::from(nodes[node].consumers == 0);
        }
        let threaded = nodes.iter().any(|node| {
            matches!(node.kind, Kind::Heavy | Kind::Async)
                || (node.parallelism > 1 && node.kind != Kind::Host)
        });
        Layout { stages, places, ranks, links, feeds, threaded }
    }
}

impl Default for Stage {
    fn default() -> Self {
        Stage {
            nodes: Vec::new(),
            role: Role::Sync,
            first: 0,
            inputs: Vec::new(),
            readers: Vec::new(),
            leads: Vec::new(),
            ins: Vec::new(),
            outs: Vec::new(),
            bounded: false,
            sinks: 0,
        }
    }
}
