//! `rm_pipeline`.

use crate::abi::{RM_AGAIN, rm_status};
use crate::call;
use crate::data::{RM_JSON, rm_data};
use crate::error::rm_error;
use crate::guard::{Out, bytes, guard, text, timeout};
use crate::handle::{Handle, Head, Kind, borrow, release, share};
use crate::run::rm_run;
use crate::runtime::{rm_runtime, runtime_or_default};
use remotemedia_runtime::{Code, Error, HostTasks, Limits, NodeType, Plan, Result, Value};
use serde::Deserialize;
use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::Arc;

/// A manifest that was found good: ready to be run any number of times.
///
/// Ownership: yours from rm_pipeline_new; free it, also while runs of it are going on. Immutable:
/// any thread may run it, several at once.
///
/// Functions: rm_pipeline_new, rm_pipeline_new_hosted, rm_pipeline_info, rm_pipeline_run, rm_call_run,
/// rm_pipeline_report, rm_run_start, rm_run_open, rm_pipeline_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_pipeline {
    head: Head,
    pub(crate) plan: Arc<Plan>,
    pub(crate) runtime: Arc<rm_runtime>,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_pipeline {
    const KIND: Kind = Kind::Pipeline;
}

impl rm_pipeline {
    /// How deep an item of the input may be nested.
    pub(crate) fn value_depth(&self) -> usize {
        self.runtime.runtime().limits().value_depth.min(Limits::VALUE_DEPTH)
    }

    /// Fails for a pipeline whose tasks nobody would take while the library waits for its end.
    pub(crate) fn check_complete(&self) -> Result<()> {
        if !self.plan.is_hosted() {
            return Ok(());
        }
        let message = "the pipeline has nodes of the host's, whose tasks nobody takes in this call";
        Err(Error::new(Code::Unsupported, message).hint(
            "start it with rm_run_start or rm_run_open, and answer its tasks with rm_call_exchange",
        ))
    }
}

/// Reads a manifest that may also name these node types.
fn load(
    runtime: Arc<rm_runtime>,
    manifest: &[u8],
    types: &[Arc<NodeType>],
) -> Result<Arc<rm_pipeline>> {
    runtime.check_open()?;
    let plan = match types {
        [] => runtime.runtime().load(manifest)?,
        types => runtime.runtime().load_with(manifest, types)?,
    };
    Ok(Arc::new(rm_pipeline { head: Head::new(Kind::Pipeline), plan, runtime }))
}

/// Reads a manifest (version 1, JSON text) and checks all of it.
///
///   {"version": "v1",
///    "metadata": {"name": "..."},                                        optional
///    "nodes": [{"id": "a", "node_type": "Add", "params": {"addend": 1}}, ...],
///    "connections": [{"from": "a", "to": "b"}, ...]}
///
/// The text of the last 64 good manifests is remembered, so the same text again costs little.
///
/// Fails with RM_E_MANIFEST and every problem there is, RM_E_JSON, RM_E_UTF8, or RM_E_LIMIT.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_new(
    runtime: *mut rm_runtime,
    manifest_json: *const c_char,
    len: usize,
    out: *mut *mut rm_pipeline,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 2, 4 and 6.
        let (out, manifest) =
            unsafe { (Out::new(out), bytes(manifest_json.cast(), len, "manifest_json")?) };
        out.required("out")?;
        // SAFETY: rule 4.
        let runtime = unsafe { runtime_or_default(runtime)? };
        Ok(out.set(load(runtime, manifest, &[])?))
    })
}

/// The same for a manifest that may also name node types which the host implements without being
/// called (if it can be, rm_runtime_add_node is for it): a JSON array of their names in
/// `types_json`. They take any parameters; one that has the name of a type of the runtime's takes
/// its place. An entry may also be `{"name": "Mine", "tasks": ["flush"]}`: its nodes do nothing
/// but process values, take parameters and what is listed, of "initialize", "flush", "interrupt" and
/// "cleanup"; they are not asked for the rest.
/// What their nodes have to do comes as tasks, RM_TASK_*, see rm_call_exchange. Such a
/// manifest is not remembered. A pipeline with such nodes is run with rm_run_open, or on a whole
/// input with rm_run_start; what would wait for its end without a limit (rm_pipeline_run,
/// rm_call_run with a slice_us of -1) is RM_E_UNSUPPORTED.
///
/// Fails as rm_pipeline_new does, and with RM_E_JSON for `types_json` that is no array of texts.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_new_hosted(
    runtime: *mut rm_runtime,
    manifest_json: *const c_char,
    len: usize,
    types_json: *const c_char,
    types_len: usize,
    out: *mut *mut rm_pipeline,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 2, 4 and 6.
        let (out, manifest) =
            unsafe { (Out::new(out), bytes(manifest_json.cast(), len, "manifest_json")?) };
        out.required("out")?;
        // SAFETY: rules 4 and 6.
        let (runtime, types) =
            unsafe { (runtime_or_default(runtime)?, text(types_json, types_len, "types_json")?) };
        let types: Vec<HostType> = serde_json::from_str(types).map_err(|e| {
            Error::new(Code::Json, format!("types_json is not an array of names: {e}"))
        })?;
        let types: Vec<_> = types.into_iter().map(HostType::made).collect();
        Ok(out.set(load(runtime, manifest, &types)?))
    })
}

