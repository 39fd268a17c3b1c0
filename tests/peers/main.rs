//! ringhub against the official implementations of the protocol: the conformance suite, and the TypeScript, Python
//! and Rust clients, all of them driving the fixture server (the example `everything`) over real sockets, and once more with a front
//! between; servers that others have written behind such a front; and the admin port against its own OpenAPI document.
//!
//! `tests/peers/provision` puts the peers under `target/peers`; `tests/run peers` does that and runs these tests. A
//! peer that is not there fails its tests.
//!
//! With `RINGHUB_TEST_URL` set to the address of an MCP endpoint, the tests drive that endpoint and start no server of
//! their own. Use it to try a change in these tests against another implementation; it proves nothing about ringhub.

#[path = "../it/client.rs"]
#[allow(dead_code, reason = "each test binary uses its own part")]
mod client;
mod client_scenarios;
mod conformance;
mod front;
mod gateway;
mod peer;
mod python;
mod rust;
mod schemathesis;
mod seen;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod typescript;
mod upstreams;
mod verdict;
