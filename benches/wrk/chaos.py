"""Three servers behind one endpoint, one of which misbehaves: what that costs the calls of the other two.

The broken one is called all the time, at a fixed rate, in either case; what differs is whether it is well. Rounds with and without
follow one another, and the ratio of a mode is the median of its rounds' ratios.

Each round has two loads. `paced` leaves both CPUs idle most of the time, so that what the broken server does to the others shows in the time that
their answers take, and not what its own process takes from theirs on the CPU that they share here. `flat out` calls as fast as it is
answered: there everything costs somebody something, a server that is well as much as one that is not.
"""

import http.client
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import load
from load import Scenario
from servers import CannotRun, in_spare_time

HERE = pathlib.Path(__file__).resolve().parent
# In the first the server is well both times: what the others' ratios are to be held against.
MODES = ("well", "killed", "hung", "slow", "garbage", "long", "chunks", "event", "events", "mid")
# By name: connections, and milliseconds between an answer and the next call.
LOADS = {"paced": (16, 2), "flat out": (8, 0)}
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
    """The server that misbehaves, on the load's CPU, of which it has what the load and the good servers leave: on a machine of its own it would
    not take any from them, whatever it sends."""

    def __init__(self, cpu):
        command = in_spare_time(cpu, [sys.executable, "-B", str(HERE / "broken.py")])
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


def one_round(server, options, log, what, name):
    """The good servers' calls for a while, by a load of that name; figures and faults."""
    before = server.cpu_ns()
    conns, pause_ms = LOADS[name]
    output = load.wrk(Scenario("chaos", "modern", conns), server.url, options.seconds, options, None, "all", pause_ms)
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
    """All modes; ({load: {mode: {well or broken: [figures]}}}, faults)."""
    if options.load_cpu is not None:
        # The callers of the broken server are part of the load.
        os.sched_setaffinity(0, {options.load_cpu})
    modes = options.modes.split(",") if options.modes else MODES
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
            for mode in modes:
                pair = (("well", "well"), ("broken", mode))
                for key, state in pair if n % 2 == 0 else reversed(pair):
                    broken.become(state)
                    if state == "well":
                        wait_for(server.address, "broken.t", lambda said: said == "well")
                    else:
                        wait_for(server.address, "broken.t", lambda said: said != "well")
                    for name in options.loads:
                        log = raw / f"{mode}.{name.replace(' ', '-')}.txt"
                        figures, more = one_round(server, options, log, f"round {n + 1}, the third server is {state}", name)
                        rounds = samples.setdefault(name, {}).setdefault(mode, {})
                        rounds.setdefault(key, []).append(figures)
                        faults += [f"{mode}, {name}, {fault}" for fault in more]
                broken.become("well")
            print(f"round {n + 1} of {options.rounds} done", file=sys.stderr, flush=True)
        wait_for(server.address, "broken.t", lambda said: said == "well")
        callers.stop()
        faults += [f"a call of the broken server was told: {said}" for said in sorted(set(callers.strange))]
    finally:
        broken.stop()
    return samples, faults


def ratios(rounds, figure):
    return [broken[figure] / well[figure] for broken, well in zip(rounds["broken"], rounds["well"])]


def ratio(rounds, figure):
    return statistics.median(ratios(rounds, figure))


def spread(rounds, figure):
    return f"{min(ratios(rounds, figure)):.2f}-{max(ratios(rounds, figure)):.2f}"


def tables(samples):
    """What people read."""
    return "\n\n".join(f"### {name}\n\n{table(modes)}" for name, modes in samples.items())


def table(samples):
    """One load's; least and most of the rounds' ratios stand beside their median."""
    lines = [
        "| the third server is | p99 us (well) | p99 to well (least-most) | p50 us (well) | p50 to well | req/s to well | CPU us/req (well) | RSS MB, most | |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for mode, rounds in samples.items():
        middle = {state: {f: statistics.median(r[f] for r in rounds[state]) for f in FIGURES} for state in rounds}
        broken, well = middle["broken"], middle["well"]
        most = max(r["rss_mb"] for state in rounds.values() for r in state)
        verdict = "met" if ratio(rounds, "p99_us") <= P99_TO_WELL_MAX else "NOT MET"
        lines.append(
            f"| {mode} | {broken['p99_us']:,.0f} ({well['p99_us']:,.0f}) | {ratio(rounds, 'p99_us'):.2f} ({spread(rounds, 'p99_us')}) "
            f"| {broken['p50_us']:,.0f} ({well['p50_us']:,.0f}) | {ratio(rounds, 'p50_us'):.2f} "
            f"| {ratio(rounds, 'requests_per_s'):.2f} | {broken['cpu_us']:.1f} ({well['cpu_us']:.1f}) | {most:.1f} | {verdict} |"
        )
    return "\n".join(lines)


def note():
    loads = "; ".join(
        f"`{name}`, {conns} connections, each {f'{pause_ms} ms after it was answered' if pause_ms else 'as fast as it is answered'}"
        for name, (conns, pause_ms) in LOADS.items()
    )
    return (
        f"The echo tools of two servers are called in turn ({loads}); {CALLS_PER_S} calls a second go to the third in either case. "
        f"`long` is 10 GB with a Content-Length, `chunks` 10 GB without, `event` 10 GB in one event of a stream, `events` a stream of 10 GB of "
        f"progress that nobody asked for; `mid` closes in the midst of an event. "
        f"Where it is `well`, it is so in both rounds of each pair. At most {P99_TO_WELL_MAX} is wanted of p99 to well: the median of the rounds' ratios."
    )
