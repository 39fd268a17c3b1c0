//! Links over TCP, on every ring path.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::{Client, RINGS, config, eventually, serve};
use super::upstreams::pattern;
use crate::base::metrics::Counter;
use crate::rt::{Config, RingChoice, Running};

/// A core with one connection, over which its links are driven.
pub(super) struct Rig {
    pub(super) running: Running,
    client: Client,
}

impl Rig {
    pub(super) fn new(ring: RingChoice) -> Self {
        Self::of(config(ring, 1))
    }

    pub(super) fn of(config: Config) -> Self {
        let running = serve(config);
        let client = Client::connect(&running);
        Self { running, client }
    }

    pub(super) fn call(&mut self, link: u32, what: &str, body: &[u8]) -> Vec<u8> {
        let answer = self.client.call(&format!("/link/{link}/{what}"), body);
        assert_eq!(answer.status, 200);
        answer.body
    }

    pub(super) fn dial(&mut self, link: u32, kind: &str, timeout_ms: u64, rest: &[&str]) {
        self.call(link, "dial", format!("{kind}\n{timeout_ms}\n{}", rest.join("\n")).as_bytes());
    }

    pub(super) fn dial_tcp(&mut self, link: u32, address: SocketAddr) {
        self.dial(link, "tcp", 15_000, &[&address.ip().to_string(), &address.port().to_string()]);
    }

    pub(super) fn seen(&mut self, link: u32) -> String {
        String::from_utf8(self.call(link, "seen", b"")).expect("text")
    }

    /// Each side of link 1, which was just dialled, says a word.
    pub(super) fn greet<S: Read + Write>(&mut self, accept: impl FnOnce() -> S) -> S {
        // Before it is up, what is fed waits.
        self.call(1, "feed", b"hello");
        let mut stream = accept();
        assert_eq!(read(&mut stream, 5), b"hello");
        stream.write_all(b"world").expect("a write");
        self.until(1, "bytes=5 up drained=1");
        assert_eq!(self.call(1, "bytes", b""), b"world");
        stream
    }

    /// Waits until the link is seen as one wants it.
    pub(super) fn until(&mut self, link: u32, what: &str) -> String {
        let mut seen = String::new();
        let mut tries = 0;
        loop {
            seen.clear();
            seen += &self.seen(link);
            if matches(&seen, what) {
                return seen;
            }
            tries += 1;
            assert!(tries < 2000, "not so after twenty seconds: {what} in {seen}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether words that stand beside each other are seen; the name of a member stands for any value.
fn matches(seen: &str, what: &str) -> bool {
    let padded = format!("{seen} ");
    padded.contains(&format!("{what} ")) || (what == "down" && padded.contains("down="))
}

pub(super) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    let stream = listener.accept().expect("a connection").0;
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

pub(super) fn read(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("bytes");
    bytes
}

#[test]
fn bytes_go_both_ways_and_each_side_can_end() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        rig.dial_tcp(1, address);
        let mut stream = rig.greet(|| accept(&listener));
        stream.shutdown(Shutdown::Write).expect("a shutdown");
        rig.until(1, "up end drained=1");
        rig.call(1, "feed", b"still");
        assert_eq!(read(&mut stream, 5), b"still");
        rig.until(1, "drained=2");
        rig.call(1, "hang", b"");
        rig.until(1, "down=Hung");
        assert_eq!(stream.read(&mut [0; 1]).expect("an orderly end"), 0);
        // What is fed to a link that is gone goes nowhere, and its name can be used again.
        rig.call(1, "feed", b"nobody");
        rig.dial_tcp(1, address);
        rig.call(1, "feed", b"again");
        assert_eq!(read(&mut accept(&listener), 5), b"again");
        eventually("its place is free again", || rig.running.node.links.taken() == 1);
    }
}

#[test]
fn why_it_is_not_made_is_told() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (closed, address) = listener();
        drop(closed);
        rig.dial_tcp(1, address);
        rig.until(1, "bytes=0 drained=0 choked=0 down=Refused");
        rig.dial(2, "tcp", 20_000, &["no-such-host.invalid", "80"]);
        rig.until(2, "down=NameUnknown");
        rig.dial(3, "tcp", 5000, &["", "80"]);
        rig.until(3, "down=NameUnknown");
        let quota = rig.running.node.links.max();
        assert!(rig.running.node.links.take_many(quota), "none is taken");
        rig.dial_tcp(4, address);
        rig.until(4, "down=TooMany");
        rig.running.node.links.give_many(quota);
        let failed: u64 = rig.running.metrics().iter().map(|core| core.counter(Counter::LinksFailed)).sum();
        assert_eq!(failed, 4);
    }
}

