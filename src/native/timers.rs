//! One core's timers: what `cx.sleep` waits in. The engine fires them; nothing here reads a clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;

use hashbrown::HashMap;

use crate::base::time::Nanos;

/// Names one armed timer. Never reused.
pub(crate) type TimerId = u64;

/// A heap of moments, and who waits for each.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Nanos, TimerId)>>,
    waiting: HashMap<TimerId, Waker>,
    next: TimerId,
}

impl Timers {
    /// Arms a timer that wakes `waker` at `at`.
    pub fn arm(&mut self, at: Nanos, waker: Waker) -> TimerId {
        let id = self.next;
        self.next += 1;
        self.heap.push(Reverse((at, id)));
        self.waiting.insert(id, waker);
        id
    }

    /// Replaces who is woken. Does nothing when the timer has fired. Who was to be woken before is handed out, to be dropped outside any
    /// borrow: dropping a waker may run anything.
    pub fn rearm(&mut self, id: TimerId, waker: &Waker) -> Option<Waker> {
        let held = self.waiting.get_mut(&id)?;
        if held.will_wake(waker) { None } else { Some(std::mem::replace(held, waker.clone())) }
    }

    /// Disarms a timer; its place in the heap is reclaimed when it comes due, or when disarmed ones outnumber the armed.
    /// Who was to be woken is handed out, as by [`Self::rearm`].
    pub fn disarm(&mut self, id: TimerId) -> Option<Waker> {
        let held = self.waiting.remove(&id);
        if self.heap.len() > 64 + 2 * self.waiting.len() {
            let waiting = &self.waiting;
            self.heap.retain(|Reverse((_, id))| waiting.contains_key(id));
        }
        held
    }

    /// Takes the waker of one timer that is due.
    pub fn pop_due(&mut self, now: Nanos) -> Option<Waker> {
        while let Some(&Reverse((at, id))) = self.heap.peek() {
            if at > now {
                return None;
            }
            self.heap.pop();
            if let Some(waker) = self.waiting.remove(&id) {
                return Some(waker);
            }
        }
        None
    }

    /// When the next armed timer comes due; [`Nanos::NEVER`] when none is armed.
    pub fn next(&mut self) -> Nanos {
        while let Some(&Reverse((at, id))) = self.heap.peek() {
            if self.waiting.contains_key(&id) {
                return at;
            }
            self.heap.pop();
        }
        Nanos::NEVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fire_in_order_and_not_early() {
        let mut timers = Timers::default();
        timers.arm(Nanos(20), Waker::noop().clone());
        timers.arm(Nanos(10), Waker::noop().clone());
        assert_eq!(timers.next(), Nanos(10));
        assert!(timers.pop_due(Nanos(9)).is_none());
        assert!(timers.pop_due(Nanos(10)).is_some());
        assert!(timers.pop_due(Nanos(10)).is_none());
        assert_eq!(timers.next(), Nanos(20));
    }

    #[test]
    fn a_disarmed_timer_neither_fires_nor_stays() {
        let mut timers = Timers::default();
        for _ in 0..10_000 {
            let id = timers.arm(Nanos(5), Waker::noop().clone());
            assert!(timers.disarm(id).is_some());
        }
        assert!(timers.heap.len() <= 65, "{}", timers.heap.len());
        assert_eq!(timers.next(), Nanos::NEVER);
        assert!(timers.pop_due(Nanos(100)).is_none());
    }
}
