//! `rm_clear`.

use crate::handle::{Head, release_any};
use std::ffi::c_void;
use std::ptr::{null_mut, replace};

/// Frees the object, of whatever type, to which a pointer of yours points, and sets the pointer to
/// NULL: `slot` is the address of the pointer. For hosts whose finalizers are given the place of
/// an object, which they own before a call has filled it. NULL, and a slot that holds NULL, do
/// nothing.
#[unsafe(no_mangle)]
pub extern "C" fn rm_clear(slot: *mut c_void) {
    if !slot.is_null() {
        // SAFETY: rule 3: a place with an object of the library's that is the caller's, or NULL.
        unsafe { release_any(replace(slot.cast::<*mut Head>(), null_mut())) }
    }
}
