//! How long requests have waited on a core since they were received.

use super::core::mono;
use crate::base::time::Nanos;
use crate::guard::late::Late;

/// Of so many requests one reads the clock.
const CLOCK_EACH: u32 = 16;

/// What a core knows of the requests that it is about to serve.
#[derive(Debug)]
pub(super) struct Queue {
    late: Late,
    /// When the requests of this turn were received, as far as it is known.
    received: Nanos,
    turned: Nanos,
    now: Nanos,
    served: u32,
}

impl Queue {
    pub(super) const fn new(late: Late) -> Self {
        Self { late, received: Nanos(0), turned: Nanos(0), now: Nanos(0), served: 0 }
    }

    /// A turn begins. What it finds came in while the core slept, and so just now, or during the turn before: half of it ago on average.
    pub(super) fn turn(&mut self, now: Nanos, has_slept: bool) {
        self.received = if has_slept { now } else { Nanos(now.0 - now.0.saturating_sub(self.turned.0) / 2) };
        (self.turned, self.now, self.served) = (now, now, 0);
    }

    /// Whether the next request comes too late to be served.
    pub(super) fn is_late(&mut self) -> bool {
        self.served += 1;
        if self.served.is_multiple_of(CLOCK_EACH) {
            self.now = mono();
        }
        self.late.is_late(self.now, self.received)
    }
}
