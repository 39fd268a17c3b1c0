//! Floor 0: what every room shares and that depends on nothing: identities, time, limits, faults, counters.

#[cfg(test)]
pub(crate) mod allocations;
pub mod fault;
pub mod ids;
pub mod limits;
pub(crate) mod long;
pub mod metrics;
pub mod prefetch;
pub mod stored;
pub mod time;
