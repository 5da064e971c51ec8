//! Runs that are fed piece by piece: `rm_run_open` and what belongs to it.

use crate::abi::{RM_AGAIN, RM_E_ARGUMENT, RM_END, RM_OK, rm_status};
use crate::call::{Output, RM_ESCAPED, RM_ITEM, RM_ROWS, end_of_slice, parts, rm_call, usable};
use crate::data::{copied, lent, rm_data};
use crate::error::rm_error;
use crate::guard::{Out, bytes, guard, text, timeout};
use crate::handle::{borrow, share};
use crate::marshal::{self, Reader, Writer};
use crate::pipeline::rm_pipeline;
use crate::run::rm_run;
use remotemedia_runtime::{
    Code, Error, Limits, Options, Progress, Pushed, Result, Run, Task, TaskCall, Value, Want,
};
use std::ffi::c_char;
use std::ptr::null_mut;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// What rm_call_exchange waits for: room for another item.
pub const RM_WANT_ROOM: u32 = 1;
/// An output.
pub const RM_WANT_OUTPUT: u32 = 2;
/// A task of a node of rm_pipeline_new_hosted.
pub const RM_WANT_TASK: u32 = 4;
/// Nothing but the end of the run.
pub const RM_WANT_END: u32 = 8;
/// All nodes initialized.
pub const RM_WANT_BEGUN: u32 = 16;
/// The end of a run of rm_call_run or rm_run_start, and with it the result.
pub const RM_WANT_RESULT: u32 = 32;

/// Kind of a task: to acquire what the node needs; its parameters come with it.
pub const RM_TASK_INITIALIZE: u32 = 0;
/// To process a value, which comes with it. The answer is the values that it makes of it.
pub const RM_TASK_PROCESS: u32 = 1;
/// To give what it still holds, at the end of input.
pub const RM_TASK_FLUSH: u32 = 2;
/// To forget what it holds, if it is not to be kept: what was in flight was discarded.
pub const RM_TASK_INTERRUPT: u32 = 3;
/// To go on with the parameters that come with it.
pub const RM_TASK_SET: u32 = 4;
/// To release what it holds. The last one.
pub const RM_TASK_CLEANUP: u32 = 5;

/// An output of a run that was opened.
#[repr(C)]
pub struct rm_output {
    /// sizeof(rm_output) of the side that made the struct.
    pub struct_size: u32,
    /// The place in the manifest of the sink that gave it.
    pub node: u32,
    /// The number of the item that it comes from; -1 for what was flushed at the end of input.
    pub item: i64,
    /// The value; yours to free.
    pub data: *mut rm_data,
}

/// Opens a run that is fed piece by piece: rm_run_push, rm_run_end, rm_run_pull. Up to `window` items
/// (1 or more; 0 is 64) are inside at once: pushed, and not yet through all nodes or with outputs
/// that were not pulled. `timeout_ms` is the time for all of it; -1 is without end.
///
/// Cheap nodes work on the thread that pushes or pulls; heavy nodes and nodes that wait work on the
/// library's threads. RM_E_CLOSED if the runtime is.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_open(
    pipeline: *const rm_pipeline,
    window: u64,
    timeout_ms: i64,
    out: *mut *mut rm_run,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 2 and 4.
        let (out, pipeline) = unsafe { (Out::new(out), borrow(pipeline)) };
        out.required("out")?;
        let pipeline = pipeline?;
        let window = match window {
            0 => Options::default().window,
            window => usize::try_from(window).unwrap_or(usize::MAX),
        };
        let run =
            Run::open(pipeline.plan.clone(), Options { window, timeout: timeout(timeout_ms) })?;
        let ticket = pipeline.runtime.enter(run.control())?;
        Ok(out.set(rm_run::new(run, ticket, pipeline)))
    })
}

