//! The C ABI, and nothing else.
//!
//! One file per type that C sees; plumbing apart: [`guard`] turns results and panics into status
//! codes, [`handle`] gives every object its tag, its fork check and its count. The order of the
//! header is the order of the files in `header/src/main.rs`.
#![allow(non_camel_case_types)]
#![warn(clippy::missing_safety_doc)]
// Every exported function follows the same rules about its pointers, which stand once, at the top
// of the header.
#![allow(clippy::missing_safety_doc, clippy::not_unsafe_ptr_arg_deref)]

pub mod abi;
pub mod call;
pub mod clear;
pub mod data;
pub mod dlpack;
pub mod error;
mod guard;
mod handle;
pub mod log;
mod marshal;
pub mod node;
mod pipe;
pub mod pipeline;
pub mod queue;
pub mod run;
pub mod runtime;
pub mod session;
#[cfg(feature = "testing")]
mod testing;
