//! Manifest v1: strict reading, with every problem reported at once.

use crate::error::{Code, Error, Problems, Result};
use crate::json::{parse_plain, push_pointer, to_plain};
use crate::limits::Limits;
use crate::registry::{Factory, Registry};
use crate::schema::{self, did_you_mean, shorten};
use crate::value::{Map, Value};
use serde_json::{Value as Json, json};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

const IS_TEXT: &str = "a manifest is JSON text (RFC 8259) in UTF-8";

/// A manifest that was found good, ready to be run any number of times.
pub struct Plan {
    pub(crate) nodes: Vec<PlanNode>,
    /// Every node once, upstream before downstream; where the graph leaves a choice, the node that
    /// stands first in the manifest.
    pub(crate) order: Vec<usize>,
    /// [`Limits::values`].
    pub(crate) values: usize,
    name: Option<String>,
}

pub(crate) struct PlanNode {
    pub id: String,
    /// As the manifest spells it.
    pub node_type: String,
    pub heavy: bool,
    pub factory: Factory,
    /// Upstream nodes, in the order of the connections.
    pub inputs: Vec<usize>,
    /// How many connections lead away; none for a sink.
    pub consumers: usize,
}

impl PlanNode {
    pub fn is_source(&self) -> bool {
        self.inputs.is_empty()
    }
}

impl Plan {
    /// Reads a manifest.
    ///
    /// # Errors
    /// `RM_E_LIMIT` for a manifest that is too large, `RM_E_JSON` for text that is not JSON, and
    /// `RM_E_MANIFEST` with all the problems of one that does not describe a pipeline.
    pub fn load(text: &[u8], registry: &Registry, limits: &Limits) -> Result<Plan> {
        if text.len() > limits.manifest_bytes {
            return Err(Error::new(
                Code::Limit,
                format!(
                    "the manifest has {} bytes; the limit is {}",
                    text.len(),
                    limits.manifest_bytes
                ),
            )
            .at("")
            .hint("pass data as input, not in the manifest"));
        }
        if let Err(error) = std::str::from_utf8(text) {
            let message = format!("the manifest is not UTF-8 at byte {}", error.valid_up_to());
            return Err(Error::new(Code::Utf8, message).at("").hint(IS_TEXT));
        }
        let (document, doubled) = parse_plain(text, limits.manifest_depth).map_err(|error| {
            let pointer = error.pointer.clone().unwrap_or_default();
            let hint = match error.code {
                Code::Limit => "flatten the parameters, or pass data as input",
                _ => IS_TEXT,
            };
            error.at(pointer).hint(hint)
        })?;
        let mut reader = Reader { registry, limits, problems: doubled };
        let plan = reader.read(&document);
        match (plan, reader.problems.into_error()) {
            (_, Some(error)) => Err(error),
            (Some(plan), None) => Ok(plan),
            (None, None) => Err(Error::new(Code::Internal, "the manifest is no plan")),
        }
    }

    /// The name from the metadata.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What it consists of:
    /// `{"name", "nodes": [{"id", "node_type", "heavy", "source", "sink"}]}`, in the order of the
    /// manifest.
    pub fn to_json(&self) -> Json {
        let nodes: Vec<Json> = self
            .nodes
            .iter()
            .map(|node| {
                json!({"id": node.id, "node_type": node.node_type, "heavy": node.heavy,
                       "source": node.is_source(), "sink": node.consumers == 0})
            })
            .collect();
        json!({"name": self.name, "nodes": nodes})
    }

    /// What packed counts of a run of this plan say ([`crate::Run::counts`]):
    /// `{"items", "items_done", "time_us", "sinks": {id: outputs}, "nodes": {id: {"node_type",
    /// "items_in", "items_out", "time_us"}}}`. For a node that waits the time includes the waiting.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` if these are not the counts of a run of this plan.
    pub fn report(&self, counts: &[u64]) -> Result<Value> {
        match counts.len() == 3 + 3 * self.nodes.len() {
            true => Ok(self.describe(counts)),
            false => {
                Err(Error::new(Code::Argument, "the counts are not of a run of this pipeline"))
            }
        }
    }

