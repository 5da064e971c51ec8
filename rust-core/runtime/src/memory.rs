//! Memory that values refer to: shared, counted, and used again.
//!
//! Fresh memory is expensive: its pages are faulted in one by one, at about twenty times the cost
//! of writing to memory that is warm. So blocks of 1 KiB and more come from a pool, in size
//! classes a quarter of an octave apart, and go back to it when the last value that refers to them
//! is gone. From 2 MiB on the system is asked for huge pages.
//!
//! The pool is the process's, as the memory is. Its lock is only ever tried: whoever finds it taken
//! allocates as if there were no pool, so nothing waits, and a forked child whose parent had it
//! locked does without.
#![allow(unsafe_code)]

use crate::error::{Code, Error, Result};
use serde_json::{Value as Json, json};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};

/// Memory that values refer to. Implemented for the pool's blocks here; memory that belongs to a
/// host is implemented where the host is known.
pub trait Storage: Send + Sync {
    /// The bytes. Always the same ones for the same storage.
    fn bytes(&self) -> &[u8];

    /// The bytes to write to, if that is permitted; the caller has the only reference.
    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        None
    }

    /// Whether `bytes_mut` gives them.
    fn is_writable(&self) -> bool {
        false
    }
}

impl<T: bytemuck::Pod + Send + Sync> Storage for Vec<T> {
    fn bytes(&self) -> &[u8] {
        bytemuck::must_cast_slice(self)
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        Some(bytemuck::must_cast_slice_mut(self))
    }

    fn is_writable(&self) -> bool {
        true
    }
}

/// Whether this is the only reference: as [`Arc::get_mut`] finds it, for who only wants to know.
pub(crate) fn is_only<T: ?Sized>(shared: &Arc<T>) -> bool {
    let only = Arc::strong_count(shared) == 1;
    // What others did with theirs comes before what is done now.
    fence(Ordering::Acquire);
    only
}

/// What is said where there is not enough memory.
pub fn no_memory(bytes: usize) -> Error {
    Error::new(Code::Limit, format!("there is not enough memory for {bytes} bytes"))
        .hint("give the data in parts, or have fewer of them at a time")
}

/// An empty vector with room for so many elements.
///
/// # Errors
/// `RM_E_LIMIT` if there is not enough memory.
pub fn room<T>(elements: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    match room.try_reserve_exact(elements) {
        Ok(()) => Ok(room),
        Err(_) => Err(no_memory(elements.saturating_mul(size_of::<T>()))),
    }
}

/// Asks whether so many bytes could be had, before something that takes them without asking: a
/// library of others, or a text. Small amounts are not asked for.
///
/// # Errors
/// `RM_E_LIMIT` if they could not.
pub fn expect(bytes: usize) -> Result<()> {
    if bytes < HUGE { Ok(()) } else { room::<u8>(bytes).map(drop) }
}

/// Tells the system's allocator that pieces of so many bytes come and go, as where the host writes
/// its texts. glibc gives those that are larger than what it has seen go back to the system, and the
/// next one has fresh pages again.
pub fn comes_again(bytes: usize) {
    static SEEN: AtomicUsize = AtomicUsize::new(128 << 10);
    if bytes > SEEN.load(Ordering::Relaxed) && bytes > SEEN.fetch_max(bytes, Ordering::Relaxed) {
        drop(black_box(room::<u8>(bytes)));
    }
}

/// A shared run of bytes. Cloning and slicing share the memory.
#[derive(Clone)]
pub struct Buffer {
    storage: Arc<dyn Storage>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A buffer on this memory, without a copy.
    pub fn new(storage: impl Storage + 'static) -> Self {
        let len = storage.bytes().len();
        Buffer { storage: Arc::new(storage), start: 0, len }
    }

