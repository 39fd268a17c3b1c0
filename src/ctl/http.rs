//! A small blocking HTTP/1.1 client, for one request at a time to a server that is known.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting, and waiting for the next bytes, may take.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest line of a head, bytes.
const LINE_BYTES_MAX: u64 = 64 * 1024;
/// Longest body, bytes.
const BODY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `host:port`.
    authority: String,
    /// The port alone.
    pub port: u16,
    /// What every path begins with; empty most of the time.
    prefix: String,
}

impl Place {
    /// Reads `http://host:port`, with or without a path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--admin {url}: {why}; write it as http://127.0.0.1:9090");
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(wrong("the admin port speaks no TLS")),
            Some(_) => return Err(wrong("it is no http URL")),
            None => url,
        };
        let (authority, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong("the port is no number"))?),
            _ => (authority, 80),
        };
        if host.is_empty() || host.contains(['@', ' ']) {
            return Err(wrong("there is no host in it"));
        }
        Ok(Self { authority: format!("{host}:{port}"), port, prefix: prefix.trim_end_matches('/').to_owned() })
    }

    /// Whether it is surely this machine: written as a loopback address, or as the name that stands for one (RFC 6761 section 6.3).
    pub fn is_this_machine(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("the name leads to no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, WAIT_MAX) {
                Ok(socket) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    pub token: Option<&'a str>,
    pub if_version: Option<u64>,
    pub body: Option<&'a str>,
}

/// One response, its body still to be read.
pub struct Response {
    pub status: u16,
    fields: Vec<(String, String)>,
    socket: BufReader<TcpStream>,
}

impl Response {
    /// The value of a field, by its lower-case name.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The whole body.
    pub fn body(mut self) -> io::Result<String> {
        let mut body = Vec::new();
        if matches!(self.status, 204 | 304) {
            return Ok(String::new());
        }
        if let Some(length) = self.field("content-length") {
            let length = length.parse::<u64>().map_err(|_| io::Error::other("the server's Content-Length is no number"))?;
            let taken = self.socket.take(length.min(BODY_BYTES_MAX)).read_to_end(&mut body)?;
            if taken as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        } else {
            while let Some(chunk) = self.chunk()? {
                body.extend_from_slice(&chunk);
            }
        }
        String::from_utf8(body).map_err(io::Error::other)
    }

    /// The next piece of a body of unknown length, as it comes; `None` at its end.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = line(&mut self.socket)?;
        let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let size =
            size.ok().filter(|size| *size <= BODY_BYTES_MAX).ok_or_else(|| io::Error::other("the server's answer is cut up wrongly"))?;
        let mut data = vec![0; size as usize];
        self.socket.read_exact(&mut data)?;
        self.socket.read_exact(&mut [0; 2])?;
        Ok((size > 0).then_some(data))
    }

    /// Waits for the next bytes however long it takes.
    pub fn wait_forever(&self) -> io::Result<()> {
        self.socket.get_ref().set_read_timeout(None)
    }
}

/// Sends a request and takes the head of its response.
pub fn send(place: &Place, request: &Request<'_>) -> io::Result<Response> {
    let mut socket = place.connect()?;
    socket.set_read_timeout(Some(WAIT_MAX))?;
    socket.set_write_timeout(Some(WAIT_MAX))?;
    let mut text =
        format!("{} {}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", request.method, place.prefix, request.target, place.authority);
    if let Some(token) = request.token {
        let _ = write!(text, "Authorization: Bearer {token}\r\n");
    }
    if let Some(version) = request.if_version {
        let _ = write!(text, "If-Match: \"{version}\"\r\n");
    }
    if let Some(body) = request.body {
        let _ = write!(text, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    text.push_str("\r\n");
    text.push_str(request.body.unwrap_or_default());
    socket.write_all(text.as_bytes())?;
    let mut socket = BufReader::new(socket);
    let status_line = line(&mut socket)?;
    let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("what answers there does not speak HTTP"))?;
    let mut fields = Vec::new();
    loop {
        let line = line(&mut socket)?;
        if line.is_empty() {
            return Ok(Response { status, fields, socket });
        }
        if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn line(socket: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    socket.take(LINE_BYTES_MAX).read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(whole) => Ok(whole.trim_end_matches('\r').to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place = Place::parse("http://127.0.0.1:9090/").expect("sound");
        assert_eq!((place.authority.as_str(), place.port, place.prefix.as_str()), ("127.0.0.1:9090", 9090, ""));
        assert_eq!(Place::parse("[::1]:1").expect("sound").authority, "[::1]:1");
        assert_eq!(Place::parse("http://[::1]").expect("sound").authority, "[::1]:80");
        assert_eq!(Place::parse("http://h/a/").expect("sound").prefix, "/a");
        for bad in ["https://h", "ftp://h", "http://", "http://h:x", "http://u@h:1"] {
            assert!(Place::parse(bad).expect_err(bad).contains("http://127.0.0.1:9090"), "{bad}");
        }
    }

    #[test]
    fn this_machine_is_known_from_others() {
        let is_this_machine = |url: &str| Place::parse(url).expect(url).is_this_machine();
        for own in ["127.0.0.1:9090", "http://localhost:9090", "http://[::1]:9090/x", "http://127.1.2.3", "[::ffff:127.0.0.1]:1"] {
            assert!(is_this_machine(own), "{own}");
        }
        for other in ["192.0.2.1:9090", "http://example.org:9090", "http://localhost.example.org", "http://127.0.0.1.example.org:9090"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