    /// As [`Plan::report`], of counts that are as many as they have to be.
    pub(crate) fn describe(&self, counts: &[u64]) -> Value {
        let count = |number: u64| Value::Int(number as i64);
        let micros = |nanos: u64| Value::Float(nanos as f64 / 1_000.0);
        let (run, counts) = counts.split_at(3);
        let all = || self.nodes.iter().zip(counts.chunks_exact(3));
        let sinks = all().filter(|(node, _)| node.consumers == 0);
        let nodes = all().map(|(node, counts)| {
            let entries = [
                ("node_type", Value::text(&node.node_type)),
                ("items_in", count(counts[0])),
                ("items_out", count(counts[1])),
                ("time_us", micros(counts[2])),
            ];
            (&node.id, Value::map(entries))
        });
        Value::map([
            ("items", count(run[0])),
            ("items_done", count(run[1])),
            ("time_us", micros(run[2])),
            ("sinks", Value::map(sinks.map(|(node, counts)| (&node.id, count(counts[1]))))),
            ("nodes", Value::map(nodes)),
        ])
    }
}

/// The nodes, an unusable one as None, and the place of each id.
type Nodes = (Vec<Option<PlanNode>>, HashMap<String, usize>);

struct Reader<'a> {
    registry: &'a Registry,
    limits: &'a Limits,
    problems: Problems,
}

