//! Times for the metrics of nodes, taken after every step.
//!
//! Asking the system for the time costs more than many a step does. The processor's counter costs
//! less, and has no known rate; so a step is measured as a share of a time that the system's clock
//! has measured around it, see [`Share`].

// To read the counter.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// How far the counter may go on before a look at the system's clock is due: a few microseconds.
#[cfg(target_arch = "x86_64")]
pub(crate) const LOOK: u64 = 8192;
#[cfg(target_arch = "aarch64")]
pub(crate) const LOOK: u64 = 64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) const LOOK: u64 = 2000;

/// The processor's counter. Its rate is the machine's, the same all the time.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has it.
    return unsafe { core::arch::x86_64::_rdtsc() };
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: readable by every process on the systems that we build for, and it changes
        // nothing.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) ticks, options(nomem, nostack)) };
        return ticks;
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        return START.elapsed().as_nanos() as u64;
    }
}

/// Time spent, in both measures.
#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    time: Duration,
    ticks: u64,
}

impl Share {
    /// Adds the time since then.
    pub fn add(&mut self, began: (Instant, u64)) {
        self.ticks += ticks().saturating_sub(began.1);
        self.time += began.0.elapsed();
    }

    /// All of it, in nanoseconds.
    pub fn all(&self) -> u64 {
        self.time.as_nanos() as u64
    }

    /// How many nanoseconds these ticks took, at the rate of all the time spent.
    pub fn nanos(&self, ticks: u64) -> u64 {
        let all = u128::from(self.ticks.max(1));
        (u128::from(ticks.min(self.ticks)) * self.time.as_nanos() / all) as u64
    }
}
