//! Tests only: a warm call of a typed tool allocates nothing of its own.

use std::rc::Rc;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::host::{CallSpec, Host};
use super::inbox::Inbox;
use super::outcome::{Outcome, Started};
use super::{Context, Empty, Json, Level, Server};
use crate::base::allocations::counted;
use crate::base::ids::CallId;
use crate::base::time::{Nanos, Now};
use crate::wire::json::Decoder;
use crate::wire::mcp::{ClientCapabilities, Version};

#[derive(Deserialize, JsonSchema)]
struct Echo {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    a: f64,
    b: f64,
    unit: Option<Unit>,
    nested: Option<Point>,
}

#[derive(Deserialize, JsonSchema)]
struct Point {
    x: i32,
}

#[derive(Deserialize, JsonSchema)]
enum Unit {
    Meter,
    Foot,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: f64,
}

fn add(args: &Add) -> f64 {
    let scale = match args.unit {
        Some(Unit::Foot) => 0.3048,
        Some(Unit::Meter) | None => 1.0,
    };
    (args.a + args.b + args.nested.as_ref().map_or(0.0, |point| f64::from(point.x))) * scale
}

fn server() -> Server {
    Server::builder("counted", "1")
        .tool("echo", |args: Echo, _: &Context| args.message)
        .tool("add", |args: Add, _: &Context| Json(Sum { sum: add(&args) }))
        .tool("quiet", |_: Empty, cx: &Context| {
            cx.progress(1.0, None, None);
            cx.log(Level::Debug, None, "not wanted");
            if cx.is_cancelled() { "cancelled" } else { "done" }
        })
        .build()
        .expect("valid")
}

/// One call as the engine makes it; the answer stands in `out`.
fn call(server: &Server, host: &Rc<Host>, decoder: &mut Decoder, out: &mut Vec<u8>, name: &str, arguments: &[u8]) {
    let spec = CallSpec {
        call: CallId { index: 1, generation: 1 },
        server: 0,
        version: Version::V2026_07_28,
        progress_token: None,
        level: Some(Level::Info),
        capabilities: ClientCapabilities::NONE,
        client_info: Some(br#"{"name":"c","version":"1"}"#),
        meta: Some(br#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#),
        principal: b"127.0.0.1",
        input_responses: None,
        state: None,
    };
    out.clear();
    let context = host.context(&spec);
    let started = server.start_tool(name, Some(arguments), decoder, &context, out);
    assert!(matches!(started, Started::Done(Outcome::Result { is_error: false, .. })), "{}", String::from_utf8_lossy(out));
}

#[test]
fn a_warm_typed_call_allocates_nothing_but_its_own_argument_and_result() {
    let server = server();
    let host = Host::new(Arc::new(Inbox::new(Box::new(|| {}))), Now { mono: Nanos(0), wall_ms: 0 });
    let (mut decoder, mut out) = (Decoder::new(), Vec::new());
    // What its argument owns: the message of `echo` is one allocation, moved into the result.
    for (name, arguments, own) in [
        ("echo", &br#"{"message":"hello \"there\""}"#[..], 1),
        ("add", br#"{"a":1.5,"b":2,"unit":"Foot","nested":{"x":3}}"#, 0),
        ("quiet", b"{}", 0),
    ] {
        for _ in 0..3 {
            call(&server, &host, &mut decoder, &mut out, name, arguments);
        }
        let (count, ()) = counted(|| {
            for _ in 0..100 {
                call(&server, &host, &mut decoder, &mut out, name, arguments);
            }
        });
        assert_eq!(count, 100 * own, "{name}");
    }
}
