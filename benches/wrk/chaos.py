"""Three servers behind one endpoint, one of which misbehaves: what that costs the calls of the other two.

The broken one is called all the time, at a fixed rate, in either case; what differs is whether it is well. Rounds with and without
follow one another, and the ratio of a mode is the median of its rounds' ratios.
"""

import http.client
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import load
from load import Scenario
from servers import CannotRun, pinned

HERE = pathlib.Path(__file__).resolve().parent
MODES = ("killed", "hung", "slow", "garbage", "long", "mid")
CONNS = 8
# Calls of the broken server in each second.
CALLS_PER_S = 20
CALLERS = 40
P99_TO_WELL_MAX = 1.2
RECOVER_S_MAX = 40
FIGURES = ("requests_per_s", "cpu_us", "p50_us", "p99_us")

CONFIG = """
[[upstream]]
name = "one"
url = "{one}"
[[upstream]]
name = "two"
url = "{two}"
[[upstream]]
name = "broken"
url = "{broken}"
connect_timeout = 1
first_byte_timeout = 1
total_timeout = 2
[[endpoint]]
path = "/mcp"
servers = ["one", "broken", "two"]
"""


class Broken:
    """The server that misbehaves, on the load's CPU."""

    def __init__(self, cpu):
        command = pinned(cpu, [sys.executable, "-B", str(HERE / "broken.py")])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def become(self, mode):
        self.process.stdin.write(mode + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != f"is {mode}":
            raise CannotRun("broken.py does not do as it is told")

    def stop(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def call(address, tool):
    """One call; the text it is answered, or the error's message."""
    meta = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"hello"}},{meta}}}}}'
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    conn = http.client.HTTPConnection(*address, timeout=20)
    try:
        conn.request("POST", "/mcp", body, headers)
        reply = conn.getresponse()
        text = reply.read()
    finally:
        conn.close()
    if reply.status != 200:
        return f"HTTP {reply.status}"
    message = json.loads(text)
    return message["error"]["message"] if "error" in message else message["result"]["content"][0]["text"]


class Callers:
    """Call the broken server at a fixed rate, and see that every answer is one or names it."""

    def __init__(self, address):
        self.address, self.is_over, self.strange, self.answers = address, False, [], 0
        self.next, self.lock = time.monotonic(), threading.Lock()
        self.threads = [threading.Thread(target=self.work, daemon=True) for _ in range(CALLERS)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while not self.is_over:
            with self.lock:
                self.next = max(self.next + 1 / CALLS_PER_S, time.monotonic() - 1)
                at = self.next
            time.sleep(max(at - time.monotonic(), 0))
            try:
                said = call(self.address, "broken.t")
            except OSError as e:
                said = repr(e)
            self.answers += 1
            if said != "well" and "The server broken " not in said:
                self.strange.append(said)

    def stop(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()


def wait_for(address, tool, is_it):
    until = time.monotonic() + RECOVER_S_MAX
    while not is_it(said := call(address, tool)):
        if time.monotonic() > until:
            raise CannotRun(f"{tool} says after {RECOVER_S_MAX} s: {said}")
        time.sleep(0.05)


def one_round(server, options, log, what):
    """The good servers' calls for a while; figures and faults."""
    before = server.cpu_ns()
    output = load.wrk(Scenario("chaos", "modern", CONNS), server.url, options.seconds, options, None, "all")
    cpu = server.cpu_ns() - before
    with log.open("a") as out:
        out.write(f"=== {what}\n{output}")
    found = load.account(output)
    figures = {
        "requests_per_s": found["requests"] / (found["duration_us"] / 1e6),
        "cpu_us": cpu / 1e3 / max(found["requests"], 1),
        "p50_us": found["latency_us"]["p50"],
        "p99_us": found["latency_us"]["p99"],
        "rss_mb": server.rss_bytes() / 1e6,
    }
    return figures, [f"{what}: {fault}" for fault in load.faults(found, None)]


def measure(fleet, options, folder):
    """All modes; ({mode: {well or broken: [figures]}}, faults)."""
    raw = folder / "raw"
    raw.mkdir()
    samples, faults = {}, []
    good = [fleet.start("ringhub", extra=("--era", "modern"), cpu=options.load_cpu) for _ in range(2)]
    broken = Broken(options.load_cpu)
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            config.write(CONFIG.format(one=good[0].url, two=good[1].url, broken=broken.url))
            config.flush()
            server = fleet.start("ringhub", extra=("--config", config.name, "--log", "error"))
        for tool in ("one.echo", "two.echo", "broken.t"):
            wait_for(server.address, tool, lambda said: said in ("hello", "well"))
        callers = Callers(server.address)
        for n in range(options.rounds):
            for mode in MODES:
                pair = ("well", mode) if n % 2 == 0 else (mode, "well")
                for state in pair:
                    broken.become(state)
                    if state == "well":
                        wait_for(server.address, "broken.t", lambda said: said == "well")
                    else:
                        wait_for(server.address, "broken.t", lambda said: said != "well")
                    log = raw / f"{mode}.txt"
                    figures, more = one_round(server, options, log, f"round {n + 1}, the third server is {state}")
                    samples.setdefault(mode, {}).setdefault("well" if state == "well" else "broken", []).append(figures)
                    faults += [f"{mode}, {fault}" for fault in more]
                broken.become("well")
            print(f"round {n + 1} of {options.rounds} done", file=sys.stderr, flush=True)
        wait_for(server.address, "broken.t", lambda said: said == "well")
        callers.stop()
        faults += [f"a call of the broken server was told: {said}" for said in sorted(set(callers.strange))]
    finally:
        broken.stop()
    return samples, faults


def ratio(rounds, figure):
    pairs = zip(rounds["broken"], rounds["well"])
    return statistics.median(broken[figure] / well[figure] for broken, well in pairs)


def table(samples):
    """What people read."""
    lines = [
        "| the third server is | p99 us (well) | p99 to well | p50 us (well) | p50 to well | req/s to well | CPU us/req (well) | RSS MB, most | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for mode, rounds in samples.items():
        middle = {state: {f: statistics.median(r[f] for r in rounds[state]) for f in FIGURES} for state in rounds}
        broken, well = middle["broken"], middle["well"]
        most = max(r["rss_mb"] for state in rounds.values() for r in state)
        verdict = "met" if ratio(rounds, "p99_us") <= P99_TO_WELL_MAX else "NOT MET"
        lines.append(
            f"| {mode} | {broken['p99_us']:,.0f} ({well['p99_us']:,.0f}) | {ratio(rounds, 'p99_us'):.2f} "
            f"| {broken['p50_us']:,.0f} ({well['p50_us']:,.0f}) | {ratio(rounds, 'p50_us'):.2f} "
            f"| {ratio(rounds, 'requests_per_s'):.2f} | {broken['cpu_us']:.1f} ({well['cpu_us']:.1f}) | {most:.1f} | {verdict} |"
        )
    return "\n".join(lines)


def note():
    return (
        f"{CONNS} connections call the echo tools of two servers in turn, as fast as they are answered; {CALLS_PER_S} calls a second go to the third "
        f"in either case. `long` is 10 GB with a Content-Length, `mid` closes in the midst of an event. "
        f"At most {P99_TO_WELL_MAX} is wanted of p99 to well: the median of the rounds' ratios."
    )
