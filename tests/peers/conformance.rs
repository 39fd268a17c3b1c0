//! The official conformance suite: every revision at its own wire, with one core, with two, and with eight of them
//! on however many CPUs there are.
//!
//! Only the extensions that ringhub does not offer are allowed to fail (see [`verdict`]); there is no list of known
//! failures.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    peer,
    server::Server,
    support::process::{self, Ended},
    verdict::{self, Demand, Scenario},
};

const RUN_MAX: Duration = Duration::from_secs(240);

/// The suite that knows every revision, and its last stable release.
const NEWEST: &str = "conformance";
const STABLE: &str = "conformance-0.1";

/// One run of the suite.
pub struct Run<'a> {
    pub package: &'a str,
    pub options: &'a [&'a str],
    pub demand: Demand<'a>,
}

impl Run<'_> {
    /// Runs it against a server on `cores` cores. `name` names the directory for its results.
    fn on(&self, cores: usize, name: &str) {
        let server = Server::start(cores, "both");
        let (found, ended) = self.against(server.url(), &format!("{name}-on-{cores}"));
        let wrong = verdict::judge(&found, &self.demand);
        assert!(
            wrong.is_empty(),
            "{} {} with {cores} cores:\n{wrong}\n--- the server\n{}",
            self.package,
            self.options.join(" "),
            server.log()
        );
        assert!(ended.status.success(), "no check failed, but the suite ended with {}\n{}", ended.status, ended.printed());
        let checks: usize = found.iter().map(|scenario| scenario.passed).sum();
        println!("{} scenarios, {checks} checks passed", found.len());
        server.stop();
    }

    /// Runs it against the server at `url`: what it found, and how it ended. `name` names the directory for its results.
    pub fn against(&self, url: &str, name: &str) -> (Vec<Scenario>, Ended) {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.package).join(name);
        if output.exists() {
            fs::remove_dir_all(&output).expect("old results can be removed");
        }
        let package = peer::provisioned(self.package);
        let mut node = Command::new(peer::provisioned("bin/node"));
        node.arg(package.join("node_modules/@modelcontextprotocol/conformance/dist/index.js"))
            .args(["server", "--url", url])
            .args(self.options)
            .arg("--output-dir")
            .arg(&output);
        let ended = process::run(node, b"", RUN_MAX);
        let found = verdict::read(&output).unwrap_or_else(|error| panic!("the suite left no results: {error}\n{}", ended.printed()));
        (found, ended)
    }
}

/// A module per run, with a test per number of cores.
macro_rules! runs {
    ($($name:ident: $run:expr;)*) => {$(
        pub mod $name {
            use super::*;

            pub const RUN: Run<'_> = $run;

            #[test]
            fn with_one_core() {
                RUN.on(1, stringify!($name));
            }

            #[test]
            fn with_two_cores() {
                RUN.on(2, stringify!($name));
            }

            #[test]
            fn with_eight_cores() {
                RUN.on(8, stringify!($name));
            }
        }
    )*};
}

runs! {
    // What the revision required at its release (30), and what the suite runs beside that without scoring it.
    requirements_2025_11_25: Run {
        package: NEWEST,
        options: &["--requirements", "2025-11-25"],
        demand: Demand {
            scenarios: 33,
            include: &["json-schema-2020-12", "server-session-lifecycle", "server-sse-polling"],
            may_check_nothing: &[],
        },
    };
    // 37 required, 3 beside them, and 10 of the tasks extension.
    requirements_2026_07_28: Run {
        package: NEWEST,
        options: &["--requirements", "2026-07-28"],
        demand: Demand {
            scenarios: 40,
            include: &[
                "http-custom-header-server-validation",
                "http-header-validation",
                "json-schema-2020-12",
                "server-stateless",
            ],
            may_check_nothing: &[],
        },
    };
    revision_2025_03_26: Run {
        package: NEWEST,
        options: &["--suite", "all", "--spec-version", "2025-03-26"],
        demand: Demand {
            scenarios: 1,
            include: &["server-session-lifecycle"],
            may_check_nothing: &[],
        },
    };
    revision_2025_06_18: Run {
        package: NEWEST,
        options: &["--suite", "all", "--spec-version", "2025-06-18"],
        demand: Demand { scenarios: 27, include: &[], may_check_nothing: &[] },
    };
    revision_2025_11_25: Run {
        package: NEWEST,
        options: &["--suite", "all", "--spec-version", "2025-11-25"],
        demand: Demand {
            scenarios: 33,
            include: &["server-sse-polling"],
            may_check_nothing: &[],
        },
    };
    stable_active: Run {
        package: STABLE,
        options: &["--suite", "active"],
        demand: Demand { scenarios: 30, include: &[], may_check_nothing: &[] },
    };
    stable_all: Run {
        package: STABLE,
        options: &["--suite", "all"],
        demand: Demand {
            scenarios: 32,
            include: &["json-schema-2020-12", "server-sse-polling"],
            may_check_nothing: &[(
                "server-sse-polling",
                "it names 2025-03-26 in a header, and peers of that revision are sent no prime events",
            )],
        },
    };
}
