//! `ringhub load` against the real server, and against servers that misbehave in one known way each.

mod fake;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::server::{Server, open_files};
use crate::support::process::{self, Ended};
use fake::{Fake, Manner};

/// No run of a test takes so long.
const RUN_MAX: Duration = Duration::from_secs(120);

fn command(profile: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringhub"));
    command.args(["load", profile, "--cpus", "none", "--seed", "7"]).args(args);
    command
}

fn load(profile: &str, args: &[&str]) -> Ended {
    process::run(command(profile, args), b"", RUN_MAX)
}

/// Runs it and reads what it wrote as JSON; `expected` is its exit code.
fn report(profile: &str, args: &[&str], expected: i32) -> Value {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let mut all = vec!["--json", path.to_str().expect("a path")];
    all.extend(args);
    let ended = load(profile, &all);
    assert_eq!(ended.status.code(), Some(expected), "{}", ended.printed());
    let report = read(&path);
    assert_adds_up(&report, &ended);
    report
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("it was written")).expect("it is JSON")
}

fn count(report: &Value, name: &str) -> u64 {
    report["counts"][name].as_u64().expect(name)
}

/// How many came to a class.
fn failed(report: &Value, class: &str) -> u64 {
    let classes = report["failed"].as_array().expect("classes");
    classes.iter().find(|pair| pair[0] == class).map_or(0, |pair| pair[1].as_u64().expect("a count"))
}

fn all_failed(report: &Value) -> u64 {
    report["failed"].as_array().expect("classes").iter().map(|pair| pair[1].as_u64().expect("a count")).sum()
}

/// Each planned message is accounted for once.
fn assert_adds_up(report: &Value, ended: &Ended) {
    let sum = count(report, "answered") + all_failed(report) + count(report, "not_offered") + count(report, "cut");
    assert_eq!(count(report, "planned"), sum, "{}", ended.printed());
    assert_eq!(report["latency"]["count"].as_u64(), Some(count(report, "answered")));
}

fn url(server: &Server) -> String {
    format!("http://{}/mcp", server.address())
}

#[test]
fn every_profile_runs_in_both_eras_and_adds_up() {
    let server = Server::start(&["--cores", "1", "--no-pin"]);
    let url = url(&server);
    // Rates are below what a busy machine can do: this test is about what is counted, not about speed.
    for (profile, args, planned) in [
        ("baseline", &["--time-scale", "0.005", "--connections", "5"][..], 750),
        ("flood", &["--time-scale", "0.004", "--connections", "50"], 3_420),
        ("bomb", &["--time-scale", "0.005", "--rate", "1000", "--connections", "8"], 1_500),
        ("hold", &["--duration", "1s", "--connections", "300"], 300),
        ("ramp", &["--duration", "1s", "--rate", "1000", "--connections", "8"], 500),
        ("mixed", &["--duration", "1s", "--rate", "500", "--connections", "16"], 500),
    ] {
        for era in ["legacy", "modern"] {
            let mut all = vec!["--url", &url, "--era", era];
            all.extend(args);
            let report = report(profile, &all, 0);
            assert_eq!((report["setting"]["profile"].as_str(), all_failed(&report)), (Some(profile), 0), "{era}: {report}");
            let off = count(&report, "planned") as f64 / f64::from(planned);
            assert!((0.9..1.15).contains(&off), "{profile} {era}: {} of {planned}", count(&report, "planned"));
            assert!(count(&report, "answered") > 0 && !report["rows"].as_array().expect("rows").is_empty());
            assert_eq!(report["server"]["pids"][0].as_u64(), Some(u64::from(server.pid())), "{report}");
            assert!(report["server"]["rss_bytes_max"].as_u64() > Some(1_000_000));
            assert_eq!(report["setting"]["version"], if era == "legacy" { "2025-11-25" } else { "2026-07-28" });
        }
    }
    server.stop();
}

#[test]
fn what_is_sent_is_what_the_profile_says() {
    let server = Server::start(&["--cores", "1", "--no-pin"]);
    let kinds = |profile: &str, era: &str, more: &[&str]| {
        let url = url(&server);
        let mut all = vec!["--url", &url, "--era", era, "--duration", "100ms", "--rate", "50", "--connections", "2"];
        all.extend(more);
        report(profile, &all, 0)["setting"]["kinds"].clone()
    };
    assert_eq!(kinds("mixed", "auto", &[]), serde_json::json!(["tools/call", "resources/list", "resources/read"]));
    assert_eq!(kinds("bomb", "auto", &[]), serde_json::json!(["ping"]));
    assert_eq!(kinds("bomb", "modern", &[]), serde_json::json!(["server/discover"]));
    assert_eq!(kinds("bomb", "legacy", &["--send", "tools/list", "--tool", "add"]), serde_json::json!(["tools/list"]));
    server.stop();
}

