//! A warm call takes nothing from the heap: not in the shell, not in the engine. Counted on the core's own thread, over a real socket,
//! by a tool that says how many allocations its thread has made.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ringhub::engine::EngineConfig;
use ringhub::engine::seal::{KeyPair, SealKeys};
use ringhub::native::{Context, Empty, Factory, Server};
use ringhub::rt::{self, Config, RingChoice};

use crate::allocations::so_far;
use crate::client::{Client, initialize, modern, post};

/// Calls between two looks at the counter. A core does a little besides them; that may not grow with their number.
const CALLS: usize = 2000;
/// What a core may allocate meanwhile that is no call's: far less than one for each.
const BESIDES_MAX: u64 = 20;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Number {
    number: u64,
}

fn server() -> Server {
    Server::builder("counting", "1")
        .tool("size", |args: Number, _: &Context| if args.number > 10 { "many" } else { "few" })
        .tool("allocations", |_: Empty, _: &Context| so_far().to_string())
        .build()
        .expect("a server")
}

fn start(ring: RingChoice) -> rt::Running {
    let config = Config { listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))], cores: Some(1), pin: false, ring, ..Config::default() };
    let servers: Vec<Arc<Factory>> = vec![Arc::new(|| Ok(server()))];
    rt::start(config, EngineConfig::new(SealKeys::new(KeyPair::single([7; 32]))), servers).expect("it starts")
}

/// A call of one era.
type Write<'a> = &'a dyn Fn(usize, &str, &str) -> String;

fn allocations(client: &mut Client, write: Write<'_>) -> u64 {
    let answer = client.ask(write(1, "allocations", "{}")).json();
    answer["result"]["content"][0]["text"].as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no count: {answer}"))
}

/// Sends the calls, so many at a time, each with an id and arguments of its own.
fn call(client: &mut Client, write: Write<'_>, together: usize) {
    for first in (0..CALLS).step_by(together) {
        let requests: String = (first..first + together).map(|id| write(id, "size", &format!(r#"{{"number":{id}}}"#))).collect();
        client.send(requests);
        for id in first..first + together {
            let answer = client.response().json();
            let expected = if id > 10 { "many" } else { "few" };
            assert!(answer["id"] == id && answer["result"]["content"][0]["text"] == expected, "{answer}");
        }
    }
}

fn holds(client: &mut Client, era: &str, write: Write<'_>) {
    for together in [1, 16] {
        call(client, write, together);
        let before = allocations(client, write);
        call(client, write, together);
        let made = allocations(client, write) - before;
        assert!(made < BESIDES_MAX, "{made} allocations in {CALLS} warm calls, {era}, {together} at a time");
    }
}

#[test]
fn warm_calls_allocate_nothing_in_either_era_and_on_either_ring_path() {
    for ring in [RingChoice::Auto, RingChoice::Legacy] {
        let running = start(ring);
        let mut client = Client::connect(running.addresses()[0]);
        holds(&mut client, "2026-07-28", &|id, tool, arguments| {
            modern(id as u32, "tools/call", &format!(r#""name":"{tool}","arguments":{arguments}"#))
        });
        let session = client.ask(initialize("2025-11-25")).header("mcp-session-id").expect("a session").to_owned();
        let headers = [("mcp-session-id", &*session), ("mcp-protocol-version", "2025-11-25")];
        client.ask(post(&headers, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#));
        holds(&mut client, "2025-11-25", &|id, tool, arguments| {
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#);
            post(&headers, &body)
        });
    }
}
