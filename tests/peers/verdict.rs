//! What a conformance run found, read from the files that the runner writes: one directory per scenario, each with
//! its checks.

use std::{
    fmt::{self, Write},
    fs,
    path::Path,
};

use serde_json::Value;

/// Scenarios of extensions that ringhub does not offer. These alone may fail.
const EXTENSIONS: [&str; 2] = ["tasks-", "sep-2640-"];

/// The longest excerpt of a check's details that a failure message shows.
const DETAILS_BYTES_MAX: usize = 800;

/// `-2026-07-28T09-30-00-123Z`, at the end of a scenario's directory.
const TIMESTAMP_BYTES: usize = 25;

/// One scenario and how its checks went.
#[derive(Debug, Default, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub passed: usize,
    pub failed: Vec<Failure>,
}

/// A check that failed, in the suite's own words.
#[derive(Debug, PartialEq)]
pub struct Failure {
    pub id: String,
    description: String,
    error: String,
    details: String,
}

impl Scenario {
    /// Whether it tests an extension that ringhub does not offer.
    pub fn is_extension(&self) -> bool {
        EXTENSIONS.iter().any(|prefix| self.name.starts_with(prefix))
    }

    pub fn parse(name: &str, checks: &str) -> Result<Self, String> {
        let checks: Vec<Value> = serde_json::from_str(checks).map_err(|error| format!("{name}: {error}"))?;
        let mut scenario = Self { name: name.to_owned(), ..Self::default() };
        for check in &checks {
            match check["status"].as_str() {
                Some("SUCCESS") => scenario.passed += 1,
                Some("FAILURE") => scenario.failed.push(Failure::of(check)),
                // What it saw on the way, advice, and what does not apply.
                Some("INFO" | "WARNING" | "SKIPPED") => {}
                other => return Err(format!("{name}: a check with the status {other:?}")),
            }
        }
        Ok(scenario)
    }
}

impl Failure {
    fn of(check: &Value) -> Self {
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let details = match &check["details"] {
            Value::Null => String::new(),
            details => details.to_string(),
        };
        Self {
            id: text("id"),
            description: text("description"),
            error: text("errorMessage"),
            details: details[..details.floor_char_boundary(DETAILS_BYTES_MAX)].to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "    {}: {}", self.id, self.description)?;
        if !self.error.is_empty() {
            writeln!(f, "      {}", self.error.trim_end())?;
        }
        if !self.details.is_empty() {
            writeln!(f, "      {}", self.details)?;
        }
        Ok(())
    }
}

/// Reads every scenario under `output`, in the order of their names.
///
/// # Errors
///
/// If a file is not what the runner is known to write.
pub fn read(output: &Path) -> Result<Vec<Scenario>, String> {
    let entries = fs::read_dir(output).map_err(|error| format!("{}: {error}", output.display()))?;
    let mut scenarios = Vec::new();
    for entry in entries {
        let directory = entry.map_err(|error| error.to_string())?.file_name();
        let directory = directory.to_string_lossy();
        let name = scenario_name(&directory).ok_or_else(|| format!("{directory} is not named as a scenario's result"))?;
        let file = output.join(&*directory).join("checks.json");
        let checks = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        scenarios.push(Scenario::parse(name, &checks)?);
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(scenarios)
}

fn scenario_name(directory: &str) -> Option<&str> {
    let named = directory.strip_prefix("server-")?;
    let (name, timestamp) = named.split_at_checked(named.len().checked_sub(TIMESTAMP_BYTES)?)?;
    (timestamp.starts_with("-20") && timestamp.ends_with('Z')).then_some(name)
}

/// What a run must have looked into.
pub struct Demand<'a> {
    /// How many scenarios, those of extensions aside.
    pub scenarios: usize,
    /// Scenarios that must be among them.
    pub include: &'a [&'a str],
    /// Scenarios that may end without a single passed check, with the reason.
    pub may_check_nothing: &'a [(&'a str, &'a str)],
}

/// Checks of a scenario that need not pass.
pub struct Excuse<'a> {
    pub scenario: &'a str,
    /// The checks that fail. With none of them the scenario ends without a single passed check.
    pub checks: &'a [&'a str],
}

/// Takes the failures of checks that need not pass out of `found`. Gives the excuses that nothing needs any more, in words; empty if there
/// are none.
pub fn excuse(found: &mut [Scenario], excuses: &[Excuse<'_>]) -> String {
    let mut stale = String::new();
    for Excuse { scenario: name, checks } in excuses {
        // Writing to a string cannot fail.
        let mut say = |what: fmt::Arguments<'_>| {
            let _ = writeln!(stale, "  {name} is excused, but {what}");
        };
        let Some(scenario) = found.iter_mut().find(|scenario| scenario.name == *name) else {
            say(format_args!("did not run"));
            continue;
        };
        if checks.is_empty() && scenario.passed > 0 {
            say(format_args!("{} of its checks passed", scenario.passed));
        }
        for check in *checks {
            let before = scenario.failed.len();
            scenario.failed.retain(|failure| failure.id != *check);
            if scenario.failed.len() == before {
                say(format_args!("{check} did not fail"));
            }
        }
    }
    stale
}