#[test]
fn latency_is_what_a_server_of_known_delay_takes() {
    let fake = Fake::start(Manner::Delay(Duration::from_millis(200)));
    // On a busy machine a single run may be off; one that measures wrongly is off each time.
    let mut told = Vec::new();
    for _ in 0..5 {
        fake.forget_delays();
        let report =
            report("mixed", &["--url", &fake.url(), "--send", "ping", "--connections", "10", "--rate", "20", "--duration", "2s"], 0);
        let mut delays = fake.delays_us();
        delays.sort_by(f64::total_cmp);
        let of = |share: f64| delays[((delays.len() as f64 * share).ceil() as usize - 1).min(delays.len() - 1)];
        let pairs = [(report["latency"]["p50_us"].as_f64(), of(0.5)), (report["latency"]["p99_us"].as_f64(), of(0.99))];
        let off = pairs.map(|(measured, real)| (measured.expect("measured") / real - 1.0).abs());
        assert!(pairs[0].0 >= Some(200_000.0 * 0.998), "nothing is answered sooner: {pairs:?}");
        told.push(pairs);
        if off.iter().all(|off| *off < 0.02) {
            return;
        }
    }
    panic!("never within 2 % of the server's own figures: {told:?}");
}

#[test]
fn a_stall_shows_in_all_that_had_to_wait_for_it() {
    let fake = Fake::start(Manner::StallOnce(Duration::from_secs(1)));
    let report = report("mixed", &["--url", &fake.url(), "--send", "ping", "--connections", "10", "--rate", "500", "--duration", "4s"], 0);
    // One of ten connections stood for one of four seconds: 2.5 % of all messages were planned meanwhile. A closed loop would tell of one.
    assert!(report["latency"]["p999_us"].as_f64() > Some(900_000.0), "{}", report["latency"]);
    assert!(report["latency"]["p99_us"].as_f64() > Some(500_000.0), "{}", report["latency"]);
}

#[test]
fn refusals_are_counted_apart_from_errors() {
    for (status, class) in [(503, "refused 503"), (429, "refused 429")] {
        let fake = Fake::start(Manner::Refuse { status, says_when: true });
        let args = ["--url", &fake.url(), "--send", "ping", "--connections", "4", "--rate", "200", "--duration", "1s", "--max-errors", "0"];
        let run = report("mixed", &args, 0);
        assert_eq!((failed(&run, class), all_failed(&run)), (count(&run, "planned") - count(&run, "not_offered"), failed(&run, class)));
        assert_eq!((count(&run, "refused_bare"), count(&run, "answered")), (0, 0));
        assert!(run["refused_latency"]["count"].as_u64() > Some(0));
        let again = Fake::start(Manner::Refuse { status, says_when: true });
        report("mixed", &["--url", &again.url(), "--send", "ping", "--rate", "50", "--duration", "200ms", "--max-refused", "0"], 1);
    }
    let bare = Fake::start(Manner::Refuse { status: 503, says_when: false });
    let run = report("mixed", &["--url", &bare.url(), "--send", "ping", "--connections", "1", "--rate", "50", "--duration", "500ms"], 0);
    assert_eq!(count(&run, "refused_bare"), failed(&run, "refused 503"));
}

#[test]
fn what_goes_wrong_has_its_class() {
    for (manner, class) in [
        (Manner::Reset, "reset"),
        (Manner::Silent, "timeout"),
        (Manner::Status(500), "other 5xx"),
        (Manner::Status(404), "other status"),
        (Manner::RpcError, "JSON-RPC error"),
        (Manner::WrongId, "wrong content"),
    ] {
        let fake = Fake::start(manner);
        let args =
            ["--url", &fake.url(), "--send", "ping", "--connections", "4", "--rate", "100", "--duration", "1s", "--timeout", "500ms"];
        let run = report("mixed", &args, 0);
        assert_eq!(failed(&run, class), count(&run, "planned") - count(&run, "not_offered"), "{manner:?}: {}", run["failed"]);
        let again = Fake::start(manner);
        let args =
            ["--url", &again.url(), "--send", "ping", "--rate", "50", "--duration", "200ms", "--timeout", "300ms", "--max-errors", "5%"];
        report("mixed", &args, 1);
    }
}

#[test]
fn it_comes_from_the_addresses_and_in_the_processes_it_is_told() {
    let fake = Fake::start(Manner::Delay(Duration::ZERO));
    let sources = "127.0.0.11,127.0.0.12,127.0.0.13";
    let args = ["--url", &fake.url(), "--send", "ping", "--connections", "9", "--rate", "90", "--duration", "1s"];
    let run = report("mixed", &[&args[..], &["--source-addresses", sources, "--processes", "2"]].concat(), 0);
    assert_eq!((run["setting"]["processes"].as_u64(), count(&run, "opened"), count(&run, "answered")), (Some(2), 9, 90));
    let seen = fake.peers();
    for source in sources.split(',') {
        assert_eq!(seen.iter().filter(|peer| peer.to_string() == source).count(), 3, "{seen:?}");
    }
}

