//! Floor 1: bytes in, bytes out. No I/O, no clock, no allocation that a peer can drive without bound.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod http1;
pub mod json;
pub mod jsonrpc;
pub mod mcp;
pub mod sse;
