//! How much is too much. Input that comes from outside meets these before it costs anything.

use crate::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// The limits of a runtime. A run or a manifest beyond one of them fails with `RM_E_LIMIT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Length of a manifest's text in bytes.
    pub manifest_bytes: usize,
    /// Nesting of arrays and objects in a manifest; at most [`Limits::VALUE_DEPTH`].
    pub manifest_depth: usize,
    /// Nodes in a manifest; at most 100,000.
    pub nodes: usize,
    /// Connections in a manifest; at most 1,000,000.
    pub connections: usize,
    /// Nesting of lists and maps in a value; at most [`Limits::VALUE_DEPTH`].
    pub value_depth: usize,
    /// Values that one item may have become at any moment, between the nodes and in the result of
    /// it. What nodes give at the end of input counts as one item's.
    pub values: usize,
}

impl Limits {
    /// The deepest value that any setting allows. Values are walked recursively, so this is what
    /// keeps a hostile one from overflowing the stack.
    pub const VALUE_DEPTH: usize = 100;

    /// What is wrong with limits that somebody has set.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` for one that is raised further than this library can keep.
    pub fn check(&self) -> Result<()> {
        for (name, limit, most) in [
            ("manifest_depth", self.manifest_depth, Limits::VALUE_DEPTH),
            ("nodes", self.nodes, 100_000),
            ("connections", self.connections, 1_000_000),
        ] {
            if limit > most {
                let message = format!("the limit \"{name}\" can be {most} at the most");
                return Err(Error::new(Code::Argument, message));
            }
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            manifest_bytes: 1 << 20,
            manifest_depth: 64,
            nodes: 1_000,
            connections: 10_000,
            value_depth: Limits::VALUE_DEPTH,
            values: 1_000_000,
        }
    }
}
