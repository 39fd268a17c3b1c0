//! Upstreams as they are described: by a flag, a table of the configuration's file, an entry of a desktop client's JSON file, or a client of the
//! control API.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::base::limits::{UPSTREAM_PROCESSES_DEFAULT, UPSTREAM_QUEUE_MAX};
use crate::gateway::config::{HIDDEN, Naming, Options, RestartPolicy, Target, ToolFilter, shown_args, shown_command, shown_url};
use crate::gateway::link::{Command, Dial};
use crate::gateway::{Dialect, Settings, Starts, policy};
use crate::registry::problem_with_name;
use crate::wire::http1::Url;

/// Seconds after which a lazy process that nobody needs is ended.
const REAP_AFTER_DEFAULT: f64 = 300.0;

/// Text that may be a secret: as it is, or where it is to be found.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it is.
    Plain(String),
    /// A variable of the environment.
    Env(EnvText),
    /// The content of a file, without the line break at its end.
    File(FileText),
}

/// A variable of the environment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvText {
    /// Its name.
    env: String,
}

/// A file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileText {
    /// Its path.
    file: PathBuf,
}

impl Text {
    /// The text itself.
    fn resolve(&self) -> Result<String, String> {
        match self {
            Self::Plain(text) if text.contains(HIDDEN) => {
                Err(format!("{HIDDEN} stands where a secret was when this was printed: put it in"))
            }
            Self::Plain(text) => Ok(text.clone()),
            Self::Env(EnvText { env }) => std::env::var(env).map_err(|_| format!("there is no {env} in the environment: set it")),
            Self::File(FileText { file }) => match std::fs::read_to_string(file) {
                Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => Err(format!("{}: {error}", file.display())),
            },
        }
    }

    fn plain(&self) -> Option<&str> {
        if let Self::Plain(text) = self { Some(text) } else { None }
    }
}

/// What is written out may be anybody's to see.
impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(_) => serializer.serialize_str(HIDDEN),
            Self::Env(env) => env.serialize(serializer),
            Self::File(file) => file.serialize(serializer),
        }
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str(HIDDEN),
            Self::Env(env) => env.fmt(f),
            Self::File(file) => file.fmt(f),
        }
    }
}

/// The era of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Era {
    /// Found out.
    #[default]
    Auto,
    /// The handshake.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// When an upstream is connected to, or started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// At once.
    #[default]
    Eager,
    /// When it is needed.
    Lazy,
}

/// When a process that has ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whenever it ended.
    #[default]
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    Never,
}

/// How tools and prompts are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Names {
    /// With the upstream's name before them, where several servers share an endpoint.
    #[default]
    Prefixed,
    /// As the upstream calls them.
    Plain,
}

/// Whose the sessions with an upstream of the legacy era are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sessions {
    /// Each client has its own.
    #[default]
    Client,
    /// All clients of a core share one.
    Shared,
}

/// One `[[upstream]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// The name it is registered by.
    pub name: String,
    /// Where it is; or else
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_shown_url")]
    pub url: Option<String>,
    /// the program that is started, and
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_shown_args")]
    pub args: Vec<Text>,
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The era it is spoken to in.
    pub era: Era,
    /// When it is connected to, or started.
    pub start: Start,
    /// Whether the node is ready without it.
    pub required: bool,
    /// How its tools and prompts are called.
    pub names: Names,
    /// The tools that are shown, if not all; `*` stands for any characters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// The tools that are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Whether each client has a process of its own.
    pub interactive: bool,
    /// Most such processes of one core.
    pub max_processes: usize,
    /// Whose sessions are.
    pub sessions: Sessions,
    /// When its process is started again.
    pub restart: Restart,
    /// Seconds after which a lazy process that nobody needs is ended; 300 when not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reap_after: Option<f64>,
    /// Whether requests that change nothing are sent once more when their answer was lost.
    pub retries: bool,
    /// Seconds that connecting may take.
    pub connect_timeout: f64,
    /// Seconds that the first byte of an answer may take.
    pub first_byte_timeout: f64,
    /// Seconds that a stream may be silent.
    pub idle_timeout: f64,
    /// Seconds that a request may take altogether.
    pub total_timeout: f64,
    /// Most requests of one core in work there.
    pub max_in_flight: usize,
    /// Most idle connections that one core keeps.
    pub pool_size: usize,
    /// Header fields of every request: credentials, for instance.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Text>,
    /// Variables of its process's environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Text>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: None,
            command: None,
            args: Vec::new(),
            cwd: None,
            era: Era::default(),
            start: Start::default(),
            required: false,
            names: Names::default(),
            allow: Vec::new(),
            deny: Vec::new(),
            interactive: false,
            max_processes: UPSTREAM_PROCESSES_DEFAULT,
            sessions: Sessions::default(),
            restart: Restart::default(),
            reap_after: None,
            retries: true,
            connect_timeout: 5.0,
            first_byte_timeout: 60.0,
            idle_timeout: 300.0,
            total_timeout: 300.0,
            max_in_flight: 256,
            pool_size: 64,
            headers: BTreeMap::new(),
            env: BTreeMap::new(),
        }
    }
}

