//! Three servers behind one endpoint, of which one misbehaves in every way there is: the other two serve as if it were not there, memory is bounded,
//! the broken one is reported, and serves again once it is well.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::child::{children, runs, table, ties};
use crate::client::{Client, Response, modern};
use crate::gateway::request;
use crate::server::{Server, resident_bytes, until};

/// What the server may grow by, whatever its upstream sends: a call's answer is held up to 4 MiB, one from a stream twice; lists are held
/// while they change, and several views of them. The rest is what an allocator keeps.
const GROWTH_MAX: u64 = 160 * 1024 * 1024;
/// How much more an upstream that floods gets rid of than this gateway takes: what is in buffers between them.
const TAKEN_MAX: u64 = 64 * 1024 * 1024;
const TEN_GB: u64 = 10_000_000_000;
/// An answer, right or wrong, is there after this long: what the configuration gives a call altogether, and what a busy host may add.
const ANSWER_MAX: Duration = Duration::from_secs(8);
const TIMEOUTS: &str = "connect_timeout = 1\nfirst_byte_timeout = 1\nidle_timeout = 2\ntotal_timeout = 2";

/// How the broken server behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Well,
    /// Nobody listens, and all connections are gone.
    Killed,
    /// It takes requests and says nothing.
    Hung,
    /// It answers when nobody waits any more.
    Slow,
    Garbage,
    /// 10 GB, and says so.
    LongBody,
    /// 10 GB, in chunks.
    LongChunks,
    /// A stream with one event that does not end.
    LongEvent,
    /// A stream of events that does not end.
    Events,
    /// It closes in the midst of an event.
    MidStream,
    /// It closes once it has read the request.
    Unanswered,
    Reset,
    Status500,
    /// It says all the time that its lists have changed.
    Flood,
    ManyTools,
    /// Each page of its list names a next one.
    Pages,
}

/// What each does to a call.
const MODES: [(Mode, bool); 15] = [
    (Mode::Killed, true),
    (Mode::Hung, true),
    (Mode::Slow, true),
    (Mode::Garbage, true),
    (Mode::LongBody, true),
    (Mode::LongChunks, true),
    (Mode::LongEvent, true),
    (Mode::Events, true),
    (Mode::MidStream, true),
    (Mode::Unanswered, true),
    (Mode::Reset, true),
    (Mode::Status500, true),
    (Mode::Flood, false),
    (Mode::ManyTools, false),
    (Mode::Pages, false),
];

/// The server that misbehaves.
struct Broken {
    address: SocketAddr,
    mode: Mutex<Mode>,
    streams: Mutex<Vec<TcpStream>>,
    /// Requests for its list of tools.
    lists: AtomicU64,
    /// Bytes that it got rid of.
    sent: AtomicU64,
}

