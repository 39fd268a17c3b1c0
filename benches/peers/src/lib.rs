//! What the yardsticks share, and the bare io_uring loop itself.
//!
//! A yardstick is a server measured in the same run as ringhub, on the same
//! CPU, answering the same requests: absolute figures move with the machine
//! and the hour, ratios within one run do not. `rmcp_server` is what a careful
//! user of the official Rust SDK gets today, and `rmcp_relay` what a gateway made of it costs; `bare_loop` is the least work with
//! which io_uring can receive a request and send its reply, so the limit.

pub mod bare;
pub mod flags;
