//! `rm_call`: a run in one crossing, or in few.

use crate::abi::{RM_AGAIN, RM_E_ARGUMENT, RM_OK, rm_status};
use crate::data::{
    RM_JSON, RM_TENSOR, RM_WRITABLE, describe_memory, lent, metadata, rm_data, rm_view, strides,
};
use crate::error::rm_error;
use crate::guard::{Out, bytes, guard, timeout};
use crate::handle::{borrow, borrow_inherited, release, share};
use crate::marshal;
use crate::pipeline::rm_pipeline;
use crate::run::rm_run;
use crate::session::written;
use remotemedia_runtime::{Buffer, Code, Error, Progress, Result, Run, Storage, Value, Want, json};
use std::ffi::c_char;
use std::ptr::{null, null_mut, replace};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Kind of a text: Python's marshal format, version 2, of None, bool, int, float, str, list, tuple
/// and dict with str keys. Only for rm_call_run. `{"$rm": [i]}` is a long list of floats, which the
/// library has put into binary part i, an array of float64.
pub const RM_MARSHAL: u32 = 16;
/// The same without binary parts, and with no dict special.
pub const RM_MARSHAL_PLAIN: u32 = 17;
/// Flag of a call: once the run is complete only its outputs and counts are wanted. Only with the
/// marshal kinds. The text is then a pair, of the outputs and of bytes for rm_pipeline_report, and
/// where nothing needs the run's memory there is no run.
pub const RM_DETACH: u32 = 1;
/// Flag of a call: small binary parts of what rm_call_exchange gives stand in its text, as copies:
/// bytes of up to 16 KiB as Python's bytes, and tensors as a tuple of `code << 8 | bits` of the
/// element type, of their bytes, and of a tuple with their shape unless they have one dimension.
pub const RM_INLINE: u32 = 2;
/// Flag of a call: the text for rm_call_exchange is one item.
pub const RM_ITEM: u32 = 16;
/// Flag of a call: without a text for rm_call_exchange, the items are the rows of the binary parts:
/// of tensors, along the first axis. Flag of what an exchange with RM_INLINE gave: there are several
/// outputs and no tasks, all outputs are small tensors of one element type and shape, and the text is
/// `[items, nodes, rows]`, where `rows` stands as one tensor whose rows are their values.
pub const RM_ROWS: u32 = 8;
/// Flag of what a call gave: there may be objects with the key "$rm" in the text, or tuples.
pub const RM_ESCAPED: u32 = 2;
/// Flag of what a call gave: it lies in the memory of the call's run, or of what is held.
pub const RM_HELD: u32 = 32;
/// Flag of what a call gave, with RM_DETACH: the outputs are tensors, the same ones as the parts of
/// the input, in the same order, with the same memory; in the text None stands for them.
pub const RM_UNCHANGED: u32 = 4;