impl Upstream {
    /// Reads what a client of the control API has said: an object of the words of `[[upstream]]`, without the name.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn of_front(name: &str, front: &[u8]) -> Result<Self, Vec<String>> {
        let read = serde_json::from_slice(front).map_err(|error| vec![error.to_string()])?;
        Ok(Self { name: name.to_owned(), ..read })
    }

    /// What every core is told of one that was registered.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn register(&self) -> Result<Settings, Vec<String>> {
        let mut problems = Vec::new();
        let texts = self.headers.values().chain(self.env.values()).chain(&self.args);
        if texts.into_iter().any(|text| text.plain().is_none()) {
            // Whoever may register a server need not be who may read the files of this process.
            problems.push("a value that stands in a file or in the environment is for the configuration: give it as it is".to_owned());
        }
        match self.resolve(&mut problems) {
            Some(mut settings) if problems.is_empty() => {
                settings.options.is_registered = true;
                Ok(settings)
            }
            _ => Err(problems),
        }
    }

    /// Reads `NAME=https?://HOST:PORT/path` or `NAME=stdio:COMMAND ARGS`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_flag(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("--upstream {}: {why}", text.split_once('=').map_or(text, |(name, _)| name));
        let (name, target) = text.split_once('=').ok_or_else(|| wrong("write NAME=https://HOST:PORT/path or 'NAME=stdio:COMMAND ARGS'"))?;
        let named = Self { name: name.to_owned(), ..Self::default() };
        Ok(match Target::parse(target).map_err(wrong)? {
            Target::Http(_) => Self { url: Some(target.to_owned()), ..named },
            Target::Stdio(words) => {
                let mut words = words.into_iter();
                Self { command: words.next(), args: words.map(Text::Plain).collect(), ..named }
            }
        })
    }

    /// What every core is told, the secrets in it; adds to `problems` all that is wrong.
    pub fn resolve(&self, problems: &mut Vec<String>) -> Option<Settings> {
        let mut judge = Judge { name: &self.name, problems };
        let before = judge.problems.len();
        if let Some(why) = problem_with_name(&self.name) {
            judge.wrong::<()>("name", why);
        }
        if self.reap_after.is_some() && (self.start != Start::Lazy || self.command.is_none()) {
            judge.wrong::<()>("reap_after", "it is for a command with start = \"lazy\": leave it out, since all others stay");
        }
        let reached = match (&self.url, &self.command) {
            (Some(url), None) => self.by_url(url, &mut judge),
            (None, Some(program)) => self.by_command(program, &mut judge),
            (Some(_), Some(_)) => judge.wrong("", "it has both url and command: leave one out"),
            (None, None) => judge.wrong("", "it has neither url nor command: give one"),
        };
        let patterns = |list: &[String]| list.iter().map(|pattern| pattern.as_str().into()).collect();
        let settings = reached.map(|(url, dial, starts)| Settings {
            name: self.name.as_str().into(),
            url: url.into(),
            dial: Arc::new(dial),
            starts,
            dialect: match self.era {
                Era::Auto => Dialect::Auto,
                Era::Legacy => Dialect::Legacy,
                Era::Modern => Dialect::Modern,
            },
            connect_timeout: judge.timeout("connect_timeout", self.connect_timeout),
            first_byte_timeout: judge.timeout("first_byte_timeout", self.first_byte_timeout),
            idle_timeout: judge.timeout("idle_timeout", self.idle_timeout),
            total_timeout: judge.timeout("total_timeout", self.total_timeout),
            in_flight_max: judge.within("max_in_flight", self.max_in_flight, 1),
            queued_max: UPSTREAM_QUEUE_MAX,
            idle_links_max: judge.within("pool_size", self.pool_size, 0),
            retries: self.retries,
            options: Options {
                restart: match self.restart {
                    Restart::Always => RestartPolicy::Always,
                    Restart::OnFailure => RestartPolicy::OnFailure,
                    Restart::Never => RestartPolicy::Never,
                },
                is_lazy: self.start == Start::Lazy,
                reap_after: judge.timeout("reap_after", self.reap_after.unwrap_or(REAP_AFTER_DEFAULT)),
                is_required: self.required,
                is_interactive: self.interactive,
                shares_sessions: self.sessions == Sessions::Shared,
                processes_max: judge.within("max_processes", self.max_processes, 1),
                naming: if self.names == Names::Plain { Naming::Plain } else { Naming::Prefixed },
                tools: ToolFilter { allow: patterns(&self.allow), deny: patterns(&self.deny) },
                is_registered: false,
            },
        });
        settings.filter(|_| judge.problems.len() == before)
    }

    fn by_url(&self, text: &str, judge: &mut Judge<'_>) -> Option<(String, Dial, Starts)> {
        for (key, is_set) in [("args", !self.args.is_empty()), ("env", !self.env.is_empty()), ("cwd", self.cwd.is_some())] {
            if is_set {
                judge.wrong::<()>(key, "it belongs to a command: leave it out");
            }
        }
        if self.interactive {
            judge.wrong::<()>(
                "interactive",
                "it is for processes: leave it out, since a server that is reached by URL tells its clients apart",
            );
        }
        let url = Url::parse(text).filter(|_| !text.contains(HIDDEN));
        if url.is_none() {
            judge.wrong::<()>(
                "url",
                "it is no URL of an MCP server: write https://HOST:PORT/path (no user or #fragment, ASCII); secrets go in headers",
            );
        }
        let mut fields: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in &self.headers {
            let place = format!("headers: {name}");
            let Some(value) = judge.text(&place, value) else { continue };
            match policy::problem_with_configured(name, value.as_bytes()) {
                Some(why) => _ = judge.wrong::<()>(&place, why),
                None => fields.push((name.as_str().into(), value.into())),
            }
        }
        let repeated =
            fields.iter().enumerate().find(|(at, (name, _))| fields[..*at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        if let Some((_, (name, _))) = repeated {
            judge.wrong::<()>(&format!("headers: {name}"), "it is there twice, in other letters: leave one out");
        }
        let url = url?;
        let dial = Dial::Tcp { host: url.host.into(), port: url.port, tls: url.is_tls };
        match Starts::new(url.target, url.authority, &fields) {
            Ok(starts) => Some((shown_url(text), dial, starts)),
            Err(why) => judge.wrong("url", &why.to_string()),
        }
    }

    fn by_command(&self, program: &str, judge: &mut Judge<'_>) -> Option<(String, Dial, Starts)> {
        if !self.headers.is_empty() {
            judge.wrong::<()>("headers", "they belong to a url: leave them out, or use env");
        }
        if program.is_empty() || program.contains('\0') {
            judge.wrong::<()>("command", "it names no program: give its name or path, and its arguments in args");
        }
        let args: Vec<String> = self.args.iter().filter_map(|arg| judge.text("args", arg)).collect();
        let mut env: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in &self.env {
            let place = format!("env: {name}");
            if name.is_empty() || name.contains(['=', '\0']) {
                judge.wrong::<()>(&place, "it is no name of a variable");
            }
            env.extend(judge.text(&place, value).map(|value| (name.as_str().into(), value.into())));
        }
        if args.iter().map(String::as_str).chain(env.iter().map(|(_, value)| &**value)).any(|text| text.contains('\0')) {
            judge.wrong::<()>("", "an argument or variable has a NUL in it: no process can be given that");
        }
        let plain: Vec<String> = self.args.iter().map(|arg| arg.plain().unwrap_or(HIDDEN).to_owned()).collect();
        let command = Command {
            name: self.name.as_str().into(),
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: env.into(),
            cwd: self.cwd.as_deref().map(Into::into),
        };
        // Nothing of HTTP is sent to it.
        let starts = Starts::new("/", "localhost", &[]).ok()?;
        Some((shown_command(program, &plain), Dial::Child(Box::new(command)), starts))
    }
}

/// A time that can be waited for.
#[must_use]
pub fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|duration| !duration.is_zero() && seconds <= 365.0 * 86_400.0)
}

