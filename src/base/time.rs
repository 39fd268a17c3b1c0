//! Time as a value. Nothing below the shell reads a clock: the shell (or the simulator) hands `Now` in.

use std::time::Duration;

/// Monotonic time in nanoseconds since an arbitrary origin of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Later than every other moment: "no deadline".
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `duration` later; saturates at [`Self::NEVER`].
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Time since `earlier`; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The moment at which an event is handled: one reading per turn of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic, for deadlines and durations.
    pub mono: Nanos,
    /// Wall clock, milliseconds since the Unix epoch, for what peers see and for seals that outlive the process.
    pub wall_ms: u64,
}