/// What rm_call_run takes and gives besides the text: to be used again and again, by hosts to which
/// every argument and every object costs. Fields are only ever added at the end. Set `struct_size`
/// and what is to be as it says, and everything you do not use to 0 or NULL, but `slice_us` and
/// `timeout_ms` to -1. The library does not change what it takes.
///
/// Ownership: the struct is yours, and the pipeline in it stays yours. rm_call_clear frees what a
/// call has left in it.
///
/// Functions: rm_call_run, rm_call_wait, rm_call_exchange, rm_call_clear.
#[repr(C)]
pub struct rm_call {
    /// In: sizeof(rm_call) of the side that made the struct.
    pub struct_size: u32,
    /// In: RM_DETACH, RM_INLINE, RM_ITEM and RM_ROWS, or 0.
    pub flags: u32,
    /// In: what to run.
    pub pipeline: *const rm_pipeline,
    /// In: RM_JSON, RM_MARSHAL or RM_MARSHAL_PLAIN, the format of the text.
    pub kind: u32,
    /// In: how many `parts` there are.
    pub part_count: u32,
    /// In: how many microseconds to work; -1 is without end. With 0 rm_call_run does nothing yet.
    pub slice_us: i64,
    /// In: the time for all of the run, in milliseconds; -1 is without end.
    pub timeout_ms: i64,
    /// In: views of the bytes, tensors, audio and frames that the text refers to by index.
    pub parts: *const rm_view,
    /// In: room for the text of the outputs, or NULL.
    pub buffer: *mut c_char,
    /// In: how many bytes of room there are.
    pub buffer_len: usize,
    /// Out: RM_ESCAPED, RM_UNCHANGED, RM_HELD and RM_ROWS, or 0.
    pub given: u32,
    /// Out: how many parts the outputs have.
    pub given_count: u32,
    /// Out: the outputs, a list, in the format of the input; of RM_MARSHAL_PLAIN in RM_MARSHAL.
    /// In `buffer` if it fits there and there is no run.
    pub text: *const c_char,
    /// Out: length of `text` in bytes.
    pub len: usize,
    /// Out: the values that the text refers to, each as large as its struct_size says.
    pub given_parts: *const rm_view,
    /// Out: the run, if it is not complete, or if the text or a part lies in its memory. Yours, as
    /// from rm_run_start.
    pub run: *mut rm_run,
    /// Out: what went wrong. Yours.
    pub error: *mut rm_error,
    /// In, for rm_call_exchange like all that follows: a run that was opened; it stays yours.
    pub session: *mut rm_run,
    /// In: what to wait for, such as RM_WANT_ROOM, or 0.
    pub want: u32,
    /// In: how many outputs to take.
    pub most: u32,
    /// In: how many tasks to take; by rm_call_run as well.
    pub most_tasks: u32,
    /// Out: how many of the items went in.
    pub accepted: u32,
    /// Out: what the text and the parts belong to, if they are not in `buffer`. Yours.
    pub held: *mut rm_data,
    /// In: room for the tags of parts that were lent and are not used any more, or NULL. The text of
    /// the same call may still have them.
    pub released: *mut u32,
    /// In: how many tags there is room for.
    pub released_len: u32,
    /// Out: how many there are. Those without room come the next time.
    pub released_count: u32,
    /// Out: the number of the first of the items that went in, counted from 0.
    pub number: u64,
}

/// rm_run_start and the first rm_run_wait in one call, with the input and the outputs as they are.
///
/// `text` holds the input as for rm_pipeline_run. Without a text (`len` 0) the parts are the items.
/// Parts that are C-contiguous and aligned are used where they are: the memory must stay as it is
/// until the run is freed and no thread waits for it any more, and for as long as there are results
/// that may refer to it; where there is no run, until this returns.
///
/// If there are nodes of rm_pipeline_new_hosted and `most_tasks` is not 0, it returns as soon as there
/// are tasks for the host: RM_AGAIN, and a text as from rm_call_exchange, which is also what goes on,
/// with the run as `session`. If the text does not fit in `buffer`, or has parts, the tasks come with
/// the first exchange.
///
/// RM_OK: complete; what `call` points to lives as long as its run, or where there is none until its
/// next use. RM_AGAIN: there is more to do; go on with rm_call_wait, or with rm_run_wait. Failures as
/// for rm_pipeline_run, with the error in `call`; RM_E_ARGUMENT, RM_E_JSON, RM_E_UTF8 and RM_E_LIMIT
/// also for an input that cannot be read. The fields `run` and `error` are overwritten: clear them
/// before.
#[unsafe(no_mangle)]
pub extern "C" fn rm_call_run(call: *mut rm_call, text: *const c_char, len: usize) -> rm_status {
    // SAFETY: rule 4.
    let Some(call) = (unsafe { usable(call) }) else { return RM_E_ARGUMENT };
    let error = &raw mut call.error;
    guard(error, || {
        call.forget();
        call.run = null_mut();
        let rm_call { kind, part_count, slice_us, .. } = *call;
        // SAFETY: rules 4 and 6, and what is said above of the parts.
        let (pipeline, input) = unsafe {
            let (pipeline, text) = (borrow(call.pipeline)?, bytes(text.cast(), len, "text")?);
            let parts = parts(call.parts, part_count, |view| lent(view))?;
            (pipeline, input(kind, text, parts, pipeline.value_depth())?)
        };
        if slice_us < 0 && call.most_tasks == 0 {
            pipeline.check_complete()?;
        }
        let run = Run::new(pipeline.plan.clone(), &input, timeout(call.timeout_ms))?;
        drop(input);
        let ticket = pipeline.runtime.enter(run.control())?;
        let mut tasks = Vec::new();
        let progress = match slice_us {
            0 => Progress::Pending,
            _ => {
                let until = end_of_slice(slice_us);
                if call.most_tasks > 0 && pipeline.plan.is_hosted() {
                    run.wait(Want::WORK, until);
                    tasks = run.take_work(call.most_tasks as usize);
                }
                match tasks.is_empty() {
                    true => run.drive(until)?,
                    false => Progress::Pending,
                }
            }
        };
        let Progress::Done(outputs) = progress else {
            let run = rm_run::new(run, ticket, pipeline);
            if let Some(output) = written(Vec::new(), tasks, call.inlines())?
                && !output.fits(call)
            {
                run.leave_for_exchange(output);
            }
            call.run = Arc::into_raw(run).cast_mut();
            return Ok(RM_AGAIN);
        };
        drop(ticket);
        let output = Output::of(&run, outputs, call)?;
        if call.detaches() && output.fits(call) {
            return Ok(RM_OK);
        }
        let run = rm_run::new(run, None, pipeline);
        run.keep(output).show(call);
        call.run = Arc::into_raw(run).cast_mut();
        Ok(RM_OK)
    })
}

