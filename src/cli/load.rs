//! Flags of `ringhub load`.

mod run;

use crate::load::EraWish;
use crate::load::profile::{Profile, Wishes};
use crate::load::request::Kind;
use crate::load::verdict::{Amount, Thresholds, parse_amount, parse_bytes, parse_percent, parse_seconds};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

pub use run::{load, load_process};

/// What the help has above the flags that say when a run fails.
const THRESHOLDS: &str = "Thresholds (exit code 1 when one is broken)";

/// Flags of `ringhub load`.
#[derive(Args, Clone, Debug)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct LoadArgs {
    /// Which load.
    #[command(subcommand)]
    pub profile: LoadProfile,
}

/// The profiles.
#[derive(Clone, Debug, Subcommand)]
pub enum LoadProfile {
    /// 25 connections, 100 messages a second each, for 300 s: calls of a tool, lists and reads of resources, uniformly mixed
    Baseline(LoadFlags),
    /// 0 to 500 connections over 300 s, held for 180 s, then 5 of them for 120 s: 50 messages a second each, mixed as in baseline
    Flood(LoadFlags),
    /// 200 messages a second for 30 s, 150,000 for 300 s, 200 for 90 s, over 64 connections: pings of 131 bytes (server/discover in the
    /// modern era, which has no ping)
    Bomb(LoadFlags),
    /// 5,000 connections for two hours, a ping a second each
    Hold(LoadFlags),
    /// Calls of a tool over 64 connections, at a rate that grows linearly to 200,000 a second within 60 s: where the peak is
    Ramp(LoadFlags),
    /// 10,000 messages a second over 64 connections for 60 s, mixed as in baseline
    Mixed(LoadFlags),
}

impl LoadProfile {
    /// Which one, and its flags.
    #[must_use]
    pub const fn parts(&self) -> (Profile, &LoadFlags) {
        match self {
            Self::Baseline(flags) => (Profile::Baseline, flags),
            Self::Flood(flags) => (Profile::Flood, flags),
            Self::Bomb(flags) => (Profile::Bomb, flags),
            Self::Hold(flags) => (Profile::Hold, flags),
            Self::Ramp(flags) => (Profile::Ramp, flags),
            Self::Mixed(flags) => (Profile::Mixed, flags),
        }
    }
}

/// What can be said of every profile.
#[derive(Args, Clone, Debug)]
pub struct LoadFlags {
    /// The MCP server's endpoint
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080/mcp")]
    pub url: String,

    /// Era to speak: `auto` takes the newest the server has, and the legacy one where pings are sent
    #[arg(long, value_name = "ERA", default_value = "auto")]
    pub era: LoadEra,

    /// Messages a second of all connections together at the highest, or `max`: each connection sends its next request when it has an
    /// answer, and latency counts from there [default: the profile's]
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub rate: Option<LoadRate>,

    /// Connections at the most [default: the profile's]
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,

    /// How long it takes altogether, such as 90s or 2h; phases keep their proportions [default: the profile's]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub duration: Option<f64>,

    /// Multiplies all durations and no rate: 0.05 is a quick run of the same shape
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub time_scale: f64,

    /// Connections that are opened in a second before the run begins
    #[arg(long, value_name = "N", default_value_t = 1000.0)]
    pub connect_rate: f64,

    /// Requests of one connection that may be on their way at once: what is due beyond waits, and its latency counts
    /// [default: 1024 in bomb and ramp, 1 with `--rate max`, else 64]
    #[arg(long, value_name = "N")]
    pub pipeline: Option<usize>,

