//! The server that `ringhub serve` hosts when it is told of no other: small, and enough to see that everything works.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::content::Annotations;
use super::context::Context;
use super::outcome::Cache;
use super::prompt::Prompt;
use super::resource::Resource;
use super::result::Json;
use super::server::{BuildError, Server};
use super::tool::{Empty, Tool};

/// What the about resource says.
const ABOUT: &str = "\
ringhub is a server, registry and gateway for the Model Context Protocol that runs one pinned thread per core.

This is its built-in server. It offers three tools:
- echo: answers the message it was given, unchanged. Use it to see that calls get through.
- add: adds two numbers, and answers the sum as text and as structured content.
- time: answers the current time in UTC (RFC 3339).
";

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Echo {
    /// The text to answer
    message: String,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Add {
    /// The first number
    a: f64,
    /// The second number
    b: f64,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    /// a + b
    sum: f64,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(description = "")]
struct Greeting {
    /// Who is to be greeted
    name: String,
    /// The language of the greeting; English unless given
    language: Option<String>,
}

/// Builds it.
///
/// # Errors
/// None: its own tests build it.
///
/// ```
/// use ringhub::native::{builtin, testing::Client};
///
/// let mut client = Client::new(builtin::server()?);
/// assert_eq!(client.call("echo", serde_json::json!({"message": "hello"}))?.text(), "hello");
/// assert_eq!(client.call("add", serde_json::json!({"a": 1, "b": 2}))?.text(), "3");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn server() -> Result<Server, BuildError> {
    let list_cache = Cache::public(300_000);
    Server::builder("ringhub", env!("CARGO_PKG_VERSION"))
        .title("ringhub built-in server")
        .description("A small server to try a connection with")
        .instructions(
            "A server to try a connection with: `echo` answers its message, `add` adds two numbers, `time` tells the time in UTC.",
        )
        .cache_discover(list_cache)
        .cache(super::host::List::Tools, list_cache)
        .cache(super::host::List::Prompts, list_cache)
        .cache(super::host::List::Resources, list_cache)
        .tool(
            hinted("echo")
                .title("Echo")
                .description("Answers the message it is given, unchanged. Use it to see that calls reach this server."),
            |args: Echo, _: &Context| args.message,
        )
        .tool(
            hinted("add")
                .title("Add")
                .description("Adds two numbers. Answers the sum as text, and as structured content {\"sum\": number}."),
            |args: Add, _: &Context| added(&args),
        )
        .tool(
            hinted("time")
                .title("Time")
                .idempotent(false)
                .description("Answers the current date and time in UTC, in RFC 3339 form such as 2026-07-28T12:00:00.000Z."),
            |_: Empty, cx: &Context| rfc3339(cx.now().wall_ms),
        )
        .resource(
            Resource::new("ringhub://about", "about")
                .title("About ringhub")
                .description("What this server is, and what its tools do")
                .mime_type("text/plain")
                .size(ABOUT.len() as u64)
                .annotated(Annotations::new().priority(0.5))
                .cache(list_cache),
            |_: &Context| ABOUT,
        )
        .prompt(
            Prompt::new("greet").title("Greet someone").description("Asks the model to greet someone by name, in any language"),
            |args: Greeting, _: &Context| {
                let language = args.language.as_deref().unwrap_or("English");
                format!("Write one friendly sentence in {language} that greets {}.", args.name)
            },
        )
        .build()
}

/// A tool that reads nothing but its arguments and the clock.
fn hinted(name: &str) -> Tool {
    Tool::new(name).read_only(true).destructive(false).idempotent(true).open_world(false)
}

fn added(args: &Add) -> SumResult {
    SumResult(args.a + args.b)
}

/// The sum as a person writes it, beside the structured one.
struct SumResult(f64);

impl super::result::IntoToolResult for SumResult {
    fn write(self, to: &mut super::result::ResultWriter<'_>) -> Result<(), super::error::ToolError> {
        to.structured(&Sum { sum: self.0 }, false)?;
        to.text(&self.0.to_string());
        Ok(())
    }

    fn output_schema() -> Option<serde_json::Value> {
        Json::<Sum>::output_schema()
    }
}

/// A moment as RFC 3339 text in UTC, to the millisecond.
fn rfc3339(wall_ms: u64) -> String {
    let (days, ms_of_day) = (wall_ms / 86_400_000, wall_ms % 86_400_000);
    // Days since 0000-03-01 in the proleptic Gregorian calendar, in eras of 400 years: the leap day ends a year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hours, minutes, seconds, ms) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60, ms_of_day / 1_000 % 60, ms_of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::Client;
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(rfc3339(1_785_196_800_123), "2026-07-28T00:00:00.123Z");
        assert_eq!(rfc3339(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(rfc3339(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn it_offers_what_it_says() {
        let mut client = Client::new(server().expect("it builds"));
        let names: Vec<_> = client.tools().iter().map(|tool| tool["name"].clone()).collect();
        assert_eq!(names, ["echo", "add", "time"]);
        assert!(client.tools().iter().all(|tool| tool["description"].is_string() && tool["inputSchema"].get("description").is_none()));
        let sum = client.call("add", json!({"a": 0.5, "b": 2})).expect("it answers");
        assert_eq!((sum.text(), &sum.result["structuredContent"]), ("2.5".to_owned(), &json!({"sum": 2.5})));
        assert_eq!(client.call("time", json!({})).expect("it answers").text(), "2026-07-28T00:00:00.000Z");
        assert!(client.read("ringhub://about").expect("it is there").text().contains("echo"));
        assert!(client.prompt("greet", json!({"name": "Ada"})).expect("it is there").text().ends_with("greets Ada."));
        let wrong = client.call("add", json!({"a": "1", "b": 2})).expect("a result");
        assert!(wrong.is_error() && wrong.text().contains("`a`"), "{}", wrong.text());
    }
}
