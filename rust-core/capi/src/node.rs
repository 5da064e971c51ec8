//! `rm_node_vtable` and `rm_task`: nodes that the host implements, called directly.
//!
//! Everything is kept by references: a task keeps its node's state, and a state keeps its type. So
//! `cleanup` and `destroy` run when the last of those who need them is gone, be that the run, the
//! runtime, or a task that is finished long after both.

use crate::abi::{RM_E_CANCELLED, RM_OK, rm_status};
use crate::data::rm_data;
use crate::error::rm_error;
use crate::guard::{guard, quiet, text};
use crate::handle::{Handle, Head, Kind, borrow, release, share};
use crate::runtime::{rm_runtime, runtime_or_default};
use remotemedia_runtime::registry::Factory;
use remotemedia_runtime::{
    AsyncNode, BoxFuture, Code, Context, Error, Instance, Limits, Node, NodeType, Result, Value,
    Watch, json,
};
use std::cell::UnsafeCell;
use std::ffi::{c_char, c_void};
use std::future::Future;
use std::pin::Pin;
use std::ptr::null;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

/// Flag of a node type: one value may take it more than about 100 microseconds, so it works on the
/// library's threads where there is something to run beside.
pub const RM_NODE_HEAVY: u32 = 1;
/// Flag of a node type: its tasks may be finished after the callback has returned.
pub const RM_NODE_WAITS: u32 = 2;
/// Flag of a node type: its nodes remember nothing from one value to the next and give nothing at
/// the end of input. So a manifest may give them "parallelism", with which several states share the
/// work.
pub const RM_NODE_STATELESS: u32 = 4;

/// One call of a node of the host's: init, process or flush. It is the host's until it is finished,
/// which is to happen exactly once, on any thread.
///
/// Ownership: comes with the callback; rm_task_finish takes it away, and nothing else does. It
/// keeps the node's state and type. Of a task that is never finished the run's and the node's
/// timeout, rm_run_cancel and rm_run_free do their work all the same, but its node never comes to
/// cleanup, nor the type to destroy. Threads: any, at the same time, until it is finished.
///
/// Functions: rm_task_emit, rm_task_cancelled, rm_task_finish.
#[cfg_attr(all(), repr(C))]
pub struct rm_task {
    head: Head,
    kind: Arc<HostType>,
    init: bool,
    /// The place for the state, in init.
    state: UnsafeCell<*mut c_void>,
    watch: Option<Watch>,
    /// Nobody waits for it any more. Written under the lock.
    given_up: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Default)]
struct Progress {
    /// What the host was given, until it finishes the task: the node's state, and the value.
    node: Option<Arc<State>>,
    given: Option<Arc<rm_data>>,
    values: Vec<Value>,
    finished: bool,
    /// Taken by the engine.
    done: Option<Result<Done>>,
    waker: Option<Waker>,
}

/// What became of a task.
struct Done {
    values: Vec<Value>,
    /// Of init.
    state: Option<Arc<State>>,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_task {
    const KIND: Kind = Kind::Task;
}

// SAFETY: `state` is written by the host before it finishes the task, and read by who finishes it;
// what else is no lock of itself is never written.
unsafe impl Send for rm_task {}
// SAFETY: as above.
unsafe impl Sync for rm_task {}

/// How a host implements a type of nodes. Fields are only ever added at the end. Set `struct_size`
/// to sizeof(rm_node_vtable), and what you do not use to 0 or NULL; only `process` is needed. The
/// struct is copied.
///
/// Each node of a run has a state of its own: a pointer that init sets. Its callbacks come in the
/// order init, process for each value, flush, cleanup; never two at once, and none before the task
/// of the one before it is finished, even if nobody waits for that any more. If init fails, nothing
/// else is called. If it succeeds, there is one cleanup, whatever else happens: after the last task
/// of this state is finished, on the thread that does this or that ends the run. Different states
/// are called from several threads at once.
///
/// Which thread calls (rule 8): without a flag the one that pushes, pulls or waits for the run, or
/// one of the library's; with RM_NODE_HEAVY one of the library's, unless the node has nothing to run
/// beside in a batch; with RM_NODE_WAITS always one of the library's, which has other things to do,
/// so the callback is to return at once. destroy comes on the thread that is the last to let go of the
/// type: one that gives back a run, a pipeline, a runtime or a task, or, a moment after a run was
/// given back, one of the library's.
///
/// A callback may call any function of the library, but must not wait for its own run, push to it
/// with a time to wait, free it, or close its runtime; nor wait for another run that has nodes which
/// are heavy or wait, since it may be on the thread that they need.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct rm_node_vtable {
    /// sizeof(rm_node_vtable) of the side that made the struct.
    pub struct_size: u32,
    /// RM_NODE_HEAVY, RM_NODE_WAITS and RM_NODE_STATELESS, or 0.
    pub flags: u32,
    /// The JSON Schema of the parameters, for example `{"type": "object", "properties": {"least":
    /// {"type": "number", "default": 0}}}`; NULL: any. Manifests are checked with it, and init gets
    /// the defaults of what they leave out. Known are the words that the schemas of the library's
    /// own types use.
    pub params_schema: *const c_char,
    /// Its length in bytes.
    pub params_schema_len: usize,
    /// Acquires what a node needs. `params` is a JSON object. `state`, at first `user_data`, may be
    /// set until the task is finished; it is what the callbacks below get. NULL: nothing to do.
    pub init: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            params: *const rm_data,
            state: *mut *mut c_void,
            task: *mut rm_task,
        ),
    >,
    /// Takes a value and emits any number of values.
    pub process:
        Option<unsafe extern "C" fn(state: *mut c_void, input: *const rm_data, task: *mut rm_task)>,
    /// At the end of input: emits what the node still holds.
    pub flush: Option<unsafe extern "C" fn(state: *mut c_void, task: *mut rm_task)>,
    /// What was in flight was discarded (rm_run_interrupt): forgets what it holds of it. Comes before
    /// the next value.
    pub interrupt: Option<unsafe extern "C" fn(state: *mut c_void)>,
    /// Releases what the node holds.
    pub cleanup: Option<unsafe extern "C" fn(state: *mut c_void)>,
    /// The type is not needed any more, by anybody: the last callback. Exactly once; never if
    /// rm_runtime_add_node failed, nor for a type of the default runtime.
    pub destroy: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
}

