"""Medians, ratios and floors; the table on the screen and the summary in the run folder."""

import json
import statistics

FIGURES = ("requests_per_s", "cpu_us", "p50_us", "p99_us", "others_percent")
YARDSTICKS = ("rmcp_server", "bare_loop")
# Other work on the server's CPU, in percent of it, past which a figure is marked.
OTHERS_PERCENT_MAX = 5
# scenario -> (figure, yardstick, most allowed), in either era.
FLOORS = {
    "tools_call-{}-c64": (
        ("cpu_us", "rmcp_server", 0.33),
        ("cpu_us", "bare_loop", 1.3),
        ("p99_us", "bare_loop", 1.3),
    ),
    "pipelined-{}-c64": (("cpu_us", "rmcp_server", 0.10), ("cpu_us", "bare_loop", 2.0)),
}
THOUSAND_TO_64 = 1.1


def median(values):
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def ratio(samples, server, yardstick, figure):
    """The median of the rounds' ratios: within a round both met the same machine."""
    pairs = zip(samples.get(server, []), samples.get(yardstick, []))
    return median([a[figure] / b[figure] for a, b in pairs if a[figure] and b[figure]])


def summarise(samples):
    """{scenario: {server: [figures of each round]}} -> {scenario: {server: medians and ratios}}."""
    summary = {}
    for scenario, servers in samples.items():
        summary[scenario] = {}
        for server, rounds in servers.items():
            row = {figure: median([r[figure] for r in rounds]) for figure in FIGURES}
            row["cpu_us_least"] = min(r["cpu_us"] for r in rounds)
            row["cpu_us_most"] = max(r["cpu_us"] for r in rounds)
            row["rounds"] = rounds
            for yardstick in YARDSTICKS:
                if yardstick != server:
                    row[f"cpu_to_{yardstick}"] = ratio(servers, server, yardstick, "cpu_us")
            summary[scenario][server] = row
    return summary


def floors(samples):
    """[(sentence, value, limit)] for every floor whose servers were measured."""
    held = []
    for era in ("legacy", "modern"):
        for pattern, limits in FLOORS.items():
            scenario = pattern.format(era)
            for figure, yardstick, most in limits:
                value = ratio(samples.get(scenario, {}), "ringhub", yardstick, figure)
                held.append((f"{scenario}: ringhub's {figure} to {yardstick}'s", value, most))
        few = {"ringhub": samples.get(f"tools_call-{era}-c64", {}).get("ringhub", [])}
        many = {"thousand": samples.get(f"tools_call-{era}-c1000", {}).get("ringhub", [])}
        value = ratio(few | many, "thousand", "ringhub", "cpu_us")
        held.append((f"tools_call-{era}: ringhub's cpu_us at c1000 to c64", value, THOUSAND_TO_64))
    return [floor for floor in held if floor[1] is not None]


def number(value, digits):
    return "-" if value is None else f"{value:,.{digits}f}"


def table(summary):
    """The summary as a Markdown table."""
    lines = [
        "| scenario | server | req/s | CPU us/req (least-most) | p50 us | p99 us | CPU to rmcp | CPU to bare loop |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for scenario, servers in summary.items():
        for server, row in servers.items():
            mark = " *" if row["others_percent"] > OTHERS_PERCENT_MAX else ""
            spread = f"{number(row['cpu_us_least'], 2)}-{number(row['cpu_us_most'], 2)}"
            cells = [
                scenario,
                server,
                number(row["requests_per_s"], 0) + mark,
                f"{number(row['cpu_us'], 2)} ({spread})",
                number(row["p50_us"], 0),
                number(row["p99_us"], 0),
                number(row.get("cpu_to_rmcp_server"), 3),
                number(row.get("cpu_to_bare_loop"), 2),
            ]
            lines.append("| " + " | ".join(cells) + " |")
    if any(row["others_percent"] > OTHERS_PERCENT_MAX for s in summary.values() for row in s.values()):
        lines.append("")
        lines.append(f"\\* other processes took over {OTHERS_PERCENT_MAX} % of the server's CPU (median of the rounds).")
    return "\n".join(lines)


def floors_text(held):
    if not held:
        return "No floor was measured: they compare ringhub with the yardsticks."
    lines = ["| floor | measured | at most | |", "|---|---:|---:|---|"]
    for sentence, value, most in held:
        verdict = "met" if value <= most else "NOT MET"
        lines.append(f"| {sentence} | {value:.3f} | {most} | {verdict} |")
    return "\n".join(lines)


def idle_table(results):
    lines = [
        "| server | idle | held | bytes each | RSS before | RSS during | RSS after closing |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for (server, what), row in results.items():
        rss = [f"{row[f'rss_{when}_bytes'] / 1e6:.1f} MB" for when in ("before", "during", "after")]
        lines.append(f"| {server} | {what} | {row['count']:,} | {row['bytes_each']:,.0f} | {' | '.join(rss)} |")
    return "\n".join(lines)


def write(folder, host, sections, data):
    """Writes summary.md and summary.json; `sections` are (title, Markdown text)."""
    head = "\n".join(f"- {key}: {value}" for key, value in host.items())
    text = f"# {folder.name}\n\n{head}\n"
    for title, body in sections:
        text += f"\n## {title}\n\n{body}\n"
    (folder / "summary.md").write_text(text)
    (folder / "summary.json").write_text(json.dumps({"host": host, **data}, indent=1) + "\n")
