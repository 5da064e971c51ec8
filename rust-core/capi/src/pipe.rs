//! A pipe that wakes an event loop.

use std::sync::Arc;

#[cfg(unix)]
mod system {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::{AsRawFd, FromRawFd};

    /// Both ends, which close with it; neither ever blocks.
    pub fn open() -> Option<(File, File)> {
        let mut ends = [0; 2];
        // SAFETY: there is room for two descriptors.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: they are new, and nobody else's.
        let files = unsafe { ends.map(|end| File::from_raw_fd(end)) };
        for end in ends {
            // SAFETY: plain calls on descriptors that are open.
            unsafe {
                libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK);
                libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
        let [reader, writer] = files;
        Some((reader, writer))
    }

    pub fn number(file: &File) -> i64 {
        file.as_raw_fd().into()
    }

    pub fn ring(file: &File) {
        // A pipe that is full is readable.
        let _ = (&*file).write(&[1]);
    }
}

#[cfg(not(unix))]
mod system {
    use std::fs::File;

    pub fn open() -> Option<(File, File)> {
        None
    }

    pub fn number(_: &File) -> i64 {
        -1
    }

    pub fn ring(_: &File) {}
}

pub(crate) struct Pipe {
    reader: std::fs::File,
    pub writer: Arc<Writer>,
}

/// The end that is written to.
pub(crate) struct Writer(std::fs::File);

impl Pipe {
    pub fn new() -> Option<Pipe> {
        let (reader, writer) = system::open()?;
        Some(Pipe { reader, writer: Arc::new(Writer(writer)) })
    }

    pub fn descriptor(&self) -> i64 {
        system::number(&self.reader)
    }
}

impl Writer {
    pub fn ring(&self) {
        system::ring(&self.0);
    }
}
