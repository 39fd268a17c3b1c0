//! The fixture server behind a front that shows it alone and plain: the official conformance suite and the official clients see through the
//! front what they see without it, whichever era each side is of.
//!
//! What cannot apply to a pair of eras, or is not built yet, stands in [`EXCEPTIONS`] with its reason. The tests fail when a check fails
//! that is not there, and when one does not fail that is.

use std::process::Command;

use crate::conformance::{Run, requirements_2025_11_25, requirements_2026_07_28};
use crate::front::Front;
use crate::seen::{LEGACY, MODERN, judged};
use crate::server::Server;
use crate::verdict::{self, Demand, Excuse};
use crate::{python, rust, typescript};

/// Checks that pass without the front and do not with it.
struct Exception {
    /// The eras of the server behind.
    behind: &'static [&'static str],
    /// The revision whose requirements are run.
    revision: &'static str,
    scenario: &'static str,
    /// With none, the scenario ends without having checked anything.
    checks: &'static [&'static str],
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        behind: &["modern", "both"],
        revision: LEGACY,
        scenario: "server-sse-polling",
        checks: &[],
        reason: "a server of the modern era cannot close a stream for a client to come back to, so that there is nothing to check",
    },
    Exception {
        behind: &["legacy"],
        revision: MODERN,
        scenario: "input-required-result-basic-elicitation",
        checks: &["sep-2322-elicitation-incomplete"],
        reason: "the suite wants a key of the server's; requests of the legacy era have ids and no keys, so that the front chooses the key",
    },
    Exception {
        behind: &["legacy"],
        revision: MODERN,
        scenario: "input-required-result-multiple-input-requests",
        checks: &["sep-2322-multiple-inputs-incomplete"],
        reason: "a server of the legacy era asks one request at a time and cannot say that more belong to it: each is a round of its own",
    },
    Exception {
        behind: &["legacy"],
        revision: MODERN,
        scenario: "server-stateless",
        checks: &["sep-2575-server-rejects-undeclared-capability", "sep-2575-missing-capability-http-400"],
        reason: "a server of the legacy era hears once, in `initialize`, what clients are capable of, and not with each call: it is told what the \
                 front can relay, and learns what a caller lacks when it asks that caller",
    },
];

/// Runs the suite through a front on `cores` cores before a server of these eras, and judges it as without the front but for the exceptions.
fn conforms(run: &Run<'_>, behind: &str, cores: usize) {
    let revision = run.options[1];
    let exceptions = EXCEPTIONS.iter().filter(|exception| exception.revision == revision && exception.behind.contains(&behind));
    let excuses: Vec<_> = exceptions.clone().map(|e| Excuse { scenario: e.scenario, checks: e.checks }).collect();
    let idle: Vec<_> = exceptions.filter(|e| e.checks.is_empty()).map(|e| (e.scenario, e.reason)).collect();

    let back = Server::start(1, behind);
    let front = Front::start(cores, &[("back", format!("url = \"{}\"", back.url()))]);
    front.wait_for("test_simple_text");
    let (mut found, ended) = run.against(front.url(), &format!("{revision}-through-a-front-to-{behind}-on-{cores}"));
    let is_clean = found.iter().all(|scenario| scenario.is_extension() || scenario.failed.is_empty());
    let stale = verdict::excuse(&mut found, &excuses);
    let demand = Demand { may_check_nothing: &idle, include: run.demand.include, ..run.demand };
    let wrong = verdict::judge(&found, &demand);
    assert!(
        wrong.is_empty() && stale.is_empty(),
        "{revision} through a front to {behind}:\n{wrong}{stale}\n--- the front\n{}\n--- the server\n{}",
        front.log(),
        back.log()
    );
    assert!(ended.status.success() || !is_clean, "no check failed, but the suite ended with {}\n{}", ended.status, ended.printed());
    front.stop();
    back.stop();
}

#[test]
fn requirements_2025_11_25_before_legacy() {
    conforms(&requirements_2025_11_25::RUN, "legacy", 2);
}

#[test]
fn requirements_2025_11_25_before_modern() {
    conforms(&requirements_2025_11_25::RUN, "modern", 2);
}

#[test]
fn requirements_2025_11_25_before_both() {
    conforms(&requirements_2025_11_25::RUN, "both", 1);
}

#[test]
fn requirements_2026_07_28_before_legacy() {
    conforms(&requirements_2026_07_28::RUN, "legacy", 2);
}

#[test]
fn requirements_2026_07_28_before_modern() {
    conforms(&requirements_2026_07_28::RUN, "modern", 2);
}

#[test]
fn requirements_2026_07_28_before_both() {
    conforms(&requirements_2026_07_28::RUN, "both", 1);
}

/// Runs an official client through a front before a server of these eras.
fn talks(client: fn(&str, &str) -> (Command, Vec<u8>), mode: &str, behind: &str, protocol: &str) {
    let back = Server::start(1, behind);
    let front = Front::start(2, &[("back", format!("url = \"{}\"", back.url()))]);
    front.wait_for("test_simple_text");
    let (command, input) = client(front.url(), mode);
    judged(protocol, command, &input, || format!("{}\n--- behind it\n{}", front.log(), back.log()));
    front.stop();
    back.stop();
}

/// A module per client, with a test per pair of eras.
macro_rules! clients {
    ($($name:ident: $client:expr, $legacy:literal, $modern:literal;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn legacy_to_legacy() {
                talks($client, $legacy, "legacy", LEGACY);
            }

            #[test]
            fn legacy_to_modern() {
                talks($client, $legacy, "modern", LEGACY);
            }

            #[test]
            fn legacy_to_both() {
                talks($client, $legacy, "both", LEGACY);
            }

            #[test]
            fn modern_to_legacy() {
                talks($client, $modern, "legacy", MODERN);
            }

            #[test]
            fn modern_to_modern() {
                talks($client, $modern, "modern", MODERN);
            }

            #[test]
            fn modern_to_both() {
                talks($client, $modern, "both", MODERN);
            }
        }
    )*};
}

clients! {
    typescript_client: typescript::client, "default", "auto";
    python_client: python::client, "legacy", "auto";
    rust_client: rust::client, "default", "discover";
}
