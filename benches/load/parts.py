"""What is run: each part is one workload of `ringhub load`, some servers it goes to, and what each has to keep to."""

from dataclasses import dataclass, field

BOMB_LIMIT = 10_000
FLOOD_LIMIT = 350


@dataclass(frozen=True)
class Target:
    """A server of a part, the flags it gets, and the flags the load gets for it alone."""

    server: str
    serve: tuple = ()
    load: tuple = ()
    # Several processes may share one port.
    processes: int = 1


@dataclass(frozen=True)
class Part:
    """One workload. `rounds` is how often each target is loaded, in turn, unless the command line says otherwise."""

    name: str
    what: str
    workload: str
    targets: tuple
    load: tuple = ()
    rounds: int = 1
    # Files that the servers' and the load's processes may have open.
    files: int = 1024
    # Judges that look at the report beyond the load's own thresholds: names in `verdicts`.
    judges: tuple = field(default=())


BOMB = ("--timeout", "10s")
CALM = ("--max-errors", "0", "--max-not-offered", "0%")
# From the planned time, for what is admitted and what is refused alike.
PROMPT = ("--max-p99", "5ms", "--max-refused-p99", "5ms")
STEADY = ("--max-rss-growth", "5%", "--max-recovery", "1s")

PARTS = (
    Part(
        "baseline",
        "25 connections, 100 messages a second each",
        "baseline",
        (Target("ringhub", load=("--max-p99.9", "1ms")), Target("bare_loop")),
        load=("--era", "modern", *CALM),
        rounds=3,
        judges=("slow_turns",),
    ),
    Part(
        "flood",
        "0 to 500 connections and back, 50 messages a second each",
        "flood",
        (Target("ringhub", load=("--max-p99", "5ms")),),
        load=CALM,
        judges=("slow_turns",),
    ),
    Part(
        "flood-limit",
        f"the same with a limit of {FLOOD_LIMIT} connections",
        "flood",
        (Target("ringhub", serve=("--max-connections", str(FLOOD_LIMIT), "--accept-queue", "0"), load=("--max-p99", "5ms")),),
        load=("--max-errors", "0"),
        judges=("flood_limit", "slow_turns"),
    ),
    Part(
        "bomb",
        f"150,000 messages a second against a limit of {BOMB_LIMIT}; the bare loop, which has no limit, beside it",
        "bomb",
        (
            Target("ringhub", serve=("--node-rate", str(BOMB_LIMIT)), load=("--max-rss", "64MB", *STEADY, "--max-errors", "0")),
            Target("bare_loop"),
        ),
        load=(*BOMB, *PROMPT),
        rounds=3,
        judges=("slow_turns",),
    ),
    Part(
        "bomb-unlimited",
        "150,000 messages a second, no limit",
        "bomb",
        (Target("ringhub"), Target("rmcp_server")),
        load=BOMB,
        judges=("no_collapse",),
    ),
    Part(
        "bomb-limit-rmcp",
        "the bomb against a server of the official Rust SDK, which has no limit to set",
        "bomb",
        (Target("rmcp_server"),),
        load=(*BOMB, *PROMPT, *STEADY),
    ),
    Part(
        "capacity",
        "15,000 connections and 50,000 messages a second",
        "mixed",
        (
            Target("ringhub", serve=("--max-connections", "15000"), load=("--max-p99", "5ms", "--max-rss", "50MB")),
            Target("bare_loop"),
        ),
        load=("--era", "modern", "--connections", "15000", "--rate", "50000", "--duration", "60s", "--connect-rate", "2000", *CALM),
        files=16_000,
        judges=("slow_turns",),
    ),
    Part(
        "hundred-k",
        "100,000 connections, 50,000 messages a second, processes that share a port",
        "mixed",
        (Target("ringhub", serve=("--share-port", "--max-connections", "17500"), processes=6, load=("--max-p95", "100ms", "--max-p99", "300ms", "--max-errors", "0.05%")),),
        load=(
            *("--connections", "100000", "--rate", "50000", "--duration", "60s", "--connect-rate", "2000"),
            *("--source-addresses", "127.0.0.0/8", "--send", "ping"),
        ),
        files=20_000,
        judges=("slow_turns", "memory_per_connection"),
    ),
    Part(
        "hold",
        "5,000 connections, a ping a second each",
        "hold",
        (Target("ringhub", load=("--max-p99", "5ms")),),
        load=CALM,
        files=6_000,
        judges=("slow_turns", "flat"),
    ),
)
