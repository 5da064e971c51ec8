//! What stands between C and everything that can go wrong.

use crate::abi::{RM_OK, rm_status};
use crate::error::rm_error;
use crate::handle::Handle;
use remotemedia_runtime::run::panicked;
use remotemedia_runtime::{Code, Error, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::sync::{Arc, Once};

/// Runs the body of an exported function. A failure or a panic becomes a negative status with an
/// error object in `error`, which is NULL on every other path.
pub fn guard(error: *mut *mut rm_error, body: impl FnOnce() -> Result<rm_status>) -> rm_status {
    set_up();
    if !error.is_null() {
        // SAFETY: not NULL, and by rule 2 a place for a pointer.
        unsafe { *error = null_mut() };
    }
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(panic)));
    result.unwrap_or_else(|failure| {
        let code = failure.code as rm_status;
        if !error.is_null() {
            let failure = rm_error::new(failure);
            // SAFETY: as above.
            unsafe { *error = failure };
        }
        code
    })
}

/// Runs the body of a function that cannot report anything. A panic is logged.
pub fn quiet<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        ::log::error!("{}", panicked(panic));
        otherwise
    })
}

/// Once per process: panics are reported through status codes and the log, never on stderr. The
/// hook belongs to this library's own copy of the standard library, so the host's is untouched.
fn set_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| ::log::error!(target: "remotemedia", "{info}")));
        crate::log::install();
    });
}

/// A caller's place for an object. Created first, so that it is NULL on every path but success.
pub struct Out<T>(*mut *mut T);

impl<T: Handle> Out<T> {
    /// # Safety
    /// `slot` is NULL or a place for a pointer (rule 2).
    pub unsafe fn new(slot: *mut *mut T) -> Self {
        if !slot.is_null() {
            // SAFETY: not NULL, and by contract a place for a pointer.
            unsafe { *slot = null_mut() };
        }
        Out(slot)
    }

    /// Fails if the caller gave no place.
    pub fn required(&self, name: &str) -> Result<()> {
        match self.0.is_null() {
            true => Err(Error::new(Code::Argument, format!("the argument {name} is NULL"))),
            false => Ok(()),
        }
    }

    /// Whether the caller wants the object.
    pub fn wanted(&self) -> bool {
        !self.0.is_null()
    }

    /// Hands the object over.
    pub fn set(self, object: Arc<T>) -> rm_status {
        if !self.0.is_null() {
            // SAFETY: `new` was given a place for a pointer.
            unsafe { *self.0 = Arc::into_raw(object).cast_mut() };
        }
        RM_OK
    }
}

/// The bytes of an argument made of a pointer and a length. NULL with length 0 is empty.
///
/// # Safety
/// `data` is NULL or points to `len` bytes that stay as they are for as long as `'a`.
pub unsafe fn bytes<'a>(data: *const u8, len: usize, name: &str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || len > isize::MAX as usize {
        let message = format!("the argument {name} is NULL, or its length is impossible");
        return Err(Error::new(Code::Argument, message));
    }
    // SAFETY: not NULL, a possible length, and by contract readable.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// As [`bytes`], checked to be UTF-8.
///
/// # Safety
/// As [`bytes`].
pub unsafe fn text<'a>(data: *const std::ffi::c_char, len: usize, name: &str) -> Result<&'a str> {
    // SAFETY: by contract.
    let bytes = unsafe { bytes(data.cast(), len, name)? };
    std::str::from_utf8(bytes).map_err(|e| {
        Error::new(Code::Utf8, format!("{name} is not UTF-8 at byte {}", e.valid_up_to()))
            .hint("pass text as UTF-8 with its length in bytes")
    })
}

/// The fields of a struct, written as a JSON object. Serde alone would take lists for objects too.
pub fn fields<T: DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    let object = serde_json::from_str::<Map<String, Json>>(text).and_then(|object| {
        match object.values().any(Json::is_array) {
            true => Err(serde::de::Error::custom("there is a list where no list belongs")),
            false => serde_json::from_value(Json::Object(object)),
        }
    });
    object.map_err(|e| {
        let code = if e.is_data() { Code::Argument } else { Code::Json };
        Error::new(code, format!("{name} cannot be read: {e}"))
    })
}

/// A time from the C side: -1 waits for ever, 0 polls.
pub fn timeout(milliseconds: i64) -> Option<std::time::Duration> {
    u64::try_from(milliseconds).ok().map(std::time::Duration::from_millis)
}
