//! A blocking client that reads one answer at a time.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::engine::EngineConfig;
use crate::engine::seal::{KeyPair, SealKeys};
use crate::rt::{Config, RingChoice, Running, start};

/// Longest wait for anything: a machine may have much else to do.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(60);

/// Every path of the ring.
pub(super) const RINGS: [RingChoice; 2] = [RingChoice::Auto, RingChoice::Legacy];

pub(super) fn config(ring: RingChoice, cores: usize) -> Config {
    Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        cores: Some(cores),
        pin: false,
        ring,
        connections_max: Some(5000),
        accept_queue: 0,
        drain_timeout: Duration::from_secs(10),
        ..Config::default()
    }
}

pub(super) fn serve(config: Config) -> Running {
    start(config, EngineConfig::new(SealKeys::new(KeyPair::single([1; 32]))), Vec::new()).expect("a start")
}

pub(super) struct Client {
    pub(super) stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub(super) fn closes(&self) -> bool {
        self.head.to_ascii_lowercase().contains("connection: close")
    }
}

pub(super) fn request(path: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Client {
    pub(super) fn connect(running: &Running) -> Self {
        Self::to(running.addresses()[0])
    }

    pub(super) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
        stream.set_nodelay(true).expect("the option");
        Self { stream, read: Vec::new() }
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("a write");
    }

    pub(super) fn reset(self) {
        crate::rt::listen::set_reset(std::os::fd::AsRawFd::as_raw_fd(&self.stream));
    }

    pub(super) fn call(&mut self, path: &str, body: &[u8]) -> Answer {
        self.send(&request(path, body));
        self.answer()
    }

    /// Reads one answer. None: the peer closed in an orderly way between two answers.
    pub(super) fn try_answer(&mut self) -> std::io::Result<Option<Answer>> {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8(self.read[..end + 4].to_vec()).expect("a head in ASCII");
                let status: u16 = head[9..12].parse().expect("a status");
                let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
                while self.read.len() < end + 4 + length {
                    if !self.fill()? {
                        return Err(std::io::Error::other("the answer is cut short"));
                    }
                }
                let body = self.read[end + 4..end + 4 + length].to_vec();
                self.read.drain(..end + 4 + length);
                return Ok(Some(Answer { status, head, body }));
            }
            if !self.fill()? {
                return if self.read.is_empty() { Ok(None) } else { Err(std::io::Error::other("the head is cut short")) };
            }
        }
    }

    pub(super) fn answer(&mut self) -> Answer {
        self.try_answer().expect("no error").expect("an answer")
    }

    fn fill(&mut self) -> std::io::Result<bool> {
        let mut buffer = [0; 65536];
        let count = loop {
            match self.stream.read(&mut buffer) {
                // The end of a ring that this thread has probed with.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => (),
                other => break other?,
            }
        };
        self.read.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }

    /// Asserts that the peer closes in an orderly way, without a further byte.
    pub(super) fn expect_end(&mut self) {
        assert_eq!(self.try_answer().expect("an orderly end"), None);
    }

    pub(super) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("a shutdown");
    }
}

/// Waits until something is so.
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