type Process = unsafe extern "C" fn(*mut c_void, *const rm_data, *mut rm_task);

/// A registered type.
struct HostType {
    vtable: rm_node_vtable,
    process: Process,
    user_data: *mut c_void,
    /// Set once the type is registered.
    destroy: OnceLock<unsafe extern "C" fn(*mut c_void)>,
    /// How many values a task may have emitted, that one more is too many for the engine.
    most: usize,
}

// SAFETY: by contract the host's functions and its user_data may be used from any thread.
unsafe impl Send for HostType {}
// SAFETY: as above.
unsafe impl Sync for HostType {}

impl Drop for HostType {
    fn drop(&mut self) {
        if let Some(destroy) = self.destroy.get() {
            // SAFETY: nobody has the type any more.
            unsafe { destroy(self.user_data) }
        }
    }
}

/// What init has made: cleaned up when nobody has it any more.
struct State {
    pointer: *mut c_void,
    kind: Arc<HostType>,
}

// SAFETY: by contract the host's states may be used from any thread, one at a time.
unsafe impl Send for State {}
// SAFETY: as above; whoever has the node calls.
unsafe impl Sync for State {}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(cleanup) = self.kind.vtable.cleanup {
            // SAFETY: init has made it, and nobody else has it.
            unsafe { cleanup(self.pointer) }
        }
    }
}

impl rm_task {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        // No code of the host's runs under it.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits for it any more.
    fn give_up(&self) {
        let mut progress = self.progress();
        self.given_up.store(true, Ordering::Relaxed);
        // As in finish, without the lock.
        let unwanted = (progress.done.take(), std::mem::take(&mut progress.values));
        drop(progress);
        drop(unwanted);
    }

    fn emit(&self, data: &rm_data) -> Result<rm_status> {
        if self.init {
            let error = Error::new(Code::Argument, "init emits no values");
            return Err(error.hint("emit from process or from flush"));
        }
        let mut progress = self.progress();
        let why = match () {
            () if progress.finished => "the task is finished",
            () if self.given_up.load(Ordering::Relaxed) => "nobody waits for this task any more",
            () if progress.values.len() > self.kind.most => {
                let message = format!("a task has emitted more than {} values", self.kind.most);
                return Err(Error::new(Code::Limit, message).hint("finish it with this error"));
            }
            () => {
                progress.values.push(data.value().clone());
                return Ok(RM_OK);
            }
        };
        Err(Error::new(Code::Cancelled, why))
    }

