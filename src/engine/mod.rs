//! Being built.

pub mod directory;
pub mod seal;
pub mod stream_log;
