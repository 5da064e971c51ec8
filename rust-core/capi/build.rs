//! How the shared library is linked: its own name carries the ABI's major version, and it is never
//! unloaded, because a Rust library cannot be (its thread-local destructors would dangle).

use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/abi.rs");
    let source = fs::read_to_string("src/abi.rs").expect("src/abi.rs is beside build.rs");
    let major = source
        .lines()
        .find_map(|line| line.strip_prefix("pub const RM_ABI_MAJOR: u32 = ")?.strip_suffix(';'))
        .expect("src/abi.rs states RM_ABI_MAJOR");

    let arguments = match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("windows") => vec![],
        Ok("macos" | "ios") => {
            vec![format!("-Wl,-install_name,@rpath/libremotemedia.{major}.dylib")]
        }
        _ => vec![format!("-Wl,-soname,libremotemedia.so.{major}"), "-Wl,-z,nodelete".into()],
    };
    for argument in arguments {
        println!("cargo:rustc-cdylib-link-arg={argument}");
    }
}
