//! The RemoteMedia engine.
//!
//! | module | what it holds |
//! |---|---|
//! | [`value`] | what travels between nodes: JSON-like values, bytes, tensors, audio, frames |
//! | [`memory`] | what values refer to: shared, counted, pooled |
//! | [`json`] | values as JSON text with the binary parts beside it, both ways |
//! | [`node`] | the contract a node fulfils |
//! | [`registry`] | node types by name, with their parameter schemas |
//! | [`schema`] | the check of parameters against a schema; "did you mean" |
//! | [`manifest`] | a pipeline's description, checked and turned into a [`manifest::Plan`] |
//! | [`run`] | a plan in motion |
//! | [`runtime`] | node types, limits and manifests already read: what runs share |
//! | [`error`], [`limits`] | what went wrong and where; how much is too much |
//!
//! Nothing here knows C or any particular node, and nothing outside [`memory`] is `unsafe`.
#![deny(unsafe_code)]

mod batch;
mod clock;
mod control;
pub mod error;
mod host;
mod join;
pub mod json;
mod layout;
pub mod limits;
pub mod manifest;
pub mod memory;
mod metrics;
pub mod node;
mod pool;
mod queue;
pub mod registry;
pub mod run;
pub mod runtime;
pub mod schema;
mod stage;
pub mod value;

pub use error::{Code, Error, Result};
pub use limits::Limits;
pub use manifest::Plan;
pub use memory::{Block, Buffer, Storage};
pub use node::{AsyncNode, BoxFuture, Context, Instance, Node, Watch};
pub use registry::{HostTasks, NodeType, Registry};
pub use run::{Control, Notify, Options, Output, Progress, Pushed, Run, Task, TaskCall, Want};
pub use runtime::Runtime;
pub use value::{Audio, DType, Frame, List, Map, PixelFormat, Tensor, Value};
