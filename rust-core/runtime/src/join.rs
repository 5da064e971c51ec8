//! Joins: how the values of several connections become lists.

use crate::error::{Code, Error, Result};
use crate::manifest::Join;
use crate::value::Value;
use std::collections::VecDeque;

/// What waits for its partners, by connection.
pub(crate) struct Held {
    waiting: Vec<VecDeque<Value>>,
    dropped: u64,
}

impl Held {
    pub fn new(connections: usize) -> Self {
        Held { waiting: vec![VecDeque::new(); connections], dropped: 0 }
    }

    /// Takes what came over a connection.
    ///
    /// # Errors
    /// `RM_E_NODE` for a value without a time where it needs one.
    pub fn add(&mut self, join: Join, connection: usize, values: &mut Vec<Value>) -> Result<()> {
        if let Join::ByPts(_) = join
            && let Some(value) = values.iter().find(|value| value.pts_us().is_none())
        {
            let message = format!("\"by_pts\" joins values that have a pts, got {}", value.kind());
            return Err(Error::node(message));
        }
        self.waiting[connection].extend(values.drain(..));
        Ok(())
    }

    /// How many values were dropped since the last question.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Appends the lists that are complete. At the end, what is left has no partner any more.
    ///
    /// # Errors
    /// `RM_E_LIMIT` if more than `most` values wait.
    pub fn join(&mut self, join: Join, end: bool, to: &mut Vec<Value>, most: usize) -> Result<()> {
        match join {
            Join::Any => self.waiting.iter_mut().for_each(|queue| to.extend(queue.drain(..))),
            Join::Zip => {
                while self.complete() {
                    to.push(self.pop());
                }
            }
            Join::Latest => self.latest(to),
            Join::ByPts(tolerance) => self.by_pts(tolerance, to),
        }
        if end {
            // The latest values had no partner of their own to wait for.
            if join != Join::Latest {
                self.dropped += self.count() as u64;
            }
            self.waiting.iter_mut().for_each(VecDeque::clear);
        }
        if self.count() > most {
            let message = format!("more than {most} values wait for their partners");
            return Err(Error::new(Code::Limit, message)
                .hint("join connections that carry as many values as each other"));
        }
        Ok(())
    }

    /// How many values wait, by connection.
    pub fn counts(&self) -> impl Iterator<Item = usize> + '_ {
        self.waiting.iter().map(VecDeque::len)
    }

    fn count(&self) -> usize {
        self.counts().sum()
    }

    fn complete(&self) -> bool {
        self.waiting.iter().all(|queue| !queue.is_empty())
    }

    fn pop(&mut self) -> Value {
        Value::list(self.waiting.iter_mut().filter_map(VecDeque::pop_front).collect())
    }

    fn latest(&mut self, to: &mut Vec<Value>) {
        let Some((first, others)) = self.waiting.split_first_mut() else { return };
        for other in others.iter_mut() {
            while other.len() > 1 {
                other.pop_front();
            }
        }
        let known = others.iter().all(|other| !other.is_empty());
        for value in first.drain(..) {
            if known {
                let others = others.iter().filter_map(|other| other.front().cloned());
                to.push(Value::list(std::iter::once(value).chain(others).collect()));
            } else {
                self.dropped += 1;
            }
        }
    }

    fn by_pts(&mut self, tolerance: i64, to: &mut Vec<Value>) {
        // All have one.
        let pts = |value: &Value| value.pts_us().unwrap_or(0);
        'lists: while self.complete() {
            let reference = pts(&self.waiting[0][0]);
            for other in 1..self.waiting.len() {
                let queue = &mut self.waiting[other];
                while let Some(value) = queue.front()
                    && pts(value) < reference.saturating_sub(tolerance)
                {
                    queue.pop_front();
                    self.dropped += 1;
                }
                let Some(value) = queue.front() else { break 'lists };
                if pts(value) > reference.saturating_add(tolerance) {
                    self.waiting[0].pop_front();
                    self.dropped += 1;
                    continue 'lists;
                }
            }
            to.push(self.pop());
        }
    }
}
