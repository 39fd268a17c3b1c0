"""The servers measured: built, started on one CPU, watched through /proc, ended by pid."""

import os
import pathlib
import re
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
NAMES = ("ringhub", "bare_loop", "rmcp_server")
# Built by nobody here.
FOREIGN = ("nginx",)
START_S_MAX = 20
STOP_S_MAX = 10


class CannotRun(Exception):
    """The run cannot go on; the message says what to do."""


def pinned(cpu, command):
    """`command` bound to `cpu`, or as it is when `cpu` is None."""
    return command if cpu is None else ["taskset", "-c", str(cpu), *command]


def in_spare_time(cpu, command):
    """`command` bound to `cpu`, of which it has what everybody else leaves."""
    return pinned(cpu, ["chrt", "--idle", "0", *command])


def build(names, profile):
    """Builds what `names` need; a build that is up to date costs nothing."""
    commands = []
    names = {"ringhub" if name == "ringhub_spin" else name for name in names} - set(FOREIGN)
    if "ringhub" in names:
        commands.append(["cargo", "build", "--release", "--bin", "ringhub"])
    bins = [word for name in sorted(names) if name != "ringhub" for word in ("--bin", name)]
    if bins:
        commands.append(["cargo", "build", "--profile", profile, "-p", "ringhub-bench-peers", *bins])
    for command in commands:
        if subprocess.run(command, cwd=ROOT, timeout=1800, check=False).returncode != 0:
            raise CannotRun(f"this failed: {' '.join(command)}")


def binary(name, profile):
    """Where cargo puts the binary of `name`."""
    folder = "release" if name == "ringhub" else {"dev": "debug"}.get(profile, profile)
    return TARGET / folder / name


class Server:
    """One running server process."""

    def __init__(self, name, command, cpu, url=None):
        """`url` is that of a server which does not say it itself."""
        self.name = name
        self.log = tempfile.TemporaryFile(mode="w+b")
        command = [str(word) for word in command]
        try:
            self.process = subprocess.Popen(
                pinned(cpu, command), stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT
            )
        except OSError as e:
            raise CannotRun(f"{name} does not start: {e}") from e
        try:
            self.url = url or self._await_url()
        except BaseException:
            self.stop()
            raise
        host, port = re.match(r"http://([^:]+):(\d+)/", self.url).groups()
        self.address = (host, int(port))

    def _await_url(self):
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            ended = self.process.poll() is not None
            found = re.search(r"http://127\.0\.0\.1:\d+/mcp", self.said())
            if found:
                return found[0]
            if ended:
                break
            time.sleep(0.05)
        raise CannotRun(f"{self.name} did not start serving; it said:\n{self.said()[-2000:]}")

    def said(self):
        """What the server has written to its standard output and error."""
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), min(size, 1 << 20), 0).decode(errors="replace")

    def check_alive(self):
        if self.process.poll() is not None:
            raise CannotRun(f"{self.name} ended by itself; it said:\n{self.said()[-2000:]}")

    def cpu_ns(self):
        """CPU time of all its threads so far, in ns; one that ends takes its share along."""
        tasks = pathlib.Path(f"/proc/{self.process.pid}/task")
        total = 0
        for task in tasks.iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except FileNotFoundError:
                continue
        return total

    def rss_bytes(self):
        """Resident memory, in bytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def stop(self):
        """Ends the process; by force when it does not end in time."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_S_MAX)
        self.log.close()


class Fleet:
    """Every server started by a run, ended together when the run ends in any way."""

    def __init__(self, options):
        self.options = options
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.running:
            server.stop()

    def start(self, name, reply_file=None, extra=(), cpu=None):
        """Starts one of those built here, on the servers' CPU unless told otherwise."""
        return self.launch(name, self._command(name, reply_file, extra), cpu=cpu)

    def launch(self, name, command, cpu=None, url=None):
        server = Server(name, command, self.options.server_cpu if cpu is None else cpu, url)
        self.running.append(server)
        return server

    def stop(self, server):
        self.running.remove(server)
        server.stop()

    def _command(self, name, reply_file, extra):
        program = binary(name, self.options.profile)
        if name == "ringhub":
            program = self.options.ringhub or program
        if not pathlib.Path(program).exists():
            raise CannotRun(f"{program} is missing; run without --no-build")
        command = [program]
        if name == "ringhub":
            command += ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "1"]
            return [*command, *extra, *self.options.ringhub_args.split()]
        command += ["--listen", "127.0.0.1:0", *extra]
        return command + (["--reply", reply_file] if reply_file else [])
