//! ringhub: a thread-per-core io_uring server, registry and gateway for the Model Context Protocol.

pub mod base;
pub mod cli;
pub mod config;
pub mod engine;
pub mod guard;
pub mod native;
pub mod registry;
pub mod rt;
pub mod wire;
