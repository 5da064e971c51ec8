//! Versions and status codes.

use remotemedia_runtime::Code;
use std::ffi::c_char;

/// Major version of the ABI: a library of another one must not be used.
pub const RM_ABI_MAJOR: u32 = 1;
/// Minor version of the ABI: a library whose minor is at least the header's will do.
pub const RM_ABI_MINOR: u32 = 0;

/// What every call that can fail returns: 0 for success, above 0 for flow control, below 0 for
/// failure. Treat a negative number that you do not know as a failure.
pub type rm_status = i32;

/// Success.
pub const RM_OK: i32 = 0;
/// Not yet, or nothing there: call again.
pub const RM_AGAIN: i32 = 1;
/// There is nothing more to come.
pub const RM_END: i32 = 2;
/// An argument is NULL, out of range or of the wrong kind.
pub const RM_E_ARGUMENT: i32 = -1;
/// Text is not UTF-8.
pub const RM_E_UTF8: i32 = -2;
/// Text is not JSON.
pub const RM_E_JSON: i32 = -3;
/// The manifest is JSON but does not describe a pipeline; the error's causes are its problems.
pub const RM_E_MANIFEST: i32 = -4;
/// A node failed.
pub const RM_E_NODE: i32 = -5;
/// The time ran out.
pub const RM_E_TIMEOUT: i32 = -6;
/// The run was cancelled.
pub const RM_E_CANCELLED: i32 = -7;
/// The object was closed, or its run is over.
pub const RM_E_CLOSED: i32 = -8;
/// Another thread is using the object.
pub const RM_E_BUSY: i32 = -9;
/// Valid, but not something this library can do.
pub const RM_E_UNSUPPORTED: i32 = -10;
/// A plugin could not be loaded.
pub const RM_E_PLUGIN: i32 = -11;
/// A file could not be read or written.
pub const RM_E_IO: i32 = -12;
/// Larger, deeper or more than the limits allow.
pub const RM_E_LIMIT: i32 = -13;
/// The object was made before the process forked.
pub const RM_E_FORKED: i32 = -14;
/// A bug in a node or in the library was contained; the object it happened in is closed.
pub const RM_E_PANIC: i32 = -15;
/// A bug in the library.
pub const RM_E_INTERNAL: i32 = -16;
/// The policy in force does not permit it.
pub const RM_E_DENIED: i32 = -17;

// The engine's codes and these are the same numbers.
const _: () = {
    assert!(Code::Argument as i32 == RM_E_ARGUMENT && Code::Utf8 as i32 == RM_E_UTF8);
    assert!(Code::Json as i32 == RM_E_JSON && Code::Manifest as i32 == RM_E_MANIFEST);
    assert!(Code::Node as i32 == RM_E_NODE && Code::Timeout as i32 == RM_E_TIMEOUT);
    assert!(Code::Cancelled as i32 == RM_E_CANCELLED && Code::Closed as i32 == RM_E_CLOSED);
    assert!(Code::Busy as i32 == RM_E_BUSY && Code::Unsupported as i32 == RM_E_UNSUPPORTED);
    assert!(Code::Plugin as i32 == RM_E_PLUGIN && Code::Io as i32 == RM_E_IO);
    assert!(Code::Limit as i32 == RM_E_LIMIT && Code::Forked as i32 == RM_E_FORKED);
    assert!(Code::Panic as i32 == RM_E_PANIC && Code::Internal as i32 == RM_E_INTERNAL);
    assert!(Code::Denied as i32 == RM_E_DENIED);
};

/// The library's ABI version: `(major << 16) | minor`.
#[unsafe(no_mangle)]
pub extern "C" fn rm_abi_version() -> u32 {
    (RM_ABI_MAJOR << 16) | RM_ABI_MINOR
}

/// A JSON object about the build: `version` (of the library), `abi` ("major.minor"), `target`
/// (architecture and system), `profile`. Static; ends in a NUL.
#[unsafe(no_mangle)]
pub extern "C" fn rm_build_info() -> *const c_char {
    const PROFILE: &str = if cfg!(debug_assertions) { "debug" } else { "release" };
    static INFO: std::sync::OnceLock<std::ffi::CString> = std::sync::OnceLock::new();
    INFO.get_or_init(|| {
        let info = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "abi": format!("{RM_ABI_MAJOR}.{RM_ABI_MINOR}"),
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            "profile": PROFILE,
        });
        std::ffi::CString::new(info.to_string()).unwrap_or_default()
    })
    .as_ptr()
}
