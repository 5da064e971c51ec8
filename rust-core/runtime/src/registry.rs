//! Node types by name.

use crate::error::{Code, Error, Result};
use crate::node::Instance;
use crate::schema;
use indexmap::IndexMap;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use std::sync::Arc;

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

/// A kind of node.
pub struct NodeType {
    about: About,
    schema: Json,
    prepare: Box<dyn Fn(Json) -> Result<Factory> + Send + Sync>,
}

impl NodeType {
    /// A node type with parameters of the type `P`, which `make` turns into an instance.
    ///
    /// # Panics
    /// If the schema of `P` needs a word of JSON Schema that the check does not know, or lacks a
    /// default for a parameter that may be left out (its type must implement Serialize).
    pub fn new<P>(about: About, make: fn(&P) -> Instance) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut schema = Json::from(settings.into_generator().into_root_schema_for::<P>());
        if let Some(object) = schema.as_object_mut() {
            object.shift_remove("title");
            object.entry("properties").or_insert_with(|| json!({}));
        }
        if let Some(word) = schema::check_vocabulary(&schema) {
            panic!("the schema of {} uses what the check does not know: {word}", about.name);
        }
        if let Some(name) = schema::without_default(&schema) {
            panic!("the schema of {} does not tell the default of {name}", about.name);
        }
        let prepare = move |params| {
            let params: P = serde_json::from_value(params)
                .map_err(|e| Error::new(Code::Manifest, format!("parameters: {e}")))?;
            Ok(Arc::new(move || make(&params)) as Factory)
        };
        NodeType { about, schema, prepare: Box::new(prepare) }
    }

    /// What a person wants to know of it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The JSON Schema of its parameters.
    pub fn schema(&self) -> &Json {
        &self.schema
    }

    /// Turns parameters that passed [`schema::check`] into something that makes instances.
    ///
    /// # Errors
    /// `RM_E_MANIFEST` for what a schema cannot say.
    pub fn prepare(&self, params: Json) -> Result<Factory> {
        (self.prepare)(params)
    }

    /// Everything about it as one JSON object, the entry of the catalogue of nodes.
    pub fn to_json(&self) -> Json {
        let About { name, summary, takes, gives, heavy, example } = &self.about;
        json!({"name": name, "summary": summary, "takes": takes, "gives": gives, "heavy": heavy,
               "params": self.schema, "example": example})
    }
}

/// The node types that manifests may name.
#[derive(Default)]
pub struct Registry(IndexMap<String, NodeType>);

impl Registry {
    /// Adds node types. A later one of the same name replaces the earlier.
    pub fn add(&mut self, types: impl IntoIterator<Item = NodeType>) {
        let types = types.into_iter().map(|kind| (kind.about.name.to_owned(), kind));
        self.0.extend(types);
    }

    /// The type of this name; `PassThrough` and `PassThroughNode` are the same.
    pub fn get(&self, name: &str) -> Option<&NodeType> {
        let short = || name.strip_suffix("Node").and_then(|short| self.0.get(short));
        self.0.get(name).or_else(short)
    }

    /// All names, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.keys().map(String::as_str)
    }

    /// The catalogue: an array with an entry for every type.
    pub fn to_json(&self) -> Json {
        self.0.values().map(NodeType::to_json).collect()
    }
}
