//! What every object that C holds begins with.

use crate::abi::RM_E_CANCELLED;
use remotemedia_runtime::{Code, Error, Result};
use serde_json::{Map, Value as Json, json};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Once};

/// The kinds of object that C can hold.
#[derive(Clone, Copy)]
pub enum Kind {
    Error,
    Data,
    Runtime,
    Pipeline,
    Run,
    Queue,
    Task,
}

const NAMES: [&str; 7] =
    ["rm_error", "rm_data", "rm_runtime", "rm_pipeline", "rm_run", "rm_queue", "rm_task"];
static LIVE: [AtomicI64; NAMES.len()] = [const { AtomicI64::new(0) }; NAMES.len()];

/// How many objects of each kind are alive: `{"rm_data": 0, ...}`.
pub fn live() -> Json {
    let counts = NAMES.iter().zip(&LIVE);
    let counts =
        counts.map(|(name, count)| ((*name).to_owned(), json!(count.load(Ordering::Relaxed))));
    Json::Object(counts.collect::<Map<_, _>>())
}

static FORKS: AtomicU32 = AtomicU32::new(0);

/// How often this process has forked away from the one that loaded the library.
pub fn generation() -> u32 {
    static ONCE: Once = Once::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    #[cfg(unix)]
    ONCE.call_once(|| {
        // SAFETY: the handler only adds to an atomic number.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// The beginning of an object: tells its kind and the process that made it.
#[repr(C)]
pub struct Head {
    magic: AtomicU32,
    generation: u32,
    kind: Kind,
}

const MAGIC: u32 = 0x524d_0000;

impl Head {
    pub fn new(kind: Kind) -> Self {
        LIVE[kind as usize].fetch_add(1, Ordering::Relaxed);
        Head { magic: AtomicU32::new(MAGIC + kind as u32), generation: generation(), kind }
    }
}

impl Head {
    /// Whether this is still the process that made the object.
    pub fn here(&self) -> bool {
        self.generation == generation()
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        // So that a stale pointer is likely to be told from a live one.
        self.magic.store(0, Ordering::Relaxed);
        LIVE[self.kind as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// An object that C can hold. It lives in an [`Arc`], and C's pointer is one reference to it.
///
/// # Safety
/// The type is `repr(C)` and its first field is a [`Head`] of this kind. (Written as a `cfg_attr`,
/// which cbindgen does not see: to C the type is opaque.)
pub unsafe trait Handle: Sized {
    const KIND: Kind;
}

/// The object behind a pointer of C's.
///
/// # Safety
/// `pointer` is NULL or points to an object of this library that has not been freed.
pub unsafe fn borrow<'a, T: Handle>(pointer: *const T) -> Result<&'a T> {
    // SAFETY: by contract; every object begins with its head.
    let (object, head) = unsafe { (borrow_inherited(pointer)?, &*pointer.cast::<Head>()) };
    if head.generation != generation() {
        let name = NAMES[T::KIND as usize];
        let message = format!("the {name} was made before this process forked");
        return Err(Error::new(Code::Forked, message)
            .hint("make a new one in the child; the old one may be freed"));
    }
    Ok(object)
}

/// The same, also for an object from before a fork: to be read only, and nothing in it to be
/// waited for, since a thread that is no more may have been at work on it.
///
/// # Safety
/// As [`borrow`].
pub unsafe fn borrow_inherited<'a, T: Handle>(pointer: *const T) -> Result<&'a T> {
    let name = NAMES[T::KIND as usize];
    let wrong = |why: &str| Err(Error::new(Code::Argument, format!("the {name} {why}")));
    if pointer.is_null() {
        return wrong("is NULL");
    }
    if !pointer.is_aligned() {
        return wrong("is not a pointer that came from this library");
    }
    // SAFETY: by contract it points to an object of ours, all of which begin with a head.
    let head = unsafe { &*pointer.cast::<Head>() };
    if head.magic.load(Ordering::Relaxed) != MAGIC + T::KIND as u32 {
        return wrong("was freed, or is an object of another kind");
    }
    // SAFETY: as above, and the tag says that it is of this kind.
    Ok(unsafe { &*pointer })
}

/// Like [`borrow`], with a reference of its own: the object outlives a free from another thread.
///
/// # Safety
/// As [`borrow`].
pub unsafe fn share<T: Handle>(pointer: *const T) -> Result<Arc<T>> {
    // SAFETY: by contract; what borrow accepts is inside an Arc.
    unsafe {
        borrow(pointer)?;
        Arc::increment_strong_count(pointer);
        Ok(Arc::from_raw(pointer))
    }
}

/// Gives back C's reference. NULL is nothing; what is no object of this kind is left alone.
///
/// # Safety
/// As [`borrow`], and the pointer is not used again.
pub unsafe fn release<T: Handle>(pointer: *mut T) {
    if pointer.is_null() {
        return;
    }
    // SAFETY: by contract. An object from before a fork is fine to free.
    match unsafe { borrow(pointer.cast_const()) } {
        Err(error) if error.code == Code::Argument => ::log::error!("free: {error}"),
        // SAFETY: the pointer came from Arc::into_raw and is given back once.
        _ => crate::guard::quiet((), || drop(unsafe { Arc::from_raw(pointer) })),
    }
}

/// Gives back C's reference to an object of whatever kind.
///
/// # Safety
/// As [`release`].
pub unsafe fn release_any(pointer: *mut Head) {
    use crate::{data, error, node, pipeline, queue, run, runtime};
    if pointer.is_null() {
        return;
    }
    // SAFETY: by contract; the kind is that of the object, and release checks it again.
    unsafe {
        match (*pointer).kind {
            Kind::Error => release(pointer.cast::<error::rm_error>()),
            Kind::Data => release(pointer.cast::<data::rm_data>()),
            Kind::Runtime => release(pointer.cast::<runtime::rm_runtime>()),
            Kind::Pipeline => release(pointer.cast::<pipeline::rm_pipeline>()),
            Kind::Run => release(pointer.cast::<run::rm_run>()),
            Kind::Queue => release(pointer.cast::<queue::rm_queue>()),
            Kind::Task => node::rm_task_finish(pointer.cast(), RM_E_CANCELLED, std::ptr::null()),
        }
    }
}
