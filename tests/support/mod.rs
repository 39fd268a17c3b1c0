//! What the test binaries share: processes, and servers under test.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod process;
pub mod server;