/// An entry of `types_json`.
#[derive(Deserialize)]
#[serde(untagged)]
enum HostType {
    Name(String),
    Object(HostObject),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostObject {
    name: String,
    tasks: Vec<HostTask>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum HostTask {
    Initialize,
    Flush,
    Interrupt,
    Cleanup,
}

impl HostType {
    fn made(self) -> Arc<NodeType> {
        Arc::new(match self {
            HostType::Name(name) => NodeType::host(name),
            HostType::Object(HostObject { name, tasks }) => {
                NodeType::host(name).host_tasks(HostTasks {
                    initialize: tasks.contains(&HostTask::Initialize),
                    flush: tasks.contains(&HostTask::Flush),
                    interrupt: tasks.contains(&HostTask::Interrupt),
                    cleanup: tasks.contains(&HostTask::Cleanup),
                })
            }
        })
    }
}

/// What a pipeline consists of:
/// `{"name", "stages", "threaded", "nodes": [{"id", "node_type", "heavy", "source", "sink"}]}`, with
/// the nodes in the order of the manifest. A heavy node may take more than about 100 microseconds for
/// a value. The nodes of a stage work one after the other, and stages beside each other; `threaded`
/// says whether any works on the library's threads, as heavy nodes and nodes that wait do.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_info(
    pipeline: *const rm_pipeline,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        // SAFETY: rule 4.
        let pipeline = unsafe { borrow(pipeline)? };
        Ok(out.set(rm_data::from_json(&pipeline.plan.to_json())?))
    })
}

/// Runs a pipeline on a batch of items and waits for the end, on the calling thread.
///
/// `input` (NULL: no items) is a JSON array of items, which go to every source node, or a JSON
/// object from the ids of source nodes to such arrays. `timeout_ms` is the time for all of it; -1
/// is without end. `result` is a JSON array: the outputs of all sinks, in the order in which the
/// sinks stand in the manifest. `report` (may be NULL) is as for rm_run_report.
///
/// Fails with RM_E_ARGUMENT for an input of another shape, RM_E_UNSUPPORTED if there are nodes of
/// rm_pipeline_new_hosted, RM_E_TIMEOUT, RM_E_CLOSED, or what the failing node gives, as a rule
/// RM_E_NODE or RM_E_IO; the error names the node and the item.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_run(
    pipeline: *const rm_pipeline,
    input: *const rm_data,
    timeout_ms: i64,
    result: *mut *mut rm_data,
    report: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let (result, report) = unsafe { (Out::new(result), Out::new(report)) };
        result.required("result")?;
        // SAFETY: rule 4.
        let pipeline = unsafe { share(pipeline)? };
        // SAFETY: as above.
        let input = unsafe { input_value(input, &pipeline)? };
        run(&pipeline, &input, timeout_ms, result, report)
    })
}

/// Gives a pipeline back.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_free(pipeline: *mut rm_pipeline) {
    // SAFETY: rule 3.
    unsafe { release(pipeline) }
}

/// All in one: manifest and input as JSON text in, result as a value whose `json` is the text.
///
/// `input_json` (NULL with length 0: no items) is as for rm_pipeline_run. Fails as
/// rm_pipeline_new and rm_pipeline_run do, and with RM_E_JSON for an input that is not JSON.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_manifest(
    manifest_json: *const c_char,
    manifest_len: usize,
    input_json: *const c_char,
    input_len: usize,
    result: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let (result, report) = unsafe { (Out::new(result), Out::new(null_mut())) };
        result.required("result")?;
        // SAFETY: rules 4 and 6.
        let (runtime, manifest, input) = unsafe {
            (
                runtime_or_default(std::ptr::null())?,
                bytes(manifest_json.cast(), manifest_len, "manifest_json")?,
                text(input_json, input_len, "input_json")?,
            )
        };
        let pipeline = load(runtime, manifest, &[])?;
        let input = match input {
            "" => Value::list(Vec::new()),
            text => call::input(RM_JSON, text.as_bytes(), Vec::new(), pipeline.value_depth())?,
        };
        run(&pipeline, &input, -1, result, report)
    })
}

fn run(
    pipeline: &Arc<rm_pipeline>,
    input: &Value,
    timeout_ms: i64,
    result: Out<rm_data>,
    report: Out<rm_data>,
) -> Result<rm_status> {
    pipeline.check_complete()?;
    let run = rm_run::start(pipeline, input, timeout(timeout_ms))?;
    match run.wait(None, result, report)? {
        RM_AGAIN => Err(Error::new(Code::Internal, "a run without a limit came back early")),
        status => Ok(status),
    }
}

/// The input for a pipeline behind a pointer; none is no items.
///
/// # Safety
/// As [`borrow`].
pub(crate) unsafe fn input_value(input: *const rm_data, pipeline: &rm_pipeline) -> Result<Value> {
    if input.is_null() {
        return Ok(Value::list(Vec::new()));
    }
    // SAFETY: by contract.
    let value = unsafe { borrow(input)? }.value();
    // A node may nest what it is given, so a result may be too deep to go in again.
    let most = pipeline.value_depth();
    let around = if matches!(value, Value::Map(_)) { 2 } else { 1 };
    if value.depth() > most + around {
        return Err(too_deep(most));
    }
    Ok(value.clone())
}

pub(crate) fn too_deep(most: usize) -> Error {
    Error::new(Code::Limit, format!("an item of the input is nested deeper than {most} levels"))
}