#[test]
fn every_address_of_a_name_is_tried() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        // On most hosts this name has an address of each family, of which only one is listened on.
        let (listener, address) = listener();
        rig.dial(1, "tcp", 10_000, &["localhost", &address.port().to_string()]);
        rig.call(1, "feed", b"x");
        assert_eq!(read(&mut accept(&listener), 1), b"x");
        let Ok(listener) = TcpListener::bind("[::1]:0") else { continue };
        let port = listener.local_addr().expect("an address").port().to_string();
        rig.dial(2, "tcp", 10_000, &["[::1]", &port]);
        rig.call(2, "feed", b"y");
        assert_eq!(read(&mut accept(&listener), 1), b"y");
    }
}

/// A listener whose queue is full: further handshakes are not answered.
fn deaf() -> (TcpListener, SocketAddr, Vec<TcpStream>) {
    let (listener, address) = listener();
    // SAFETY: plain system call: the queue of a listening socket is made short.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let mut streams = Vec::new();
    for _ in 0..16 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => streams.push(stream),
            Err(_) => return (listener, address, streams),
        }
    }
    panic!("the queue does not fill");
}

#[test]
fn one_that_does_not_answer_in_time_is_given_up() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (_listener, address, _streams) = deaf();
        let start = Instant::now();
        rig.dial(1, "tcp", 400, &[&address.ip().to_string(), &address.port().to_string()]);
        rig.until(1, "down=TimedOut");
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
        eventually("its place is free again", || rig.running.node.links.taken() == 0);
        // Hanging up does not wait for that.
        rig.dial(2, "tcp", 60_000, &[&address.ip().to_string(), &address.port().to_string()]);
        rig.call(2, "hang", b"");
        rig.until(2, "down=Hung");
        eventually("its place is free again", || rig.running.node.links.taken() == 0);
    }
}

#[test]
fn a_reset_is_told_whatever_is_under_way() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        for link in 1..4 {
            rig.dial_tcp(link, address);
            let stream = accept(&listener);
            rig.until(link, "up");
            if link == 2 {
                rig.call(link, "fill/4000000", b"");
            }
            if link == 3 {
                rig.call(link, "pause", b"");
                std::thread::sleep(Duration::from_millis(50));
            }
            crate::rt::listen::set_reset(stream.as_raw_fd());
            drop(stream);
            if link == 3 {
                rig.call(link, "go", b"");
            }
            rig.until(link, "down=Reset");
        }
        eventually("their places are free again", || rig.running.node.links.taken() == 0);
    }
}

/// Sends the pattern for as long as it is taken; says how much that was so far.
fn source(address: &TcpListener, total: usize) -> (Arc<AtomicUsize>, std::thread::JoinHandle<TcpStream>) {
    let mut stream = accept(address);
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    // Made before anybody waits for it.
    let all: Vec<u8> = (0..total).map(pattern).collect();
    let thread = std::thread::spawn(move || {
        for part in all.chunks(65_536) {
            stream.write_all(part).expect("a write");
            counted.fetch_add(part.len(), Ordering::Relaxed);
        }
        stream.shutdown(Shutdown::Write).expect("a shutdown");
        stream
    });
    (sent, thread)
}

