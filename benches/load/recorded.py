"""Replies of ringhub for the bare loop to send: one for each method that a load sends."""

import json
import re

from messages import Conn

# The yardstick puts each request's id where this one stands.
ID = 1_000_000_000
MODERN, LEGACY = "2026-07-28", "2025-11-25"
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
FOX = "The quick brown fox jumps over the lazy dog"


def post(conn, message, headers):
    body = json.dumps(message, separators=(",", ":"))
    lines = ["POST /mcp HTTP/1.1", f"Host: {conn.host}", "Content-Type: application/json", "Accept: application/json, text/event-stream"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return conn.ask(("\r\n".join(lines) + "\r\n\r\n" + body).encode())


def modern(conn, method, params=None, name=None):
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method} | ({"Mcp-Name": name} if name else {})
    params = (params or {}) | {"_meta": META}
    return post(conn, {"jsonrpc": "2.0", "id": ID, "method": method, "params": params}, headers)


def legacy(conn, keep):
    """A handshake and a ping; the replies name no session, which the bare loop would not look at."""
    about = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    opened = post(conn, {"jsonrpc": "2.0", "id": ID, "method": "initialize", "params": about}, {})
    keep("initialize", opened)
    headers = {"MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
    keep("notifications/initialized", post(conn, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers))
    keep("ping", post(conn, {"jsonrpc": "2.0", "id": ID, "method": "ping"}, headers))


def record(address, folder):
    """Asks the server at `address` for everything that a load asks, and keeps each reply in `folder`."""
    folder.mkdir()

    def keep(method, reply):
        if reply.status not in (200, 202):
            raise RuntimeError(f"{method}: {reply.status} {reply.body[:300]!r}")
        raw = re.sub(rb"(?i)\r\nmcp-session-id:[^\r]*", b"", reply.raw)
        (folder / method.replace("/", ".")).write_bytes(raw)
        return reply

    conn = Conn(address)
    try:
        for method in ("server/discover", "tools/list"):
            keep(method, modern(conn, method))
        keep("tools/call", modern(conn, "tools/call", {"name": "echo", "arguments": {"message": FOX}}, "echo"))
        listed = keep("resources/list", modern(conn, "resources/list"))
        resources = json.loads(listed.body)["result"]["resources"]
        if resources:
            uri = resources[0]["uri"]
            keep("resources/read", modern(conn, "resources/read", {"uri": uri}, uri))
        legacy(conn, keep)
    finally:
        conn.close()
    return folder