/// Says what is wrong with one upstream.
struct Judge<'a> {
    name: &'a str,
    problems: &'a mut Vec<String>,
}

impl Judge<'_> {
    fn wrong<T>(&mut self, place: &str, why: &str) -> Option<T> {
        let separator = if place.is_empty() { "" } else { ": " };
        self.problems.push(format!("upstream `{}`: {place}{separator}{why}", self.name));
        None
    }

    fn text(&mut self, place: &str, text: &Text) -> Option<String> {
        text.resolve().map_err(|why| self.wrong::<()>(place, &why)).ok()
    }

    fn timeout(&mut self, key: &str, seconds: f64) -> Duration {
        duration(seconds).unwrap_or_else(|| {
            self.wrong::<()>(key, &format!("{seconds} must be a number of seconds above 0, a year at most"));
            Duration::ZERO
        })
    }

    fn within(&mut self, key: &str, value: usize, least: usize) -> usize {
        if !(least..=65_536).contains(&value) {
            self.wrong::<()>(key, &format!("{value} must be from {least} to 65536"));
        }
        value
    }
}

#[expect(clippy::ref_option, reason = "serde hands the field itself")]
fn as_shown_url<S: Serializer>(url: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown_url(url.as_deref().unwrap_or_default()))
}

/// Plain arguments are shown, but for what sounds like a secret.
fn as_shown_args<S: Serializer>(args: &[Text], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Shown<'a> {
        Plain(String),
        Elsewhere(&'a Text),
    }
    let shown = shown_args(args.iter().map(|arg| arg.plain().unwrap_or_default()));
    serializer.collect_seq(args.iter().zip(shown).map(|(arg, shown)| match arg {
        Text::Plain(_) => Shown::Plain(shown),
        elsewhere => Shown::Elsewhere(elsewhere),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_is_said_in_the_words_of_the_file() {
        let front =
            br#"{"url":"https://h/mcp?k=hush","era":"legacy","headers":{"Authorization":"Bearer hush"},"names":"plain","total_timeout":2}"#;
        let upstream = Upstream::of_front("a", front).expect("words");
        let settings = upstream.register().expect("sound");
        assert!(settings.options.is_registered && settings.dialect == Dialect::Legacy && settings.options.naming == Naming::Plain);
        assert_eq!((&*settings.name, &*settings.url, settings.total_timeout), ("a", "https://h/mcp?<hidden>", Duration::from_secs(2)));
        assert!(!serde_json::to_string(&upstream).expect("JSON").contains("hush"));
        assert!(Upstream::of_front("a", br#"{"uri":"x"}"#).expect_err("no such word")[0].contains("uri"));
        for (front, part) in [
            (&br#"{"url":"ftp://h"}"#[..], "url: "),
            (br#"{"url":"http://h/","headers":{"a":{"env":"PATH"}}}"#, "as it is"),
            (br#"{"url":"http://h/","headers":{"a":"<hidden>"}}"#, "put it in"),
            (br#"{"url":"http://h/","command":"x"}"#, "both"),
        ] {
            let problems = Upstream::of_front("a", front).expect("words").register().expect_err("it is wrong");
            assert!(problems.iter().any(|problem| problem.contains(part)), "{part}: {problems:?}");
        }
    }
}
