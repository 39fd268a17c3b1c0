//! The official suite's `client` mode: its servers judge what ringhub asks of the servers behind it, and how. Each scenario has a front of its
//! own, which the official TypeScript client drives from the other side, in the era of that side.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::peer;
use crate::seen::{LEGACY, MODERN};
use crate::support::process;
use crate::verdict::Scenario;

const RUN_MAX: Duration = Duration::from_secs(120);
/// The suite's own limit for its client.
const CLIENT_MS_MAX: &str = "90000";

/// The driver where it finds its packages: node looks for them beside the program.
fn driver(directory: &Path) -> PathBuf {
    let driver = directory.join("driver.mjs");
    fs::copy(peer::source("clients/driver.mjs"), &driver).expect("the driver is there");
    symlink(peer::provisioned("typescript").join("node_modules"), directory.join("node_modules")).expect("its packages are linked");
    driver
}

/// Runs one scenario at this revision. The client speaks in `mode`, and the front takes the suite's server for one of `era`.
fn passes(scenario: &str, revision: &str, mode: &str, era: &str) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("client-scenarios").join(format!("{scenario}-{revision}-{mode}"));
    if directory.exists() {
        fs::remove_dir_all(&directory).expect("old results can be removed");
    }
    let output = directory.join("out");
    fs::create_dir_all(&output).expect("a directory for results");
    let (node, driver) = (peer::provisioned("bin/node"), driver(&directory));
    let command = format!("{} {} {} {mode} {era}", node.display(), driver.display(), env!("CARGO_BIN_EXE_ringhub"));
    let mut suite = Command::new(&node);
    suite
        .arg(peer::provisioned("conformance").join("node_modules/@modelcontextprotocol/conformance/dist/index.js"))
        .args(["client", "--command", &command, "--scenario", scenario, "--spec-version", revision, "--timeout", CLIENT_MS_MAX])
        .arg("--output-dir")
        .arg(&output);
    let ended = process::run(suite, b"", RUN_MAX);
    let left = fs::read_dir(&output).expect("results").next().expect("the suite left results").expect("a directory").path();
    let checks = fs::read_to_string(left.join("checks.json")).unwrap_or_else(|error| panic!("no checks: {error}\n{}", ended.printed()));
    let found = Scenario::parse(scenario, &checks).expect("checks");
    // The suite takes a warning for a failure, too.
    let is_passed = ended.status.success() && found.failed.is_empty() && found.passed > 0;
    assert!(is_passed, "{scenario} at {revision}, client {mode}: {} passed, {:#?}\n{}", found.passed, found.failed, ended.printed());
    println!("{} checks passed", found.passed);
}

/// A test per scenario, revision, mode of the client and era of the server behind.
macro_rules! scenarios {
    ($($name:ident: $scenario:literal, $revision:expr, $mode:literal, $era:literal;)*) => {$(
        #[test]
        fn $name() {
            passes($scenario, $revision, $mode, $era);
        }
    )*};
}

// Servers of the suite that do not answer `initialize` as one of the legacy era, or not `server/discover` as one of the modern era, are
// taken for what they are by configuration.
scenarios! {
    initialize: "initialize", LEGACY, "auto", "auto";
    tools_call_legacy: "tools_call", LEGACY, "legacy", "auto";
    tools_call_modern: "tools_call", MODERN, "auto", "auto";
    tools_call_legacy_to_modern: "tools_call", MODERN, "legacy", "auto";
    sse_retry: "sse-retry", LEGACY, "legacy", "auto";
    sse_retry_modern_to_legacy: "sse-retry", LEGACY, "auto", "auto";
    request_metadata: "request-metadata", MODERN, "auto", "modern";
    standard_headers: "http-standard-headers", MODERN, "auto", "modern";
    standard_headers_from_legacy: "http-standard-headers", MODERN, "legacy", "modern";
    custom_headers: "http-custom-headers", MODERN, "auto", "modern";
    custom_headers_from_legacy: "http-custom-headers", MODERN, "legacy", "modern";
    invalid_tool_headers: "http-invalid-tool-headers", MODERN, "auto", "modern";
    invalid_tool_headers_from_legacy: "http-invalid-tool-headers", MODERN, "legacy", "modern";
    request_state: "sep-2322-client-request-state", MODERN, "auto", "modern";
    request_state_from_legacy: "sep-2322-client-request-state", MODERN, "legacy", "modern";
    schema_references: "json-schema-ref-no-deref", MODERN, "auto", "modern";
    schemas_legacy: "json-schema-2020-12-preservation", LEGACY, "legacy", "auto";
    schemas_modern: "json-schema-2020-12-preservation", MODERN, "auto", "auto";
}
