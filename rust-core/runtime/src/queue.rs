//! The bounded queues between the stages of a run.

use crate::metrics::{QueueMetrics, bump};
use crate::value::Value;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What happens to a packet for which a queue has no room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Policy {
    /// The node before the queue waits.
    Block,
    /// What is in the queue longest gives way.
    DropOldest,
    /// It is dropped.
    DropNewest,
    /// It ends the run.
    Error,
}

/// How much a queue may hold. It is full as soon as one of the bounds is reached; an empty one
/// never is, so a single packet of any size passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Packets.
    pub items: usize,
    /// Bytes, about.
    pub bytes: usize,
    /// How long the oldest packet may have waited.
    pub time: Option<Duration>,
    pub policy: Policy,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { items: 64, bytes: 64 << 20, time: None, policy: Policy::Block }
    }
}

/// What one sweep puts on a connection: at least one value.
pub(crate) struct Packet {
    /// The number of the sweep.
    pub seq: u64,
    pub values: Vec<Value>,
    /// The weight of the values, about, in bytes.
    pub bytes: usize,
}

impl Packet {
    pub fn new(seq: u64, values: Vec<Value>) -> Self {
        let bytes = values.iter().map(Value::weight).sum();
        Packet { seq, values, bytes }
    }
}

/// The packets on their way over one connection, in the order of their sweeps.
///
/// Sweeps that put nothing on it, and packets that were dropped, leave no trace: a sweep below
/// `upto` without a packet has no values here.
pub(crate) struct Queue {
    bounds: Bounds,
    packets: VecDeque<(Packet, Option<Instant>)>,
    bytes: usize,
    /// Every sweep below this has put here what it has to put here.
    pub upto: u64,
}

impl Queue {
    pub fn new(bounds: Bounds) -> Self {
        Queue { bounds, packets: VecDeque::new(), bytes: 0, upto: 0 }
    }

    fn is_full(&self) -> bool {
        let Some((_, since)) = self.packets.front() else { return false };
        self.packets.len() >= self.bounds.items
            || self.bytes >= self.bounds.bytes
            || self.bounds.time.is_some_and(|most| since.is_some_and(|s| s.elapsed() >= most))
    }

    /// How many packets and bytes may be added before it is full; None if that is no matter,
    /// because it never lets anybody wait.
    pub fn room(&self) -> Option<(usize, usize)> {
        match self.bounds.policy {
            Policy::Block if self.is_full() => Some((0, 0)),
            Policy::Block => Some((
                self.bounds.items - self.packets.len(),
                self.bounds.bytes.saturating_sub(self.bytes),
            )),
            _ => None,
        }
    }

    /// Adds a packet; what has to give way goes to `dropped`. False if the policy is to fail, and
    /// it is full.
    pub fn push(
        &mut self,
        packet: Packet,
        metrics: &QueueMetrics,
        dropped: &mut Vec<Packet>,
    ) -> bool {
        let had = dropped.len();
        if self.bounds.policy != Policy::Block && self.is_full() {
            match self.bounds.policy {
                Policy::Error => return false,
                Policy::DropNewest => dropped.push(packet),
                Policy::DropOldest | Policy::Block => {
                    while self.is_full() {
                        dropped.extend(self.pop());
                    }
                    self.add(packet);
                }
            }
        } else {
            self.add(packet);
        }
        let lost: usize = dropped[had..].iter().map(|packet| packet.values.len()).sum();
        bump(&metrics.dropped, lost as u64);
        let fill = self.packets.len() as u64;
        metrics.fill.store(fill, Relaxed);
        metrics.peak.store(metrics.peak.load(Relaxed).max(fill), Relaxed);
        true
    }

    fn add(&mut self, packet: Packet) {
        self.bytes += packet.bytes;
        let since = self.bounds.time.map(|_| Instant::now());
        self.packets.push_back((packet, since));
    }

    fn pop(&mut self) -> Option<Packet> {
        let (packet, _) = self.packets.pop_front()?;
        self.bytes -= packet.bytes;
        Some(packet)
    }

    /// The sweep that has the oldest packet.
    pub fn front(&self) -> Option<u64> {
        self.packets.front().map(|(packet, _)| packet.seq)
    }

    /// The sweep of the packet at this place.
    pub fn seq_at(&self, place: usize) -> Option<u64> {
        self.packets.get(place).map(|(packet, _)| packet.seq)
    }

    /// Takes the oldest packet, if it belongs to a sweep below `limit`.
    pub fn take(&mut self, limit: u64, metrics: &QueueMetrics) -> Option<Packet> {
        self.front().filter(|&seq| seq < limit)?;
        let packet = self.pop();
        metrics.fill.store(self.packets.len() as u64, Relaxed);
        packet
    }
}
