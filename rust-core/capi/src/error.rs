//! `rm_error`.

use crate::abi::rm_status;
use crate::guard::quiet;
use crate::handle::{Handle, Head, Kind, borrow, release};
use remotemedia_runtime::Error;
use std::ffi::{CString, c_char};
use std::ptr::null;
use std::sync::Arc;

/// What went wrong, where, and what to do about it.
///
/// Ownership: comes through the last parameter of a failed call and is yours; free it. Immutable:
/// any thread may read it.
///
/// Functions: rm_error_code, rm_error_json, rm_error_free.
#[cfg_attr(all(), repr(C))]
pub struct rm_error {
    head: Head,
    code: rm_status,
    json: CString,
}

// SAFETY: repr(C), and begins with its head.
unsafe impl Handle for rm_error {
    const KIND: Kind = Kind::Error;
}

impl rm_error {
    pub(crate) fn new(error: Error) -> *mut rm_error {
        // JSON text escapes NUL, so this cannot fail.
        let json = CString::new(error.to_json().to_string()).unwrap_or_default();
        let object = rm_error { head: Head::new(Kind::Error), code: error.code as rm_status, json };
        Arc::into_raw(Arc::new(object)).cast_mut()
    }
}

/// The status that the failed call returned; RM_E_ARGUMENT for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn rm_error_code(error: *const rm_error) -> rm_status {
    // SAFETY: rule 4.
    unsafe { borrow(error) }.map_or_else(|none| none.code as rm_status, |error| error.code)
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
        let json = unsafe { borrow(error) }.map(|error| error.json.as_c_str()).ok();
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
