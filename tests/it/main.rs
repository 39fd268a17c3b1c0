//! One binary for all behaviours that are seen from outside: the real server over real sockets, a file per behaviour.

mod admission;
// The counting allocator of the unit tests serves here too.
#[path = "../../src/base/allocations.rs"]
mod allocations;

mod client;
mod command;
mod control;
mod ctl;
mod drain;
#[path = "../fuzz/replay.rs"]
mod fuzz;
mod gateway;
mod http;
mod listeners;
mod random;
mod server;
mod sessions;
mod slow;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod tidy;
mod tiers;
mod warm;