/// Pushes an item to every source node, or to the one whose id is `node` (NULL for all). Waits up to
/// `timeout_ms` for room; RM_AGAIN if there was none, and the item is not in. `number` (may be NULL)
/// gets the item's number, counted from 0.
///
/// Fails with what has ended the run; RM_E_CLOSED after rm_run_end and for a run that was not
/// opened; RM_E_ARGUMENT for a node that is not a source; RM_E_LIMIT for an item that is nested too
/// deep.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_push(
    run: *mut rm_run,
    item: *const rm_data,
    node: *const c_char,
    node_len: usize,
    timeout_ms: i64,
    number: *mut u64,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 4 and 6.
        let (run, item, node) = unsafe {
            (share(run.cast_const())?, borrow(item)?.value().clone(), source(node, node_len)?)
        };
        run.check_depth(&item)?;
        let until = end_of(timeout_ms);
        loop {
            match run.run().try_push(item.clone(), node)? {
                Pushed::Accepted(accepted) => {
                    if !number.is_null() {
                        // SAFETY: not NULL, and by rule 2 a place for a number.
                        unsafe { *number = accepted };
                    }
                    return Ok(RM_OK);
                }
                Pushed::Full if !run.run().wait(Want::ROOM, until) => return Ok(RM_AGAIN),
                Pushed::Full => {}
            }
        }
    })
}

/// Says that there are no more items: the nodes are flushed, and rm_run_pull comes to RM_END. More
/// than once is fine. Fails with what has ended the run.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_end(run: *mut rm_run, error: *mut *mut rm_error) -> rm_status {
    guard(error, || {
        // SAFETY: rule 4.
        unsafe { share(run.cast_const())? }.run().end()?;
        Ok(RM_OK)
    })
}

/// Takes up to `capacity` outputs, and waits up to `timeout_ms` for the first; set the `struct_size`
/// of the first in `out`. `count` gets how many there are. Outputs come by item, and within an item
/// in the order of the sinks in the manifest.
///
/// RM_AGAIN: there was none in this time. RM_END: the run is complete, and there are none left.
/// Fails, after the outputs that came before it, with what has ended the run; a cancellation comes
/// at once. RM_E_CLOSED for a run that was not opened.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_pull(
    run: *mut rm_run,
    timeout_ms: i64,
    out: *mut rm_output,
    capacity: u32,
    count: *mut u32,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        if !count.is_null() {
            // SAFETY: not NULL, and by rule 2 a place for a number.
            unsafe { *count = 0 };
        }
        if count.is_null() || out.is_null() || !out.is_aligned() || capacity == 0 {
            let message = "out or count is NULL, or there is no room for an output";
            return Err(Error::new(Code::Argument, message));
        }
        // SAFETY: not NULL; the size comes first in every version of the struct.
        let size = unsafe { (*out).struct_size } as usize;
        if size < size_of::<rm_output>() {
            let message = "the output's struct_size is not set to sizeof(rm_output)";
            return Err(Error::new(Code::Argument, message));
        }
        // SAFETY: rule 4.
        let run = unsafe { share(run.cast_const())? };
        let until = end_of(timeout_ms);
        let mut outputs = Vec::new();
        loop {
            if over(&run, run.run().try_pull_many(capacity as usize, &mut outputs))? {
                return Ok(RM_END);
            }
            if !outputs.is_empty() {
                break;
            }
            if !run.run().wait(Want::OUTPUT, until) {
                return Ok(RM_AGAIN);
            }
        }
        for (place, output) in outputs.iter().enumerate() {
            let data = Arc::into_raw(rm_data::new(output.value.clone())).cast_mut();
            // SAFETY: by contract there are that many structs, each as large as the first says.
            let out = unsafe { &mut *out.byte_add(place * size) };
            (out.struct_size, out.node, out.data) = (size as u32, output.node as u32, data);
            out.item = number_of(output.item);
        }
        // SAFETY: not NULL, as above.
        unsafe { *count = outputs.len() as u32 };
        Ok(RM_OK)
    })
}

/// Discards what is in flight and keeps the run: items that were pushed and are not yet through,
/// and outputs that were not pulled. What stays: the nodes with their state, unless they forget it;
/// the count of items; parameters that were set. A node that is at work on a value is not stopped,
/// unless it waits; what it gives is discarded. RM_E_CLOSED for a run that was not opened.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_interrupt(run: *mut rm_run, error: *mut *mut rm_error) -> rm_status {
    guard(error, || {
        // SAFETY: rule 4.
        unsafe { share(run.cast_const())? }.run().interrupt()?;
        Ok(RM_OK)
    })
}