    /// A part of the bytes, without a copy.
    ///
    /// # Panics
    /// If the range does not lie within the buffer.
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len, "a range within the buffer");
        let (start, len) = (self.start + range.start, range.len());
        Buffer { storage: self.storage.clone(), start, len }
    }

    /// A copy of these bytes, aligned for every element type.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if there is not enough memory.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        let mut block = Block::try_new(bytes.len())?;
        block.bytes_mut().copy_from_slice(bytes);
        Ok(Buffer::new(block))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.storage.bytes()[self.start..self.start + self.len]
    }

    /// Whether nobody else refers to the bytes, and they may be written to.
    pub fn is_writable(&self) -> bool {
        is_only(&self.storage) && self.storage.is_writable()
    }

    /// The bytes to write to, if nobody else refers to them and that is permitted.
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let bytes = Arc::get_mut(&mut self.storage)?.bytes_mut()?;
        Some(&mut bytes[self.start..self.start + self.len])
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.bytes().len())
    }
}

/// A block of memory of the pool's. What is in it at first is anything, but never uninitialized:
/// zeros, or what its last user left.
pub struct Block {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: a block owns its memory, as a Box would.
unsafe impl Send for Block {}
// SAFETY: through a shared reference it can only be read.
unsafe impl Sync for Block {}

impl Block {
    /// A block of this many bytes, aligned to 64.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if there is not enough memory.
    pub fn try_new(len: usize) -> Result<Self> {
        let layout = layout(len).ok_or_else(|| no_memory(len))?;
        if let Some(start) = POOL.take(layout) {
            return Ok(Block { start, len, layout });
        }
        // SAFETY: the size of a layout made here is not 0.
        let start = unsafe { alloc(layout) };
        let start = NonNull::new(start).ok_or_else(|| no_memory(len))?;
        // Before the first write, which settles how large the pages are.
        advise(start, layout);
        // SAFETY: it was allocated with this size.
        unsafe { start.write_bytes(0, layout.size()) };
        Ok(Block { start, len, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if !POOL.give(self.start, self.layout) {
            // SAFETY: it was allocated with this layout, and this is its owner.
            unsafe { dealloc(self.start.as_ptr(), self.layout) };
        }
    }
}

impl Storage for Block {
    fn bytes(&self) -> &[u8] {
        // SAFETY: the block has at least `len` bytes, all initialized.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        // SAFETY: as above, and `self` is borrowed exclusively.
        Some(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) })
    }

