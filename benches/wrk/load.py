"""One measurement: wrk against one server, and the CPU the server took meanwhile."""

import json
import pathlib
import re
import subprocess
import time

from servers import CannotRun, pinned

HERE = pathlib.Path(__file__).resolve().parent
# How far the mean length of replies may lie from that of checked ones: a reply cut
# by the end of a run counts its bytes only.
LENGTH_TOLERANCE = 0.02


class Scenario:
    """One script, in one era, over a number of connections."""

    def __init__(self, script, era, conns):
        self.script, self.era, self.conns = script, era, conns
        self.name = f"{script}-{era}-c{conns}"

    @property
    def pipelined(self):
        return self.script == "pipelined"

    def kind(self):
        """The kind of request whose reply the bare loop gives; None where it is not one kind."""
        return {"pipelined": "tools_call", "mixed": None}.get(self.script, self.script)


def busy_ns(cpu):
    """Time `cpu` has been busy since boot, in ns (10 ms steps)."""
    with open("/proc/stat", encoding="ascii") as stat:
        line = re.search(rf"(?m)^cpu{cpu} (.*)$", stat.read())
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line[1].split()[:8])
    return (user + nice + system + irq + softirq + steal) * 10_000_000


def wrk(scenario, url, seconds, options, session, check, pause_ms=None):
    """Runs wrk once; returns its output. Scripts that know of pauses take them between requests."""
    command = ["wrk", "-t1", f"-c{scenario.conns}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    command += ["-s", str(HERE / f"{scenario.script}.lua"), url, "--", f"era={scenario.era}"]
    command += [f"check={check}"] + ([f"session={session}"] if session else [])
    command += [f"pause_ms={pause_ms}"] if pause_ms is not None else []
    done = subprocess.run(
        pinned(options.load_cpu, command), capture_output=True, text=True, timeout=seconds + 60, check=False
    )
    output = done.stdout + done.stderr
    if done.returncode != 0 or "\naccount {" not in output:
        raise CannotRun(f"wrk failed: {' '.join(command)}\n{output[-2000:]}")
    return output


def account(output):
    """The account that mcp.lua prints at the end, as a dict."""
    return json.loads(re.search(r"(?m)^account (\{.*\})$", output)[1])


def faults(found, reply_bytes):
    """What went wrong, as a list of sentences; empty when every reply was right."""
    said = [f"{n} {what} errors" for what, n in found["errors"].items() if n]
    if found["wrong"]:
        said.append(f"{found['wrong']} wrong replies")
    if not found["requests"]:
        said.append("no request was answered")
    elif reply_bytes is not None:
        mean = found["bytes"] / found["requests"]
        if abs(mean - reply_bytes) > LENGTH_TOLERANCE * reply_bytes:
            said.append(f"replies of {mean:.0f} bytes, where checked ones have {reply_bytes:.0f}")
    return said


def prove(scenario, server, options, session):
    """A short run in which every reply is looked at; returns (bytes per reply, faults, output)."""
    output = wrk(scenario, server.url, 1, options, session, "all")
    found = account(output)
    wrong = faults(found, None)
    if found["checked"] < found["requests"]:
        wrong.append("not every reply was checked")
    return found["bytes"] / max(found["requests"], 1), wrong, output


def measure(scenario, server, options, session, reply_bytes):
    """One run; returns (figures, faults, output)."""
    cpu = options.server_cpu
    started = time.monotonic()
    cpu_before, busy_before = server.cpu_ns(), busy_ns(cpu)
    output = wrk(scenario, server.url, options.seconds, options, session, options.check_replies)
    cpu_used, busy = server.cpu_ns() - cpu_before, busy_ns(cpu) - busy_before
    elapsed_ns = (time.monotonic() - started) * 1e9
    server.check_alive()
    found = account(output)
    latency = found["latency_us"]
    figures = {
        "requests_per_s": found["requests"] / (found["duration_us"] / 1e6),
        "cpu_us": cpu_used / 1e3 / max(found["requests"], 1),
        # wrk corrects latencies for requests it could not send in time, and takes each
        # reply of a batch for a round trip in doing so: of batches they mean nothing.
        "p50_us": None if scenario.pipelined else latency["p50"],
        "p99_us": None if scenario.pipelined else latency["p99"],
        "others_percent": max(0.0, 100 * (busy - cpu_used) / elapsed_ns),
    }
    return figures, faults(found, reply_bytes), output
