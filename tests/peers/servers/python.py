"""A server made with the official Python SDK, or with FastMCP, that is fronted.

    python python.py sdk|fastmcp stdio|http
"""

import socket
import sys
from typing import Any


def made(kind: str) -> Any:
    if kind == "sdk":
        from mcp.server import MCPServer

        return MCPServer("python-sdk")
    from fastmcp import FastMCP

    return FastMCP("fastmcp")


def serve_http(app: Any) -> None:
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(f"at http://127.0.0.1:{listener.getsockname()[1]}/mcp", file=sys.stderr, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


kind, transport = sys.argv[1:3]
server = made(kind)


@server.tool()
def multiply(a: int, b: int) -> str:
    """Multiplies two numbers"""
    return f"{a} times {b} is {a * b}"


if transport == "stdio":
    server.run("stdio")
else:
    serve_http(server.streamable_http_app() if kind == "sdk" else server.http_app())