impl Reader<'_> {
    fn problem(&mut self, message: impl Into<String>, pointer: &str, hint: impl Into<String>) {
        self.problems.push(Error::new(Code::Manifest, message).at(pointer).hint(hint));
    }

    fn read(&mut self, document: &Value) -> Option<Plan> {
        let Value::Map(document) = document else {
            let message = format!("a manifest is an object, not {}", document.kind());
            let hint = r#"{"version": "v1", "nodes": [...], "connections": [...]}"#;
            self.problem(message, "", hint);
            return None;
        };
        self.known_keys(document, "", &["version", "metadata", "nodes", "connections"]);
        match document.get("version") {
            Some(Value::Text(version)) if &**version == "v1" => {}
            Some(other) => {
                let message = format!("the version is {}; this library reads \"v1\"", brief(other));
                self.problem(message, "/version", "set it to \"v1\"");
            }
            None => self.problem("the manifest has no version", "", "add \"version\": \"v1\""),
        }
        let name = self.metadata(document.get("metadata"));
        let (nodes, ids) = self.nodes(document.get("nodes"))?;
        let edges = self.connections(document.get("connections"), &ids);
        self.assemble(name, nodes, edges)
    }

    fn known_keys(&mut self, object: &Map, pointer: &str, known: &[&str]) {
        for key in object.keys().filter(|key| !known.contains(&&***key)) {
            let mut at = pointer.to_owned();
            push_pointer(&mut at, key);
            let hint = self.problems.hint(|| did_you_mean(key, known.iter().copied(), ""));
            self.problem(format!("unknown key \"{key}\""), &at, hint);
        }
    }

    fn metadata(&mut self, metadata: Option<&Value>) -> Option<String> {
        let metadata = match metadata? {
            Value::Map(metadata) => metadata,
            other => {
                let message = format!("\"metadata\" is an object, not {}", other.kind());
                self.problem(message, "/metadata", "remove it, or write {\"name\": \"...\"}");
                return None;
            }
        };
        // Other keys belong to whoever writes the manifest.
        for key in ["name", "description", "created_at"] {
            if let Some(value) = metadata.get(key)
                && value.as_text().is_none()
                && !matches!(value, Value::Null)
            {
                let message = format!("\"{key}\" is text, not {}", value.kind());
                self.problem(message, &format!("/metadata/{key}"), "put it in quotes");
            }
        }
        metadata.get("name").and_then(Value::as_text).map(str::to_owned)
    }

    fn nodes(&mut self, nodes: Option<&Value>) -> Option<Nodes> {
        let hint = "add \"nodes\": [{\"id\": \"...\", \"node_type\": \"...\", \"params\": {}}]";
        let nodes = match nodes {
            Some(Value::List(nodes)) => nodes,
            Some(other) => {
                let message = format!("\"nodes\" is a list, not {}", other.kind());
                self.problem(message, "/nodes", hint);
                return None;
            }
            None => {
                self.problem("the manifest has no nodes", "", hint);
                return None;
            }
        };
        if nodes.is_empty() {
            self.problem("the manifest has no nodes", "/nodes", hint);
            return None;
        }
        if nodes.len() > self.limits.nodes {
            self.too_many("nodes", nodes.len(), self.limits.nodes);
            return None;
        }
        let mut ids = HashMap::new();
        let read = |(index, node)| self.node(index, node, &mut ids);
        Some((nodes.iter().enumerate().map(read).collect(), ids))
    }

    fn too_many(&mut self, what: &str, count: usize, limit: usize) {
        let message = format!("the manifest has {count} {what}; the limit is {limit}");
        let hint = "split the pipeline, or raise the limit of the runtime";
        let problem = Error::new(Code::Limit, message).at(format!("/{what}")).hint(hint);
        self.problems.push(problem);
    }

    fn node(
        &mut self,
        index: usize,
        node: &Value,
        ids: &mut HashMap<String, usize>,
    ) -> Option<PlanNode> {
        let at = format!("/nodes/{index}");
        let Value::Map(node) = node else {
            let message = format!("a node is an object, not {}", node.kind());
            self.problem(message, &at, "{\"id\": \"...\", \"node_type\": \"...\"}");
            return None;
        };
        self.known_keys(node, &at, &["id", "node_type", "params"]);
        let id = self.name(node, &at, "id", "a name of its own");
        let node_type = self.name(node, &at, "node_type", "one of the types of node");
        let before = self.problems.count();
        if let Some(id) = &id {
            match ids.get(id) {
                Some(&first) => {
                    let message = format!("the id \"{id}\" is taken by /nodes/{first}");
                    self.problem(message, &format!("{at}/id"), "give every node an id of its own");
                }
                None => {
                    ids.insert(id.clone(), index);
                }
            }
        }
        let factory = node_type
            .as_deref()
            .and_then(|node_type| self.factory(node_type, node.get("params"), &at));
        for problem in self.problems.since(before) {
            problem.node.clone_from(&id);
            problem.node_type.clone_from(&node_type);
        }
        let (heavy, factory) = factory?;
        Some(PlanNode {
            id: id?,
            node_type: node_type?,
            heavy,
            factory,
            inputs: Vec::new(),
            consumers: 0,
        })
    }

    /// The text of a key that must be there and must not be empty.
    fn name(&mut self, object: &Map, at: &str, key: &str, what: &str) -> Option<String> {
        let problem = match object.get(key) {
            Some(Value::Text(text)) if !text.is_empty() => return Some(text.to_string()),
            Some(Value::Text(_)) => (format!("\"{key}\" is empty"), format!("{at}/{key}")),
            Some(other) => {
                (format!("\"{key}\" is text, not {}", other.kind()), format!("{at}/{key}"))
            }
            None => (format!("\"{key}\" is missing"), at.to_owned()),
        };
        self.problem(problem.0, &problem.1, format!("\"{key}\" is {what}, as text"));
        None
    }

    fn factory(
        &mut self,
        node_type: &str,
        params: Option<&Value>,
        at: &str,
    ) -> Option<(bool, Factory)> {
        let known = self.registry.get(node_type);
        if known.is_none() {
            let (names, otherwise) = (self.registry.names(), "no node types are known");
            let hint = self.problems.hint(|| did_you_mean(node_type, names, otherwise));
            let message = format!("there is no node type \"{node_type}\"");
            self.problem(message, &format!("{at}/node_type"), hint);
        }
        let at = format!("{at}/params");
        let params = match params {
            None => Json::Object(serde_json::Map::new()),
            Some(params @ Value::Map(_)) => to_plain(params),
            Some(other) => {
                let message = format!("\"params\" is an object, not {}", other.kind());
                self.problem(message, &at, "write the parameters as {\"name\": value}");
                return None;
            }
        };
        let known = known?;
        let before = self.problems.count();
        schema::check(known.schema(), params.as_object()?, &at, &mut self.problems);
        if self.problems.count() > before {
            return None;
        }
        match known.prepare(params) {
            Ok(factory) => Some((known.about().heavy, factory)),
            Err(error) => {
                self.problems.push(error.at(at));
                None
            }
        }
    }

    /// Pairs of places in the list of nodes, with the index of the connection.
    fn connections(
        &mut self,
        connections: Option<&Value>,
        ids: &HashMap<String, usize>,
    ) -> Vec<(usize, usize, usize)> {
        let connections = match connections {
            None => return Vec::new(),
            Some(Value::List(connections)) => connections,
            Some(other) => {
                let message = format!("\"connections\" is a list, not {}", other.kind());
                self.problem(message, "/connections", "[{\"from\": \"...\", \"to\": \"...\"}]");
                return Vec::new();
            }
        };
        if connections.len() > self.limits.connections {
            self.too_many("connections", connections.len(), self.limits.connections);
            return Vec::new();
        }
        let mut known: Vec<(&str, usize)> = ids.iter().map(|(id, &at)| (&**id, at)).collect();
        known.sort_by_key(|&(_, place)| place);
        let known = known.iter().map(|&(id, _)| id);
        let mut edges = Vec::new();
        let mut seen = HashSet::new();
        for (index, connection) in connections.iter().enumerate() {
            let at = format!("/connections/{index}");
            let Value::Map(connection) = connection else {
                let message = format!("a connection is an object, not {}", connection.kind());
                self.problem(message, &at, "{\"from\": \"...\", \"to\": \"...\"}");
                continue;
            };
            self.known_keys(connection, &at, &["from", "to"]);
            let ends = ["from", "to"].map(|key| {
                let id = self.name(connection, &at, key, "the id of a node")?;
                let place = ids.get(&id).copied();
                if place.is_none() {
                    let otherwise = "there are no nodes with an id";
                    let hint = self.problems.hint(|| did_you_mean(&id, known.clone(), otherwise));
                    let message = format!("there is no node with the id \"{id}\"");
                    self.problem(message, &format!("{at}/{key}"), hint);
                }
                place
            });
            if let [Some(from), Some(to)] = ends {
                if seen.insert((from, to)) {
                    edges.push((from, to, index));
                } else {
                    self.problem("the same connection stands twice", &at, "remove one of the two");
                }
            }
        }
        edges
    }

    fn assemble(
        &mut self,
        name: Option<String>,
        nodes: Vec<Option<PlanNode>>,
        edges: Vec<(usize, usize, usize)>,
    ) -> Option<Plan> {
        let (before, after) = neighbours(nodes.len(), &edges);
        let order = match sorted(&before, &after) {
            Ok(order) => order,
            Err(cycle) => {
                self.report_cycles(cycle, &nodes, edges);
                return None;
            }
        };
        let mut nodes: Vec<PlanNode> = nodes.into_iter().collect::<Option<_>>()?;
        for (node, (before, after)) in nodes.iter_mut().zip(before.into_iter().zip(after)) {
            node.inputs = before;
            node.consumers = after.len();
        }
        Some(Plan { nodes, order, values: self.limits.values, name })
    }

    /// Reports this cycle, drops the connection that closes it, and looks for the next.
    fn report_cycles(
        &mut self,
        mut cycle: Vec<usize>,
        nodes: &[Option<PlanNode>],
        mut edges: Vec<(usize, usize, usize)>,
    ) {
        loop {
            self.report_cycle(&cycle, nodes, &edges);
            if self.problems.is_full() {
                return;
            }
            let closing = (cycle[cycle.len() - 1], cycle[0]);
            edges.retain(|&(from, to, _)| (from, to) != closing);
            let (before, after) = neighbours(nodes.len(), &edges);
            match sorted(&before, &after) {
                Ok(_) => return,
                Err(next) => cycle = next,
            }
        }
    }

    fn report_cycle(
        &mut self,
        cycle: &[usize],
        nodes: &[Option<PlanNode>],
        edges: &[(usize, usize, usize)],
    ) {
        let id = |node: usize| match &nodes[node] {
            Some(node) => node.id.clone(),
            None => format!("/nodes/{node}"),
        };
        let mut names: Vec<String> = cycle.iter().map(|&node| id(node)).collect();
        names.push(id(cycle[0]));
        let (last, first) = (cycle[cycle.len() - 1], cycle[0]);
        let closing = edges.iter().find(|(from, to, _)| (*from, *to) == (last, first));
        let at = closing.map_or(String::new(), |(_, _, index)| format!("/connections/{index}"));
        let names = shorten(names.join(" -> "), 1_000);
        let message = format!("the nodes form a cycle: {names}");
        let mut problem = Error::new(Code::Manifest, message)
            .at(at)
            .hint("remove one of the connections of the cycle");
        if let Some(node) = &nodes[first] {
            problem = problem.in_node(&node.id, &node.node_type);
        }
        self.problems.push(problem);
    }
}