/// Everything that is wrong with `found`, in words; empty if nothing is.
pub fn judge(found: &[Scenario], demand: &Demand<'_>) -> String {
    let mut wrong = String::new();
    let mut say = |line: fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(wrong, "{line}");
    };
    let core: Vec<&Scenario> = found.iter().filter(|s| !s.is_extension()).collect();
    if core.len() != demand.scenarios {
        say(format_args!("  {} scenarios ran, not {}", core.len(), demand.scenarios));
    }
    for name in demand.include {
        if !core.iter().any(|scenario| scenario.name == *name) {
            say(format_args!("  {name} did not run"));
        }
    }
    for scenario in core {
        let name = &scenario.name;
        let excused = demand.may_check_nothing.iter().any(|(n, _)| n == name);
        if scenario.passed == 0 && scenario.failed.is_empty() && !excused {
            say(format_args!("  {name} ran without checking anything"));
        }
        if !scenario.failed.is_empty() {
            let all = scenario.failed.len() + scenario.passed;
            let failed = scenario.failed.len();
            say(format_args!("  {name} failed {failed} of {all} checks:"));
        }
        for failure in &scenario.failed {
            say(format_args!("{failure}"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand<'_> = Demand { scenarios: 1, include: &["ping"], may_check_nothing: &[] };

    fn ping(checks: &str) -> Vec<Scenario> {
        vec![Scenario::parse("ping", checks).expect("these checks are well formed")]
    }

    #[test]
    fn directories_are_named_for_their_scenario() {
        let name = "server-server-sse-polling-2026-11-23T21-04-51-209Z";
        assert_eq!(scenario_name(name), Some("server-sse-polling"));
        assert_eq!(scenario_name("server-ping"), None);
        assert_eq!(scenario_name("client-ping-2026-11-23T21-04-51-209Z"), None);
    }

    #[test]
    fn a_passed_scenario_is_not_worth_a_word() {
        let found = ping(r#"[{"status": "SUCCESS"}, {"status": "INFO"}]"#);
        assert_eq!(found[0].passed, 1);
        assert_eq!(judge(&found, &DEMAND), "");
    }

    #[test]
    fn a_failed_check_is_told_in_words() {
        let found = ping(
            r#"[{"status": "SUCCESS"}, {"status": "FAILURE", "id": "ping-reply",
                "description": "The server answers", "errorMessage": "It is silent", "details": {"n": 1}}]"#,
        );
        let wrong = judge(&found, &DEMAND);
        for part in ["ping failed 1 of 2 checks", "ping-reply: The server answers", "It is silent", r#"{"n":1}"#] {
            assert!(wrong.contains(part), "{part} is not in {wrong}");
        }
    }

    #[test]
    fn a_scenario_that_checks_nothing_has_not_passed() {
        let found = ping(r#"[{"status": "SKIPPED"}, {"status": "WARNING"}]"#);
        assert!(judge(&found, &DEMAND).contains("without checking anything"));
        let excused = Demand { may_check_nothing: &[("ping", "a reason")], ..DEMAND };
        assert_eq!(judge(&found, &excused), "");
    }

    #[test]
    fn only_extensions_may_fail_or_be_absent() {
        let mut found = ping(r#"[{"status": "SUCCESS"}]"#);
        let failure = r#"[{"status": "FAILURE", "id": "x"}]"#;
        found.push(Scenario::parse("tasks-lifecycle", failure).expect("well formed"));
        assert_eq!(judge(&found, &DEMAND), "");
        found.push(Scenario::parse("tools-list", failure).expect("well formed"));
        let wrong = judge(&found, &DEMAND);
        assert!(wrong.contains("2 scenarios ran, not 1"), "{wrong}");
        assert!(wrong.contains("tools-list failed 1 of 1 checks"), "{wrong}");
        assert!(judge(&[], &DEMAND).contains("ping did not run"));
    }

    #[test]
    fn an_excuse_covers_its_own_checks_and_is_stale_without_them() {
        let failed = r#"[{"status": "FAILURE", "id": "x"}, {"status": "FAILURE", "id": "y"}, {"status": "SUCCESS", "id": "z"}]"#;
        let mut found = ping(failed);
        assert_eq!(excuse(&mut found, &[Excuse { scenario: "ping", checks: &["x"] }]), "");
        assert!(judge(&found, &DEMAND).contains("ping failed 1 of 2 checks"), "y is not excused");
        let stale = excuse(&mut found, &[Excuse { scenario: "ping", checks: &["x", "y"] }, Excuse { scenario: "pong", checks: &[] }]);
        assert!(stale.contains("x did not fail") && !stale.contains("y did not fail") && stale.contains("pong is excused"), "{stale}");
        let stale = excuse(&mut found, &[Excuse { scenario: "ping", checks: &[] }]);
        assert!(stale.contains("1 of its checks passed"), "{stale}");
    }

    #[test]
    fn an_unknown_status_is_refused() {
        assert!(Scenario::parse("ping", r#"[{"status": "MAYBE"}]"#).is_err());
        assert!(Scenario::parse("ping", "not json").is_err());
    }
}
