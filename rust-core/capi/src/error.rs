//! `rm_error`.

use crate::abi::rm_status;
use crate::guard::{bytes, quiet};
use crate::handle::{Handle, Head, Kind, borrow, release};
use remotemedia_runtime::{Code, Error};
use std::ffi::{CStr, CString, c_char};
use std::ptr::null;
use std::sync::{Arc, OnceLock};

/// What went wrong, where, and what to do about it.
///
/// Ownership: comes through the last parameter of a failed call, or from rm_error_new, and is yours;
/// free it.
/// Immutable: any thread may read it.
///
/// Functions: rm_error_new, rm_error_code, rm_error_json, rm_error_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_error {
    head: Head,
    error: Error,
    /// Written when somebody first asks.
    json: OnceLock<CString>,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_error {
    const KIND: Kind = Kind::Error;
}

impl rm_error {
    pub(crate) fn new(error: Error) -> *mut rm_error {
        let object = rm_error { head: Head::new(Kind::Error), error, json: OnceLock::new() };
        Arc::into_raw(Arc::new(object)).cast_mut()
    }

    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    fn json(&self) -> &CStr {
        // JSON text escapes NUL, so this cannot fail.
        let json = || CString::new(self.error.to_json().to_string()).unwrap_or_default();
        self.json.get_or_init(json)
    }
}

/// Makes an error of your own, for rm_task_finish: one sentence on what went wrong, and another on
/// what to do about it (`hint`; NULL with length 0 for none). The library adds which node and which
/// item. Never NULL: a code that is not one of RM_E_* becomes RM_E_NODE, and what is not UTF-8
/// is replaced.
#[unsafe(no_mangle)]
pub extern "C" fn rm_error_new(
    code: rm_status,
    message: *const c_char,
    message_len: usize,
    hint: *const c_char,
    hint_len: usize,
) -> *mut rm_error {
    // SAFETY: rule 6.
    let text = |text: *const c_char, len, name| match unsafe { bytes(text.cast(), len, name) } {
        Ok(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Err(error) => error.message.clone(),
    };
    let error = Error::new(
        Code::from_number(code).unwrap_or(Code::Node),
        text(message, message_len, "message"),
    );
    rm_error::new(match text(hint, hint_len, "hint") {
        hint if hint.is_empty() => error,
        hint => error.hint(hint),
    })
}

/// The status that the failed call returned; RM_E_ARGUMENT for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rm_error_code(error: *const rm_error) -> rm_status {
    // SAFETY: rule 4.
    unsafe { borrow(error) }
        .map_or_else(|none| none.code as rm_status, |error| error.error.code as rm_status)
}

/// The error as a JSON object; NULL for NULL.
///
/// Always there: `code` (a name from this header, as text) and `message`. Where known: `pointer`
/// (JSON pointer, RFC 6901, into the manifest, or into the input where that is wrong), `node` and
/// `node_type`, `item` (index of the input item in work, from 0), `hint` (what to do), `causes`
/// (a list of such objects; for a manifest with several problems, the problems). `len` may be
/// NULL. The text lives as long as the error.
#[unsafe(no_mangle)]
pub extern "C" fn rm_error_json(error: *const rm_error, len: *mut usize) -> *const c_char {
    quiet(null(), || {
        // SAFETY: rule 4.
        let json = unsafe { borrow(error) }.map(rm_error::json).ok();
        if !len.is_null() {
            // SAFETY: not NULL, and by rule 2 a place for a length.
            unsafe { *len = json.map_or(0, |json| json.count_bytes()) };
        }
        json.map_or(null(), |json| json.as_ptr())
    })
}

/// Frees an error.
#[unsafe(no_mangle)]
pub extern "C" fn rm_error_free(error: *mut rm_error) {
    // SAFETY: rule 3.
    unsafe { release(error) }
}
