"""What a part is judged by beyond the thresholds that `ringhub load` itself knows; each gives (what, measured, wanted, kept)."""

from parts import FLOOD_LIMIT

TURN_MS_MAX = 5.0
# Throughput at saturation may lie so far below its peak, in any ten seconds.
COLLAPSE = 0.10
SATURATED = 100_000
BIN_S = 10
GROWTH_MAX = 0.05


def slow_turns(run):
    """The longest turn of a core, which no run may stretch."""
    if not run.turn_ms:
        return []
    longest = max(run.turn_ms)
    return [("longest turn of a core", f"{longest:.2f} ms", f"under {TURN_MS_MAX:.0f} ms", longest < TURN_MS_MAX)]


def flood_limit(run):
    """The limit of connections holds, and who is beyond it reads so."""
    most = run.report["connections_max"]
    refused = sum(count for name, count in run.report["failed"] if "503" in name)
    return [
        ("connections at once", str(most), f"at most {FLOOD_LIMIT}", most <= FLOOD_LIMIT),
        ("503 read by the client", str(refused), "some", refused > 0),
    ]


def no_collapse(run):
    """Answers in each ten seconds of the bombing, beside the most in any."""
    bins = {}
    for row in run.report["rows"]:
        if row["planned"] >= SATURATED:
            bins.setdefault(int(row["from_s"] // BIN_S), []).append(row["answered"])
    # The first and the last have a part of the calm in them.
    means = [sum(rates) / len(rates) for rates in bins.values()][1:-1]
    if not means:
        return [("answers at saturation", "not measured", "some", False)]
    least, most = min(means), max(means)
    kept = least >= (1 - COLLAPSE) * most
    return [("least and most answers in 10 s", f"{least:.0f}/s and {most:.0f}/s", f"within {COLLAPSE:.0%}", kept)]


def memory_per_connection(run):
    """Published, not judged: what a connection takes of the processes and of the kernel, whose part has both ends in it."""
    count = run.report["connections_max"] or 1
    rss = run.report["server"]["rss_bytes_max"] - run.rss_idle
    lines = [("memory of the processes", f"{rss / count:.0f} B/connection", "published", True)]
    if run.kernel_bytes is not None:
        lines.append(("memory of the kernel, both ends", f"{run.kernel_bytes / count:.0f} B/connection", "published", True))
    return lines


def flat(run):
    """Memory and descriptors at the end beside those after a tenth of the time."""
    rows = run.report["rows"]
    # In the last of all they are closed.
    whole = [row for row in rows if row["open"] == run.report["connections_max"]]
    early, last = rows[len(rows) // 10], whole[-1]
    growth = last["rss_bytes"] / max(early["rss_bytes"], 1) - 1
    return [
        ("memory from a tenth to the end", f"{growth:+.2%}", f"at most {GROWTH_MAX:+.0%}", growth <= GROWTH_MAX),
        ("descriptors", f"{early['files']} and {last['files']}", "the same", early["files"] == last["files"]),
    ]


JUDGES = {judge.__name__: judge for judge in (slow_turns, flood_limit, no_collapse, memory_per_connection, flat)}
