"""Resident memory of what stands idle: keep-alive connections and legacy sessions."""

import resource
import time

from messages import Conn, Request, handshake
from servers import CannotRun

WARM_REQUESTS = 2000
SETTLE_S = 2
# Ports of one source address that may be used towards one server.
CONNS_PER_SOURCE = 10_000
SESSION_CONNS = 8


def raise_file_limit(needed):
    """Raises the soft limit of open files to the hard one, which must allow `needed`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < needed:
        raise CannotRun(f"{needed} open files are needed and {hard} allowed: raise the hard limit (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def warmed(server, request):
    """A connection that has made the server allocate what it needs for any request at all."""
    conn = Conn(server.address)
    for _ in range(WARM_REQUESTS):
        request.check(conn.ask(request.encode(conn.host)))
    return conn


def growth(server, count, hold):
    """Memory before and after `hold()`, which makes `count` things; and after their end."""
    before = server.rss_bytes()
    held = hold()
    time.sleep(SETTLE_S)
    during = server.rss_bytes()
    for conn in held:
        conn.close()
    time.sleep(SETTLE_S)
    server.check_alive()
    return {
        "count": count,
        "rss_before_bytes": before,
        "rss_during_bytes": during,
        "rss_after_bytes": server.rss_bytes(),
        "bytes_each": (during - before) / count,
    }


def connections(server, count):
    """Opens `count` connections that each serve one request and then stand idle."""
    request = Request("tools_call", "modern")

    def hold():
        held = []
        for i in range(count):
            source = (f"127.0.0.{2 + i // CONNS_PER_SOURCE}", 0)
            conn = Conn(server.address, source)
            held.append(conn)
            request.check(conn.ask(request.encode(conn.host)))
        return held

    first = warmed(server, request)
    try:
        return growth(server, count, hold)
    finally:
        first.close()


def sessions(server, count):
    """Opens `count` legacy sessions over a few connections; None where the server keeps none."""
    conns = [Conn(server.address) for _ in range(SESSION_CONNS)]
    try:
        # The first sessions make the server set up what all sessions share.
        if not all([handshake(conn) for conn in conns]):
            return None
        for i in range(WARM_REQUESTS):
            request = Request("initialize", "legacy")
            request.check(conns[i % SESSION_CONNS].ask(request.encode(conns[0].host)))

        def hold():
            ids = {handshake(conns[i % SESSION_CONNS]) for i in range(count)}
            if len(ids) != count:
                raise CannotRun(f"{count} handshakes opened {len(ids)} sessions")
            return []

        return growth(server, count, hold)
    finally:
        for conn in conns:
            conn.close()
