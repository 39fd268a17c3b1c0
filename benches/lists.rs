//! `tools/list` of 1,000 tools: of 20 upstreams with 50 each behind one endpoint, and of one server in the process itself.
//!
//! `cargo bench --bench lists [-- ROUNDS]`. Real nodes over real sockets: nodes that are asked share a CPU, the client and the servers behind have
//! another, when there are two. In each round a front is started afresh and waits until it has seen all of its upstreams; then a client that was
//! not there before connects and lists everything, page by page: that is the first list, for which the view is made. Further lists are asked for
//! on the same connection, in turns with the native node. The names are asserted, and that every later list is byte for byte as the first.

#[path = "lists/nodes.rs"]
mod nodes;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use ringhub::engine::Endpoint;
use ringhub::rt::Running;
use serde_json::Value;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UPSTREAMS: u32 = 20;
const TOOLS: u32 = 50;
const ROUNDS_DEFAULT: usize = 7;
/// Lists of either node in a round, after the first.
const LISTS: u32 = 200;
const FIRST_MS_MAX: f64 = 50.0;

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"lists","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A connection, and the body of the last answer.
struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
    host: String,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).expect("the node accepts");
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a TCP socket");
        Self { socket, buffer: Vec::new(), host: address.to_string() }
    }

    /// Sends a request and takes the whole answer; its status and its body.
    fn ask(&mut self, request: &str) -> (u16, &[u8]) {
        self.socket.write_all(request.as_bytes()).expect("the node takes the request");
        self.buffer.clear();
        let mut chunk = [0; 65536];
        let mut whole = None;
        while whole.is_none_or(|(head, body)| self.buffer.len() < head + body) {
            let count = match self.socket.read(&mut chunk) {
                // The end of a ring that this thread once had may interrupt it.
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                count => count.expect("an answer in time"),
            };
            assert!(count > 0, "the node closed the connection");
            self.buffer.extend_from_slice(&chunk[..count]);
            whole = whole.or_else(|| framed(&self.buffer));
        }
        let (head, body) = whole.expect("it was framed");
        assert_eq!(self.buffer.len(), head + body, "one answer");
        let status = std::str::from_utf8(&self.buffer[9..12]).ok().and_then(|text| text.parse().ok());
        (status.expect("a status"), &self.buffer[head..])
    }

    /// One page of the list, from there on.
    fn page(&mut self, cursor: Option<&str>) -> &[u8] {
        let cursor = cursor.map_or_else(String::new, |cursor| format!(r#""cursor":"{cursor}","#));
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{cursor}{META}}}}}"#);
        let head = format!(
            "POST /mcp HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             mcp-protocol-version: 2026-07-28\r\nmcp-method: tools/list\r\ncontent-length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        let (status, body) = self.ask(&(head + &body));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(body));
        body
    }

    /// The whole list, a page after the other, as it came.
    fn list(&mut self) -> Vec<Vec<u8>> {
        let mut pages = vec![self.page(None).to_vec()];
        while let Some(cursor) = next(pages.last().expect("there is one")) {
            let page = self.page(Some(&cursor)).to_vec();
            pages.push(page);
        }
        pages
    }
}

/// Where the body begins, and how long it is.
fn framed(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("text");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    Some((end, length.expect("a length")))
}

/// The cursor of the next page: it is the same client for both nodes, so that it may be found the quick way.
fn next(page: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(page).expect("text");
    let at = text.rfind(r#""nextCursor":""#)? + r#""nextCursor":""#.len();
    Some(text[at..].split('"').next().expect("a string").to_owned())
}

fn names(pages: &[Vec<u8>]) -> BTreeSet<String> {
    let tools = pages.iter().flat_map(|page| {
        let page: Value = serde_json::from_slice(page).expect("JSON");
        page["result"]["tools"].as_array().expect("tools").clone()
    });
    let names: Vec<String> = tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect();
    let set: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(set.len(), names.len(), "none twice");
    set
}

fn shape_of(pages: &[Vec<u8>]) -> String {
    format!("{} pages of {} bytes together", pages.len(), pages.iter().map(Vec::len).sum::<usize>())
}

/// Lists once more; the time it takes.
fn time(client: &mut Client, pages: &[Vec<u8>]) -> Duration {
    let started = Instant::now();
    let again = client.list();
    let took = started.elapsed();
    assert!(again == pages, "nothing has changed");
    took
}

/// Waits until the node has seen all of its upstreams.
fn await_ready(node: &Running) -> Duration {
    let started = Instant::now();
    let admin = node.admin().expect("an admin port");
    while Client::connect(admin).ask(&format!("GET /health/ready HTTP/1.1\r\nhost: {admin}\r\n\r\n")).0 != 200 {
        assert!(started.elapsed() < Duration::from_secs(30), "the upstreams are not seen");
        std::thread::sleep(Duration::from_millis(2));
    }
    started.elapsed()
}

/// Median, least, most.
fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [values[values.len() / 2], values[0], values[values.len() - 1]]
}

