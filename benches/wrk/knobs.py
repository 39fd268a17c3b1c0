#!/usr/bin/env python3
"""What the kernel's knobs do to ringhub: each is set to several values, in turn, in a network namespace of its own.

    benches/wrk/knobs.py [--ringhub BINARY] [--rounds N] [--quick] [--add-to FOLDER] [KNOB...]      as root; only the namespaces are changed

Server on the first CPU, load on the second. Writes benches/runs/DATE-MACHINE-knobs; --quick writes below target/bench-runs, and --add-to
measures knobs for a run that is there already, in place of what it has of them. Needs wrk, iproute2 and util-linux; builds ringhub unless
it is told which binary to take.
"""

import argparse
import errno
import json
import os
import pathlib
import re
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import time

import host
from idle import raise_file_limit
from messages import Conn, Request
from servers import ROOT, CannotRun, Fleet, Server, build

SERVER_CPU, LOAD_CPU = 0, 1
WIDE = "10240 65535"
SCRIPT = ROOT / "benches/wrk/tools_call.lua"
CACHES = ("TCP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "tw_sock_TCP", "request_sock_TCP")


# Of linux/in.h; the module socket of Python 3.11 does not name it.
IP_BIND_ADDRESS_NO_PORT = 24


def connect(address, source, chooses_late=True):
    """A connection from the address `source`. With `chooses_late` its port is chosen when it is known whereto, as a client should."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, int(chooses_late))
        sock.bind((source, 0))
        sock.connect(address)
        return sock
    except OSError:
        sock.close()
        raise


def netstat():
    """Counters of TcpExt in this namespace."""
    lines = [line.split() for line in pathlib.Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return dict(zip(lines[0][1:], map(int, lines[1][1:])))


def sockstat():
    """Sockets in use, in TIME_WAIT, and pages of their buffers: the pages are those of the whole host."""
    found = re.search(r"TCP: inuse (\d+) orphan \d+ tw (\d+) alloc \d+ mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text())
    return dict(zip(("inuse", "time_wait", "pages"), map(int, found.groups())))


def slab():
    """Bytes of the kernel's caches that a connection has a part in, and of all of them."""
    sizes = {}
    for line in pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]:
        words = line.split()
        sizes[words[0]] = int(words[1]) * int(words[3])
    return {name: sizes.get(name, 0) for name in CACHES} | {"all": sum(sizes.values())}


def threads_cpu_us(server):
    return server.cpu_ns() / 1000


