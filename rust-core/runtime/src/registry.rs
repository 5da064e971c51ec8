//! Node types by name.

use crate::error::{Code, Error, Problems, Result};
use crate::node::Instance;
use crate::schema;
use indexmap::IndexMap;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map as JsonMap, Value as Json, json};
use std::sync::{Arc, OnceLock};

/// Makes a fresh instance of a node for a run; the parameters are already inside.
pub type Factory = Arc<dyn Fn() -> Instance + Send + Sync>;

/// What a person wants to know of a node type.
#[derive(Clone, Debug)]
pub struct About {
    /// Its name, without the ending `Node`, which manifests may add.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// What values it takes.
    pub takes: &'static str,
    /// What values it gives.
    pub gives: &'static str,
    /// Whether one value may take it more than about 100 microseconds, so that it must not run on
    /// a thread that has other things to do.
    pub heavy: bool,
    /// `{"params": {...}, "input": [...], "output": [...]}`; input and output where JSON can hold
    /// them. A test runs it.
    pub example: Json,
}

/// What nodes of the host's do besides processing values. They are not asked for the rest.
#[derive(Clone, Copy, Debug)]
pub struct HostTasks {
    /// To acquire what they need.
    pub initialize: bool,
    /// To emit what they still hold, at the end of input.
    pub flush: bool,
    /// To forget what they hold, when what was in flight is discarded.
    pub interrupt: bool,
    /// To release what they hold.
    pub cleanup: bool,
}

impl HostTasks {
    /// Everything.
    pub const ALL: HostTasks =
        HostTasks { initialize: true, flush: true, interrupt: true, cleanup: true };
}

/// A kind of node.
pub struct NodeType {
    name: Box<str>,
    about: About,
    stateless: bool,
    /// None takes any parameters. Made when it is first needed: a process uses few of the types.
    schema: OnceLock<Option<Json>>,
    make_schema: fn() -> Option<Json>,
    host_tasks: HostTasks,
    prepare: Box<dyn Fn(Json) -> Result<Factory> + Send + Sync>,
}

impl NodeType {
    /// A node type with parameters of the type `P`, which `make` turns into an instance.
    ///
    /// The schema of `P` must need no word of JSON Schema that the check does not know, and have a
    /// default for every parameter that may be left out (its type must implement Serialize).
    /// Whatever asks for the schema panics if not, such as [`Registry::to_json`].
    pub fn new<P>(about: About, make: fn(&P) -> Instance) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    {
        let prepare = move |params| {
            let params: P = serde_json::from_value(params)
                .map_err(|e| Error::new(Code::Manifest, format!("parameters: {e}")))?;
            Ok(Arc::new(move || make(&params)) as Factory)
        };
        let name = about.name.into();
        let prepare = Box::new(prepare);
        let (schema, make_schema) = (OnceLock::new(), || Some(schema_of::<P>()));
        let host_tasks = HostTasks::ALL;
        NodeType { name, about, stateless: false, schema, make_schema, host_tasks, prepare }
    }

    /// A node type that the host implements, with any parameters: [`crate::Run::take_work`] hands
    /// out what its nodes have to do.
    pub fn host(name: impl Into<Box<str>>) -> Self {
        let about = About {
            name: "",
            summary: "A node of the host's.",
            takes: "any value",
            gives: "any value",
            heavy: false,
            example: json!({"params": {}}),
        };
        let prepare = Box::new(|_| Ok(Arc::new(|| Instance::Host) as Factory));
        let (schema, make_schema) = (OnceLock::new(), || None);
        let host_tasks = HostTasks::ALL;
        let name = name.into();
        NodeType { name, about, stateless: false, schema, make_schema, host_tasks, prepare }
    }

    /// A node type from outside, whose parameters are described by `schema`; None for any.
    /// `prepare` is given them with the defaults of those that were left out.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for a schema that is no object of JSON Schema, or needs more of it than the
    /// check knows.
    pub fn foreign(
        name: impl Into<Box<str>>,
        heavy: bool,
        schema: Option<Json>,
        prepare: impl Fn(Json) -> Result<Factory> + Send + Sync + 'static,
    ) -> Result<Self> {
        if let Some(schema) = &schema {
            schema::check_foreign(schema)?;
        }
        let defaults = schema.as_ref().map_or_else(JsonMap::new, schema::defaults);
        let mut kind = NodeType::host(name);
        kind.about.heavy = heavy;
        kind.schema = OnceLock::from(schema);
        kind.prepare = Box::new(move |mut params| {
            if let Some(params) = params.as_object_mut() {
                for (name, value) in &defaults {
                    params.entry(name.as_str()).or_insert_with(|| value.clone());
                }
            }
            prepare(params)
        });
        Ok(kind)
    }

