//! The admin port against its own OpenAPI document, by schemathesis: nothing that it can think of may be answered with a server error, or
//! with anything that the document does not say.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    peer,
    support::{
        process,
        server::{Process, url},
    },
};

/// A whole run, on a slow machine.
const RUN_MAX: Duration = Duration::from_secs(600);

#[test]
fn every_answer_of_the_admin_port_is_documented() {
    let place = tempfile::tempdir().expect("a directory");
    let state = place.path().join("state");
    let state = state.to_str().expect("a path");
    let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--cores", "2", "--no-pin", "--state", state];
    let server = Process::start(&peer::everything(), &args);
    let admin = server.printed(|line| url(line, "/health/ready")).replace("/health/ready", "");
    let token = fs::read_to_string(Path::new(state).join("admin-token")).expect("a token");
    let mut schemathesis = Command::new(peer::provisioned("schemathesis/bin/st"));
    schemathesis.current_dir(place.path()).args([
        "run",
        &format!("{admin}/openapi.json"),
        "--no-color",
        "--seed",
        "1",
        "--max-examples",
        "30",
    ]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    // The stream of changes has no end. A preflight is answered before anything is looked at.
    schemathesis.args(["--exclude-path", "/v1/changes", "--exclude-method", "OPTIONS"]);
    // Cursors and ETags are for the server to make up: well-formed ones that it never gave are refused, and names can be taken.
    schemathesis.args(["--exclude-checks", "positive_data_acceptance"]);
    // Few of the strings that it draws are paths of endpoints.
    schemathesis.args(["--suppress-health-check", "filter_too_much"]);
    let ended = process::run(schemathesis, b"", RUN_MAX);
    assert!(ended.status.success(), "{}\n--- the server said\n{}", ended.printed(), server.log());
    let tested = ended.stdout.lines().find(|line| line.contains("Tested:")).unwrap_or_default().to_owned();
    assert!(tested.split_whitespace().last().and_then(|count| count.parse::<u32>().ok()).is_some_and(|count| count >= 25), "{tested}");
    server.stop();
}
