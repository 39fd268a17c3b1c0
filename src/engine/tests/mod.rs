//! The engine driven as a shell would: raw HTTP in, raw HTTP out.

mod client;
mod allocations;
mod cluster;
mod disorder;
mod edges;
mod exchanges;
mod fixture;
mod handshake;
mod ladder;
mod listening;
mod methods;
mod questions;
mod rounds;
mod sessions;
mod streams;
mod routes;
