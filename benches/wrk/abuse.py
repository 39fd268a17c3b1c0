"""Peers that keep a server busy, each in a way of its own: what that costs the calls of others.

Others call at a fixed rate far below what the server could do (`ringhub load`, open loop). Rounds with and without an abuser
follow one another, and the ratio of an abuser is the median of its rounds' ratios. The abusers run on the load's CPU, of
which they have what it leaves, so that what is measured is the server and not the load.
"""

import json
import os
import pathlib
import selectors
import socket
import statistics
import subprocess
import sys
import time

import idle
import servers
from messages import Request
from servers import CannotRun, in_spare_time

ABUSERS = ("pipelining", "deaf", "connecting", "dripping")
RATE = 2000
CONNS = 16
LIMITS = ("--max-connections", "2000")
PIPELINED = 10_000
CONNECTED = 15_000
CONNECTED_PER_S = 3000
DRIPPING = 500
CONNECTED_AFTER_S = 0.5
P99_TO_CALM_MAX = 1.2
FIGURES = ("p50_us", "p99_us", "cpu_us", "rss_mb")


def sockets(address, count):
    """So many connections, not blocking."""
    for n in range(count):
        conn = socket.create_connection(address, 10, (f"127.0.0.{2 + n // idle.CONNS_PER_SOURCE}", 0))
        conn.setblocking(False)
        yield conn


def pipelining(address, request):
    """Sends 10,000 requests in one piece, reads all answers, and begins again."""
    [conn] = sockets(address, 1)
    chooser = selectors.DefaultSelector()
    chooser.register(conn, selectors.EVENT_READ | selectors.EVENT_WRITE)
    batch = request * PIPELINED
    left, answered = memoryview(batch), 0
    while True:
        for _, events in chooser.select():
            if events & selectors.EVENT_READ:
                answered += conn.recv(1 << 20).count(b"HTTP/1.1 ")
            if events & selectors.EVENT_WRITE and left:
                left = left[conn.send(left[: 1 << 16]) :]
        if not left:
            # Some heads are cut by the end of a piece: nearly all answers are enough.
            if answered >= PIPELINED * 0.99:
                left, answered = memoryview(batch), 0
            else:
                time.sleep(0.001)


def deaf(address, request):
    """Sends as much as is taken, and reads nothing; one that is cut comes again."""
    [conn] = sockets(address, 1)
    while True:
        try:
            conn.send(request * 64)
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            [conn] = sockets(address, 1)


def connecting(address, _request):
    """Opens 15,000 connections and keeps those that it may keep; when all were tried, it begins again."""
    idle.raise_file_limit(4000)
    while True:
        kept, began = [], time.monotonic()
        for n, conn in enumerate(sockets(address, CONNECTED)):
            kept.append(conn)
            # Beyond what the server keeps, all have been told to go.
            if len(kept) > 3000:
                kept.pop(2500).close()
            time.sleep(max(began + n / CONNECTED_PER_S - time.monotonic(), 0))
        for conn in kept:
            conn.close()


def dripping(address, request):
    """500 connections that send one byte a second each; one that is closed comes again."""
    conns = list(sockets(address, DRIPPING))
    sent = [0] * DRIPPING
    while True:
        for n, conn in enumerate(conns):
            try:
                conn.send(request[sent[n] : sent[n] + 1])
                sent[n] = (sent[n] + 1) % len(request)
            except OSError:
                conn.close()
                [conns[n]] = sockets(address, 1)
                sent[n] = 0
            time.sleep(1 / DRIPPING)


class Abuser:
    """One of them, in a process of its own."""

    def __init__(self, name, address, cpu):
        command = [sys.executable, "-B", str(pathlib.Path(__file__).resolve()), name, f"{address[0]}:{address[1]}"]
        self.process = subprocess.Popen(in_spare_time(cpu, command), stderr=subprocess.PIPE, text=True)

    def stop(self):
        """Ends it; whether it was at work until now."""
        worked = self.process.poll() is None
        self.process.kill()
        said = self.process.communicate()[1]
        if not worked:
            raise CannotRun(f"an abuser ended by itself: {said[-2000:]}")


