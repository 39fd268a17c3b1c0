//! What reading and writing a message costs, alone: no socket, no engine.
//!
//! `cargo bench --bench wire [-- ROUNDS]`; pin it (`taskset -c 0 …`) for figures to compare. Each figure is the median of its rounds,
//! with the fastest and the slowest beside it. Every result is asserted, and so are the limits, of time and of heap allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ringhub::wire::json::{self, Decoder};
use ringhub::wire::jsonrpc::{self, Body, Id, Message};
use ringhub::wire::mcp::{self, Inbound, Method, Route};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this same method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this same method.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls timed in one round.
const CALLS: u32 = 20_000;
const ROUNDS_DEFAULT: usize = 31;

/// A `tools/call` of 176 bytes.
const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":4711,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"io_uring multishot receive","limit":10},"_meta":{"progressToken":7}}}"#;

/// The same call as a client of 2026-07-28 sends it.
const MODERN_CALL: &[u8] = br#"{"jsonrpc":"2.0","id":4711,"method":"tools/call","params":{"name":"search_documents","arguments":{"query":"io_uring multishot receive","limit":10},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"bench","version":"1.0.0"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{}}}}}"#;

#[derive(serde::Deserialize, PartialEq, Debug)]
struct Arguments {
    query: String,
    limit: u32,
}

struct Bench {
    rounds: usize,
    over: Vec<String>,
}

impl Bench {
    /// Times `call`, and holds its median against `limit_ns` when one is given, and the heap allocations of a warm call against `heap`.
    fn time(&mut self, name: &str, limit_ns: Option<f64>, heap: u64, mut call: impl FnMut()) {
        call();
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        call();
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(allocations, heap, "{name}: heap allocations of a warm call");
        self.time_calls(CALLS, name, limit_ns, call);
    }

    /// The same with another number of calls in a round; the median.
    fn time_calls(&mut self, calls: u32, name: &str, limit_ns: Option<f64>, mut call: impl FnMut()) -> f64 {
        let mut rounds: Vec<f64> = (0..self.rounds)
            .map(|_| {
                let start = Instant::now();
                for _ in 0..calls {
                    call();
                }
                start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        let median = rounds[rounds.len() / 2];
        let limit = limit_ns.map_or(String::new(), |limit| format!("  (limit {limit} ns)"));
        println!("{name:<44} {median:>8.1} ns  min {:>8.1}  max {:>8.1}{limit}", rounds[0], rounds[rounds.len() - 1]);
        if limit_ns.is_some_and(|limit| median > limit) {
            self.over.push(format!("{name}: {median:.1} ns"));
        }
        median
    }
}

/// Writes the `tools/call` from its parts.
fn encode(out: &mut Vec<u8>, params: &mut Vec<u8>) {
    params.clear();
    params.extend_from_slice(b"{\"name\":");
    json::write_str(params, black_box("search_documents"));
    params.extend_from_slice(b",\"arguments\":{\"query\":");
    json::write_str(params, black_box("io_uring multishot receive"));
    params.extend_from_slice(b",\"limit\":");
    json::write_u64(params, black_box(10));
    params.extend_from_slice(b"},\"_meta\":{\"progressToken\":");
    json::write_u64(params, black_box(7));
    params.extend_from_slice(b"}}");
    jsonrpc::request(out, Id::Number(black_box(b"4711")), Method::ToolsCall.name(), params);
}

/// Parses a body and finds where it goes: era, method, tool.
fn route(body: &[u8], header: Option<&[u8]>) -> (Route, Method, usize) {
    let Ok(body) = jsonrpc::parse(body) else { unreachable!("the body is a message") };
    let era = mcp::classify(Inbound::Post(&body), header);
    let Body::One(Message::Request(request)) = &body else { unreachable!("the message is a request") };
    (era, Method::parse(request.method), request.params.name.map_or(0, <[u8]>::len))
}

fn main() {
    // The test runner passes flags of its own, such as --bench: only a number counts.
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS_DEFAULT).max(1);
    let mut bench = Bench { rounds, over: Vec::new() };
    assert_eq!(CALL.len(), 176, "the figures are about a message of 176 bytes");

    let (mut out, mut params) = (Vec::with_capacity(256), Vec::with_capacity(256));
    bench.time("encode a tools/call of 176 bytes", Some(100.0), 0, || {
        out.clear();
        encode(&mut out, &mut params);
        black_box(&out);
    });
    assert_eq!(out, CALL);

    bench.time("parse and route a tools/call of 176 bytes", Some(350.0), 0, || {
        let routed = route(black_box(CALL), black_box(Some(b"2025-11-25")));
        assert_eq!(routed, (Route::Legacy, Method::ToolsCall, 18));
    });
    bench.time("parse and route the same of 2026-07-28", None, 0, || {
        let routed = route(black_box(MODERN_CALL), black_box(Some(b"2026-07-28")));
        assert_eq!(routed, (Route::Modern, Method::ToolsCall, 18));
    });

    let ping = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    bench.time("parse and route a ping", None, 0, || {
        assert_eq!(route(black_box(ping), None), (Route::Legacy, Method::Ping, 0));
    });

    let arguments = br#"{"query":"io_uring multishot receive","limit":10}"#;
    let mut decoder = Decoder::new();
    // The one allocation is the query itself.
    bench.time("decode its arguments", None, 1, || {
        let decoded: Arguments = match decoder.decode(black_box(arguments)) {
            Ok(decoded) => decoded,
            Err(error) => unreachable!("{error}"),
        };
        assert_eq!(decoded.limit, 10);
    });

    let large = large_document();
    let name = format!("validate a document of {} KiB", large.len() / 1024);
    let ns = bench.time_calls(20, &name, None, || assert_eq!(json::validate(black_box(&large)), Ok(())));
    println!("{:<44} {:>8.2} GB/s", "", large.len() as f64 / ns);

    assert!(bench.over.is_empty(), "over the limit: {:?}", bench.over);
}

/// A document of mixed content, about 400 KiB.
fn large_document() -> Vec<u8> {
    let mut out = b"[".to_vec();
    for number in 0..4000_u64 {
        if number > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"id\":");
        json::write_u64(&mut out, number);
        out.extend_from_slice(b",\"text\":");
        json::write_str(&mut out, "a line of text with a \"quotation\" and an ümlaut in it");
        out.extend_from_slice(b",\"tags\":[true,null,-1.5e3]}");
    }
    out.push(b']');
    out
}
