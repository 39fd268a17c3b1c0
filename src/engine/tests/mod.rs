//! The engine driven as a shell would: raw HTTP in, raw HTTP out.

mod allocations;
mod breakers;
mod client;
mod cluster;
mod control;
mod disorder;
mod edges;
mod exchanges;
mod fixture;
mod fuzzing;
mod handshake;
mod ladder;
mod listening;
mod methods;
mod parked;
mod process;
mod questions;
mod reload;
mod rounds;
mod routes;
mod sessions;
mod streams;
pub(super) mod upstream;
mod views;
mod views_changing;
mod views_large;
mod watching;