def one_round(server, options, name, file):
    """The others' calls for a while, beside that abuser if one is named; figures and faults."""
    command = [options.ringhub or servers.binary("ringhub", options.profile), "load", "mixed", "--url", server.url, "--era", "modern"]
    command += ["--send", "tools/call", "--rate", RATE, "--connections", CONNS, "--duration", f"{options.seconds}s"]
    command += ["--cpus", options.load_cpu] if options.load_cpu is not None else []
    before = server.cpu_ns()
    command = [str(word) for word in [*command, "--json", file]]
    others = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    abuser = None
    try:
        # The others are connected by then.
        time.sleep(CONNECTED_AFTER_S)
        abuser = Abuser(name, server.address, options.load_cpu) if name else None
        said = others.communicate(timeout=options.seconds + 60)[0]
    finally:
        others.kill()
        others.wait()
        if abuser:
            abuser.stop()
    if others.returncode != 0:
        raise CannotRun(f"ringhub load failed: {said[-2000:]}")
    server.check_alive()
    report = json.loads(file.read_text())
    answered = report["counts"]["answered"]
    figures = {
        "p50_us": report["latency"]["p50_us"],
        "p99_us": report["latency"]["p99_us"],
        "cpu_us": (server.cpu_ns() - before) / 1e3 / max(answered, 1),
        "rss_mb": server.rss_bytes() / 1e6,
    }
    return figures, [f"{count} of the others' calls: {what}" for what, count in report["failed"] if count]


def measure(fleet, options, folder):
    """All abusers; ({abuser: {calm or abused: [figures]}}, faults)."""
    raw = folder / "raw"
    raw.mkdir()
    samples, faults = {}, []
    for name in ABUSERS:
        server = fleet.start("ringhub", extra=(*LIMITS, "--log", "error"))
        for n in range(options.rounds):
            for state in ("calm", "abused") if n % 2 == 0 else ("abused", "calm"):
                figures, more = one_round(server, options, name if state == "abused" else None, raw / f"{name}-{state}-{n + 1}.json")
                samples.setdefault(name, {}).setdefault(state, []).append(figures)
                faults += [f"{name}, {state}, round {n + 1}: {fault}" for fault in more]
        fleet.stop(server)
        print(f"{name} done", file=sys.stderr, flush=True)
    return samples, faults


def ratio(rounds, figure):
    return statistics.median(abused[figure] / calm[figure] for abused, calm in zip(rounds["abused"], rounds["calm"]))


def table(samples):
    """What people read."""
    lines = [
        "| abuser | others' p99 us (without) | p99 to without | p50 us (without) | p50 to without | CPU us/call (without) | RSS MB, most | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, rounds in samples.items():
        middle = {state: {f: statistics.median(r[f] for r in rounds[state]) for f in FIGURES} for state in rounds}
        abused, calm = middle["abused"], middle["calm"]
        most = max(r["rss_mb"] for state in rounds.values() for r in state)
        verdict = "met" if ratio(rounds, "p99_us") <= P99_TO_CALM_MAX else "NOT MET"
        lines.append(
            f"| {name} | {abused['p99_us']:,.0f} ({calm['p99_us']:,.0f}) | {ratio(rounds, 'p99_us'):.2f} "
            f"| {abused['p50_us']:,.0f} ({calm['p50_us']:,.0f}) | {ratio(rounds, 'p50_us'):.2f} "
            f"| {abused['cpu_us']:.1f} ({calm['cpu_us']:.1f}) | {most:.1f} | {verdict} |"
        )
    return "\n".join(lines)


def note():
    return (
        f"Others call a tool {RATE} times a second over {CONNS} connections, open loop. `pipelining` sends {PIPELINED} requests in one piece again and again, "
        f"`deaf` sends and never reads, `connecting` opens {CONNECTED} connections, {CONNECTED_PER_S} a second, of which {LIMITS[1]} may stay, `dripping` is {DRIPPING} connections of one "
        f"byte a second each. At most {P99_TO_CALM_MAX} is wanted of p99 to without: the median of the rounds' ratios."
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    host, port = sys.argv[2].split(":")
    wanted = {"pipelining": pipelining, "deaf": deaf, "connecting": connecting, "dripping": dripping}[sys.argv[1]]
    wanted((host, int(port)), Request("tools_call", "modern").encode(sys.argv[2]))
