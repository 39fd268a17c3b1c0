//! Floor 0: what every room shares and that depends on nothing: identities, time, limits, faults, counters.

pub mod fault;
pub mod ids;
pub mod limits;
pub mod metrics;
pub mod time;
