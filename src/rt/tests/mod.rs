//! The shell's behaviour over real sockets, on every ring path, with an engine that does what the path of a request says.

mod client;
mod drain;
mod limits;
mod links;
mod links_child;
mod links_tls;
mod mesh;
mod requests;
pub(crate) mod script;
mod upstreams;
