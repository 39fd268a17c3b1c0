//! A small strict HTTP/1.1 client over one socket: it sees every byte, so that a test can judge them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for bytes. Beyond it the test fails.
const READ_MAX: Duration = Duration::from_secs(20);

/// One connection.
pub struct Client {
    socket: TcpStream,
    /// Received and not yet taken.
    buffer: Vec<u8>,
}

/// One whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header field, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Whether the server said that it closes the connection.
    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The body as JSON; null when it is none.
    pub fn json_or_nothing(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Without what differs from one answer to the next.
    pub fn without_date(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "date");
        self
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).expect("the server accepts")
    }

    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(READ_MAX))?;
        socket.set_write_timeout(Some(READ_MAX))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// The same connection once more, to send and to read at once.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, buffer: Vec::new() })
    }

    /// How long the server may take to take bytes.
    pub fn set_write_timeout(&self, longest: Duration) {
        self.socket.set_write_timeout(Some(longest)).expect("the socket is open");
    }

    /// How long to wait for bytes.
    pub fn set_read_timeout(&self, longest: Duration) {
        self.socket.set_read_timeout(Some(longest)).expect("the socket is open");
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes the bytes");
    }

    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).expect("the socket is open");
    }

    /// Sends a request and takes its response.
    pub fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes);
        self.response()
    }

    /// The next response, its body whole.
    pub fn response(&mut self) -> Response {
        self.try_response().expect("a whole response")
    }

    pub fn try_response(&mut self) -> io::Result<Response> {
        let (status, headers) = self.head()?;
        let bare = Response { status, headers, body: String::new() };
        let body = match (bare.header("content-length"), bare.header("transfer-encoding")) {
            (Some(length), None) => self.exactly(length.trim().parse().expect("a length"))?,
            (None, Some("chunked")) => self.chunks()?,
            (None, None) if matches!(status, 100..=199 | 202 | 204 | 304) => Vec::new(),
            (None, None) => self.read_to_end()?,
            other => panic!("ambiguous framing from the server: {other:?}"),
        };
        Ok(Response { body: String::from_utf8(body).expect("the body is UTF-8"), ..bare })
    }

    /// The head of the next response; its body is left to be read.
    pub fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = self.until(b"\r\n\r\n")?;
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head = String::from_utf8(head).expect("the head is text");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Ok((status.unwrap_or_else(|| panic!("not a status line: {status_line:?}")), headers.collect()))
    }

    /// One chunk of a chunked body; `None` for the last.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let end = self.until(b"\r\n")?;
        let line: Vec<u8> = self.buffer.drain(..end).collect();
        let size = usize::from_str_radix(std::str::from_utf8(&line).expect("text").trim(), 16).expect("a chunk size");
        let mut data = self.exactly(size + 2)?;
        assert_eq!(data.split_off(size), b"\r\n", "a chunk ends with CRLF");
        Ok((size > 0).then_some(data))
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk()? {
            body.extend(chunk);
        }
        Ok(body)
    }

    /// The body of a response whose head was read: `length` bytes.
    pub fn body(&mut self, length: usize) -> io::Result<Vec<u8>> {
        self.exactly(length)
    }

    /// Whether bytes of a response were received that is not whole.
    pub fn has_part(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.more()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Everything until the server closes, which it must do without a reset.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(std::mem::take(&mut self.buffer)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the server has closed with nothing more to say.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.read_to_end(), Ok(rest) if rest.is_empty())
    }

    fn until(&mut self, mark: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return Ok(at + mark.len());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.buffer.extend_from_slice(&bytes[..count]);
                    return Ok(());
                }
                // The end of a ring that this thread once had may interrupt it.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// A POST to `/mcp` as an MCP client sends it.
pub fn post(headers: &[(&str, &str)], body: &str) -> String {
    let mut text = String::from("POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n");
    text.push_str("accept: application/json, text/event-stream\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text
}

/// A 2026-07-28 request with its headers.
pub fn modern(id: u32, method: &str, params: &str) -> String {
    modern_with(id, method, params, "")
}

/// A 2026-07-28 request with further members of `_meta` (each followed by a comma).
pub fn modern_with(id: u32, method: &str, params: &str, meta: &str) -> String {
    let comma = if params.is_empty() { "" } else { "," };
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}{comma}"_meta":{{{meta}"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{{"name":"it","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
    );
    let named: serde_json::Value = serde_json::from_str(&body).expect("the request is JSON");
    let name = named["params"]["name"].as_str().or(named["params"]["uri"].as_str()).map(str::to_owned);
    let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
    headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
    post(&headers, &body)
}

/// A 2026-07-28 call of the built-in `echo`.
pub fn echo(id: u32, message: &str) -> String {
    modern(id, "tools/call", &format!(r#""name":"echo","arguments":{{"message":"{message}"}}"#))
}

/// Sends so many calls without waiting for an answer, and sees that each is answered, in their order.
pub fn pipeline(address: SocketAddr, calls: u32) {
    let mut client = Client::connect(address);
    let mut sender = client.try_clone().expect("a descriptor");
    let sending = std::thread::spawn(move || (0..calls).for_each(|id| sender.send(echo(id, "one of many"))));
    for id in 0..calls {
        let answer = client.response();
        assert_eq!((answer.status, &answer.json()["id"]), (200, &id.into()));
    }
    sending.join().expect("all was sent");
}

/// The `initialize` of a legacy client that offers `version`.
pub fn initialize(version: &str) -> String {
    post(
        &[],
        &format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"it","version":"1"}}}}}}"#
        ),
    )
}