class Inside:
    """The experiments. Each runs in a namespace whose knobs are set, and returns figures."""

    def __init__(self, options, what):
        self.options, self.what = options, what
        self.fleet = Fleet(argparse.Namespace(server_cpu=SERVER_CPU, ringhub=options.ringhub, ringhub_args="", profile="release"))

    def serve(self, *extra, cpu=SERVER_CPU, prefix=(), cores=1):
        command = [*prefix, str(self.options.ringhub), "serve", "--listen", "127.0.0.1:0", "--admin", "off", "--cores", str(cores), *extra]
        server = Server("ringhub", command, cpu)
        self.fleet.running.append(server)
        return server

    def burst(self):
        """Connects all at once; each sends a request when it is connected. The server may be stopped meanwhile, as one that is busy is."""
        count, stopped_s = self.what["count"], self.what.get("stopped_s", 0)
        raise_file_limit(count + 100)
        server = self.serve()
        request = Request("tools_call", "modern").encode(f"{server.address[0]}:{server.address[1]}")
        Conn(server.address).ask(request)
        before = netstat()
        poll = select.epoll()
        if stopped_s:
            server.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        socks, sent, took = {}, set(), []
        for i in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if (code := sock.connect_ex(server.address)) not in (0, errno.EINPROGRESS):
                raise CannotRun(f"connect: {os.strerror(code)}")
            socks[sock.fileno()] = sock
            poll.register(sock.fileno(), select.EPOLLOUT)
        called_s = time.monotonic() - start
        if stopped_s:
            time.sleep(max(0.0, start + stopped_s - time.monotonic()))
            server.process.send_signal(signal.SIGCONT)
        failed, until = 0, start + 60
        while len(took) + failed < count and time.monotonic() < until:
            for fd, events in poll.poll(1, 1024):
                sock = socks[fd]
                try:
                    if fd not in sent:
                        sent.add(fd)
                        sock.sendall(request)
                        poll.modify(fd, select.EPOLLIN)
                    elif sock.recv(4096).startswith(b"HTTP/1.1 200"):
                        took.append(time.monotonic() - start)
                        poll.unregister(fd)
                    else:
                        raise ConnectionError
                except OSError:
                    failed += 1
                    poll.unregister(fd)
        after = netstat()
        took.sort()
        at = lambda part: took[min(len(took) - 1, int(len(took) * part))] if took else 0.0
        told = ("ListenOverflows", "ListenDrops", "TCPReqQFullDrop", "TCPReqQFullDoCookies", "TCPTimeouts", "TCPBacklogDrop")
        return {"answered": len(took), "failed": failed, "called_s": called_s, "p50_s": at(0.5), "p99_s": at(0.99), "last_s": at(1),
                "per_s": len(took) / at(1) if took else 0} | {name: after.get(name, 0) - before.get(name, 0) for name in told}

    def ports(self):
        """How many connections from `sources` addresses stand towards one address until there is no port left."""
        raise_file_limit(self.what["count"] + 100)
        servers = [self.serve() for _ in range(self.what.get("servers", 1))]
        held, start, refused = [], time.monotonic(), 0
        for server, source in [(server, source) for server in servers for source in range(self.what["sources"])]:
            for _ in range(self.what["count"] - len(held)):
                try:
                    held.append(connect(server.address, f"127.0.0.{2 + source}", self.what.get("chooses_late", True)))
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
                        raise
                    refused += 1
                    break
        return {"held": len(held), "no_port": refused, "us_each": (time.monotonic() - start) / len(held) * 1e6}

    def reconnect(self):
        """A connection for each request, from one address, closed by the client: how many in so many seconds."""
        server = self.serve()
        request = Request("tools_call", "modern").encode(f"{server.address[0]}:{server.address[1]}")
        start = time.monotonic()
        done = no_port = 0
        while time.monotonic() < start + self.what["seconds"]:
            sock = socket.socket()
            try:
                sock.connect(server.address)
                sock.sendall(request)
                if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
                    raise CannotRun("a wrong answer")
                done += 1
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                no_port += 1
                time.sleep(0.001)
            sock.close()
        return {"per_s": done / self.what["seconds"], "no_port": no_port, "time_wait": sockstat()["time_wait"]}

    def hold(self):
        """Connections that have had one answer each and stand idle: memory of the kernel and of the process."""
        servers, each = self.what.get("servers", 1), self.what["count"]
        raise_file_limit(min(20_000, each + 100))
        fleet = [self.serve() for _ in range(servers)]
        before, memory, rss = slab(), sockstat()["pages"], sum(server.rss_bytes() for server in fleet)
        start = time.monotonic()
        pipes = [os.pipe() for _ in fleet]
        go, children = os.pipe(), []
        # Each process may have only so many files: one holds the connections of one server.
        for number, ((_, said), server) in enumerate(zip(pipes, fleet)):
            child = os.fork()
            if child == 0:
                try:
                    os.close(go[1])
                    request = Request("tools_call", "modern").encode(f"{server.address[0]}:{server.address[1]}")
                    held = []
                    for _ in range(each):
                        sock = connect(server.address, f"127.0.0.{2 + number}")
                        sock.sendall(request)
                        if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
                            raise CannotRun("a wrong answer")
                        held.append(sock)
                    os.write(said, b"+")
                    os.read(go[0], 1)
                    os._exit(0)
                except BaseException as error:
                    print(error, file=sys.stderr, flush=True)
                    os._exit(1)
            os.close(said)
            children.append(child)
        held = all(os.read(said, 1) == b"+" for said, _ in pipes)
        took = time.monotonic() - start
        time.sleep(2)
        during, rss_during = slab(), sum(server.rss_bytes() for server in fleet)
        pages, files = sockstat(), pathlib.Path("/proc/sys/fs/file-nr").read_text().split()[0]
        os.close(go[0])
        os.close(go[1])
        for child in children:
            os.waitpid(child, 0)
        if not held:
            raise CannotRun("not every connection could be opened")
        count = each * servers
        return {"held": count, "seconds": took, "rss_each": (rss_during - rss) / count, "sockets": pages["inuse"], "files": int(files),
                "buffer_bytes_each": (pages["pages"] - memory) * 4096 / count,
                "slab_each": {name: round((during[name] - before[name]) / count) for name in during}}

    def deaf(self):
        """Clients that ask on and on, and never read."""
        server = self.serve()
        before, rss = sockstat()["pages"], server.rss_bytes()
        request = Request("tools_list", "modern").encode(f"{server.address[0]}:{server.address[1]}")
        conns = [socket.create_connection(server.address) for _ in range(self.what["count"])]
        for conn in conns:
            conn.setblocking(False)
        until = time.monotonic() + self.what["seconds"]
        batch = request * 64
        rest = {conn: b"" for conn in conns}
        while time.monotonic() < until:
            quiet = True
            for conn in conns:
                try:
                    data = rest[conn] or batch
                    rest[conn] = data[conn.send(data):]
                    quiet = False
                except BlockingIOError:
                    pass
            if quiet:
                time.sleep(0.05)
        taken = {"buffers_each": (sockstat()["pages"] - before) * 4096 / len(conns), "rss_each": (server.rss_bytes() - rss) / len(conns)}
        text = subprocess.run(["ss", "-tmnH", "sport", "=", str(server.address[1])], capture_output=True, text=True, check=True).stdout
        for letter, name in (("t", "being_sent"), ("w", "send_queue"), ("r", "receive_queue")):
            found = [int(n) for n in re.findall(rf"[(,]{letter}(\d+)", text)]
            taken[f"server_{name}_each"] = sum(found) / max(1, len(conns))
        return taken

    def load(self):
        """wrk with some connections: CPU of the server for each request, p50, p99."""
        server = self.serve(*self.what.get("flags", ()), cpu=self.what.get("cpu", SERVER_CPU), prefix=self.what.get("prefix", ()))
        rivals = []
        for cpu in self.what.get("rivals", ()):
            rivals.append(subprocess.Popen(["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"]))
        seconds, connections = self.what["seconds"], self.what.get("connections", 64)
        wrk = ["taskset", "-c", self.what.get("load_cpus", str(LOAD_CPU)), "wrk", "-t1", f"-c{connections}", "--latency"]
        ask = lambda s: subprocess.run([*wrk, f"-d{s}s", "-s", str(SCRIPT), server.url, "--", "era=modern", "check=sample"],
                                       capture_output=True, text=True, check=True).stdout
        try:
            ask(1)
            cpu, start = threads_cpu_us(server), time.monotonic()
            text = ask(seconds)
            used, took = threads_cpu_us(server) - cpu, time.monotonic() - start
        finally:
            for rival in rivals:
                rival.kill()
                rival.wait()
        requests = int(re.search(r"(\d+) requests in", text)[1])
        quantile = lambda part: re.search(rf"{part}%\s+([\d.]+)(us|ms|s)", text)
        us = lambda found: float(found[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[found[2]]
        if re.search("Socket errors|Non-2xx", text):
            raise CannotRun(text)
        return {"per_s": requests / seconds, "cpu_us": used / requests, "busy": used / took / 1e6, "p50_us": us(quantile(50)), "p99_us": us(quantile(99))}

    def bodies(self):
        """Messages of a megabyte, echoed: how many a second over one connection."""
        server = self.serve()
        text = "x" * self.what["bytes"]
        request = Request("tools_call", "modern")
        body = re.sub(r'"message":"[^"]*"', f'"message":"{text}"', request.body)
        lines = ["POST /mcp HTTP/1.1", f"Host: {server.address[0]}:{server.address[1]}", *request.head.split("\n"), f"Content-Length: {len(body)}"]
        data = ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
        sock = socket.create_connection(server.address)
        done, start, buffer = 0, time.monotonic(), bytearray(1 << 20)
        while time.monotonic() < start + self.what["seconds"]:
            sock.sendall(data)
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(65536)
            length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])
            left = length - (len(head) - head.index(b"\r\n\r\n") - 4)
            if not head.startswith(b"HTTP/1.1 200") or length < len(text):
                raise CannotRun(f"a wrong answer: {head[:200]!r}")
            while left > 0:
                left -= sock.recv_into(buffer)
            done += 1
        return {"per_s": done / (time.monotonic() - start), "cpu_us": threads_cpu_us(server) / done}

    def memory(self):
        """What is locked and what huge pages there are, with so many cores."""
        prefix = [word for name, value in self.what.get("environment", {}).items() for word in ("env", f"{name}={value}")]
        prefix += ["prlimit", f"--memlock={self.what.get('memlock', 8 << 20)}"]
        try:
            server = self.serve("--no-pin", cores=self.what["cores"], cpu=None, prefix=prefix)
        except CannotRun as error:
            return {"starts": False, "says": re.sub(r"\s+", " ", str(error)).partition("it said:")[2][-300:]}
        status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
        rollup = pathlib.Path(f"/proc/{server.process.pid}/smaps_rollup").read_text()
        kb = lambda name, text: int(found[1]) if (found := re.search(rf"{name}:\s+(\d+)", text)) else None
        return {"starts": True, "locked_kb": kb("VmLck", status), "pinned_kb": kb("VmPin", status), "rss_kb": kb("VmRSS", status),
                "threads": kb("Threads", status), "files": len(os.listdir(f"/proc/{server.process.pid}/fd")),
                "huge_pages_allowed": kb("THP_enabled", status), "huge_kb": kb("AnonHugePages", rollup)}