    /// False if it was finished before.
    fn finish(&self, result: Result<()>) -> bool {
        // SAFETY: the host has written it before, if at all.
        let pointer = unsafe { *self.state.get() };
        let mut progress = self.progress();
        if std::mem::replace(&mut progress.finished, true) {
            return false;
        }
        let mut values = std::mem::take(&mut progress.values);
        let made = || Arc::new(State { pointer, kind: self.kind.clone() });
        let state = (self.init && result.is_ok()).then(made);
        let done = result.map(|()| Done { values: std::mem::take(&mut values), state });
        let (node, given) = (progress.node.take(), progress.given.take());
        let unwanted = match self.given_up.load(Ordering::Relaxed) {
            true => Some((done, node)),
            false => {
                // The engine has the state as well. Once it is told, nobody else may: then it is
                // the one who cleans up.
                drop(node);
                progress.done = Some(done);
                None
            }
        };
        let waker = progress.waker.take();
        drop(progress);
        // What the host has made may have a release of its own.
        drop((given, values, unwanted));
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }
}

/// The wait for a task. Dropped before its end, the task is given up.
struct Finished<'a>(&'a rm_task);

impl Future for Finished<'_> {
    /// None if the task was given up before.
    type Output = Option<Result<Done>>;

    fn poll(self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let mut progress = self.0.progress();
        if progress.finished {
            return Poll::Ready(progress.done.take());
        }
        progress.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Finished<'_> {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

/// What a node is asked to do.
enum Call {
    Init,
    Process(Value),
    Flush,
}

/// A node of a run.
struct Hosted {
    kind: Arc<HostType>,
    params: Value,
    state: Option<Arc<State>>,
    /// The task that was not finished when somebody last looked.
    last: Option<Arc<rm_task>>,
    /// What was in flight was discarded.
    interrupted: bool,
}

impl Hosted {
    /// Calls the host, once the last task is finished. None if there is no init to call.
    fn begin(&mut self, mut call: Call, watch: Option<Watch>) -> Option<Arc<rm_task>> {
        self.last = None;
        if std::mem::take(&mut self.interrupted)
            && let (Some(interrupt), Some(state)) = (self.kind.vtable.interrupt, &self.state)
        {
            // SAFETY: the host's function, and a state that nobody else uses.
            unsafe { interrupt(state.pointer) }
        }
        let (kind, user_data) = (self.kind.clone(), self.kind.user_data);
        let node = self.state.clone();
        let pointer = node.as_ref().map_or(user_data, |state| state.pointer);
        let given = match &mut call {
            Call::Init if kind.vtable.init.is_none() => {
                self.state = Some(Arc::new(State { pointer: user_data, kind }));
                return None;
            }
            Call::Init => Some(rm_data::new(self.params.clone())),
            Call::Process(value) => Some(rm_data::new(std::mem::replace(value, Value::Null))),
            Call::Flush => None,
        };
        let (process, vtable) = (kind.process, kind.vtable);
        let value = given.as_ref().map_or(null(), Arc::as_ptr);
        let task = Arc::new(rm_task {
            head: Head::new(Kind::Task),
            kind,
            init: matches!(call, Call::Init),
            state: UnsafeCell::new(user_data),
            watch,
            given_up: AtomicBool::new(false),
            progress: Mutex::new(Progress { node, given, ..Progress::default() }),
        });
        let host = Arc::into_raw(task.clone()).cast_mut();
        // SAFETY: the functions are the host's, of these types; the task keeps what they are given.
        unsafe {
            match (call, vtable.init, vtable.flush) {
                (Call::Init, Some(init), _) => init(user_data, value, task.state.get(), host),
                (Call::Process(_), ..) => process(pointer, value, host),
                (Call::Flush, _, Some(flush)) => flush(pointer, host),
                _ => {}
            }
        }
        Some(task)
    }

    fn is_nothing(&self, call: &Call) -> bool {
        matches!(call, Call::Flush) && self.kind.vtable.flush.is_none()
    }

    /// Takes what a task has given.
    fn take(&mut self, done: Done) -> Vec<Value> {
        if done.state.is_some() {
            self.state = done.state;
        }
        done.values
    }

    /// For a node whose tasks are finished when the callback returns.
    fn at_once(&mut self, call: Call, cx: Option<&mut Context>) -> Result<()> {
        if self.is_nothing(&call) {
            return Ok(());
        }
        let unfinished = || {
            let message = "the node returned without finishing its task";
            Error::new(Code::Node, message)
                .hint("call rm_task_finish before that, or register the type with RM_NODE_WAITS")
        };
        if self.last.as_ref().is_some_and(|last| !last.progress().finished) {
            return Err(unfinished());
        }
        let watch = cx.as_ref().map(|cx| cx.watch());
        let Some(task) = self.begin(call, watch) else { return Ok(()) };
        let done = task.progress().done.take();
        let Some(done) = done else {
            task.give_up();
            self.last = Some(task);
            return Err(unfinished());
        };
        let values = self.take(done?);
        if let Some(cx) = cx {
            values.into_iter().for_each(|value| cx.emit(value));
        }
        Ok(())
    }

    /// For a node whose tasks may be finished later.
    async fn later(&mut self, call: Call) -> Result<Vec<Value>> {
        if self.is_nothing(&call) {
            return Ok(Vec::new());
        }
        if let Some(last) = &self.last {
            Finished(last).await;
        }
        let Some(task) = self.begin(call, None) else { return Ok(Vec::new()) };
        let done = Finished(self.last.insert(task)).await;
        self.last = None;
        done.map_or_else(|| Ok(Vec::new()), |done| Ok(self.take(done?)))
    }
}

impl Node for Hosted {
    fn initialize(&mut self) -> Result<()> {
        self.at_once(Call::Init, None)
    }

    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        self.at_once(Call::Process(value), Some(cx))
    }

    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        self.at_once(Call::Flush, Some(cx))
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }

    fn cleanup(&mut self) -> Result<()> {
        self.state = None;
        Ok(())
    }
}

