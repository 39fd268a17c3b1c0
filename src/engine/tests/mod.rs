//! The engine driven as a shell would: raw HTTP in, raw HTTP out.

mod cluster;
mod edges;
mod exchanges;
mod fixture;
mod ladder;
mod listening;
mod rounds;