def buffers(rmem, wmem):
    return {"net.ipv4.tcp_rmem": rmem, "net.ipv4.tcp_wmem": wmem}


def experiments(quick):
    """knob -> (experiment, common parameters, {value: (sysctls, further parameters)}, further set-up)"""
    seconds = 1 if quick else 3
    burst = 1000 if quick else 10_000
    hold = 500 if quick else 14_000
    kernel, small, large = ("4096 131072 6291456", "4096 16384 4194304"), ("4096 16384 1048576", "4096 16384 1048576"), ("4096 1048576 33554432", "4096 1048576 16777216")
    depth = {str(n): ({"net.core.somaxconn": n, "net.ipv4.tcp_max_syn_backlog": 65535, "net.ipv4.ip_local_port_range": WIDE}, {}) for n in (128, 1024, 4096, 16384)}
    syn = {f"{n}, cookies {c}": ({"net.core.somaxconn": 16384, "net.ipv4.tcp_max_syn_backlog": n, "net.ipv4.tcp_syncookies": c, "net.ipv4.ip_local_port_range": WIDE}, {})
           for n, c in ((128, 1), (128, 0), (16384, 1))}
    each = {"the kernel's": (buffers(*kernel), {}), "small": (buffers(*small), {}), "large": (buffers(*large), {})}
    limits = {f"at most {n >> 10} KB": (buffers(f"4096 131072 {max(n, 131072)}", f"4096 16384 {n}"), {}) for n in (262_144, 1_048_576, 4_194_304, 16_777_216)}
    return {
        "somaxconn": ("burst", {"count": burst}, depth),
        "somaxconn-stopped": ("burst", {"count": burst, "stopped_s": 0.5}, depth),
        "tcp_max_syn_backlog": ("burst", {"count": burst, "stopped_s": 0.5}, syn),
        "ip_local_port_range": ("ports", {"count": burst}, {
            "4,000 ports, 1 source": ({"net.ipv4.ip_local_port_range": "32768 36767"}, {"sources": 1}),
            "4,000 ports, 3 sources": ({"net.ipv4.ip_local_port_range": "32768 36767"}, {"sources": 3}),
            "4,000 ports, 1 source, 2 servers": ({"net.ipv4.ip_local_port_range": "32768 36767"}, {"sources": 1, "servers": 2}),
            "the same without IP_BIND_ADDRESS_NO_PORT": ({"net.ipv4.ip_local_port_range": "32768 36767"}, {"sources": 1, "servers": 2, "chooses_late": False}),
            "28,232 ports (the kernel's), 1 source": ({"net.ipv4.ip_local_port_range": "32768 60999"}, {"sources": 1}),
            "55,296 ports, 1 source": ({"net.ipv4.ip_local_port_range": WIDE}, {"sources": 1}),
        }),
        "tcp_tw_reuse": ("reconnect", {"seconds": 2 if quick else 8}, {
            f"{reuse}, {name}": ({"net.ipv4.tcp_tw_reuse": reuse, "net.ipv4.ip_local_port_range": ports}, {})
            for reuse, name, ports in (*((reuse, "4,000 ports", "32768 36767") for reuse in (0, 2, 1)), *((reuse, "28,232 ports", "32768 60999") for reuse in (0, 1)))
        }),
        "tcp_mem-idle": ("hold", {"count": hold}, each),
        "tcp_mem-deaf": ("deaf", {"count": 100, "seconds": seconds}, limits),
        "tcp_mem-bodies": ("bodies", {"bytes": 1_000_000, "seconds": seconds}, each | limits),
        "tcp_mem-load": ("load", {"seconds": seconds}, each),
        "congestion": ("load", {"seconds": seconds}, {name: ({}, {"congestion": name}) for name in ("bbr", "reno", "cubic")}),
        "rps": ("load", {"seconds": seconds}, {"off": ({}, {}), "to the server's CPU": ({}, {"rps": "1"}), "to the load's CPU": ({}, {"rps": "2"})}),
        "placement": ("load", {"seconds": seconds}, {
            "pinned": ({}, {}),
            "free": ({}, {"flags": ["--no-pin"], "cpu": None, "load_cpus": "0,1"}),
            "pinned, a busy process on its CPU": ({}, {"rivals": [0]}),
            "the same, nice -10": ({}, {"rivals": [0], "prefix": ["nice", "-n", "-10"]}),
        }),
        "spin": ("load", {"seconds": seconds, "connections": 1}, {f"--spin-us {n}": ({}, {"flags": ["--spin-us", str(n)]}) for n in (0, 20, 50, 200)}),
        "spin-64": ("load", {"seconds": seconds}, {f"--spin-us {n}": ({}, {"flags": ["--spin-us", str(n)]}) for n in (0, 50)}),
        "io_uring": ("load", {"seconds": seconds}, {mode: ({}, {"flags": ["--io-uring", mode]}) for mode in ("auto", "5.8")}),
        "memlock": ("memory", {}, {f"{kb} KB, {cores} cores": ({}, {"memlock": kb << 10, "cores": cores}) for kb, cores in ((64, 1), (512, 1), (512, 8), (8192, 8))}),
        "huge-pages": ("memory", {"cores": 2}, {"the kernel's": ({}, {}), "MIMALLOC_ALLOW_THP=0": ({}, {"environment": {"MIMALLOC_ALLOW_THP": 0}})}),
        "hundred-k": ("hold", {"count": 200 if quick else 14_300, "servers": 2 if quick else 7}, {"the kernel's": ({"net.ipv4.ip_local_port_range": WIDE} | buffers(*kernel), {})}),
    }