#[test]
fn as_many_processes_run_as_the_limit_of_files_asks_for() {
    let server = Server::start(&["--cores", "1", "--no-pin"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let limited = |files: u32, connections: &str| {
        let program = env!("CARGO_BIN_EXE_ringhub");
        let script = format!(
            "ulimit -n {files}; exec {program} load hold --cpus none --url {} --connections {connections} --duration 500ms --json {}",
            url(&server),
            path.display()
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]);
        process::run(command, b"", RUN_MAX)
    };
    let ended = limited(100, "100");
    assert!(ended.status.success(), "{}", ended.printed());
    let run = read(&path);
    assert_eq!((run["setting"]["processes"].as_u64(), run["connections_max"].as_u64()), (Some(3), Some(100)), "{run}");
    let ended = limited(80, "2000");
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("ulimit -n"), "{}", ended.printed());
    server.stop();
}

#[test]
fn a_limit_of_connections_is_read_as_refusals() {
    let server = Server::start(&["--cores", "1", "--no-pin", "--max-connections", "20"]);
    // The connection that asks what the server has may still be there when the others come.
    let run = report("hold", &["--url", &url(&server), "--connections", "30", "--rate", "60", "--duration", "1s", "--max-errors", "0"], 0);
    assert!(run["connections_max"].as_u64() <= Some(20) && run["connections_max"].as_u64() >= Some(19), "{run}");
    assert!(failed(&run, "refused 503") > 0, "{run}");
    server.stop();
}

#[test]
fn an_interruption_ends_it_early_and_it_reports() {
    let fake = Fake::start(Manner::Delay(Duration::from_millis(1)));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run.json");
    let args = ["--url", &fake.url(), "--send", "ping", "--connections", "2", "--rate", "100", "--json", path.to_str().expect("a path")];
    let mut child = command("baseline", &args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    crate::server::until("messages are answered", || fake.delays_us().len() > 5);
    interrupt(&child);
    let status = process::wait(&mut child, RUN_MAX).expect("it ends");
    assert!(status.success());
    let run = read(&path);
    assert_eq!(run["is_interrupted"], true);
    assert!(count(&run, "answered") > 0 && count(&run, "planned") < 30_000, "{}", run["counts"]);
}

fn interrupt(child: &Child) {
    let pid = libc::pid_t::try_from(child.id()).expect("a pid fits its own type");
    // SAFETY: kill reads no memory of ours, and the child has not been waited for, so its pid is still its own.
    unsafe { libc::kill(pid, libc::SIGINT) };
}

#[test]
fn the_report_is_a_page_and_compares_with_an_earlier_run() {
    let server = Server::start(&["--cores", "1", "--no-pin"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let (first, page) = (file("first.json"), file("page.html"));
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let url = url(&server);
    let args = ["--url", &url, "--duration", "1s", "--rate", "200"];
    assert!(load("mixed", &[&args[..], &["--json", &text(&first)]].concat()).status.success());
    let ended = load(
        "mixed",
        &[&args[..], &["--compare", &text(&first), "--html", &text(&page), "--max-p99", "10s", "--max-p99.9", "1us"]].concat(),
    );
    assert_eq!(ended.status.code(), Some(1), "{}", ended.printed());
    for part in ["compared with the run of", "kept   p99:", "BROKEN p99.9:", "latency", "answered/s"] {
        assert!(ended.stdout.contains(part), "{part}: {}", ended.printed());
    }
    let page = std::fs::read_to_string(page).expect("it was written");
    assert!(page.contains("<svg") && page.contains("Compared with the run of") && !page.contains("<script"), "{page}");
    let unread = load("mixed", &["--url", &url, "--compare", &text(&file("none.json"))]);
    assert_eq!(unread.status.code(), Some(2));
    assert!(open_files(server.pid()) < 200, "connections were closed");
    server.stop();
}

#[test]
fn what_cannot_be_loaded_is_said_with_what_helps() {
    let ended = load("mixed", &["--url", "http://127.0.0.1:1/mcp"]);
    assert_eq!(ended.status.code(), Some(2));
    assert!(ended.stderr.contains("cannot be reached") && ended.stderr.contains("ringhub serve"), "{}", ended.printed());
    let server = Server::start(&["--cores", "1", "--no-pin"]);
    let url = url(&server);
    for (args, helps) in [
        (&["--url", "https://127.0.0.1:1/mcp"][..], "http port"),
        (&["--url", &url.replace("/mcp", "/nothing")], "--era"),
        (&["--url", &url, "--tool", "nothing"], "does not list it"),
        (&["--url", &url, "--connections", "40000"], "--source-addresses 127.0.0.0/8"),
        (&["--url", &url, "--time-scale", "0"], "--time-scale"),
    ] {
        let ended = load("mixed", args);
        assert_eq!(ended.status.code(), Some(2), "{args:?}: {}", ended.printed());
        assert!(ended.stderr.contains(helps), "{args:?}: {}", ended.printed());
    }
    server.stop();
}
