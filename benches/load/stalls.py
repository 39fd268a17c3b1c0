"""How long a CPU was away: stalls of its host, and of kernel code that lets nobody else run.

A thread of the highest priority sleeps for a short while again and again. Nothing of this machine's own user space can keep it
waiting, so what it is late by, no server on that CPU could have used either.
"""

import os
import pathlib
import select
import subprocess
import sys
import time

PAUSE_S = 0.002
# What it is late by beyond that is a stall.
STALL_S = 0.001


class Stalls:
    """Watches a CPU while it is open; `found` has its stalls then, seconds each, or is None where it may not have that priority."""

    def __init__(self, cpu):
        self.found = None
        command = [sys.executable, "-B", str(pathlib.Path(__file__)), str(cpu)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        said = self.process.stdout.read()
        if self.process.wait(10) == 0:
            self.found = [float(word) for word in said.split()]

    def __str__(self):
        """Milliseconds in all, and the longest."""
        if self.found is None:
            return "unknown"
        return f"{sum(self.found) * 1e3:.0f} ({max(self.found, default=0) * 1e3:.1f})"


def main():
    os.sched_setaffinity(0, {int(sys.argv[1])})
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_max(os.SCHED_FIFO)))
    stalls = []
    # The end of its input ends it: nothing comes before.
    while not select.select([0], [], [], 0)[0]:
        start = time.monotonic()
        time.sleep(PAUSE_S)
        late = time.monotonic() - start - PAUSE_S
        if late > STALL_S:
            stalls.append(late)
    print(*(f"{stall:.6f}" for stall in stalls))


if __name__ == "__main__":
    main()
