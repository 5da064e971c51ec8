//! The built-in nodes, a module per family.
//!
//! A new node is a file with a function that returns its [`NodeType`], and a line below.
#![forbid(unsafe_code)]

use remotemedia_runtime::{NodeType, Registry};

pub mod arithmetic;
pub mod audio;
pub mod basic;
pub mod text;

/// All built-in node types.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add(types());
    registry
}

fn types() -> Vec<NodeType> {
    vec![
        basic::pass_through(),
        basic::buffer(),
        basic::delay(),
        arithmetic::calculator(),
        arithmetic::multiply(),
        arithmetic::add(),
        text::text_processor(),
        audio::audio_decode(),
        audio::audio_resample(),
        audio::audio_level(),
        audio::audio_chunker(),
        audio::voice_activity(),
    ]
}