    /// Declares what nodes of the host's do; without it they do everything.
    pub fn host_tasks(mut self, tasks: HostTasks) -> Self {
        self.host_tasks = tasks;
        self
    }

    /// What nodes of this type do, if they are the host's.
    pub(crate) fn tasks(&self) -> HostTasks {
        self.host_tasks
    }

    /// Declares that a node of this type remembers nothing from one value to the next and gives
    /// nothing at the end of input, so that several instances may share the work.
    pub fn stateless(mut self) -> Self {
        self.stateless = true;
        self
    }

    /// Whether several instances may share the work.
    pub fn is_stateless(&self) -> bool {
        self.stateless
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a person wants to know of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Made when it is first needed, as that takes time.
    fn known_schema(&self) -> Option<&Json> {
        self.schema.get_or_init(self.make_schema).as_ref()
    }

    /// The JSON Schema of its parameters; null for any.
    pub fn schema(&self) -> &Json {
        self.known_schema().unwrap_or(&Json::Null)
    }

    /// Checks parameters that stand at `pointer` in a manifest; adds every problem to `problems`.
    pub fn check(&self, params: &JsonMap<String, Json>, pointer: &str, problems: &mut Problems) {
        if let Some(schema) = self.known_schema() {
            schema::check(schema, params, pointer, problems);
        }
    }

    /// Turns parameters that passed [`NodeType::check`] into something that makes instances.
    ///
    /// # Errors
    /// `RM_E_MANIFEST` for what a schema cannot say.
    pub fn prepare(&self, params: Json) -> Result<Factory> {
        (self.prepare)(params)
    }

    /// Everything about it as one JSON object, the entry of the catalogue of nodes.
    pub fn to_json(&self) -> Json {
        let About { name: _, summary, takes, gives, heavy, example } = &self.about;
        json!({"name": self.name, "summary": summary, "takes": takes, "gives": gives,
               "heavy": heavy, "stateless": self.stateless, "params": self.schema(),
               "example": example})
    }
}

/// The JSON Schema of parameters, as the check needs it.
fn schema_of<P: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = Json::from(settings.into_generator().into_root_schema_for::<P>());
    if let Some(object) = schema.as_object_mut() {
        object.shift_remove("title");
        object.entry("properties").or_insert_with(|| json!({}));
    }
    let name = P::schema_name();
    if let Some(word) = schema::check_vocabulary(&schema) {
        panic!("the schema of {name} uses what the check does not know: {word}");
    }
    if let Some(parameter) = schema::without_default(&schema) {
        panic!("the schema of {name} does not tell the default of {parameter}");
    }
    schema
}

/// The node types that manifests may name.
#[derive(Clone, Default)]
pub struct Registry(IndexMap<Box<str>, Arc<NodeType>>);

impl Registry {
    /// Adds node types. A later one of the same name replaces the earlier.
    pub fn add<T: Into<Arc<NodeType>>>(&mut self, types: impl IntoIterator<Item = T>) {
        let types = types.into_iter().map(Into::into);
        self.0.extend(types.map(|kind: Arc<NodeType>| (kind.name.clone(), kind)));
    }

    /// The type of this name; `PassThrough` and `PassThroughNode` are the same.
    pub fn get(&self, name: &str) -> Option<&Arc<NodeType>> {
        let short = || name.strip_suffix("Node").and_then(|short| self.0.get(short));
        self.0.get(name).or_else(short)
    }

    /// Whether a type of this name would be the same as one that is there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some() || self.get(&format!("{name}Node")).is_some()
    }

    /// All names, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(|name| &**name)
    }

    /// The catalogue: an array with an entry for every type.
    pub fn to_json(&self) -> Json {
        self.0.values().map(|kind| kind.to_json()).collect()
    }
}
