//! Floor 2: what stands between this node and the upstream servers that it fronts.

pub mod link;
