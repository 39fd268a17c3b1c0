//! One binary for all behaviours that are seen from outside: the real server over real sockets, a file per behaviour.

mod abuse;
mod admission;
// The counting allocator of the unit tests serves here too.
#[path = "../../src/base/allocations.rs"]
mod allocations;
mod chaos;
mod child;
mod client;
mod command;
mod control;
mod ctl;
mod drain;
#[path = "../fuzz/replay.rs"]
mod fuzz;
mod gateway;
mod gateway_streams;
mod http;
mod listeners;
mod load;
mod many;
mod memory;
mod mend;
mod owners;
mod random;
mod reload;
mod server;
mod sessions;
mod shared;
mod slow;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod tidy;
mod tiers;
mod tuning;
mod warm;
