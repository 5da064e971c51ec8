//! A descriptor that wakes an event loop.

/// A pair of connected sockets rather than a pipe: the standard library makes them closed on exec
/// from the start, and writing to one whose other end is gone is no signal.
#[cfg(unix)]
mod system {
    use std::io::{Result, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream as Socket;

    pub(crate) struct Pipe(Socket);

    pub(crate) struct Writer(Socket);

    /// Both ends, which close with it; neither ever blocks.
    pub(crate) fn pipe() -> Result<(Pipe, Writer)> {
        let (reader, writer) = Socket::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok((Pipe(reader), Writer(writer)))
    }

    impl Pipe {
        pub fn descriptor(&self) -> i64 {
            self.0.as_raw_fd().into()
        }
    }

    impl Writer {
        pub fn ring(&self) {
            // One that is full is readable, and if the reader is gone nobody is to be woken.
            let _ = (&self.0).write(&[1]);
        }
    }
}

#[cfg(not(unix))]
mod system {
    use std::io::{ErrorKind, Result};

    pub(crate) enum Pipe {}

    pub(crate) enum Writer {}

    pub(crate) fn pipe() -> Result<(Pipe, Writer)> {
        Err(ErrorKind::Unsupported.into())
    }

    impl Pipe {
        pub fn descriptor(&self) -> i64 {
            match *self {}
        }
    }

    impl Writer {
        pub fn ring(&self) {
            match *self {}
        }
    }
}

pub(crate) use system::{Pipe, pipe};