/// Gives a node other parameters, from the next item that is pushed: a JSON object of those that
/// change. In the node's place comes a fresh one; what the old one held is lost. RM_E_ARGUMENT for a
/// node that is not there, RM_E_MANIFEST for parameters that it does not take, with a pointer into
/// them, RM_E_JSON for text that is no JSON object; RM_E_CLOSED after the end of input and for a run
/// that was not opened.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_set(
    run: *mut rm_run,
    node: *const c_char,
    node_len: usize,
    params_json: *const c_char,
    params_len: usize,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 4 and 6.
        let (run, node, params) = unsafe {
            (
                share(run.cast_const())?,
                text(node, node_len, "node")?,
                text(params_json, params_len, "params_json")?,
            )
        };
        let params = serde_json::from_str(params).map_err(|e| {
            Error::new(Code::Json, format!("params_json is not a JSON object: {e}"))
        })?;
        run.run().set(node, &params)?;
        Ok(RM_OK)
    })
}

/// What a run is at, for a person who wonders why nothing moves: JSON
/// `{"phase", "items", "queued", "inside", "outputs", "stages": [{"nodes", "state", "for", "node",
/// "item", "since_us"}], "joins": {node: {node: count}}}`. `queued` is how many items no node has
/// begun with; `state` is "running", "ready", "waiting", "done" or "failed"; `for` says for what it
/// waits; `joins` has how many values wait for partners, by node and connection.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_diagnose(
    run: *mut rm_run,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 2 and 4.
        let (out, run) = unsafe { (Out::new(out), share(run.cast_const())) };
        out.required("out")?;
        Ok(out.set(rm_data::new(run?.run().diagnose())))
    })
}

/// A descriptor that becomes readable when there is something to do for somebody who has found
/// nothing: an output, room, a task, the end. It is also readable at first. Read it empty before you
/// look again, never after. It belongs to the run and never blocks. -1 where there are no such
/// descriptors (Windows), and if there is none left.
#[unsafe(no_mangle)]
pub extern "C" fn rm_run_fd(run: *mut rm_run) -> i64 {
    crate::guard::quiet(-1, || {
        // SAFETY: rule 4.
        unsafe { share(run.cast_const()) }.map_or(-1, |run| run.descriptor())
    })
}

