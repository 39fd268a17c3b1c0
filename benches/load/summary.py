"""The runs of a folder as Markdown: a table of figures, medians where there are several rounds, and every verdict."""

import statistics

COLUMNS = (
    ("offered/s", lambda r: r["rates"]["offered"], 0),
    ("answered/s", lambda r: r["rates"]["answered"], 0),
    ("refused/s", lambda r: r["rates"]["refused"], 0),
    ("errors", lambda r: errors(r), 0),
    ("p50 us", lambda r: r["latency"]["p50_us"], 0),
    ("p95 us", lambda r: r["latency"]["p95_us"], 0),
    ("p99 us", lambda r: r["latency"]["p99_us"], 0),
    ("p99.9 us", lambda r: r["latency"]["p999_us"], 0),
    ("refused p99 us", lambda r: r["refused_latency"]["p99_us"], 0),
    ("RSS MB", lambda r: r["server"]["rss_bytes_max"] / 1e6 if r["server"] else 0, 1),
    ("server CPU %", lambda r: r["server"]["cpu_percent"] if r["server"] else 0, 0),
    ("load CPU %", lambda r: r["load_cpu_percent"], 0),
)


def errors(report):
    """Everything that failed and was no refusal."""
    return sum(count for name, count in report["failed"] if not name.startswith("refused"))


def line(cells):
    return "| " + " | ".join(cells) + " |"


def figures(runs):
    """One row for each run, and the median of each target that was run more than once."""
    names = ["part", "server", "round", *(name for name, _, _ in COLUMNS), "longest turn ms", "stalls ms: server's CPU (longest)", "load's"]
    lines = [line(names), "|" + "---|" * 3 + "---:|" * (len(names) - 3)]
    groups = {}
    for run in runs:
        groups.setdefault((run.part, run.server), []).append(run)
    for (part, server), group in groups.items():
        for run in group:
            cells = [f"{of(run.report):.{digits}f}" for _, of, digits in COLUMNS]
            lines.append(line([part, server, str(run.number), *cells, f"{max(run.turn_ms):.2f}" if run.turn_ms else "", *map(str, run.stalls)]))
        if len(group) > 1:
            cells = [f"{statistics.median(of(run.report) for run in group):.{digits}f}" for _, of, digits in COLUMNS]
            turns = [max(run.turn_ms) for run in group if run.turn_ms]
            lines.append(line([part, server, "median", *cells, f"{statistics.median(turns):.2f}" if turns else "", "", ""]))
    return "\n".join(lines)


def verdicts(runs):
    """One line for each threshold of each run."""
    lines = [line(["part", "server", "round", "what", "measured", "wanted", ""]), "|" + "---|" * 7]
    for run in runs:
        for what, measured, wanted, kept in run.verdicts:
            lines.append(line([run.part, run.server, str(run.number), what, measured, wanted, "kept" if kept else "**broken**"]))
    return "\n".join(lines)


def as_json(runs):
    return [
        {
            "part": run.part,
            "server": run.server,
            "round": run.number,
            "verdicts": run.verdicts,
            "turn_ms": run.turn_ms,
            "stalls_s": [stalls.found for stalls in run.stalls],
            "file": run.file,
        }
        for run in runs
    ]
