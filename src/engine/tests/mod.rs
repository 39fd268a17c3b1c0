//! The engine driven as a shell would: raw HTTP in, raw HTTP out.

mod allocations;
mod client;
mod cluster;
mod control;
mod disorder;
mod edges;
mod exchanges;
mod fixture;
mod fuzzing;
mod guarded;
mod handshake;
mod ladder;
mod listening;
mod methods;
mod parked;
mod process;
mod questions;
mod rounds;
mod routes;
mod sessions;
mod streams;
mod upstream;
mod views;
mod views_changing;
mod views_large;