/// Items in and outputs out in one crossing, for a run that was opened: `call->session`.
///
/// `text` is of kind RM_MARSHAL: `[items, answers, node]`. `items` go in as far as there is room, to
/// all sources or to the one whose id is `node` (None for all); `accepted` gets how many that were.
/// With the flag RM_ITEM the text is one item for all sources; and without a text the binary parts
/// are the items, if there are any, or with RM_ROWS their rows, each of which is copied. `answers`
/// are those to tasks, `[node, id, values, ...]`, where an object `{"code", "message", "hint"}` in
/// place of the values is a failure (all optional; the code is RM_E_NODE unless it is one of RM_E_*).
/// Binary parts are copied, but for tensors with a `tag`: those are lent. Their memory must stay as
/// it is until the tag comes in `released`, or the run and everything that came out of it is freed;
/// until then no other part may have this tag.
///
/// Then, unless there is what `want` says (RM_WANT_*, 0 for nothing), works and waits for that, for
/// `slice_us`. Who takes tasks waits for them too: those that are found are given when it returns,
/// and an output that needs them does not come before. The text that `call` gives is `[outputs,
/// tasks]`: `outputs` up to `most`, `[item, node, value, ...]` with the places of sinks and item -1
/// for what was flushed; `tasks` up to `most_tasks`, `[node, id, item, kind, value, ...]` with
/// RM_TASK_*. It lies in `buffer`, or belongs to `held`.
///
/// With RM_WANT_RESULT a run that is complete, and has no tasks left, gives its result instead, once:
/// RM_END, and as text the pair that rm_call_run gives with RM_DETACH. RM_UNCHANGED then says that all
/// outputs are tensors that went in with tags, and came out whole; in the text are their tags.
///
/// RM_OK: there is what was wanted, and all items are in. RM_AGAIN: not in this time, or there was no
/// room for all of them; there may be something else. RM_END: the run is complete, and its outputs are
/// gone. Fails, after the outputs that came before it, with what has ended the run; tasks that are
/// left then are given all the same. Only if there are items, which are then not taken, it fails before
/// it gives anything. RM_E_CLOSED also for items after rm_run_end and for a run that was not opened;
/// RM_E_ARGUMENT, RM_E_UTF8 and RM_E_LIMIT for a text
/// that cannot be read. The fields `error` and `held` are overwritten: clear them before.
#[unsafe(no_mangle)]
pub extern "C" fn rm_call_exchange(
    call: *mut rm_call,
    text: *const c_char,
    len: usize,
) -> rm_status {
    // SAFETY: rule 4.
    let Some(call) = (unsafe { usable(call) }) else { return RM_E_ARGUMENT };
    let error = &raw mut call.error;
    guard(error, || {
        call.forget();
        (call.held, call.accepted, call.number) = (null_mut(), 0, 0);
        // SAFETY: rules 4 and 6.
        let (run, text) =
            unsafe { (share(call.session.cast_const())?, bytes(text.cast(), len, "text")?) };
        let run = &*run;
        let mut refused = false;
        if !text.is_empty() || call.part_count > 0 {
            let rows = text.is_empty() && call.flags & RM_ROWS != 0;
            // SAFETY: by contract. What is lent here is not used any more when rows were made of it.
            let parts = unsafe {
                parts(call.parts, call.part_count, |view| match rows {
                    true => lent(view),
                    false => copied(view, &run.released),
                })?
            };
            let put = match (text.is_empty(), call.flags & RM_ITEM != 0) {
                (true, _) if rows => put_in(run, rows_of(&parts)?, None)?,
                (true, _) => put_in(run, parts, None)?,
                (_, true) => put_in(run, vec![item(text, &parts)?], None)?,
                _ => take_in(run, text, &parts)?,
            };
            (call.accepted, call.number, refused) = (put.accepted, put.number, put.refused);
        }
        if call.most_tasks > 0
            && let Some(output) = run.left_for_exchange()
        {
            output.put(call);
            tell_released(run, call);
            return Ok(RM_OK);
        }
        let until = end_of_slice(call.slice_us);
        let (mut outputs, mut tasks) = (Vec::new(), Vec::new());
        let mut found = fetch(run, call, &mut outputs, &mut tasks);
        if matches!(found, Ok(RM_OK)) && call.want != 0 && !is_there(call, &outputs, &tasks) {
            found = match run.run().wait(want(call.want), until) {
                true => fetch(run, call, &mut outputs, &mut tasks),
                false => Ok(RM_AGAIN),
            };
        }
        if call.want & RM_WANT_RESULT != 0
            && matches!(found, Ok(RM_OK | RM_AGAIN))
            && outputs.is_empty()
            && tasks.is_empty()
        {
            // It is over, or the host has nothing to do with it.
            found = match run.drive(until) {
                Ok(Progress::Done(outputs)) => {
                    Output::of_tags(run.run(), outputs)?.put(call);
                    Ok(RM_END)
                }
                Ok(Progress::Pending) => Ok(RM_AGAIN),
                Err(error) => Err(error),
            };
        } else if let Some(output) = written(outputs, tasks, call.inlines())? {
            output.put(call);
        }
        tell_released(run, call);
        match found {
            Ok(RM_OK) if refused => Ok(RM_AGAIN),
            found => found,
        }
    })
}

/// Says what is not used any more, as far as there is room.
fn tell_released(run: &rm_run, call: &mut rm_call) {
    if call.released.is_null() || !call.released.is_aligned() {
        return;
    }
    let mut released = run.released.lock().unwrap_or_else(PoisonError::into_inner);
    let count = released.len().min(call.released_len as usize);
    for (place, tag) in released.drain(..count).enumerate() {
        // SAFETY: by contract there is room for `released_len` tags.
        unsafe { call.released.add(place).write(tag) };
    }
    call.released_count = count as u32;
}

fn end_of(timeout_ms: i64) -> Option<Instant> {
    timeout(timeout_ms).and_then(|time| Instant::now().checked_add(time))
}

