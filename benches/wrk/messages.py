"""The requests in requests/ as bytes, and one connection that sends them."""

import pathlib
import re
import socket

REQUESTS = pathlib.Path(__file__).parent / "requests"
KINDS = ("initialize", "tools_list", "tools_call")
ERAS = ("legacy", "modern")
REPLY_BYTES_MAX = 1 << 20
WAIT_S = 20


class WrongReply(Exception):
    """A server answered, but not what it was asked."""


class Request:
    """One request of requests/, and what a right reply to it contains."""

    def __init__(self, kind, era):
        text = (REQUESTS / f"{kind}.{era}").read_text()
        parts = re.fullmatch(r"expect ([^\n]+)\n(.*?)\n\n([^\n]+)\n", text, re.S)
        if parts is None:
            raise ValueError(f"unreadable request file {kind}.{era}")
        self.kind, self.era = kind, era
        self.expect, self.head, self.body = parts.groups()

    def encode(self, host, session=None):
        """The whole HTTP request, as mcp.lua builds it."""
        lines = ["POST /mcp HTTP/1.1", f"Host: {host}", *self.head.split("\n")]
        if session and self.kind != "initialize":
            lines.append(f"Mcp-Session-Id: {session}")
        lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n" + self.body).encode()

    def check(self, reply):
        """Raises WrongReply unless `reply` is a 200 with the expected fragment."""
        if reply.status != 200 or self.expect not in reply.body.decode(errors="replace"):
            raise WrongReply(f"{self.kind}.{self.era}: {reply.status} {reply.body[:300]!r}")


def initialized(host, session):
    """The notification that ends a legacy handshake."""
    body = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
    head = Request("tools_list", "legacy").head.split("\n")
    lines = ["POST /mcp HTTP/1.1", f"Host: {host}", *head, f"Mcp-Session-Id: {session}"]
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


class Reply:
    """One HTTP reply framed by Content-Length; `raw` is all of its bytes."""

    def __init__(self, raw, head_len):
        lines = raw[: head_len - 4].decode("latin-1").split("\r\n")
        self.raw = raw
        self.status = int(lines[0].split(" ")[1])
        self.headers = dict(self._header(line) for line in lines[1:])
        self.body = raw[head_len:]

    @staticmethod
    def _header(line):
        name, _, value = line.partition(":")
        return name.lower(), value.strip()


class Conn:
    """One keep-alive connection. Replies must carry Content-Length, or be 202 without a body."""

    def __init__(self, address, source=None):
        self.host = f"{address[0]}:{address[1]}"
        self.sock = socket.create_connection(address, WAIT_S, source)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""

    def ask(self, data):
        self.sock.sendall(data)
        return self.reply()

    def reply(self):
        head_len = self._fill(lambda got: got.find(b"\r\n\r\n") + 4, 4)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", self.pending[:head_len])
        if length is None and b" 202 " not in self.pending[:20]:
            raise WrongReply(f"no Content-Length: {self.pending[:head_len]!r}")
        total = head_len + (int(length[1]) if length else 0)
        self._fill(lambda got: total if len(got) >= total else 0, 1)
        raw, self.pending = self.pending[:total], self.pending[total:]
        return Reply(raw, head_len)

    def _fill(self, found, least):
        """Receives until `found(pending)` is at least `least`; returns it."""
        while (at := found(self.pending)) < least:
            got = self.sock.recv(65536)
            if not got or len(self.pending) > REPLY_BYTES_MAX:
                raise WrongReply(f"the connection ended within a reply: {self.pending[:300]!r}")
            self.pending += got
        return at

    def close(self):
        self.sock.close()


def open_session(address):
    """Opens a legacy session; returns its id, or None where the server keeps none."""
    conn = Conn(address)
    try:
        return handshake(conn)
    finally:
        conn.close()


def handshake(conn):
    """initialize and initialized on `conn`; the session's id, or None."""
    request = Request("initialize", "legacy")
    reply = conn.ask(request.encode(conn.host))
    request.check(reply)
    session = reply.headers.get("mcp-session-id")
    if session:
        answer = conn.ask(initialized(conn.host, session))
        if answer.status != 202:
            raise WrongReply(f"notifications/initialized: {answer.status}")
    return session