# What is measured once: it takes long, or does not vary.
ONCE = ("memlock", "huge-pages", "hundred-k", "tcp_mem-idle", "ip_local_port_range")


def inside(argument):
    """Runs one experiment in this namespace, which nobody else is in."""
    options = argparse.Namespace(**json.loads(argument))
    options.ringhub = pathlib.Path(options.ringhub)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in options.sysctls.items():
        pathlib.Path("/proc/sys", name.replace(".", "/")).write_text(str(value))
    if name := options.what.get("congestion"):
        # Of a route, since a namespace may not choose every algorithm as its default.
        route = ["ip", "route", "change", "table", "local", "local", "127.0.0.0/8", "dev", "lo", "proto", "kernel", "scope", "host", "src", "127.0.0.1"]
        subprocess.run([*route, "congctl", name], check=True)
        subprocess.run(["ip", "route", "change", "table", "local", "local", "127.0.0.1", *route[7:], "congctl", name], check=True)
    if mask := options.what.get("rps"):
        subprocess.run(["mount", "-t", "sysfs", "none", "/sys"], check=True)
        pathlib.Path("/sys/class/net/lo/queues/rx-0/rps_cpus").write_text(mask)
    os.sched_setaffinity(0, {LOAD_CPU} if options.experiment != "memory" else {SERVER_CPU, LOAD_CPU})
    experiment = Inside(options, options.what)
    with experiment.fleet:
        print(json.dumps(getattr(experiment, options.experiment)()))