impl Broken {
    fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (mode, streams) = (Mutex::new(Mode::Well), Mutex::default());
        let broken = Arc::new(Self { address, mode, streams, lists: AtomicU64::new(0), sent: AtomicU64::new(0) });
        let server = Arc::clone(&broken);
        thread::spawn(move || server.accept(listener));
        broken
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().expect("no panic")
    }

    fn set(&self, mode: Mode) {
        *self.mode.lock().expect("no panic") = mode;
    }

    fn accept(self: &Arc<Self>, listener: TcpListener) {
        let mut listener = Some(listener);
        loop {
            sleep(Duration::from_millis(2));
            if self.mode() == Mode::Killed {
                listener = None;
                for stream in self.streams.lock().expect("no panic").drain(..) {
                    let _ = stream.shutdown(Shutdown::Both);
                }
                continue;
            }
            // Somebody else may have the port for a moment.
            let Some(listener) = listener.take().or_else(|| TcpListener::bind(self.address).ok()).map(|taken| listener.insert(taken))
            else {
                continue;
            };
            listener.set_nonblocking(true).expect("it is a socket");
            while let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).expect("it is a socket");
                self.streams.lock().expect("no panic").push(stream.try_clone().expect("a descriptor"));
                let server = Arc::clone(self);
                thread::spawn(move || server.serve(stream));
            }
        }
    }

    fn serve(&self, mut stream: TcpStream) {
        while let Some(body) = request(&mut stream) {
            let message: Value = serde_json::from_str(&body).unwrap_or_default();
            if message["method"] == "tools/list" {
                self.lists.fetch_add(1, Ordering::Relaxed);
            }
            let goes_on = match self.mode() {
                Mode::Well | Mode::Flood | Mode::ManyTools | Mode::Pages => self.answer(&mut stream, &message),
                mode => self.misbehave(&mut stream, mode, &message),
            };
            if goes_on.is_err() {
                return;
            }
        }
    }

    /// Answers as it should, though perhaps more than it should.
    fn answer(&self, stream: &mut TcpStream, message: &Value) -> std::io::Result<()> {
        let caching = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
        let tool = |number: usize| format!(r#"{{"name":"t{number}","inputSchema":{{"type":"object"}}}}"#);
        let result = match (message["method"].as_str(), self.mode()) {
            (Some("server/discover"), _) => {
                format!(r#"{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{"listChanged":true}}}},{caching}}}"#)
            }
            (Some("tools/list"), Mode::ManyTools) => {
                let tools: Vec<_> = (0..10_000).map(tool).collect();
                format!(r#"{{"tools":[{}],{caching}}}"#, tools.join(","))
            }
            (Some("tools/list"), Mode::Pages) => {
                let page = self.lists.load(Ordering::Relaxed) as usize;
                format!(r#"{{"tools":[{},{}],"nextCursor":"{page}",{caching}}}"#, tool(0), tool(page))
            }
            (Some("tools/list"), _) => format!(r#"{{"tools":[{}],{caching}}}"#, tool(0)),
            (Some("subscriptions/listen"), _) => return self.listen(stream, &message["id"]),
            _ => r#"{"content":[{"type":"text","text":"well"}],"resultType":"complete"}"#.to_owned(),
        };
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes())
    }

    /// A stream of changes, until it is closed.
    fn listen(&self, stream: &mut TcpStream, id: &Value) -> std::io::Result<()> {
        let event = |method: &str, params: &str| {
            let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
            format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{method}\",\"params\":{{{params}{meta}}}}}\n\n")
        };
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
        stream.write_all(event("subscriptions/acknowledged", r#""notifications":{"toolsListChanged":true},"#).as_bytes())?;
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        let changed = event("tools/list_changed", "");
        let mut last = Mode::Well;
        loop {
            let mode = self.mode();
            match mode {
                Mode::Flood => stream.write_all(changed.repeat(1000).as_bytes())?,
                _ if mode != last => stream.write_all(changed.as_bytes())?,
                _ => match stream.read(&mut [0; 16]) {
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    _ => return Err(ErrorKind::UnexpectedEof.into()),
                },
            }
            last = mode;
        }
    }

    fn misbehave(&self, stream: &mut TcpStream, mode: Mode, message: &Value) -> std::io::Result<()> {
        let head = |media: &str, more: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n{more}\r\n");
        let (json, events) = ("application/json", "text/event-stream");
        match mode {
            // Until the other side has had enough.
            Mode::Hung => stream.read(&mut [0; 16]).map(|_| ())?,
            Mode::Slow => {
                sleep(Duration::from_secs(3));
                return self.answer(stream, message);
            }
            Mode::Garbage => stream.write_all(b"\x16\x03\x01 what?\r\n\r\n")?,
            Mode::LongBody => self.pour(stream, &head(json, &format!("Content-Length: {TEN_GB}\r\n")), &[b' '; 65536])?,
            Mode::LongChunks => {
                let chunk = [b"10000\r\n", &[b' '; 65536][..], b"\r\n"].concat();
                self.pour(stream, &head(json, "Transfer-Encoding: chunked\r\n"), &chunk)?;
            }
            Mode::LongEvent => self.pour(stream, &format!("{}data: ", head(events, "")), &[b'x'; 65536])?,
            Mode::Events => {
                let progress = r#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"x","progress":1}}"#;
                self.pour(stream, &head(events, ""), format!("{progress}\n\n").repeat(500).as_bytes())?;
            }
            Mode::MidStream => stream.write_all(format!("{}data: {{\"jsonrpc\":", head(events, "")).as_bytes())?,
            Mode::Reset => {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: plain system call; the kernel reads a local.
                unsafe {
                    let size = size_of_val(&linger) as libc::socklen_t;
                    libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size);
                }
                // The copy that could shut it down would hold it open.
                self.streams.lock().expect("no panic").retain(|other| other.peer_addr().ok() != stream.peer_addr().ok());
            }
            Mode::Status500 => {
                return stream
                    .write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>");
            }
            _ => {}
        }
        if mode != Mode::Reset {
            let _ = stream.shutdown(Shutdown::Both);
        }
        Err(ErrorKind::ConnectionAborted.into())
    }

    /// Sends the same again and again, 10 GB at most.
    fn pour(&self, stream: &mut TcpStream, head: &str, piece: &[u8]) -> std::io::Result<()> {
        stream.write_all(head.as_bytes())?;
        let mut sent = 0;
        while sent < TEN_GB {
            stream.write_all(piece)?;
            sent += piece.len() as u64;
            self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A node, and the two good servers behind it.
struct Node {
    front: Server,
    goods: [Server; 2],
    _config: tempfile::NamedTempFile,
}

impl Node {
    /// `broken` are the lines for the third.
    fn start(broken: &str) -> Self {
        let goods = [Server::start(&["--era", "modern"]), Server::start(&["--era", "legacy"])];
        let good = |number: usize| format!("[[upstream]]\nname = \"good{number}\"\nurl = \"http://{}/mcp\"\n", goods[number].address());
        let endpoint = "[[endpoint]]\npath = \"/mcp\"\nservers = [\"good0\", \"broken\", \"good1\"]\n";
        let mut config = tempfile::NamedTempFile::new().expect("a file");
        config.write_all(format!("{}{}{broken}{endpoint}", good(0), good(1)).as_bytes()).expect("it can be written");
        let front = Server::start(&["--config", &config.path().display().to_string(), "--cores", "2", "--no-pin", "--log", "error"]);
        let node = Self { front, goods, _config: config };
        until("all are there", || ["good0", "good1", "broken"].iter().all(|name| node.is_online(name)));
        node
    }

    fn is_online(&self, name: &str) -> bool {
        let text = format!("GET /v1/servers/{name} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Client::connect(self.front.admin()).ask(text).json_or_nothing()["state"] == "online"
    }

    /// The sum of a metric's values whose labels have a word in them.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let body = Client::connect(self.front.admin()).ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").body;
        let lines = body.lines().filter(|line| line.starts_with(&format!("ringhub_{name}")) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// One call of the broken server. It is answered in time, and if it failed the broken one is named.
    fn call(&self, tool: &str, what: &str) -> Response {
        let began = Instant::now();
        let answer = Client::connect(self.front.address()).ask(modern(1, "tools/call", &format!(r#""name":"{tool}","arguments":{{}}"#)));
        assert!(began.elapsed() < ANSWER_MAX, "{what}: it took {:?}", began.elapsed());
        let json = answer.json();
        let message = json["error"]["message"].as_str().unwrap_or_default();
        assert!(answer.status == 200 && (json["result"].is_object() || message.contains("The server broken ")), "{what}: {json}");
        answer
    }
}

/// What goes on beside.
#[derive(Default)]
struct Beside {
    is_over: AtomicBool,
    answered: [AtomicU64; 2],
    resident_max: AtomicU64,
}

impl Beside {
    /// Calls a good server all the time, and judges every answer.
    fn load(&self, node: &Node, which: usize) {
        let mut client = Client::connect(node.front.address());
        while !self.is_over.load(Ordering::Relaxed) {
            let words = format!("to {which}, call {}", self.answered[which].load(Ordering::Relaxed));
            let params = format!(r#""name":"good{which}.echo","arguments":{{"message":"{words}"}}"#);
            let answer = client.ask(modern(7, "tools/call", &params)).json();
            assert_eq!(answer["result"]["content"][0]["text"], words.as_str(), "{answer}");
            self.answered[which].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn watch(&self, node: &Node) {
        while !self.is_over.load(Ordering::Relaxed) {
            self.resident_max.fetch_max(resident_bytes(node.front.pid()), Ordering::Relaxed);
            sleep(Duration::from_millis(10));
        }
    }

    /// Does something while all this goes on, and sees that it went on.
    fn during<T>(&self, what: &str, act: impl FnOnce() -> T) -> T {
        let before: Vec<u64> = self.answered.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let result = act();
        until(&format!("the good servers answer while the other is {what}"), || {
            self.answered.iter().zip(&before).all(|(count, before)| count.load(Ordering::Relaxed) > before + 5)
        });
        result
    }
}

/// Says that it is over even when a test fails: the threads beside it end then.
struct Ender<'a>(&'a Beside);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

fn with_load(node: &Node, act: impl FnOnce(&Beside)) {
    let beside = Beside::default();
    let base = resident_bytes(node.front.pid());
    thread::scope(|scope| {
        let ender = Ender(&beside);
        let loads: Vec<_> = [0, 1, 0, 1]
            .into_iter()
            .map(|which| {
                scope.spawn({
                    let beside = &beside;
                    move || beside.load(node, which)
                })
            })
            .collect();
        scope.spawn(|| beside.watch(node));
        act(&beside);
        drop(ender);
        loads.into_iter().for_each(|load| load.join().expect("the good servers answered every call right"));
    });
    let grown = beside.resident_max.load(Ordering::Relaxed).saturating_sub(base);
    assert!(grown < GROWTH_MAX, "it grew by {grown} bytes");
}

#[test]
fn whatever_one_server_does_the_others_serve() {
    let broken = Broken::start();
    let node = Node::start(&format!("[[upstream]]\nname = \"broken\"\nurl = \"http://{}/mcp\"\n{TIMEOUTS}\n", broken.address));
    let is_well = || node.is_online("broken") && node.call("broken.t0", "well").body.contains("well");
    with_load(&node, |beside| {
        for (mode, fails) in MODES {
            let what = format!("{mode:?}");
            let (lists, sent, failures) = (
                broken.lists.load(Ordering::Relaxed),
                broken.sent.load(Ordering::Relaxed),
                node.metric("faults_total", "side=\"upstream\""),
            );
            broken.set(mode);
            beside.during(&what, || {
                if fails {
                    // Several at once, until it is said to be gone.
                    until(&format!("{what} is reported"), || {
                        thread::scope(|scope| {
                            for _ in 0..4 {
                                scope.spawn(|| assert!(node.call("broken.t0", &what).json()["error"].is_object(), "{what}"));
                            }
                        });
                        !node.is_online("broken")
                    });
                    assert!(node.metric("faults_total", "side=\"upstream\"") > failures, "{what}");
                } else {
                    until(&format!("{what} is looked at"), || broken.lists.load(Ordering::Relaxed) > lists);
                    for _ in 0..20 {
                        assert!(node.call("broken.t0", &what).body.contains("well"), "{what}");
                        sleep(Duration::from_millis(100));
                    }
                    let asked = broken.lists.load(Ordering::Relaxed) - lists;
                    assert!(mode != Mode::Flood || asked < 16, "it is asked less and less often: {asked}");
                    assert!(mode != Mode::Pages || asked <= 4 * 256, "pages have an end: {asked}");
                }
            });
            broken.set(Mode::Well);
            beside.during(&what, || until(&format!("it serves again after {what}"), is_well));
            let taken = broken.sent.load(Ordering::Relaxed) - sent;
            assert!(mode == Mode::Events || taken < 40 * TAKEN_MAX, "{what}: {taken} bytes were taken");
        }
    });
    assert!(node.metric("upstream_breakers_opened_total", "") > 0.0);
    let Node { front, goods, .. } = node;
    front.stop();
    goods.into_iter().for_each(Server::stop);
}

#[test]
fn whatever_one_process_does_the_others_serve() {
    let node = Node::start(&table("broken", "legacy", TIMEOUTS));
    let said = |tool: &str| node.call(tool, tool).json()["result"]["content"][0]["text"].as_str().map(str::to_owned);
    let is_well = || said("broken.echo").is_some();
    until("it serves", is_well);
    let before = ties(node.front.pid());
    with_load(&node, |beside| {
        for (tool, fails, is_ended) in [
            ("die", true, true),
            ("flood", true, true),
            ("mute", true, true),
            ("chatter", false, false),
            ("slow", true, false),
            ("hang", true, true),
        ] {
            let before = children(node.front.pid());
            assert_eq!(before.len(), 1, "{tool}: {before:?}");
            let grandchild: u32 = said("broken.spawn").and_then(|pid| pid.parse().ok()).expect("a process");
            beside.during(tool, || {
                let answer = node.call(&format!("broken.{tool}"), tool).json();
                assert_eq!(answer["error"].is_object(), fails, "{tool}: {answer}");
                until(&format!("it serves again after {tool}"), is_well);
            });
            if is_ended {
                until("what it started is ended, too", || !runs(grandchild) && !runs(before[0].0));
                until("there is one process again", || children(node.front.pid()).len() == 1);
            } else {
                assert_eq!(children(node.front.pid())[0].0, before[0].0, "{tool}");
                // SAFETY: plain system call.
                unsafe { libc::kill(grandchild.cast_signed(), libc::SIGKILL) };
            }
        }
    });
    // Connections to the good ones may be kept for a while.
    until("every descriptor is closed", || ties(node.front.pid()) == before);
    let Node { front, goods, .. } = node;
    front.stop();
    goods.into_iter().for_each(Server::stop);
}
