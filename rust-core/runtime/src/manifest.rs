//! Manifest v1: strict reading, with every problem reported at once.

use crate::error::{Code, Error, Problems, Result};
use crate::json::{parse_plain, push_pointer, to_plain};
use crate::layout::Layout;
use crate::limits::Limits;
use crate::node::Kind;
use crate::queue::{Bounds, Policy};
use crate::registry::{Factory, NodeType, Registry};
use crate::schema::{self, did_you_mean, shorten};
use crate::value::{Map, Value};
use serde_json::{Value as Json, json};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const IS_TEXT: &str = "a manifest is JSON text (RFC 8259) in UTF-8";

const NODE_KEYS: [&str; 7] =
    ["id", "node_type", "params", "join", "on_error", "timeout", "parallelism"];

/// What is allowed for a key of a node or a connection, as for a parameter of a node.
macro_rules! settings {
    ($($name:ident = $schema:tt;)*) => {
        $(static $name: LazyLock<Json> = LazyLock::new(|| json!($schema));)*
    };
}

settings! {
    JOIN = {"enum": ["any", "zip", "latest", {"by_pts": 0.02}]};
    BY_PTS = {"type": "number", "minimum": 0};
    ON_ERROR = {"enum": ["fail", "skip", "passthrough", {"retry": 3, "backoff": 0.1}]};
    RETRY = {"type": "integer", "minimum": 1, "maximum": 100};
    BACKOFF = {"type": "number", "minimum": 0, "maximum": 3600};
    TIMEOUT = {"type": "number", "exclusiveMinimum": 0};
    PARALLELISM = {"type": "integer", "minimum": 1, "maximum": 64};
    ITEMS = {"type": "integer", "minimum": 1, "maximum": 1_000_000};
    BYTES = {"type": "integer", "minimum": 1};
    MS = {"type": "integer", "minimum": 0};
    POLICY = {"enum": ["block", "drop_oldest", "drop_newest", "error"]};
}

/// A manifest that was found good, ready to be run any number of times.
pub struct Plan {
    pub(crate) nodes: Vec<PlanNode>,
    /// Every node once, upstream before downstream; where the graph leaves a choice, the node that
    /// stands first in the manifest.
    pub(crate) order: Vec<usize>,
    /// What of it runs as one.
    pub(crate) layout: Layout,
    /// [`Limits::values`].
    pub(crate) values: usize,
    name: Option<String>,
}

pub(crate) struct PlanNode {
    pub id: String,
    /// As the manifest spells it.
    pub node_type: String,
    pub known: Arc<NodeType>,
    pub params: Json,
    pub factory: Factory,
    pub kind: Kind,
    pub join: Join,
    pub on_error: OnError,
    /// The time for one value.
    pub timeout: Option<Duration>,
    /// How many instances work at the same time.
    pub parallelism: usize,
    /// Upstream nodes, in the order of the connections.
    pub inputs: Vec<usize>,
    /// How many connections lead away; none for a sink.
    pub consumers: usize,
}

/// How the values of several connections become those that a node processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Join {
    /// Each by itself, by item and then by the order of the connections.
    #[default]
    Any,
    /// A list with one of each connection, as soon as each has one.
    Zip,
    /// A list for every value of the first connection, with the latest of the others.
    Latest,
    /// Lists of values whose times lie no further from the first connection's than this, in
    /// microseconds.
    ByPts(i64),
}

/// What happens to a value that a node fails on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum OnError {
    /// It ends the run.
    #[default]
    Fail,
    /// It is dropped.
    Skip,
    /// It goes on as it came.
    PassThrough,
    /// It is tried again, up to so many times, first after this time and then after twice the
    /// last; then it ends the run.
    Retry(u32, Duration),
}

/// A connection from one place in the list of nodes to another.
pub(crate) struct Edge {
    pub from: usize,
    pub to: usize,
    /// Its place among the connections of the manifest.
    index: usize,
    /// If it was given a queue.
    pub queue: Option<Bounds>,
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

    /// Whether there are nodes that the host implements.
    pub fn is_hosted(&self) -> bool {
        self.nodes.iter().any(|node| node.kind == Kind::Host)
    }