    /// Time until a message that has no answer counts as timed out, from its planned time
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, default_value = "10s")]
    pub timeout: f64,

    /// What to send, each as likely as any other [default: the profile's]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub send: Vec<LoadKind>,

    /// Tool to call [default: echo, else the first that can be given what it needs]
    #[arg(long, value_name = "NAME")]
    pub tool: Option<String>,

    /// Its arguments, a JSON object [default: made from its schema]
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    pub arguments: Option<String>,

    /// What each answer of the tool must contain, as it stands in the JSON [default: what it answers twice before the run]
    #[arg(long, value_name = "TEXT")]
    pub expect: Option<String>,

    /// Resource to read [default: the first that is listed]
    #[arg(long, value_name = "URI")]
    pub resource: Option<String>,

    /// Header field to send along, as 'Name: value'; may be given several times
    #[arg(long, value_name = "FIELD", value_parser = parse_field)]
    pub header: Vec<(String, String)>,

    /// Addresses to connect from, and networks such as 127.0.0.0/8 of which as many are taken as the connections' ports need
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub source_addresses: Vec<String>,

    /// Processes that load, at least; there are more when the limit of open files asks for them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub processes: usize,

    /// CPUs that they are pinned to, such as 1,3, or `none` [default: the last allowed ones]
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,

    /// Process of the server, to watch its memory and CPU; may be given several times [default: found by its socket, on this host]
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,

    /// Number that everything which looks random follows from [default: a new one, which is printed]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write the report as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Compare with an earlier run: a file that --json wrote
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,

    /// Fail when p50 of right answers is above this
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = THRESHOLDS)]
    pub max_p50: Option<f64>,

    /// Fail when p95 is above this
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = THRESHOLDS)]
    pub max_p95: Option<f64>,

    /// Fail when p99 is above this
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = THRESHOLDS)]
    pub max_p99: Option<f64>,

    /// Fail when p99.9 is above this
    #[arg(long = "max-p99.9", value_name = "TIME", value_parser = parse_seconds, help_heading = THRESHOLDS)]
    pub max_p999: Option<f64>,

    /// Fail when p99 of refusals is above this
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = THRESHOLDS)]
    pub max_refused_p99: Option<f64>,

    /// Fail when there are more errors, so many or a share such as 0.05%; 429 and 503 are refusals and no errors
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount, help_heading = THRESHOLDS)]
    pub max_errors: Option<Amount>,

    /// Fail when there are more refusals
    #[arg(long, value_name = "AMOUNT", value_parser = parse_amount, help_heading = THRESHOLDS)]
    pub max_refused: Option<Amount>,

    /// Fail when more of the plan could not be offered by the load itself
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = THRESHOLDS)]
    pub max_not_offered: Option<f64>,

    /// Fail when there are fewer right answers a second
    #[arg(long, value_name = "N", help_heading = THRESHOLDS)]
    pub min_answered: Option<f64>,

    /// Fail when the server's resident memory is ever above this, such as 64MB
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes, help_heading = THRESHOLDS)]
    pub max_rss: Option<u64>,

    /// Fail when it grows by more than this during the peak, from a tenth of it to its end
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, help_heading = THRESHOLDS)]
    pub max_rss_growth: Option<f64>,

    /// Fail when latency takes longer than this after the peak to be as it was before (flood and bomb)
    #[arg(long, value_name = "TIME", value_parser = parse_seconds, help_heading = THRESHOLDS)]
    pub max_recovery: Option<f64>,
}

impl LoadFlags {
    fn wishes(&self) -> Wishes {
        let rate = match self.rate {
            Some(LoadRate::Messages(rate)) => Some(rate),
            _ => None,
        };
        Wishes { rate, connections: self.connections, seconds: self.duration, time_scale: self.time_scale }
    }

    fn thresholds(&self) -> Thresholds {
        let us = |seconds: Option<f64>| seconds.map(|seconds| seconds * 1e6);
        Thresholds {
            p50_us: us(self.max_p50),
            p95_us: us(self.max_p95),
            p99_us: us(self.max_p99),
            p999_us: us(self.max_p999),
            refused_p99_us: us(self.max_refused_p99),
            errors: self.max_errors,
            refused: self.max_refused,
            rate_min: self.min_answered,
            rss_bytes: self.max_rss,
            rss_growth_percent: self.max_rss_growth,
            recovery_s: self.max_recovery,
            not_offered_percent: self.max_not_offered,
        }
    }

    fn kinds(&self, profile: Profile) -> Vec<Kind> {
        if self.send.is_empty() { profile.kinds().to_vec() } else { self.send.iter().map(|kind| kind.kind()).collect() }
    }
}

/// How much is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LoadRate {
    /// So many messages a second.
    Messages(f64),
    /// As many as are answered.
    Max,
}