fn number_of(item: Option<u64>) -> i64 {
    item.map_or(-1, |item| item as i64)
}

/// # Safety
/// As for [`text`].
unsafe fn source<'a>(node: *const c_char, len: usize) -> Result<Option<&'a str>> {
    match node.is_null() {
        true => Ok(None),
        // SAFETY: by contract.
        false => unsafe { text(node, len, "node").map(Some) },
    }
}

/// Whether a run is over and complete, by what a pull has found.
fn over(run: &rm_run, pulled: Result<()>) -> Result<bool> {
    match pulled {
        Ok(()) => Ok(false),
        Err(error) => match run.run().outcome() {
            Some(outcome) => {
                run.leave();
                outcome.map(|()| true)
            }
            None => Err(error),
        },
    }
}

fn want(wanted: u32) -> Want {
    let known = [
        (RM_WANT_ROOM, Want::ROOM),
        (RM_WANT_OUTPUT, Want::OUTPUT),
        (RM_WANT_TASK, Want::WORK),
        (RM_WANT_BEGUN, Want::BEGUN),
    ];
    let known = known.iter().filter(|(bit, _)| wanted & bit != 0);
    known.fold(Want::END, |all, (_, want)| all.or(*want))
}

/// Whether the exchange already has what it is to wait for. Room is only waited for by who has none.
fn is_there(call: &rm_call, outputs: &[remotemedia_runtime::Output], tasks: &[Task]) -> bool {
    (call.want & RM_WANT_OUTPUT != 0 && !outputs.is_empty())
        || (call.want & RM_WANT_TASK != 0 && !tasks.is_empty())
}

/// Takes items and answers; says what went in of the items.
fn take_in(run: &rm_run, text: &[u8], parts: &[Value]) -> Result<PutIn> {
    let wrong = || Error::new(Code::Argument, "the text is not [items, answers, node]");
    let mut reader = Reader::new(text, Some(parts));
    if reader.opens()? != Some(3) {
        return Err(wrong());
    }
    let items = reader.list(DEPTH)?.ok_or_else(wrong)?;
    // The values of an answer are in a list of their own.
    let answers = reader.list(DEPTH)?.ok_or_else(wrong)?;
    let node = reader.value(0, false)?;
    reader.end()?;
    let node = match &node {
        Value::Null => None,
        Value::Text(node) => Some(&**node),
        _ => return Err(wrong()),
    };
    let answers = answers.chunks(3).map(|answer| {
        let [Value::Int(node), Value::Int(id), result] = answer else { return Err(wrong()) };
        let result = match result {
            Value::List(values) => Ok(values.to_vec()),
            Value::Map(failure) => Err(failed(failure)),
            _ => return Err(wrong()),
        };
        Ok((usize::try_from(*node).map_err(|_| wrong())?, *id as u64, result))
    });
    let answers = answers.collect::<Result<Vec<_>>>()?;
    if !answers.is_empty() {
        run.run().finish_many(answers)?;
    }
    put_in(run, items, node)
}

/// How deep the text of an item may be: the limit is the run's, which says it better.
const DEPTH: usize = Limits::VALUE_DEPTH + 1;

/// The only item in a text.
fn item(text: &[u8], parts: &[Value]) -> Result<Value> {
    marshal::read(text, Some(parts), DEPTH)
}

/// The rows of tensors.
fn rows_of(parts: &[Value]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for part in parts {
        let Value::Tensor(tensor) = part else {
            let message = format!("the rows are those of tensors, not of {}", part.kind());
            return Err(Error::new(Code::Argument, message));
        };
        all.extend(tensor.rows()?.into_iter().map(|row| Value::Tensor(Arc::new(row))));
    }
    Ok(all)
}

/// What went in of items.
#[derive(Default)]
struct PutIn {
    /// How many, and the number of the first of them.
    accepted: u32,
    number: u64,
    /// Whether there was no room for all of them.
    refused: bool,
}

