//! What a run counts: written by whoever is at work, read by anybody at any time.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Whether steps are counted and timed. They always are, but in a build of the benchmark that says
/// what it costs; there slices do not end either.
pub(crate) const COUNTED: bool = !cfg!(without_metrics);

/// Adds to a counter that only one thread writes at a time. Not one step, so it costs no more than
/// a plain addition.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    if COUNTED {
        counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
    }
}

/// Of a node.
#[derive(Default)]
pub(crate) struct NodeMetrics {
    pub items_in: AtomicU64,
    pub items_out: AtomicU64,
    pub errors: AtomicU64,
    pub retries: AtomicU64,
    pub dropped: AtomicU64,
    /// In its calls, in nanoseconds.
    pub nanos: AtomicU64,
    /// Values by the time that they took.
    pub histogram: Histogram,
}

/// Of a connection with a queue.
#[derive(Default)]
pub(crate) struct QueueMetrics {
    /// Packets in it.
    pub fill: AtomicU64,
    pub peak: AtomicU64,
    /// Values.
    pub dropped: AtomicU64,
}

/// What a stage is at.
#[derive(Default)]
pub(crate) struct StageMetrics {
    /// All sweeps below this are through.
    pub done: AtomicU64,
    /// The sweep in work.
    pub seq: AtomicU64,
    /// One more than the place of the node in work; 0 if none is.
    pub node: AtomicU64,
    /// When its last step ended, in nanoseconds from the start of the run.
    pub clock: AtomicU64,
}

/// Counts of times in classes that double: below 128 ns, below 256 ns, and so on; the last begins
/// at 137 s.
#[derive(Default)]
pub(crate) struct Histogram([AtomicU32; Histogram::CLASSES]);

impl Histogram {
    const CLASSES: usize = 32;
    /// Bits of the longest time in the first class.
    const FIRST: usize = 7;

    /// Of a time in nanoseconds, or in any other unit that [`Histogram::quantiles`] is to give.
    #[inline]
    pub fn add(&self, time: u64) {
        if !COUNTED {
            return;
        }
        let bits = (u64::BITS - time.leading_zeros()) as usize;
        let class = &self.0[bits.saturating_sub(Self::FIRST).min(Self::CLASSES - 1)];
        class.store(class.load(Relaxed).saturating_add(1), Relaxed);
    }

    /// The times in nanoseconds within which these parts (0 to 1, in rising order) of all were done,
    /// as exact as the classes are: times within one are taken to be spread evenly. 0 without any.
    pub fn quantiles<const N: usize>(&self, parts: [f64; N]) -> [f64; N] {
        let count = |class: &AtomicU32| u64::from(class.load(Relaxed));
        let all = self.0.iter().map(count).sum::<u64>() as f64;
        // The class to look at, and how many lie in those before it.
        let (mut at, mut before) = (0, 0.0);
        parts.map(|part| {
            while let Some(class) = self.0.get(at) {
                let (count, left) = (count(class) as f64, part * all - before);
                if count > 0.0 && left <= count {
                    let above = (1_u64 << (at + Self::FIRST)) as f64;
                    let below = if at == 0 { 0.0 } else { above / 2.0 };
                    return below + (above - below) * left / count;
                }
                (at, before) = (at + 1, before + count);
            }
            0.0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_within_their_class() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantiles([0.0, 0.5]), [0.0, 0.0]);
        for nanos in 1..=100_000 {
            histogram.add(nanos);
        }
        for (found, exact) in histogram
            .quantiles([0.01, 0.5, 0.5, 0.99])
            .into_iter()
            .zip([1_000.0, 50_000.0, 50_000.0, 99_000.0])
        {
            assert!(found >= exact / 2.0 && found <= exact * 2.0, "{exact}: {found}");
        }
        histogram.add(100_000_000_000_000);
        let [half, all] = histogram.quantiles([0.5, 1.0]);
        assert!(half < 1e5 && all > 1e11);
    }
}