/// What was sent when nothing more is taken.
pub(super) fn settled(sent: &AtomicUsize) -> usize {
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = sent.load(Ordering::Relaxed);
        if now > 0 && now == before {
            return now;
        }
        before = now;
    }
}

#[test]
fn a_paused_link_holds_up_its_source_and_loses_nothing() {
    const TOTAL: usize = 40 << 20;
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        rig.dial_tcp(1, address);
        rig.call(1, "pause", b"");
        let (sent, thread) = source(&listener, TOTAL);
        rig.until(1, "up");
        let before = settled(&sent);
        // The kernel's buffers of both sides are full.
        assert!(before < TOTAL / 2, "{before} bytes were taken");
        assert!(rig.seen(1).starts_with("bytes=0 "));
        rig.call(1, "nap", b"");
        rig.call(1, "go", b"");
        rig.until(1, &format!("bytes={TOTAL} up end"));
        let received = rig.call(1, "bytes", b"");
        assert!(received.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        thread.join().expect("the source");
    }
}

#[test]
fn what_is_fed_waits_for_a_slow_reader_up_to_a_limit() {
    const MANY: usize = 8_000_000;
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        rig.dial_tcp(1, address);
        let mut stream = accept(&listener);
        rig.call(1, &format!("fill/{MANY}"), b"");
        std::thread::sleep(Duration::from_millis(200));
        let received = read(&mut stream, MANY);
        assert!(received.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        rig.until(1, "up drained=1");
        // The kernel's buffers take some of it.
        for _ in 0..6 {
            rig.call(1, &format!("fill/{MANY}"), b"");
        }
        rig.until(1, "down=TooMany");
        eventually("its place is free again", || rig.running.node.links.taken() == 0);
        drop(stream);
    }
}

#[test]
fn a_client_that_reads_slowly_pauses_the_link_that_feeds_it() {
    // More than the kernel may hold for the sockets on the way: it lets a buffer that is read fast grow to 32 MB.
    const TOTAL: usize = 56 << 20;
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        rig.dial_tcp(1, address);
        rig.call(1, "pause", b"");
        let (sent, thread) = source(&listener, TOTAL);
        rig.until(1, "up");
        let mut reader = Client::connect(&rig.running);
        reader.send(format!("GET /link/1/relay/{TOTAL} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        eventually("the link is paused", || !rig.seen(1).contains("choked=0"));
        assert!(settled(&sent) < TOTAL, "the source is held up");
        let body = reader.answer().body;
        assert!(body.len() == TOTAL && body.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        let slow: u64 = rig.running.metrics().iter().map(|core| core.counter(Counter::SlowReaders)).sum();
        assert_eq!(slow, 0, "nobody is cut");
        // The connection takes its next request.
        assert_eq!(reader.call("/echo", b"next").body, b"next");
        thread.join().expect("the source");
    }
}

#[test]
fn many_links_come_and_go_and_leave_nothing() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        for round in 0..300 {
            rig.dial_tcp(round % 7, address);
            let mut stream = accept(&listener);
            match round % 3 {
                0 => drop(stream),
                1 => {
                    stream.write_all(b"x").expect("a write");
                    rig.call(round % 7, "feed", b"y");
                }
                _ => rig.call(round % 7, "pause", b"").clear(),
            }
            rig.call(round % 7, "hang", b"");
            rig.until(round % 7, "down=Hung");
        }
        eventually("every place is free again", || rig.running.node.links.taken() == 0);
    }
}

#[test]
fn a_core_ends_with_links_under_way() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let (listener, address) = listener();
        let (_deaf, deaf, _streams) = deaf();
        rig.dial_tcp(1, address);
        let mut stream = accept(&listener);
        rig.call(1, "fill/4000000", b"");
        rig.dial_tcp(2, deaf);
        rig.dial(3, "tcp", 60_000, &["no-such-host.invalid", "80"]);
        let start = Instant::now();
        rig.running.stop();
        rig.running.join();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let mut rest = Vec::new();
        // It ends, in order or by a reset.
        let _ = stream.read_to_end(&mut rest);
    }
}
