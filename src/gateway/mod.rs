//! Floor 2: what stands between this node and the upstream servers that it fronts.

pub mod backoff;
pub mod breaker;
pub mod link;
pub mod policy;
pub mod restart;