/// For every node those that it waits for, and those that wait for it.
fn neighbours(count: usize, edges: &[(usize, usize, usize)]) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    let (mut before, mut after) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for &(from, to, _) in edges {
        before[to].push(from);
        after[from].push(to);
    }
    (before, after)
}

/// The nodes in the order of the plan, or a cycle of some.
fn sorted(before: &[Vec<usize>], after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let count = before.len();
    let mut waiting: Vec<usize> = before.iter().map(Vec::len).collect();
    let free = (0..count).filter(|&node| waiting[node] == 0).map(Reverse);
    let mut free: BinaryHeap<Reverse<usize>> = free.collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse(node)) = free.pop() {
        order.push(node);
        for &next in &after[node] {
            waiting[next] -= 1;
            if waiting[next] == 0 {
                free.push(Reverse(next));
            }
        }
    }
    match (0..count).find(|&node| waiting[node] > 0) {
        Some(start) => Err(find_cycle(start, before, &waiting)),
        None => Ok(order),
    }
}

/// A cycle among the nodes that still wait for another, in the direction of the connections,
/// beginning with its first node in the manifest.
fn find_cycle(start: usize, before: &[Vec<usize>], waiting: &[usize]) -> Vec<usize> {
    let mut walk = vec![start];
    let mut places = HashMap::from([(start, 0)]);
    loop {
        let here = walk[walk.len() - 1];
        // A node that waits has an upstream node that waits, so the walk ends in a cycle.
        let Some(&next) = before[here].iter().find(|&&node| waiting[node] > 0) else { return walk };
        if let Some(&place) = places.get(&next) {
            let mut cycle = walk.split_off(place);
            cycle.reverse();
            let first = (0..cycle.len()).min_by_key(|&at| cycle[at]).unwrap_or(0);
            cycle.rotate_left(first);
            return cycle;
        }
        places.insert(next, walk.len());
        walk.push(next);
    }
}

fn brief(value: &Value) -> String {
    match value {
        Value::Text(text) if text.chars().count() <= 40 => format!("\"{text}\""),
        Value::Int(number) => number.to_string(),
        other => other.kind().to_owned(),
    }
}
