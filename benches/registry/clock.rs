//! Time by the processor's own counter, since reading a clock twice would cost as much as a lookup; and a histogram of times.

use std::time::Instant;

/// Counts ticks, and knows how long one is.
#[derive(Clone, Copy)]
pub struct Clock {
    start: Instant,
    pub ns_per_tick: f64,
}

impl Clock {
    /// Compares the counter with the clock for a few milliseconds.
    pub fn new() -> Self {
        let clock = Self { start: Instant::now(), ns_per_tick: 1.0 };
        let (start, ticks) = (Instant::now(), clock.ticks());
        while start.elapsed().as_millis() < 20 {}
        let ns_per_tick = start.elapsed().as_nanos() as f64 / (clock.ticks() - ticks) as f64;
        Self { ns_per_tick, ..clock }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub fn ticks(&self) -> u64 {
        let _ = self.start;
        // SAFETY: reads a counter that every x86-64 processor has.
        unsafe { std::arch::x86_64::_rdtsc() }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline]
    pub fn ticks(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Nanoseconds since the clock was made, for deadlines.
    pub fn nanos(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick) as u64
    }
}

/// Sixteen steps for each doubling: what is read from it is at most 6 % too high.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    all: u64,
}

const STEPS: u32 = 4;

impl Histogram {
    pub fn new() -> Self {
        Self { counts: vec![0; 64 << STEPS], all: 0 }
    }

    fn place(value: u64) -> usize {
        let value = value.max(1 << STEPS);
        let exponent = 63 - value.leading_zeros();
        (((exponent - STEPS) << STEPS) as u64 + (value >> (exponent - STEPS))) as usize
    }

    #[inline]
    pub fn record(&mut self, value: u64) {
        self.counts[Self::place(value)] += 1;
        self.all += 1;
    }

    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.all += other.all;
    }

    /// The value that this share of all lies at or below.
    pub fn at(&self, share: f64) -> u64 {
        let wanted = ((self.all as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let place = place as u64;
                let exponent = (place >> STEPS).saturating_sub(1);
                // The upper end of the step.
                return ((place - (exponent << STEPS) + 1) << exponent) - 1;
            }
        }
        0
    }
}