/// Goes on with the `run` that rm_call_run has left in the struct, for `slice_us` or a little longer,
/// and gives what that gives. The pipeline, the kind and the parts have to be those of that call.
///
/// RM_OK: complete, as from rm_call_run; the run stays until it is cleared. RM_AGAIN: there is more to
/// do. Failures as for rm_run_wait, with the error in `call`. The field `error` is overwritten: clear
/// it before.
#[unsafe(no_mangle)]
pub extern "C" fn rm_call_wait(call: *mut rm_call) -> rm_status {
    // SAFETY: rule 4.
    let Some(call) = (unsafe { usable(call) }) else { return RM_E_ARGUMENT };
    let error = &raw mut call.error;
    guard(error, || {
        call.forget();
        // SAFETY: rule 4.
        let run = unsafe { share(call.run.cast_const())? };
        let Progress::Done(outputs) = run.drive(end_of_slice(call.slice_us))? else {
            return Ok(RM_AGAIN);
        };
        let output = Output::of(run.run(), outputs, call)?;
        if !(call.detaches() && output.fits(call)) {
            run.keep(output).show(call);
        }
        Ok(RM_OK)
    })
}

impl rm_call {
    /// Whether small binary parts are to stand in the text.
    pub(crate) fn inlines(&self) -> bool {
        self.flags & RM_INLINE != 0
    }

    /// Whether only the outputs and the counts are wanted.
    fn detaches(&self) -> bool {
        self.flags & RM_DETACH != 0 && self.kind != RM_JSON
    }

    /// Forgets what the last call has given, but for what is the caller's.
    pub(crate) fn forget(&mut self) {
        (self.given, self.given_count, self.text, self.len) = (0, 0, null(), 0);
        self.given_parts = null();
    }
}

/// Frees the run, the error and what is held, that a call has left in the struct, and sets the
/// fields to NULL. The session stays.
#[unsafe(no_mangle)]
pub extern "C" fn rm_call_clear(call: *mut rm_call) {
    if !call.is_null() && call.is_aligned() {
        // SAFETY: rule 3: both are the caller's, or NULL.
        unsafe {
            crate::run::rm_run_free(replace(&raw mut (*call).run, null_mut()));
            release(replace(&raw mut (*call).error, null_mut()));
            release(replace(&raw mut (*call).held, null_mut()));
        }
    }
}

/// What the packed counts of a call say, in the form of rm_run_report. `counts` are the bytes that
/// stand behind the outputs in the text of a call with RM_DETACH, of a run of the same pipeline.
/// May be asked in a forked child with a pipeline from before.
#[unsafe(no_mangle)]
pub extern "C" fn rm_pipeline_report(
    pipeline: *const rm_pipeline,
    counts: *const c_char,
    len: usize,
    out: *mut *mut rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 2.
        let out = unsafe { Out::new(out) };
        out.required("out")?;
        // SAFETY: rules 4 and 6.
        let (pipeline, counts) =
            unsafe { (borrow_inherited(pipeline)?, bytes(counts.cast(), len, "counts")?) };
        let (numbers, rest) = counts.as_chunks();
        let numbers: Vec<u64> = numbers.iter().map(|number| u64::from_le_bytes(*number)).collect();
        if !rest.is_empty() {
            return Err(Error::new(Code::Argument, "the counts are not whole numbers of 8 bytes"));
        }
        Ok(out.set(rm_data::new(pipeline.plan.report(&numbers)?)))
    })
}

/// The parts of a call's input, as its caller described them.
struct Given {
    views: *const rm_view,
    count: usize,
}

