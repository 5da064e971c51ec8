//! What went wrong, where, and what to do about it.

use serde_json::{Map, Value as Json, json};
use std::fmt;
use std::ops::{Deref, DerefMut};

/// The result of anything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// What kind of failure, by what a caller can do about it. The numbers are the C ABI's.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Code { $($(#[$doc])* $variant = $number,)* }

        impl Code {
            /// The code's name in the C header, for example `RM_E_NODE`.
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The code with this number.
            pub fn from_number(number: i32) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// An argument is missing, NULL or of the wrong kind.
    Argument = -1, "RM_E_ARGUMENT";
    /// Text is not UTF-8.
    Utf8 = -2, "RM_E_UTF8";
    /// Text is not JSON.
    Json = -3, "RM_E_JSON";
    /// The manifest is JSON but does not describe a pipeline.
    Manifest = -4, "RM_E_MANIFEST";
    /// A node failed.
    Node = -5, "RM_E_NODE";
    /// The time ran out.
    Timeout = -6, "RM_E_TIMEOUT";
    /// The run was cancelled.
    Cancelled = -7, "RM_E_CANCELLED";
    /// The object was closed, or its run has ended.
    Closed = -8, "RM_E_CLOSED";
    /// Another thread is using the object.
    Busy = -9, "RM_E_BUSY";
    /// Valid, but not something this build can do.
    Unsupported = -10, "RM_E_UNSUPPORTED";
    /// A plugin could not be loaded.
    Plugin = -11, "RM_E_PLUGIN";
    /// The operating system refused a read or a write.
    Io = -12, "RM_E_IO";
    /// Larger, deeper or more than the limits allow.
    Limit = -13, "RM_E_LIMIT";
    /// The object was made before the process forked.
    Forked = -14, "RM_E_FORKED";
    /// A bug in a node or in the library; the process is fine.
    Panic = -15, "RM_E_PANIC";
    /// A bug in the library.
    Internal = -16, "RM_E_INTERNAL";
    /// Not permitted by the policy in force.
    Denied = -17, "RM_E_DENIED";
}

/// The problems of a manifest: the first [`Problems::KEPT`], and the number of all.
#[derive(Default)]
pub struct Problems {
    kept: Vec<Error>,
    count: usize,
}

impl Problems {
    /// How many are kept and reported. A hostile manifest may have as many as it has letters.
    pub const KEPT: usize = 50;

    /// Adds one.
    pub fn push(&mut self, problem: Error) {
        self.count += 1;
        if self.kept.len() < Self::KEPT {
            self.kept.push(problem);
        }
    }

    /// How many there are, those that are not kept included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the next one will not be kept.
    pub fn is_full(&self) -> bool {
        self.kept.len() == Self::KEPT
    }

    /// What is dear to find out for a problem: made only if the next one will be kept.
    pub fn hint(&self, make: impl FnOnce() -> String) -> String {
        if self.is_full() { String::new() } else { make() }
    }

    /// Those that are kept, from the one with this number on.
    pub fn since(&mut self, count: usize) -> &mut [Error] {
        let from = count.min(self.kept.len());
        &mut self.kept[from..]
    }

    /// One error for all of them, if there are any. A single problem stands for itself.
    pub fn into_error(mut self) -> Option<Error> {
        if self.count < 2 {
            return self.kept.pop();
        }
        let mut all = self.kept[0].clone();
        all.message =
            format!("the manifest has {} problems; the first: {}", self.count, all.message);
        all.causes = self.kept;
        Some(all)
    }
}

/// A failure: the code, a sentence, and the place. Its [`Details`] are its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Error(Box<Details>);

impl Deref for Error {
    type Target = Details;

    fn deref(&self) -> &Details {
        &self.0
    }
}

impl DerefMut for Error {
    fn deref_mut(&mut self) -> &mut Details {
        &mut self.0
    }
}

/// What an [`Error`] says. Kept behind a pointer, so that a result costs no more than its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Details {
    /// What kind of failure.
    pub code: Code,
    /// One sentence for a person.
    pub message: String,
    /// JSON pointer (RFC 6901) into the manifest, or into the input for a failure of the input.
    pub pointer: Option<String>,
    /// The id of the node concerned.
    pub node: Option<String>,
    /// That node's type, as the manifest spells it.
    pub node_type: Option<String>,
    /// Index of the input item in work, from 0.
    pub item: Option<u64>,
    /// What to do about it.
    pub hint: Option<String>,
    /// What led to it; for a manifest with several problems, the problems.
    pub causes: Vec<Error>,
}

impl Error {
    /// A failure of which nothing but a sentence is known yet.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Details {
            code,
            message: message.into(),
            pointer: None,
            node: None,
            node_type: None,
            item: None,
            hint: None,
            causes: Vec::new(),
        }))
    }

    /// A failure of a node's own making; the engine adds which node and which item.
    pub fn node(message: impl Into<String>) -> Self {
        Error::new(Code::Node, message)
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a JSON pointer.
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Adds the node.
    pub fn in_node(mut self, id: &str, node_type: &str) -> Self {
        self.node = Some(id.to_owned());
        self.node_type = Some(node_type.to_owned());
        self
    }

    /// Adds what led to it.
    pub fn caused_by(mut self, cause: Error) -> Self {
        self.causes.push(cause);
        self
    }

    /// The error as the JSON object that every binding reads.
    ///
    /// `code` (a name from the C header) and `message` are always there; `pointer`, `node`,
    /// `node_type`, `item`, `hint` and `causes` where they are known.
    pub fn to_json(&self) -> Json {
        let mut object = Map::new();
        object.insert("code".into(), json!(self.code.name()));
        object.insert("message".into(), json!(self.message));
        let texts = [
            ("pointer", &self.pointer),
            ("node", &self.node),
            ("node_type", &self.node_type),
            ("hint", &self.hint),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                object.insert(key.into(), json!(text));
            }
        }
        if let Some(item) = self.item {
            object.insert("item".into(), json!(item));
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Error::to_json).collect();
            object.insert("causes".into(), Json::Array(causes));
        }
        Json::Object(object)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