def measure(options, knob, value):
    name, common, values = options.experiments[knob]
    sysctls, further = values[value]
    argument = json.dumps({"experiment": name, "sysctls": sysctls, "what": common | further, "ringhub": str(options.ringhub)})
    done = subprocess.run(["unshare", "--net", "--mount", sys.executable, __file__, "--inside", argument], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRun(f"{knob}, {value}: {done.stderr.strip()[-800:]}")
    return json.loads(done.stdout)


def median(rounds, key):
    found = [one[key] for one in rounds]
    if all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in found):
        return statistics.median(found)
    return found[len(found) // 2]


def shown(value):
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:,}" for name, number in value.items() if number)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def summary(options, figures, facts):
    lines = [f"# {options.folder.name}", "", *(f"- {name}: {value}" for name, value in facts.items()), ""]
    lines += ["Each value in a network namespace of its own, the values of a knob in turn; medians of the rounds.", ""]
    for knob, values in figures.items():
        name, common, variants = options.experiments[knob]
        rounds = len(next(iter(values.values())))
        lines += [f"## {knob}", "", f"`{name}`, {', '.join(f'{key} {shown(value)}' for key, value in common.items()) or 'as it is'}; {rounds} rounds.", ""]
        keys = list(dict.fromkeys(key for rounds_of in values.values() for one in rounds_of for key in one))
        lines += ["| value | " + " | ".join(keys) + " |", "|---|" + "---:|" * len(keys)]
        for value, rounds_of in values.items():
            cells = [shown(median(rounds_of, key)) if all(key in one for one in rounds_of) else "" for key in keys]
            lines.append(f"| {value} | " + " | ".join(cells) + " |")
        lines += ["", "Set: " + "; ".join(f"{value}: {' '.join(f'{k}={v}' for k, v in variants[value][0].items()) or 'nothing'}" for value in values) + ".", ""]
    return "\n".join(lines)