impl Given {
    /// Whether these outputs are the tensors that came in, as they came in and in the same order.
    fn is(&self, outputs: &Value) -> bool {
        let Value::List(outputs) = outputs else { return false };
        if outputs.len() != self.count || self.count == 0 || self.views.is_null() {
            return false;
        }
        // SAFETY: the views were read before, and are still the caller's.
        let size = unsafe { (*self.views).struct_size } as usize;
        outputs.iter().enumerate().all(|(index, output)| {
            // SAFETY: as above; each view is as large as the first one says.
            let view = unsafe { &*self.views.byte_add(index * size) };
            match output {
                Value::Tensor(tensor) if view.kind == RM_TENSOR => {
                    // The caller's memory is the caller's for as long as it is referred to, so
                    // what lies there is what came in.
                    let (dtype, shape) = (tensor.dtype(), tensor.shape());
                    tensor.bytes().as_ptr() == view.data.cast_const().cast()
                        && !tensor.is_empty()
                        && (dtype.code, dtype.bits) == (view.dtype_code, view.dtype_bits)
                        && shape.len() == view.ndim as usize
                        // SAFETY: the view has that many dimensions.
                        && (0..shape.len()).all(|at| shape[at] == unsafe { *view.shape.add(at) })
                }
                _ => false,
            }
        })
    }
}

/// What a call points to.
pub(crate) struct Output {
    text: Vec<u8>,
    /// Without the NUL that JSON has behind it.
    len: usize,
    flags: u32,
    views: Vec<rm_view>,
    /// What the views point to.
    _values: Vec<(Value, Vec<i64>, Vec<u8>)>,
}

// SAFETY: the pointers in the views lead to the values beside them.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    /// What a call's run has given, as the call wants it.
    fn of(run: &Run, outputs: Value, call: &rm_call) -> Result<Self> {
        let given = Given { views: call.parts, count: call.part_count as usize };
        let counts = if call.detaches() { Some(run.counts()?) } else { None };
        Output::new(outputs, call.kind, counts.as_deref(), &given)
    }

    /// The outputs of a run, and its counts; with the tags of what was lent in place of the outputs,
    /// if all of them are that.
    pub(crate) fn of_tags(run: &Run, outputs: Value) -> Result<Self> {
        let counts = run.counts()?;
        let tag = |output: &Value| match output {
            Value::Tensor(tensor) if tensor.label() != 0 => Some(Value::Int(tensor.label().into())),
            _ => None,
        };
        let tags: Option<Vec<Value>> = match &outputs {
            Value::List(outputs) if !outputs.is_empty() => outputs.iter().map(tag).collect(),
            _ => None,
        };
        let given = Given { views: null(), count: 0 };
        let unchanged = tags.is_some();
        let text = tags.map_or(outputs, Value::list);
        let output = Output::new(text, RM_MARSHAL, Some(&counts), &given)?;
        Ok(Output { flags: if unchanged { RM_UNCHANGED } else { output.flags }, ..output })
    }

    /// Puts it in the caller's room, if it fits and has no parts.
    fn fits(&self, call: &mut rm_call) -> bool {
        let room = if call.buffer.is_null() { 0 } else { call.buffer_len };
        if !self.views.is_empty() || self.len > room {
            return false;
        }
        // SAFETY: the buffer has that much room, and is the caller's alone.
        unsafe { call.buffer.cast::<u8>().copy_from(self.text.as_ptr(), self.len) };
        (call.given, call.text, call.len) = (self.flags, call.buffer, self.len);
        true
    }

    /// Shows where it lies, to a caller who holds what it belongs to. It does not move with that.
    fn show(&self, call: &mut rm_call) {
        (call.given, call.text, call.len) =
            (self.flags | RM_HELD, self.text.as_ptr().cast(), self.len);
        (call.given_parts, call.given_count) = (self.views.as_ptr(), self.views.len() as u32);
    }

    /// Puts it where the caller finds it: in the room, or in an object of its own.
    pub(crate) fn put(self, call: &mut rm_call) {
        if !self.fits(call) {
            self.show(call);
            let held = rm_data::new(Value::Bytes(Arc::new(Buffer::new(Held(self)))));
            call.held = Arc::into_raw(held).cast_mut();
        }
    }

    fn new(outputs: Value, kind: u32, counts: Option<&[u64]>, given: &Given) -> Result<Self> {
        let mut parts = Vec::new();
        let (mut text, flags) = match (kind, counts) {
            (RM_JSON, _) => (json::write(&outputs, &mut parts)?, RM_ESCAPED),
            (_, Some(counts)) if given.is(&outputs) => {
                (marshal::write_pair(&Value::Null, counts, &mut parts)?.0, RM_UNCHANGED)
            }
            (_, counts) => {
                let (text, escaped) = match counts {
                    Some(counts) => marshal::write_pair(&outputs, counts, &mut parts)?,
                    None => marshal::write(&outputs, &mut parts)?,
                };
                (text, if escaped { RM_ESCAPED } else { 0 })
            }
        };
        let len = text.len();
        if kind == RM_JSON {
            text.push(0);
        }
        // From here on the parts have no other reader than each other, unless the host has.
        drop(outputs);
        Ok(Output::written(text, len, flags, parts))
    }

    /// A text with its binary parts, which nobody else reads any more, unless the host does.
    pub(crate) fn written(text: Vec<u8>, len: usize, flags: u32, parts: Vec<Value>) -> Self {
        let values: Vec<_> = parts
            .into_iter()
            .map(|value| {
                let (strides, mut json) = (strides(&value), metadata(&value));
                json.push(0);
                (value, strides, json)
            })
            .collect();
        let views = values.iter().map(|(value, strides, json)| rm_view {
            flags: if value.is_writable() { RM_WRITABLE } else { 0 },
            json: json.as_ptr().cast(),
            json_len: json.len() - 1,
            ..describe_memory(value, strides)
        });
        Output { text, len, flags, views: views.collect(), _values: values }
    }
}