/// CPUs to pin to; none for an empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// Which era is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadEra {
    /// What the server has.
    Auto,
    /// Sessions that begin with `initialize`.
    Legacy,
    /// 2026-07-28.
    Modern,
}

impl From<LoadEra> for EraWish {
    fn from(era: LoadEra) -> Self {
        match era {
            LoadEra::Auto => Self::Auto,
            LoadEra::Legacy => Self::Legacy,
            LoadEra::Modern => Self::Modern,
        }
    }
}

/// What can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoadKind {
    /// `ping`, or `server/discover` where there is none.
    Ping,
    /// `tools/call`
    #[value(name = "tools/call")]
    ToolsCall,
    /// `tools/list`
    #[value(name = "tools/list")]
    ToolsList,
    /// `resources/list`
    #[value(name = "resources/list")]
    ResourcesList,
    /// `resources/read`
    #[value(name = "resources/read")]
    ResourcesRead,
}

impl LoadKind {
    const fn kind(self) -> Kind {
        match self {
            Self::Ping => Kind::Ping,
            Self::ToolsCall => Kind::ToolsCall,
            Self::ToolsList => Kind::ToolsList,
            Self::ResourcesList => Kind::ResourcesList,
            Self::ResourcesRead => Kind::ResourcesRead,
        }
    }
}

fn parse_rate(text: &str) -> Result<LoadRate, String> {
    if text == "max" {
        return Ok(LoadRate::Max);
    }
    text.parse().map(LoadRate::Messages).map_err(|_| "a number, or `max`".to_owned())
}

fn parse_object(text: &str) -> Result<String, String> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) if value.is_object() => Ok(value.to_string()),
        Ok(_) => Err("arguments are a JSON object, such as {\"message\":\"hi\"}".to_owned()),
        Err(error) => Err(format!("that is no JSON: {error}")),
    }
}

fn parse_field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write a header field as 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || "write CPUs as 1,3 or 0-2, or `none`".to_owned();
    if text == "none" {
        return Ok(Cpus(Vec::new()));
    }
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (usize, usize) = (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
        if last < first || last > 4096 {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;

    fn flags(args: &[&str]) -> Result<(Profile, LoadFlags), String> {
        let cli = Cli::try_parse_from(["ringhub", "load"].iter().chain(args)).map_err(|error| error.to_string())?;
        let Command::Load(args) = cli.command else { panic!("it is load") };
        let (profile, flags) = args.profile.parts();
        Ok((profile, flags.clone()))
    }

    #[test]
    fn flags_mean_what_they_say() {
        let (profile, flags) = flags(&[
            "bomb",
            "--time-scale",
            "0.05",
            "--rate",
            "1000",
            "--max-p99",
            "5ms",
            "--max-p99.9",
            "1ms",
            "--max-errors",
            "0",
            "--max-rss",
            "64MB",
            "--max-recovery",
            "1s",
            "--send",
            "ping,tools/call",
            "--cpus",
            "1,3-4",
            "--header",
            "Authorization: Bearer a:b",
            "--source-addresses",
            "127.0.0.0/8",
        ])
        .expect("sound");
        assert_eq!((profile, flags.kinds(profile)), (Profile::Bomb, vec![Kind::Ping, Kind::ToolsCall]));
        assert_eq!((flags.wishes().rate, flags.cpus.clone()), (Some(1000.0), Some(Cpus(vec![1, 3, 4]))));
        assert_eq!(flags.header, [("Authorization".to_owned(), "Bearer a:b".to_owned())]);
        let thresholds = flags.thresholds();
        assert_eq!((thresholds.p99_us, thresholds.p999_us, thresholds.recovery_s), (Some(5_000.0), Some(1_000.0), Some(1.0)));
        assert_eq!((thresholds.errors, thresholds.rss_bytes), (Some(Amount::Count(0)), Some(64_000_000)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            &["nothing"][..],
            &["bomb", "--rate", "x"],
            &["bomb", "--arguments", "[1]"],
            &["bomb", "--cpus", "3-1"],
            &["bomb", "--header", "x"],
            &["bomb", "--duration", "5 parsecs"],
            &["bomb", "--send", "initialize"],
            &[],
        ] {
            assert!(flags(bad).is_err(), "{bad:?}");
        }
    }
}
