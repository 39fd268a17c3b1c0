"""Relays between a client and the same fast server: ringhub, nginx as a plain HTTP proxy, and one made with the official Rust SDK."""

import shutil
import socket
import subprocess
import time

import messages
import report
import servers
from load import Scenario
from servers import CannotRun

# What stands for the relay in figures; `ringhub_spin` looks for work for a while before it sleeps.
NAMES = ("ringhub", "ringhub_spin", "nginx", "rmcp_relay")
CONNS = (1, 64)
SPIN_US = 50
READY_S_MAX = 20
PORTS_TRIED = 5
# (scenario, figure, most allowed of nginx's), in either era.
FLOORS = (("relay_call-{}-c64", "cpu_us", 1.0), ("relay_call-{}-c1", "p50_us", 1.3))

NGINX_CONF = """
daemon off;
master_process off;
worker_processes 1;
error_log stderr warn;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    tcp_nodelay on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream back {{
        server {upstream};
        keepalive 128;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://back;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host {upstream};
            proxy_buffering {buffering};
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""

RINGHUB_CONF = """
[[upstream]]
name = "back"
url = "{url}"
era = "{era}"
names = "plain"

[[endpoint]]
path = "/mcp"
servers = ["back"]
"""


def nginx():
    """The nginx binary: the machine's, else that of Debian's package, unpacked under target and not installed."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found:
        return found
    folder = servers.TARGET / "peers/nginx"
    binary = folder / "usr/sbin/nginx"
    if not binary.exists() and shutil.which("apt-get"):
        folder.mkdir(parents=True, exist_ok=True)
        fetch = "apt-get download nginx || { apt-get update && apt-get download nginx; }"
        subprocess.run(f"({fetch}) >&2 && dpkg-deb -x nginx_*.deb .", shell=True, cwd=folder, timeout=300, check=False)
    if not binary.exists() or subprocess.run([binary, "-v"], capture_output=True, check=False).returncode != 0:
        raise CannotRun("nginx is missing; install it with: apt-get install nginx-light")
    return str(binary)


def addressed(address):
    return f"{address[0]}:{address[1]}"


class Relays:
    """The server behind, on the load's CPU, and the relays before it, each started when it is first asked for."""

    def __init__(self, options, fleet, folder):
        self.options, self.fleet, self.folder = options, fleet, folder
        self.back = fleet.start("ringhub", cpu=options.load_cpu)
        self.running, self.sessions = {}, {}

    def server(self, name, era):
        # nginx relays what it is given; the others speak to the server behind in one era.
        key = name, None if name == "nginx" else era
        if key not in self.running:
            self.running[key] = self._start(name, era)
        relay = self.running[key]
        if (name, era) not in self.sessions:
            self._await_ready(relay, era)
            self.sessions[name, era] = messages.open_session(relay.address) if era == "legacy" else None
        return relay

    def _start(self, name, era):
        if name == "nginx":
            return self._start_nginx()
        if name == "rmcp_relay":
            return self.fleet.start(name, extra=("--upstream", self.back.url, "--era", era))
        file = self.folder / f"ringhub.{era}.toml"
        file.write_text(RINGHUB_CONF.format(url=self.back.url, era=era))
        spin = ("--spin-us", str(SPIN_US)) if name == "ringhub_spin" else ()
        return self.fleet.start("ringhub", extra=("--config", str(file), *spin))

    def _start_nginx(self):
        folder = (self.folder / "nginx").resolve()
        folder.mkdir(exist_ok=True)
        # nginx cannot say which free port it took, so that it is given one that was free a moment ago.
        for attempt in range(PORTS_TRIED):
            with socket.create_server(("127.0.0.1", 0)) as free:
                address = addressed(free.getsockname())
            conf = NGINX_CONF.format(
                folder=folder, upstream=addressed(self.back.address), listen=address, buffering=self.options.nginx_buffering
            )
            (folder / "nginx.conf").write_text(conf)
            relay = self.fleet.launch("nginx", [nginx(), "-p", folder, "-c", folder / "nginx.conf"], url=f"http://{address}/mcp")
            try:
                self._await_ready(relay, self.options.eras[0])
                return relay
            except CannotRun:
                if attempt + 1 == PORTS_TRIED or "Address already in use" not in relay.said():
                    raise
                self.fleet.stop(relay)
        raise AssertionError("unreachable")

    @staticmethod
    def _await_ready(relay, era):
        """Waits until a call comes through: a relay may have to get to know the server behind first."""
        until = time.monotonic() + READY_S_MAX
        while True:
            relay.check_alive()
            try:
                return check(relay, era)
            except (messages.WrongReply, OSError) as e:
                if time.monotonic() > until:
                    raise CannotRun(f"{relay.name} does not relay: {e}; it said:\n{relay.said()[-2000:]}") from e
            time.sleep(0.1)


