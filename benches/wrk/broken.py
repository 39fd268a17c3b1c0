"""An MCP server (2026-07-28, Streamable HTTP) that misbehaves as it is told on its standard input, a word a line.

well, killed, hung, slow, garbage, long (10 GB, and says so), chunks (10 GB, in chunks), event (10 GB, in one event), events (10 GB of events that
answer nothing), mid (closes in the midst of a stream). It prints its URL first.
"""

import json
import socket
import sys
import threading
import time

CACHING = '"resultType":"complete","ttlMs":0,"cacheScope":"private"'
LONG_BYTES = 10_000_000_000
PIECE = b" " * 65536
SEND_BUFFER_BYTES = 65536
PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"x","progress":1}}\n\n' * 500
JSON, EVENTS = b"application/json", b"text/event-stream"
# Media, what the head says of the length, how the body begins, and what is sent again and again.
FLOODS = {
    "long": (JSON, b"Content-Length: %d\r\n" % LONG_BYTES, b"", PIECE),
    "chunks": (JSON, b"Transfer-Encoding: chunked\r\n", b"", b"10000\r\n%s\r\n" % PIECE),
    "event": (EVENTS, b"", b"data: ", PIECE),
    "events": (EVENTS, b"", b"", PROGRESS),
}


class Broken:
    def __init__(self):
        self.mode = "well"
        self.conns = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        self.calls = 0

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                # Killed; it listens again when it is told to be otherwise.
                time.sleep(0.01)
                continue
            self.conns.add(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def become(self, mode):
        was_killed, self.mode = self.mode == "killed", mode
        if mode == "killed":
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            for conn in list(self.conns):
                try:
                    conn.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
        elif was_killed:
            self.listener = socket.create_server(self.address)

    def serve(self, conn):
        try:
            with conn, conn.makefile("rb") as stream:
                while (body := self.request(stream)) is not None:
                    if not self.answer(conn, body):
                        return
        except OSError:
            pass
        finally:
            self.conns.discard(conn)

    @staticmethod
    def request(stream):
        length = None
        while line := stream.readline():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
            if line == b"\r\n":
                return json.loads(stream.read(length))
        return None

    def answer(self, conn, body):
        """Answers one request as the mode has it; whether the connection goes on."""
        mode, method = self.mode, body["method"]
        head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s\r\n"
        if mode == "hung":
            conn.recv(1)
            return False
        if mode == "slow":
            time.sleep(3)
        elif mode == "garbage":
            conn.sendall(b"\x16\x03\x01 what?\r\n\r\n")
            return False
        elif mode in FLOODS:
            media, length, start, piece = FLOODS[mode]
            # What nobody will read is not to be copied at the expense of the CPU's others.
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            conn.sendall(head % (media, length) + start)
            for _ in range(LONG_BYTES // len(piece)):
                conn.sendall(piece)
            return False
        elif mode == "mid":
            conn.sendall(head % (b"text/event-stream", b"") + b'data: {"jsonrpc":')
            return False
        elif mode == "killed":
            return False
        if method == "server/discover":
            result = '{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},%s}' % CACHING
        elif method == "tools/list":
            result = '{"tools":[{"name":"t","inputSchema":{"type":"object"}}],%s}' % CACHING
        else:
            self.calls += 1
            result = '{"content":[{"type":"text","text":"well"}],"resultType":"complete"}'
        reply = b'{"jsonrpc":"2.0","id":%s,"result":%s}' % (json.dumps(body["id"]).encode(), result.encode())
        conn.sendall(head % (b"application/json", b"Content-Length: %d\r\n" % len(reply)) + reply)
        return True


def main():
    broken = Broken()
    print("http://{}:{}/mcp".format(*broken.address), flush=True)
    threading.Thread(target=broken.accept, daemon=True).start()
    for line in sys.stdin:
        broken.become(line.strip())
        print("is", broken.mode, flush=True)


if __name__ == "__main__":
    main()