def main():
    if sys.argv[1:2] == ["--inside"]:
        return inside(sys.argv[2])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("knobs", nargs="*", metavar="KNOB")
    parser.add_argument("--ringhub", type=pathlib.Path, help="another binary than that of this commit")
    parser.add_argument("--ringhub-commit", help="what that one was built from")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--machine", default=host.default_machine())
    parser.add_argument("--add-to", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="print the knobs and end")
    options = parser.parse_args()
    options.experiments = experiments(options.quick)
    if options.list:
        return print("\n".join(options.experiments))
    if unknown := set(options.knobs) - set(options.experiments):
        parser.error(f"there is no knob {', '.join(unknown)}: see --list")
    if os.geteuid() != 0:
        parser.error("a network namespace takes root: run it with sudo")
    facts_of = argparse.Namespace(machine=options.machine, server_cpu=SERVER_CPU, load_cpu=LOAD_CPU, ringhub=options.ringhub, ringhub_args="")
    if options.ringhub is None:
        build(["ringhub"], "release")
        options.ringhub = ROOT / "target/release/ringhub"
    options.ringhub = options.ringhub.resolve()
    facts = host.describe(facts_of)
    if options.ringhub_commit:
        facts["that binary is of commit"] = options.ringhub_commit
    asked = options.knobs or list(options.experiments)
    if options.add_to:
        options.folder = options.add_to.resolve()
        kept = [line for line in map(json.loads, (options.folder / "rounds.jsonl").read_text().splitlines()) if line["knob"] not in asked]
        added = f"{facts['date']}, load average {facts['load average at start']}, with {options.ringhub_commit or 'the same ringhub'}"
        facts = json.loads((options.folder / "facts.json").read_text()) | {f"added: {', '.join(asked)}": added}
        facts.pop("added to", None)
    else:
        options.folder = host.run_folder(ROOT / ("target/bench-runs" if options.quick else "benches/runs"), options.machine, "-knobs")
        kept = []
    (options.folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    figures = {}
    with (options.folder / "rounds.jsonl").open("w") as raw:
        for line in kept:
            print(json.dumps(line), file=raw)
            found = {name: value for name, value in line.items() if name not in ("knob", "value", "round")}
            figures.setdefault(line["knob"], {}).setdefault(line["value"], []).append(found)
        for knob in asked:
            values = figures[knob] = {value: [] for value in options.experiments[knob][2]}
            for number in range(1 if knob in ONCE or options.quick else options.rounds):
                for value in values:
                    found = measure(options, knob, value)
                    values[value].append(found)
                    print(json.dumps({"knob": knob, "value": value, "round": number, **found}), file=raw, flush=True)
                    print(f"{knob}, {value}: {', '.join(f'{key} {shown(number)}' for key, number in found.items())}", flush=True)
            (options.folder / "summary.md").write_text(summary(options, figures, facts))
    print(f"written: {options.folder.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (CannotRun, subprocess.TimeoutExpired) as error:
        sys.exit(f"knobs.py: {error}")
