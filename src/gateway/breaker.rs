//! Placeholder until the other branch is merged.
use crate::base::time::Nanos;
use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Breaker {
    failures: u32,
    until: Nanos,
}

impl Breaker {
    pub fn allows(&mut self, now: Nanos) -> bool {
        now >= self.until
    }
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.until = Nanos(0);
    }
    pub fn failed(&mut self, now: Nanos) {
        self.failures += 1;
        if self.failures >= 5 {
            self.until = now.after(Duration::from_secs(1));
        }
    }
}