/// A text with what its views point to, as the bytes of a value.
struct Held(Output);

impl Storage for Held {
    fn bytes(&self) -> &[u8] {
        &self.0.text[..self.0.len]
    }
}

/// The caller's struct, if there is one of a size that we know. If not, there is no place for an
/// error either.
///
/// # Safety
/// `call` is NULL, or a struct of the caller's that nobody else uses.
pub(crate) unsafe fn usable<'a>(call: *mut rm_call) -> Option<&'a mut rm_call> {
    if call.is_null() || !call.is_aligned() {
        return None;
    }
    // SAFETY: not NULL, and the size comes first in every version of the struct.
    let size = unsafe { (*call).struct_size } as usize;
    // SAFETY: no smaller than ours, and by contract nobody else's.
    (size >= size_of::<rm_call>()).then(|| unsafe { &mut *call })
}

/// When a slice of so many microseconds is over; -1 is without end.
pub(crate) fn end_of_slice(slice_us: i64) -> Option<Instant> {
    let slice = u64::try_from(slice_us).ok().map(Duration::from_micros);
    slice.and_then(|slice| Instant::now().checked_add(slice))
}

/// The values of a call's binary parts, each made by `make`.
///
/// # Safety
/// `parts` is NULL or what the header says; and what `make` asks for.
pub(crate) unsafe fn parts(
    parts: *const rm_view,
    count: u32,
    make: impl Fn(*const rm_view) -> Result<Value>,
) -> Result<Vec<Value>> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if parts.is_null() || !parts.is_aligned() {
        return Err(Error::new(Code::Argument, "the call's parts are NULL or not aligned"));
    }
    // A newer host's views are larger.
    // SAFETY: by contract there is a first one, and the size comes first in it.
    let size = unsafe { (*parts).struct_size } as usize;
    // SAFETY: by contract there are that many, each as large as the first says.
    (0..count as usize).map(|index| make(unsafe { parts.byte_add(index * size) })).collect()
}

/// The items of a call: text in one of three formats, and its binary parts. Without a text the
/// parts are the items.
pub(crate) fn input(kind: u32, text: &[u8], parts: Vec<Value>, max_depth: usize) -> Result<Value> {
    // The batch, and a map of batches, are not levels of the user's.
    let outer = if matches!(text.trim_ascii_start().first(), Some(b'{')) { 2 } else { 1 };
    let depth = max_depth + outer;
    match kind {
        RM_JSON | RM_MARSHAL | RM_MARSHAL_PLAIN if text.is_empty() => Ok(Value::list(parts)),
        RM_JSON => json::parse(text, &parts, depth),
        RM_MARSHAL => marshal::read(text, Some(&parts), depth),
        RM_MARSHAL_PLAIN => marshal::read(text, None, depth),
        other => Err(Error::new(Code::Argument, format!("{other} is no kind of text"))),
    }
}