/// Puts items in, as many as there is room for.
fn put_in(run: &rm_run, items: Vec<Value>, node: Option<&str>) -> Result<PutIn> {
    if items.is_empty() {
        return Ok(PutIn::default());
    }
    items.iter().try_for_each(|item| run.check_depth(item))?;
    let count = items.len();
    let numbers = run.run().try_push_many(&mut items.into_iter(), node)?;
    let accepted = numbers.end - numbers.start;
    let refused = accepted < count as u64;
    Ok(PutIn { accepted: accepted as u32, number: numbers.start, refused })
}

/// What a node of the host's says went wrong.
fn failed(failure: &remotemedia_runtime::Map) -> Error {
    let text = |key: &str| failure.get(key).and_then(Value::as_text);
    let code = match failure.get("code") {
        Some(Value::Int(code)) => i32::try_from(*code).ok().and_then(Code::from_number),
        _ => None,
    };
    let error =
        Error::new(code.unwrap_or(Code::Node), text("message").unwrap_or("the node failed"));
    match text("hint") {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Takes what is there, besides what was taken before.
fn fetch(
    run: &rm_run,
    call: &rm_call,
    outputs: &mut Vec<remotemedia_runtime::Output>,
    tasks: &mut Vec<Task>,
) -> Result<rm_status> {
    if tasks.len() < call.most_tasks as usize {
        tasks.extend(run.run().take_work(call.most_tasks as usize - tasks.len()));
    }
    // The end comes after the outputs, so it is not looked for together with them.
    let pulls = call.most > 0 && outputs.is_empty();
    match pulls && over(run, run.run().try_pull_many(call.most as usize, outputs))? {
        true => Ok(RM_END),
        false => Ok(RM_OK),
    }
}

/// Outputs and tasks as a text, if there are any.
pub(crate) fn written(
    outputs: Vec<remotemedia_runtime::Output>,
    tasks: Vec<Task>,
    inlines: bool,
) -> Result<Option<Output>> {
    if outputs.is_empty() && tasks.is_empty() {
        return Ok(None);
    }
    let mut parts = Vec::new();
    let room = outputs.first().map_or(0, |output| output.value.weight().min(marshal::SMALL));
    let room = 256 + outputs.len() * room;
    let mut writer = Writer::new(inlines, room, &mut parts);
    let rows: Vec<_> = match inlines && tasks.is_empty() && outputs.len() > 1 {
        true => outputs.iter().map_while(|output| marshal::small(&output.value)).collect(),
        false => Vec::new(),
    };
    if rows.len() == outputs.len() && marshal::are_alike(&rows) {
        writer.open(3)?;
        writer.open(outputs.len())?;
        outputs.iter().for_each(|output| writer.int(number_of(output.item)));
        writer.open(outputs.len())?;
        outputs.iter().for_each(|output| writer.int(output.node as i64));
        writer.rows(&rows)?;
        let (text, _) = writer.done();
        let len = text.len();
        return Ok(Some(Output::written(text, len, RM_ESCAPED | RM_ROWS, parts)));
    }
    writer.open(2)?;
    writer.open(3 * outputs.len())?;
    for output in outputs {
        writer.int(number_of(output.item));
        writer.int(output.node as i64);
        writer.value(&output.value)?;
    }
    writer.open(5 * tasks.len())?;
    for Task { node, id, item, call } in tasks {
        let json = |params: serde_json::Value| {
            remotemedia_runtime::json::parse(
                params.to_string().as_bytes(),
                &[],
                Limits::VALUE_DEPTH,
            )
        };
        let (kind, value) = match call {
            TaskCall::Initialize(params) => (RM_TASK_INITIALIZE, json(params)?),
            TaskCall::Process(value) => (RM_TASK_PROCESS, value),
            TaskCall::Flush => (RM_TASK_FLUSH, Value::Null),
            TaskCall::Interrupt => (RM_TASK_INTERRUPT, Value::Null),
            TaskCall::Set(params) => (RM_TASK_SET, json(params)?),
            TaskCall::Cleanup => (RM_TASK_CLEANUP, Value::Null),
        };
        for number in [node as i64, id as i64, number_of(item), kind.into()] {
            writer.int(number);
        }
        writer.value(&value)?;
    }
    let (text, escaped) = writer.done();
    let flags = if escaped { RM_ESCAPED } else { 0 };
    let len = text.len();
    Ok(Some(Output::written(text, len, flags, parts)))
}
