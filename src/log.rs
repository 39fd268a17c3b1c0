//! What is logged, and where to: standard error, a line per event.

use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging by `filter`: a level, or levels per module such as `info,ringhub::rt=debug`.
///
/// # Errors
/// What is wrong with the filter. A logger that the program has set up before stays, which is no error.
pub fn start(filter: &str) -> Result<(), String> {
    let targets: Targets = filter
        .parse()
        .map_err(|error| format!("--log {filter}: {error}; write a level, or levels per module such as info,ringhub::rt=debug"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // A program that hosts ringhub may log in its own way.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_filter_is_said() {
        let problem = start("ringhub=loud").expect_err("there is no such level");
        assert!(problem.contains("--log ringhub=loud"), "{problem}");
    }
}