    /// What it consists of:
    /// `{"name", "stages", "threaded", "nodes": [{"id", "node_type", "heavy", "source", "sink"}]}`,
    /// with the nodes in the order of the manifest.
    pub fn to_json(&self) -> Json {
        let nodes: Vec<Json> = self
            .nodes
            .iter()
            .map(|node| {
                json!({"id": node.id, "node_type": node.node_type, "heavy": node.known.about().heavy,
                       "source": node.is_source(), "sink": node.consumers == 0})
            })
            .collect();
        let (stages, threaded) = (self.layout.stages.len(), self.layout.threaded);
        json!({"name": self.name, "stages": stages, "threaded": threaded, "nodes": nodes})
    }

    /// How many numbers the packed counts of a run have.
    pub(crate) fn counts(&self) -> usize {
        3 + 8 * self.nodes.len() + 3 * self.layout.links.len()
    }

    /// What packed counts of a run of this plan say ([`crate::Run::counts`]), in the form of
    /// [`crate::Run::report`].
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` if these are not the counts of a run of this plan.
    pub fn report(&self, counts: &[u64]) -> Result<Value> {
        match counts.len() == self.counts() {
            true => Ok(self.describe(counts)),
            false => {
                Err(Error::new(Code::Argument, "the counts are not of a run of this pipeline"))
            }
        }
    }

    /// As [`Plan::report`], of counts that are as many as they have to be.
    pub(crate) fn describe(&self, counts: &[u64]) -> Value {
        let count = |number: u64| Value::Int(number as i64);
        let micros = |nanos: f64| Value::Float(nanos / 1_000.0);
        let (run, counts) = counts.split_at(3);
        let (nodes, queues) = counts.split_at(8 * self.nodes.len());
        let all = || self.nodes.iter().zip(nodes.chunks_exact(8));
        let sinks = all().filter(|(node, _)| node.consumers == 0);
        let nodes = all().map(|(node, own)| {
            let entries = [
                ("node_type", Value::text(&node.node_type)),
                ("items_in", count(own[0])),
                ("items_out", count(own[1])),
                ("errors", count(own[2])),
                ("retries", count(own[3])),
                ("dropped", count(own[4])),
                ("time_us", micros(own[5] as f64)),
                ("p50_us", micros(f64::from_bits(own[6]))),
                ("p99_us", micros(f64::from_bits(own[7]))),
            ];
            (&node.id, Value::map(entries))
        });
        let links = self.layout.links.iter().zip(queues.chunks_exact(3));
        let queues = links.filter_map(|(link, own)| {
            let id = |node: usize| Value::text(&self.nodes[node].id);
            Some(Value::map([
                ("from", id(link.from?)),
                ("to", id(link.to)),
                ("fill", count(own[0])),
                ("peak", count(own[1])),
                ("dropped", count(own[2])),
            ]))
        });
        Value::map([
            ("items", count(run[0])),
            ("items_done", count(run[1])),
            ("time_us", micros(run[2] as f64)),
            ("sinks", Value::map(sinks.map(|(node, own)| (&node.id, count(own[1]))))),
            ("nodes", Value::map(nodes)),
            ("queues", Value::list(queues.collect())),
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
        let before = self.problems.count();
        let edges = self.connections(document.get("connections"), &ids);
        if self.problems.count() == before {
            self.joins(document.get("nodes"), &nodes, &edges);
        }
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
        self.known_keys(node, &at, &NODE_KEYS);
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
        let made = node_type
            .as_deref()
            .and_then(|node_type| self.factory(node_type, node.get("params"), &at));
        let join = self.join(node.get("join"), &at);
        let on_error = self.on_error(node.get("on_error"), &at);
        let timeout = self.setting(node, &at, "timeout", &TIMEOUT).and_then(|time| time.as_f64());
        let parallelism = self.setting(node, &at, "parallelism", &PARALLELISM);
        let parallelism = parallelism.and_then(|count| count.as_u64()).unwrap_or(1) as usize;
        if parallelism > 1
            && let Some(node_type) = node_type.as_deref()
            && self.registry.get(node_type).is_some_and(|known| !known.is_stateless())
        {
            let message = format!(
                "\"parallelism\" is for node types that are known to keep no state, and \
                 {node_type} is not"
            );
            self.problem(message, &format!("{at}/parallelism"), "remove it, or set it to 1");
        }
        for problem in self.problems.since(before) {
            problem.node.clone_from(&id);
            problem.node_type.clone_from(&node_type);
        }
        let (known, params, factory) = made?;
        Some(PlanNode {
            id: id?,
            node_type: node_type?,
            kind: Kind::of(&known, &factory),
            known,
            params,
            factory,
            join,
            on_error,
            // A time beyond what the clock can say is no limit.
            timeout: timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            parallelism,
            inputs: Vec::new(),
            consumers: 0,
        })
    }

    /// The value of a key, if it is there and as the schema says.
    fn setting(
        &mut self,
        object: &Map,
        at: &str,
        key: &str,
        schema: &LazyLock<Json>,
    ) -> Option<Json> {
        let value = to_plain(object.get(key)?);
        let before = self.problems.count();
        schema::check_value(schema, &value, &format!("{at}/{key}"), key, &mut self.problems);
        (self.problems.count() == before).then_some(value)
    }

    /// The value of a key that may be a word or an object: the word, or the object and its place.
    fn word_or_object<'v>(
        &mut self,
        value: Option<&'v Value>,
        at: &str,
        key: &str,
        schema: &LazyLock<Json>,
        keys: &[&str],
    ) -> Option<Result<String, (&'v Map, String)>> {
        let at = format!("{at}/{key}");
        if let Some(Value::Map(object)) = value {
            self.known_keys(object, &at, keys);
            return Some(Err((object, at)));
        }
        let word = to_plain(value?);
        schema::check_value(schema, &word, &at, key, &mut self.problems);
        word.as_str().map(|word| Ok(word.to_owned()))
    }

    /// As [`Reader::setting`], of a key that must be there.
    fn required(
        &mut self,
        object: &Map,
        at: &str,
        key: &str,
        schema: &LazyLock<Json>,
    ) -> Option<Json> {
        if !object.contains_key(key) {
            let hint = format!("add \"{key}\": {}", schema::expectation(schema));
            self.problem(format!("\"{key}\" is missing"), at, hint);
        }
        self.setting(object, at, key, schema)
    }

    fn join(&mut self, value: Option<&Value>, at: &str) -> Join {
        match self.word_or_object(value, at, "join", &JOIN, &["by_pts"]) {
            Some(Err((object, at))) => {
                let seconds = self.required(object, &at, "by_pts", &BY_PTS);
                let seconds = seconds.and_then(|seconds| seconds.as_f64()).unwrap_or_default();
                Join::ByPts((seconds * 1e6).round() as i64)
            }
            Some(Ok(word)) if word == "zip" => Join::Zip,
            Some(Ok(word)) if word == "latest" => Join::Latest,
            _ => Join::Any,
        }
    }

    fn on_error(&mut self, value: Option<&Value>, at: &str) -> OnError {
        match self.word_or_object(value, at, "on_error", &ON_ERROR, &["retry", "backoff"]) {
            Some(Err((object, at))) => {
                let times = self.required(object, &at, "retry", &RETRY);
                let backoff = self.setting(object, &at, "backoff", &BACKOFF);
                let backoff = backoff.and_then(|seconds| seconds.as_f64()).unwrap_or(0.1);
                OnError::Retry(
                    times.and_then(|times| times.as_u64()).unwrap_or_default() as u32,
                    Duration::try_from_secs_f64(backoff).unwrap_or_default(),
                )
            }
            Some(Ok(word)) if word == "skip" => OnError::Skip,
            Some(Ok(word)) if word == "passthrough" => OnError::PassThrough,
            _ => OnError::Fail,
        }
    }

    fn queue(&mut self, connection: &Map, at: &str) -> Option<Bounds> {
        let at = format!("{at}/queue");
        let object = match connection.get("queue")? {
            Value::Map(object) => object,
            other => {
                let message = format!("\"queue\" is an object, not {}", other.kind());
                self.problem(message, &at, r#"{"items": 64, "policy": "block"}"#);
                return None;
            }
        };
        self.known_keys(object, &at, &["items", "bytes", "ms", "policy"]);
        let mut number = |key, schema| self.setting(object, &at, key, schema)?.as_u64();
        let (items, bytes, ms) =
            (number("items", &ITEMS), number("bytes", &BYTES), number("ms", &MS));
        let policy = self.setting(object, &at, "policy", &POLICY);
        let default = Bounds::default();
        Some(Bounds {
            items: items.map_or(default.items, |items| items as usize),
            bytes: bytes.map_or(default.bytes, |bytes| bytes as usize),
            time: ms.filter(|&ms| ms > 0).map(Duration::from_millis),
            policy: match policy.as_ref().and_then(Json::as_str) {
                Some("drop_oldest") => Policy::DropOldest,
                Some("drop_newest") => Policy::DropNewest,
                Some("error") => Policy::Error,
                _ => Policy::Block,
            },
        })
    }

    /// A join where there is nothing to join.
    fn joins(&mut self, written: Option<&Value>, nodes: &[Option<PlanNode>], edges: &[Edge]) {
        let Some(Value::List(written)) = written else { return };
        let mut incoming = vec![0; nodes.len()];
        edges.iter().for_each(|edge| incoming[edge.to] += 1);
        for (index, (node, written)) in nodes.iter().zip(written.iter()).enumerate() {
            let joins = matches!(written, Value::Map(written) if written.contains_key("join"));
            if let Some(node) = node
                && joins
                && incoming[index] < 2
            {
                let (id, count) = (&node.id, incoming[index]);
                let message = format!(
                    "\"join\" is for nodes with several incoming connections, and \"{id}\" has {count}"
                );
                let problem = Error::new(Code::Manifest, message)
                    .at(format!("/nodes/{index}/join"))
                    .hint(format!("remove it, or connect more nodes to \"{id}\""))
                    .in_node(id, &node.node_type);
                self.problems.push(problem);
            }
        }
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
    ) -> Option<(Arc<NodeType>, Json, Factory)> {
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
        let known = known?.clone();
        let before = self.problems.count();
        known.check(params.as_object()?, &at, &mut self.problems);
        if self.problems.count() > before {
            return None;
        }
        match known.prepare(params.clone()) {
            Ok(factory) => Some((known, params, factory)),
            Err(error) => {
                self.problems.push(error.at(at));
                None
            }
        }
    }

    fn connections(
        &mut self,
        connections: Option<&Value>,
        ids: &HashMap<String, usize>,
    ) -> Vec<Edge> {
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
            self.known_keys(connection, &at, &["from", "to", "queue"]);
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
            let queue = self.queue(connection, &at);
            if let [Some(from), Some(to)] = ends {
                if seen.insert((from, to)) {
                    edges.push(Edge { from, to, index, queue });
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
        edges: Vec<Edge>,
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
        let layout = Layout::new(&nodes, &order, &edges);
        Some(Plan { nodes, order, layout, values: self.limits.values, name })
    }

    /// Reports this cycle, drops the connection that closes it, and looks for the next.
    fn report_cycles(
        &mut self,
        mut cycle: Vec<usize>,
        nodes: &[Option<PlanNode>],
        mut edges: Vec<Edge>,
    ) {
        loop {
            self.report_cycle(&cycle, nodes, &edges);
            if self.problems.is_full() {
                return;
            }
            let closing = (cycle[cycle.len() - 1], cycle[0]);
            edges.retain(|edge| (edge.from, edge.to) != closing);
            let (before, after) = neighbours(nodes.len(), &edges);
            match sorted(&before, &after) {
                Ok(_) => return,
                Err(next) => cycle = next,
            }
        }
    }

    fn report_cycle(&mut self, cycle: &[usize], nodes: &[Option<PlanNode>], edges: &[Edge]) {
        let id = |node: usize| match &nodes[node] {
            Some(node) => node.id.clone(),
            None => format!("/nodes/{node}"),
        };
        let mut names: Vec<String> = cycle.iter().map(|&node| id(node)).collect();
        names.push(id(cycle[0]));
        let (last, first) = (cycle[cycle.len() - 1], cycle[0]);
        let closing = edges.iter().find(|edge| (edge.from, edge.to) == (last, first));
        let at = closing.map_or(String::new(), |edge| format!("/connections/{}", edge.index));
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
fn neighbours(count: usize, edges: &[Edge]) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    let (mut before, mut after) = (vec![Vec::new(); count], vec![Vec::new(); count]);
    for &Edge { from, to, .. } in edges {
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