impl AsyncNode for Hosted {
    fn initialize(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { self.later(Call::Init).await.map(drop) })
    }

    fn process<'a>(
        &'a mut self,
        value: Value,
        out: &'a mut Vec<Value>,
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            out.append(&mut self.later(Call::Process(value)).await?);
            Ok(())
        })
    }

    fn flush<'a>(&'a mut self, out: &'a mut Vec<Value>) -> BoxFuture<'a, Result<()>> {
        Box::pin(async {
            out.append(&mut self.later(Call::Flush).await?);
            Ok(())
        })
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
    }

    fn cleanup(&mut self) -> Result<()> {
        self.state = None;
        Ok(())
    }
}

/// Registers a type of nodes that the host implements, under a name that manifests may then use in
/// this runtime (NULL: the default one) as they use the library's own: in batches and in runs that are
/// fed, with "on_error", "timeout", "join", "parallelism" and queues. `user_data` goes to init and
/// to destroy.
///
/// Fails with RM_E_ARGUMENT for a name that the library or an earlier call has given to a type, with
/// or without the ending "Node", for a struct whose size or flags are not known or that has no
/// process, and for a schema that is not one; RM_E_JSON; RM_E_UTF8; RM_E_CLOSED if the runtime is.
/// The default runtime of a forked child begins without the types of its parent.
#[unsafe(no_mangle)]
pub extern "C" fn rm_runtime_add_node(
    runtime: *mut rm_runtime,
    node_type: *const c_char,
    len: usize,
    vtable: *const rm_node_vtable,
    user_data: *mut c_void,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rules 4 and 6.
        let (runtime, name, vtable) = unsafe {
            (runtime_or_default(runtime)?, text(node_type, len, "node_type")?, read(vtable)?)
        };
        runtime.check_open()?;
        let wrong = |message: &str, hint: &str| {
            Err(Error::new(Code::Argument, message.to_owned()).hint(hint))
        };
        if name.is_empty() {
            return wrong("the node type has no name", "give it one that manifests can use");
        }
        if vtable.flags & !(RM_NODE_HEAVY | RM_NODE_WAITS | RM_NODE_STATELESS) != 0 {
            return wrong("the vtable has flags that are not known", "set only RM_NODE_*");
        }
        let Some(process) = vtable.process else {
            return wrong("the vtable has no process", "set it; every other function may be NULL");
        };
        // SAFETY: rule 6.
        let schema =
            match unsafe { text(vtable.params_schema, vtable.params_schema_len, "params_schema")? }
            {
                "" => None,
                text => Some(serde_json::from_str(text).map_err(|e| {
                    Error::new(Code::Json, format!("params_schema is not JSON: {e}"))
                })?),
            };
        let flag = |flag: u32| vtable.flags & flag != 0;
        let kind = Arc::new(HostType {
            vtable,
            process,
            user_data,
            destroy: OnceLock::new(),
            most: runtime.runtime().limits().values,
        });
        let (made, waits) = (kind.clone(), flag(RM_NODE_WAITS));
        let prepare = move |params: serde_json::Value| {
            let params = json::parse(params.to_string().as_bytes(), &[], Limits::VALUE_DEPTH)?;
            let kind = made.clone();
            Ok(Arc::new(move || {
                let (kind, params) = (kind.clone(), params.clone());
                let node = Hosted { kind, params, state: None, last: None, interrupted: false };
                match waits {
                    true => Instance::new_async(node),
                    false => Instance::new(node),
                }
            }) as Factory)
        };
        let known = NodeType::foreign(name, flag(RM_NODE_HEAVY), schema, prepare)?;
        runtime.runtime().add(if flag(RM_NODE_STATELESS) { known.stateless() } else { known })?;
        if let Some(destroy) = vtable.destroy {
            // It is new, so nothing is there.
            let _ = kind.destroy.set(destroy);
        }
        Ok(RM_OK)
    })
}