fn show(what: &str, unit: &str, values: Vec<f64>) -> f64 {
    let [median, least, most] = spread(values);
    println!("{what:<60} {median:>9.3} {unit:<3} min {least:>9.3} max {most:>9.3}");
    median
}

/// Runs something on a CPU, on a thread of its own: nodes that are started later may use every CPU.
fn on<T: Send>(cpu: Option<CoreId>, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Some(cpu) = cpu {
                core_affinity::set_for_current(cpu);
            }
            run()
        });
        thread.join().expect("no panic")
    })
}

/// A node with a server of its own that has as many tools.
fn native(cpu: Option<usize>) -> Running {
    let endpoint = Endpoint { path: "/mcp".into(), servers: [0].into(), upstreams: Box::default() };
    nodes::start(nodes::engine(vec![endpoint]), cpu, vec![Arc::new(|| nodes::server("native".to_owned(), UPSTREAMS * TOOLS))])
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS_DEFAULT).max(1);
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let asked = cpus.first().filter(|_| cpus.len() > 1).map(|cpu| cpu.id);
    let other = cpus.get(1).copied();
    let back = nodes::back(UPSTREAMS, TOOLS, other.map(|cpu| cpu.id));
    let native = native(asked);
    let expected: BTreeSet<String> = (0..UPSTREAMS).flat_map(|s| (0..TOOLS).map(move |t| format!("s{s}.t{t}"))).collect();
    let mut own = Client::connect(native.addresses()[0]);
    let own_first = own.list();
    assert_eq!(names(&own_first).len(), expected.len());
    let (mut seen, mut first, mut fronted, mut natively, mut ratio) = (vec![], vec![], vec![], vec![], vec![]);
    let mut shape = String::new();
    for _ in 0..rounds {
        let node = nodes::front(back.addresses()[0], UPSTREAMS, asked);
        seen.push(await_ready(&node).as_secs_f64() * 1e3);
        let address = node.addresses()[0];
        let (pages, first_took, took) = on(other, || {
            let started = Instant::now();
            let mut client = Client::connect(address);
            let pages = client.list();
            let first_took = started.elapsed();
            let mut took = [Duration::ZERO; 2];
            for _ in 0..LISTS {
                took[0] += time(&mut client, &pages);
                took[1] += time(&mut own, &own_first);
            }
            (pages, first_took, took)
        });
        assert_eq!(names(&pages), expected);
        first.push(first_took.as_secs_f64() * 1e3);
        shape = shape_of(&pages);
        let [mean_us, own_mean_us] = took.map(|took| took.as_secs_f64() * 1e6 / f64::from(LISTS));
        fronted.push(mean_us);
        natively.push(own_mean_us);
        ratio.push(mean_us / own_mean_us);
    }
    println!("{UPSTREAMS} upstreams of {TOOLS} tools: {shape}; one server of {}: {}", UPSTREAMS * TOOLS, shape_of(&own_first));
    show("from the start of the node until all upstreams were seen", "ms", seen);
    let first = show("first list of a client that just connected", "ms", first);
    show("each later list, of what is behind", "us", fronted);
    show("each later list, of the node's own server", "us", natively);
    show("ratio of these two", "", ratio);
    assert!(first < FIRST_MS_MAX, "the first list is to take less than {FIRST_MS_MAX} ms");
}
