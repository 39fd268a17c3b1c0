//! `ringhub check`: what the host offers, what is off, and the command that mends it.

use crate::cli::ServeArgs;
use crate::config::Config;
use crate::rt::host::{self, Level};
use std::process::ExitCode;

/// Prints what was found for a server with these flags. Fails when it could not start.
#[must_use]
pub fn check(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("ringhub: the configuration is wrong:\n{problems}");
            return ExitCode::from(2);
        }
    };
    let findings = host::probe(&config.shell());
    for finding in &findings {
        println!("{finding}");
    }
    let worst = |level| findings.iter().any(|finding| finding.level == level);
    let (verdict, code) = if worst(Level::Fatal) {
        ("ringhub cannot serve on this host yet: mend what is FATAL above.", ExitCode::FAILURE)
    } else if worst(Level::Warn) {
        ("ringhub can serve on this host; what is marked warn above could be better.", ExitCode::SUCCESS)
    } else {
        ("ringhub can serve on this host.", ExitCode::SUCCESS)
    };
    println!("{verdict}");
    code
}
