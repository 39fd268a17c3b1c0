"""What a run folder says of the machine: enough to judge figures by, nothing that names it."""

import datetime
import hashlib
import os
import pathlib
import platform
import re
import subprocess

from servers import ROOT, CannotRun

# Stands for what a command did not say.
NOTHING = "nothing"


def cpu_model():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"(?m)^model name\s*:\s*(.+)$", info)
    return found[1].strip() if found else platform.machine()


def default_machine():
    """A name for the machine from its CPU's model and count."""
    model = re.sub(r"(?i)\((r|tm)\)|\bcpu\b|@.*|\bprocessor\b", " ", cpu_model())
    return re.sub(r"[^a-z0-9]+", "-", f"{model} x{os.cpu_count()}".lower()).strip("-")


def first_line(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=ROOT, check=False)
    except OSError:
        return NOTHING
    return ((done.stdout + done.stderr).strip().splitlines() or [NOTHING])[0]


def describe(options):
    """The facts for a summary's head, in order."""
    commit = first_line(["git", "rev-parse", "--short=12", "HEAD"])
    changed = first_line(["git", "status", "--porcelain", "--untracked-files=no"]) != NOTHING
    kernel = re.match(r"[\d.]*\d", platform.release())
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
    facts = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit + (" with uncommitted changes" if changed else ""),
        "machine": f"{options.machine}: {cpu_model()}, {os.cpu_count()} CPUs",
        "kernel": kernel[0] if kernel else "unknown",
        "congestion control": congestion.read_text().strip() if congestion.exists() else "unknown",
        "load average at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "placement": f"server on CPU {options.server_cpu}, load on CPU {options.load_cpu}",
        "compiler": first_line(["rustc", "--version"]),
        "load generator": " ".join(first_line(["wrk", "-v"]).split()[:2]),
    }
    if os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO):
        facts["scheduling"] = "real-time, for everything measured and the load alike: other work on the machine has what is left"
    if options.ringhub:
        # Whatever that binary is, its rows must not pass for this commit's.
        digest = hashlib.sha256(options.ringhub.read_bytes()).hexdigest()[:16]
        facts["NOT THIS COMMIT'S RINGHUB"] = f"another binary given with --ringhub, SHA-256 {digest}"
    if options.ringhub_args:
        facts["further arguments of ringhub"] = options.ringhub_args
    return facts


def run_folder(parent, machine, suffix):
    """Makes a new folder DATE-MACHINE in `parent`; a second one of a day gets a number."""
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    for n in range(1, 100):
        folder = parent / (f"{today}-{machine}{suffix}" + (f".{n}" if n > 1 else ""))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise CannotRun(f"{parent} holds a hundred runs of today")
