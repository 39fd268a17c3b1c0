//! A small MCP server of the legacy era that does one thing wrong: to pings of all connections but the one that asks first.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What it does.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// It answers after so long.
    Delay(Duration),
    /// It answers at once, but for one time, when a connection stands still for so long.
    StallOnce(Duration),
    /// It refuses.
    Refuse { status: u16, says_when: bool },
    /// It answers with a status.
    Status(u16),
    /// It resets the connection.
    Reset,
    /// It never answers.
    Silent,
    /// It answers with an error.
    RpcError,
    /// It answers another request than was asked.
    WrongId,
}

/// What is known of it.
#[derive(Default)]
struct Known {
    peers: Mutex<Vec<IpAddr>>,
    /// From the last byte of each request to the last byte of its answer, microseconds.
    delays_us: Mutex<Vec<f64>>,
    has_stalled: AtomicBool,
    is_over: AtomicBool,
}

/// The server, until it is dropped.
pub struct Fake {
    address: SocketAddr,
    known: Arc<Known>,
}

impl Fake {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let known = Arc::<Known>::default();
        let shared = Arc::clone(&known);
        thread::spawn(move || {
            for (number, socket) in listener.incoming().enumerate() {
                if shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(socket), shared) = (socket, Arc::clone(&shared)) else { continue };
                // The first connection only looks whether somebody is there, the second asks what the server is.
                thread::spawn(move || serve(socket, manner, number > 1, &shared));
            }
        });
        Self { address, known }
    }

    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Where the connections came from that were loaded.
    pub fn peers(&self) -> Vec<IpAddr> {
        self.known.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn delays_us(&self) -> Vec<f64> {
        self.known.delays_us.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn forget_delays(&self) {
        self.known.delays_us.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.known.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(socket: TcpStream, manner: Manner, is_load: bool, known: &Known) -> Option<()> {
    socket.set_nodelay(true).ok()?;
    if is_load {
        known.peers.lock().unwrap_or_else(PoisonError::into_inner).push(socket.peer_addr().ok()?.ip());
    }
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    let mut socket = socket;
    loop {
        let body = request(&mut reader)?;
        let came = Instant::now();
        let id = body.split("\"id\":").nth(1).map_or("0", |rest| &rest[..10]);
        let answer = if body.contains("\"initialize\"") {
            result(id, r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"fake","version":"1"}}"#)
        } else if body.contains("notifications/initialized") {
            http(202, "", "")
        } else if is_load {
            misbehave(&socket, manner, id, known)?
        } else {
            result(id, "{}")
        };
        socket.write_all(&answer).ok()?;
        if is_load && body.contains("\"ping\"") {
            known.delays_us.lock().unwrap_or_else(PoisonError::into_inner).push(came.elapsed().as_secs_f64() * 1e6);
        }
    }
}

/// The body of the next request.
fn request(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

fn misbehave(socket: &TcpStream, manner: Manner, id: &str, known: &Known) -> Option<Vec<u8>> {
    Some(match manner {
        Manner::Delay(delay) => {
            thread::sleep(delay);
            result(id, "{}")
        }
        Manner::StallOnce(stall) => {
            // Not the very first message: the others are to be under way.
            let is_later = id.parse::<u64>().is_ok_and(|id| id > 1_000_000_020);
            if is_later && !known.has_stalled.swap(true, Ordering::Relaxed) {
                thread::sleep(stall);
            }
            result(id, "{}")
        }
        Manner::Refuse { status, says_when } => http(status, if says_when { "Retry-After: 1\r\n" } else { "" }, "{}"),
        Manner::Status(status) => http(status, "", "{}"),
        Manner::RpcError => http(200, "", &format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32603,"message":"no"}}}}"#)),
        Manner::WrongId => result("1", "{}"),
        Manner::Silent => {
            // Its requests are read on, so that the connection does not clog.
            let mut rest = VecDeque::from(vec![0; 65_536]);
            while std::io::Read::read(&mut &*socket, rest.make_contiguous()).ok()? > 0 {}
            return None;
        }
        Manner::Reset => {
            // With no time to linger a close is a reset.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            let size = libc::socklen_t::try_from(size_of::<libc::linger>()).expect("it is small");
            // SAFETY: the option is read from a local of the length that is given.
            unsafe {
                libc::setsockopt(
                    std::os::fd::AsRawFd::as_raw_fd(socket),
                    libc::SOL_SOCKET,
                    libc::SO_LINGER,
                    (&raw const linger).cast(),
                    size,
                )
            };
            return None;
        }
    })
}

fn result(id: &str, result: &str) -> Vec<u8> {
    http(200, "", &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

fn http(status: u16, fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
