//! One binary for all behaviours that are seen from outside: the real server over real sockets, a file per behaviour.

mod client;
mod command;
mod control;
mod ctl;
mod drain;
#[path = "../fuzz/replay.rs"]
mod fuzz;
mod http;
mod random;
mod server;
mod sessions;
mod slow;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod tidy;
mod warm;