/// Gives a value from a task to the nodes behind this one, or to the result; any number of times.
/// It goes there when the task is finished with RM_OK, and is discarded otherwise. RM_E_CANCELLED
/// if nobody waits for the task any more; RM_E_LIMIT once these are more values than the limit of
/// the runtime allows, with which the task is to be finished; RM_E_ARGUMENT from init.
#[unsafe(no_mangle)]
pub extern "C" fn rm_task_emit(
    task: *mut rm_task,
    data: *const rm_data,
    error: *mut *mut rm_error,
) -> rm_status {
    guard(error, || {
        // SAFETY: rule 4.
        let (task, data) = unsafe { (borrow(task.cast_const())?, borrow(data)?) };
        task.emit(data)
    })
}

/// Whether a task is still wanted, to be asked every few milliseconds by who works for long: RM_OK
/// if it is. RM_E_CANCELLED or RM_E_TIMEOUT if it is not: the run was cancelled or freed, its time
/// or that for the value is over, or what is in flight was discarded. What the task gives is then
/// ignored, but it is still to be finished, for example with this status. Init without RM_NODE_WAITS
/// is not told.
#[unsafe(no_mangle)]
pub extern "C" fn rm_task_cancelled(task: *const rm_task) -> rm_status {
    quiet(RM_E_CANCELLED, || {
        // SAFETY: rule 4.
        let task = match unsafe { borrow(task) } {
            Ok(task) => task,
            Err(error) => return error.code as rm_status,
        };
        if task.given_up.load(Ordering::Relaxed) {
            return RM_E_CANCELLED;
        }
        let wanted = task.watch.as_ref().map_or(Ok(()), Watch::check);
        wanted.map_or_else(|error| error.code as rm_status, |()| RM_OK)
    })
}

/// Finishes a task and takes it away: do not use it after that. With RM_OK the node has done what
/// it was called for. With a negative status it has failed, with `error` (may be NULL; stays yours)
/// for the message and the hint. A positive status is a failure too, since a task is finished or not.
/// Never waits for anybody, but runs cleanup and destroy where this was what they waited for.
#[unsafe(no_mangle)]
pub extern "C" fn rm_task_finish(task: *mut rm_task, status: rm_status, error: *const rm_error) {
    quiet((), || {
        // SAFETY: rule 4. Until the end of this it is also ours.
        let held = match unsafe { share(task.cast_const()) } {
            Ok(held) => held,
            Err(error) if error.code == Code::Forked => {
                // SAFETY: rule 3. Nobody waits for it in the child.
                unsafe { release(task) };
                return;
            }
            Err(error) => return ::log::error!("rm_task_finish: {error}"),
        };
        let result = match status {
            RM_OK => Ok(()),
            // SAFETY: rule 4.
            status => Err(failure(status, unsafe { borrow(error) }.ok())),
        };
        if !held.finish(result) {
            return ::log::error!("rm_task_finish: the task was finished before");
        }
        // SAFETY: rule 3, and it was not given back before.
        unsafe { release(task) };
    });
}

/// What a host says went wrong.
fn failure(status: rm_status, error: Option<&rm_error>) -> Error {
    if status > 0 {
        let message = format!("the node finished its task with the status {status}");
        return Error::new(Code::Argument, message)
            .hint("finish a task with RM_OK or with a failure");
    }
    let code = Code::from_number(status).unwrap_or(Code::Node);
    match error {
        None => Error::new(code, "the node failed"),
        Some(error) => {
            let mut error = error.error().clone();
            error.code = code;
            error
        }
    }
}

/// A copy of the caller's vtable.
///
/// # Safety
/// NULL or a vtable with its size set.
unsafe fn read(vtable: *const rm_node_vtable) -> Result<rm_node_vtable> {
    if vtable.is_null() || !vtable.is_aligned() {
        return Err(Error::new(Code::Argument, "the vtable is NULL or not aligned"));
    }
    // SAFETY: not NULL, and the size comes first in every version of the struct.
    match unsafe { (*vtable).struct_size } as usize {
        // SAFETY: it has all that ours has.
        size if size >= size_of::<rm_node_vtable>() => Ok(unsafe { *vtable }),
        _ => {
            let message = "the vtable's struct_size is not set to sizeof(rm_node_vtable)";
            Err(Error::new(Code::Argument, message))
        }
    }
}
