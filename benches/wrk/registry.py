"""The registry over HTTP: the original's workloads on the control API, with preloaded names."""

import http.client
import json
import pathlib
import re
import subprocess
import tempfile

import load
from servers import CannotRun, pinned

HERE = pathlib.Path(__file__).resolve().parent
NAMES = 10_000
TASKS = 100
TOKEN = "benches-registry-token-0123456789abcdef"
WORKS = ("lookups", "mixed", "register")


def token_file(folder):
    """A file with the token, as `--admin-token-file` wants it."""
    file = pathlib.Path(folder) / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


def admin(server):
    """Host and port of the control API."""
    found = re.search(r"admin\s+http://([^:/]+):(\d+)/", server.said())
    if found is None:
        raise CannotRun("ringhub did not say where its admin port is")
    return found[1], int(found[2])


def preload(address, count):
    """Registers `count` servers and as many endpoints that show one of them each."""
    conn = http.client.HTTPConnection(*address, timeout=20)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    for n in range(1, count + 1):
        server = {"name": f"server_{n}", "target": "http://x/"}
        endpoint = {"path": f"/mcp/transport_{n}", "servers": [f"server_{n % count + 1}"]}
        for path, body in (("/v1/servers", server), ("/v1/endpoints", endpoint)):
            conn.request("POST", path, json.dumps(body), headers)
            reply = conn.getresponse()
            text = reply.read()
            if reply.status != 201:
                raise CannotRun(f"{path} {body}: {reply.status} {text[:300]!r}")
    conn.close()


def work(server, address, name, options):
    """One workload; its figures, and what went wrong in it."""
    command = ["wrk", "-t1", f"-c{TASKS}", f"-d{options.seconds}s", "--latency", "--timeout", "10s"]
    command += ["-s", str(HERE / "registry.lua"), f"http://{address[0]}:{address[1]}/", "--"]
    command += [f"work={name}", f"token={TOKEN}", f"servers={NAMES}"]
    before = server.cpu_ns()
    done = subprocess.run(
        pinned(options.load_cpu, command), capture_output=True, text=True, timeout=options.seconds + 60, check=False
    )
    cpu = server.cpu_ns() - before
    if done.returncode != 0 or "\naccount {" not in done.stdout:
        raise CannotRun(f"wrk failed: {' '.join(command[:8])}\n{(done.stdout + done.stderr)[-2000:]}")
    found = load.account(done.stdout)
    faults = [f"{name}: {n} {what} errors" for what, n in found["errors"].items() if n]
    if found["wrong"]:
        faults.append(f"{name}: {found['wrong']} wrong replies; {done.stdout.splitlines()[-1][:200]}")
    seconds = found["duration_us"] / 1e6
    return {
        "work": name,
        "requests_per_s": found["requests"] / seconds,
        "cpu_us": cpu / 1e3 / max(found["requests"], 1),
        "p50_us": found["latency_us"]["p50"],
        "p99_us": found["latency_us"]["p99"],
    }, faults


def measure(fleet, options):
    """All workloads on one server; (rows, faults)."""
    with tempfile.TemporaryDirectory() as folder:
        server = fleet.start("ringhub", extra=("--admin-token-file", str(token_file(folder))))
        address = admin(server)
        preload(address, NAMES)
        rows, faults = [], []
        for name in WORKS:
            row, more = work(server, address, name, options)
            rows.append(row)
            faults += more
        fleet.stop(server)
    return rows, faults


def table(rows):
    """The rows as people read them."""
    lines = ["| work | req/s | CPU us/req | p50 us | p99 us |", "|---|---:|---:|---:|---:|"]
    for row in rows:
        lines.append(
            f"| {row['work']} | {row['requests_per_s']:,.0f} | {row['cpu_us']:.2f} | {row['p50_us']:,} | {row['p99_us']:,} |"
        )
    return "\n".join(lines)
