pub use crate::basic::pass_through as text_processor;