def check(relay, era):
    """One call through the relay, in a session where the era has them, then three in one piece: each with its answer."""
    session = messages.open_session(relay.address) if era == "legacy" else None
    request = messages.Request("tools_call", era)
    conn = messages.Conn(relay.address)
    try:
        data = request.encode(conn.host, session)
        replies = [conn.ask(data)]
        conn.sock.sendall(data * 3)
        replies += [conn.reply() for _ in range(3)]
    finally:
        conn.close()
    for reply in replies:
        request.check(reply)


def scenarios(options):
    for era in options.eras:
        for conns in options.conns:
            yield Scenario("relay_call", era, conns)


def measure(options, folder, scratch, one_round, progress):
    """All rounds of all scenarios; ({scenario: {relay: rounds}}, faults)."""
    samples, faults, lengths = {}, [], {}
    with servers.Fleet(options) as fleet:
        relays = Relays(options, fleet, scratch)
        for n in range(options.rounds):
            for scenario in scenarios(options):
                turn = n % len(options.only)
                for name in options.only[turn:] + options.only[:turn]:
                    relay = relays.server(name, scenario.era)
                    session = relays.sessions[name, scenario.era]
                    log = folder / "raw" / f"{scenario.name}.{name}.txt"
                    back_before, started = relays.back.cpu_ns(), time.monotonic()
                    key = (scenario.name, name)
                    figures, more = one_round(scenario, relay, options, session, lengths, log, key)
                    busy = (relays.back.cpu_ns() - back_before) / 1e7 / (time.monotonic() - started)
                    samples.setdefault(scenario.name, {}).setdefault(name, []).append(figures | {"back_percent": busy})
                    faults += [f"{scenario.name} {name}, round {n + 1}: {fault}" for fault in more]
            progress(n)
    return samples, faults


def summarise(samples):
    """Medians and ratios to nginx's, as {scenario: {relay: row}}."""
    summary = {}
    for scenario, relays in samples.items():
        summary[scenario] = {}
        for name, rounds in relays.items():
            row = {figure: report.median([r[figure] for r in rounds]) for figure in (*report.FIGURES, "back_percent")}
            row["cpu_us_least"], row["cpu_us_most"] = min(r["cpu_us"] for r in rounds), max(r["cpu_us"] for r in rounds)
            for figure in ("cpu_us", "p50_us"):
                row[f"{figure}_to_nginx"] = report.ratio(relays, name, "nginx", figure) if name != "nginx" else None
            row["rounds"] = rounds
            summary[scenario][name] = row
    return summary


def floors(samples):
    """[(sentence, value, limit)] for every floor whose relays were measured."""
    held = []
    for era in messages.ERAS:
        for pattern, figure, most in FLOORS:
            scenario = pattern.format(era)
            value = report.ratio(samples.get(scenario, {}), "ringhub", "nginx", figure)
            held.append((f"{scenario}: ringhub's {figure} to nginx's", value, most))
    return [floor for floor in held if floor[1] is not None]


def table(summary):
    """The summary as a Markdown table."""
    lines = [
        "| scenario | relay | calls/s | CPU us/call (least-most) | p50 us | p99 us | CPU to nginx | p50 to nginx | server behind busy |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    number = report.number
    for scenario, relays in summary.items():
        for name, row in relays.items():
            mark = " *" if row["others_percent"] > report.OTHERS_PERCENT_MAX else ""
            cells = [
                scenario,
                name,
                number(row["requests_per_s"], 0) + mark,
                f"{number(row['cpu_us'], 2)} ({number(row['cpu_us_least'], 2)}-{number(row['cpu_us_most'], 2)})",
                number(row["p50_us"], 0),
                number(row["p99_us"], 0),
                number(row["cpu_us_to_nginx"], 3),
                number(row["p50_us_to_nginx"], 2),
                f"{number(row['back_percent'], 0)} %",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def check_all(options, folder):
    """One call and a pipelined batch through each relay, in each era."""
    with servers.Fleet(options) as fleet:
        relays = Relays(options, fleet, folder)
        for name in NAMES:
            for era in options.eras:
                check(relays.server(name, era), era)
            print(f"{name} relays right", flush=True)