    fn is_writable(&self) -> bool {
        true
    }
}

impl Block {
    /// The bytes to write to.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in the trait's method.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// Blocks of this size and above are pooled: 20 ms of sound is.
const POOLED: usize = 1 << 10;
/// Blocks above this size are not.
const LARGEST: usize = 128 << 20;
/// How much the pool holds at the most.
const HELD: usize = 256 << 20;
/// From this size on huge pages are asked for.
const HUGE: usize = 2 << 20;

/// The size class for this many bytes: the size itself below the pool's sizes, else the next of
/// four steps between two powers of two. None if no memory can have it.
fn layout(len: usize) -> Option<Layout> {
    let size = if len < POOLED {
        len.max(1)
    } else {
        let step = (len.checked_next_power_of_two()? >> 3).max(64);
        len.checked_next_multiple_of(step)?
    };
    let align = if size >= HUGE { HUGE } else { 64 };
    Layout::from_size_align(size, align).ok()
}

#[cfg(target_os = "linux")]
fn advise(start: NonNull<u8>, layout: Layout) {
    if layout.size() >= HUGE {
        // SAFETY: the range was just allocated; the advice changes no content. It may fail, and
        // then the pages are small.
        unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: NonNull<u8>, _: Layout) {}

/// Free blocks by size.
struct Pool {
    free: Mutex<Option<Free>>,
    taken: AtomicU64,
    reused: AtomicU64,
}

#[derive(Default)]
struct Free {
    blocks: HashMap<usize, Vec<Address>>,
    held: usize,
}

struct Address(NonNull<u8>);

// SAFETY: it stands for memory that nobody uses.
unsafe impl Send for Address {}

static POOL: Pool =
    Pool { free: Mutex::new(None), taken: AtomicU64::new(0), reused: AtomicU64::new(0) };

impl Pool {
    fn take(&self, layout: Layout) -> Option<NonNull<u8>> {
        if !(POOLED..=LARGEST).contains(&layout.size()) {
            return None;
        }
        self.taken.fetch_add(1, Ordering::Relaxed);
        let mut free = self.free.try_lock().ok()?;
        let free = free.as_mut()?;
        let Address(start) = free.blocks.get_mut(&layout.size())?.pop()?;
        free.held -= layout.size();
        self.reused.fetch_add(1, Ordering::Relaxed);
        Some(start)
    }

    /// Whether the pool has taken it.
    fn give(&self, start: NonNull<u8>, layout: Layout) -> bool {
        if !(POOLED..=LARGEST).contains(&layout.size()) {
            return false;
        }
        let Ok(mut free) = self.free.try_lock() else { return false };
        let free = free.get_or_insert_default();
        if free.held + layout.size() > HELD {
            return false;
        }
        free.held += layout.size();
        free.blocks.entry(layout.size()).or_default().push(Address(start));
        true
    }
}

/// Counts of the pool: `taken` (blocks asked for), `reused` (of these, how many were there),
/// `held_bytes` and `held_blocks` (what waits to be used again). -1 where it cannot be told now.
pub fn statistics() -> Json {
    let free = POOL.free.try_lock();
    let (bytes, blocks) = match free.as_deref() {
        Ok(Some(free)) => {
            (free.held as i64, free.blocks.values().map(Vec::len).sum::<usize>() as i64)
        }
        Ok(None) => (0, 0),
        Err(_) => (-1, -1),
    };
    json!({
        "taken": POOL.taken.load(Ordering::Relaxed),
        "reused": POOL.reused.load(Ordering::Relaxed),
        "held_bytes": bytes,
        "held_blocks": blocks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_a_quarter_at_most() {
        for len in (POOLED..20_000).chain([1 << 20, (1 << 20) + 1, 3_840_000, LARGEST]) {
            let size = layout(len).unwrap().size();
            assert!(size >= len && size <= len + len / 4, "{len}: {size}");
        }
        assert_eq!(layout(0).unwrap().size(), 1);
    }

    #[test]
    fn a_block_is_used_again() {
        // A size that no other test uses.
        let len = 777_777;
        let mut block = Block::try_new(len).unwrap();
        assert_eq!(block.bytes().len(), len);
        assert!(block.bytes().iter().all(|&byte| byte == 0));
        block.bytes_mut()[0] = 1;
        let address = block.bytes().as_ptr();
        drop(block);
        let again = Block::try_new(len - 1).unwrap();
        assert_eq!((again.bytes().as_ptr(), again.bytes()[0]), (address, 1));
        assert_ne!(Block::try_new(len).unwrap().bytes().as_ptr(), address);
    }

    #[test]
    fn only_the_last_reader_may_write() {
        let mut buffer = Buffer::copy_of(&[1, 2, 3]).unwrap();
        let other = buffer.clone();
        assert!(buffer.bytes_mut().is_none() && !buffer.is_writable());
        drop(other);
        assert!(buffer.is_writable());
        buffer.bytes_mut().unwrap()[0] = 9;
        assert_eq!(buffer.bytes(), [9, 2, 3]);
        assert!(buffer.bytes().as_ptr().addr().is_multiple_of(64));
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        for len in [usize::MAX, isize::MAX as usize, 1 << 47] {
            let Err(error) = Block::try_new(len) else { panic!("{len} bytes") };
            assert_eq!((error.code, expect(len).unwrap_err().code), (Code::Limit, Code::Limit));
        }
        assert_eq!(room::<u64>(usize::MAX).unwrap_err().code, Code::Limit);
    }
}
