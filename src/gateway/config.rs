//! What can be set about an upstream besides how it is reached, and how a target is written: a URL, or a command that is started.

use std::time::Duration;

use crate::base::limits::UPSTREAM_PROCESSES_DEFAULT;
use crate::wire::http1::Url;

pub use super::restart::RestartPolicy;

/// Stands where a secret was.
pub const HIDDEN: &str = "<hidden>";
/// What a command is marked with.
const STDIO: &str = "stdio:";

/// What stands behind an upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// A server that speaks Streamable HTTP.
    Http(Url<'a>),
    /// A process that speaks over its standard input and output: the program and its arguments.
    Stdio(Vec<String>),
}

impl<'a> Target<'a> {
    /// Reads `https?://HOST:PORT/path`, or `stdio:` and a command in words as a shell splits them.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn parse(text: &'a str) -> Result<Self, &'static str> {
        let Some(command) = text.strip_prefix(STDIO) else {
            let wrong = "it is no target: write https://HOST:PORT/path (no user or #fragment, ASCII), or stdio:COMMAND ARGS";
            return Url::parse(text).map(Self::Http).ok_or(wrong);
        };
        match shlex::split(command) {
            Some(words) if words.first().is_some_and(|program| !program.is_empty()) => Ok(Self::Stdio(words)),
            Some(_) => Err("it names no program: write stdio:COMMAND ARGS"),
            None => Err("the quotes of its command do not match: close them"),
        }
    }

    /// Whether a process is started for it.
    #[must_use]
    pub const fn is_stdio(&self) -> bool {
        matches!(self, Self::Stdio(_))
    }
}

/// A URL as people are shown it: what a query says may be a key.
#[must_use]
pub fn shown_url(url: &str) -> String {
    url.split_once('?').map_or_else(|| url.to_owned(), |(url, _)| format!("{url}?{HIDDEN}"))
}

/// Arguments as people are shown them: the value of an option whose name sounds like a secret's is hidden.
#[must_use]
pub fn shown_args<'a>(args: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let is_secret = |option: &str| {
        let lower = option.to_ascii_lowercase();
        ["token", "secret", "password", "passwd", "key", "credential", "auth", "header", "bearer"].iter().any(|word| lower.contains(word))
    };
    let plain = |text: &str| if text.contains("://") { shown_url(text) } else { text.to_owned() };
    let mut is_next_hidden = false;
    let shown = args.into_iter().map(|arg| {
        let hides = std::mem::take(&mut is_next_hidden);
        match arg.split_once('=').filter(|(option, _)| !option.contains("://")) {
            Some((option, _)) if is_secret(option) => format!("{option}={HIDDEN}"),
            Some((option, value)) if option.starts_with('-') => format!("{option}={}", plain(value)),
            _ if arg.starts_with('-') => {
                is_next_hidden = is_secret(arg);
                arg.to_owned()
            }
            _ if hides => HIDDEN.to_owned(),
            _ => plain(arg),
        }
    });
    shown.collect()
}

/// A command line as people are shown it: `stdio:` and its words, secrets hidden.
#[must_use]
pub fn shown_command(program: &str, args: &[String]) -> String {
    let mut text = format!("{STDIO}{program}");
    for arg in shown_args(args.iter().map(String::as_str)) {
        text.push(' ');
        text.push_str(&shlex::try_quote(&arg).unwrap_or_default());
    }
    text
}

/// How tools and prompts of an upstream are called where several servers share an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Naming {
    /// With the upstream's name before them.
    #[default]
    Prefixed,
    /// As the upstream calls them.
    Plain,
}

/// Which tools of an upstream are shown. In a pattern, `*` stands for any characters.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ToolFilter {
    /// Only these; all when there are none.
    pub allow: Box<[Box<str>]>,
    /// Not these, allowed or not.
    pub deny: Box<[Box<str>]>,
}

impl ToolFilter {
    /// Whether this tool is shown.
    #[must_use]
    pub fn admits(&self, tool: &str) -> bool {
        let any = |patterns: &[Box<str>]| patterns.iter().any(|pattern| matches(pattern, tool));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}

/// Whether the name is one that the pattern means. Takes time in proportion to both lengths at most.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// What of an upstream's settings is not about how it is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// When its process is started again.
    pub restart: RestartPolicy,
    /// It is left alone until somebody needs it.
    pub is_lazy: bool,
    /// A lazy process is ended when nobody has needed it for so long.
    pub reap_after: Duration,
    /// The node is not ready before it was seen once.
    pub is_required: bool,
    /// Each client has a process of its own, so that it can be asked for input.
    pub is_interactive: bool,
    /// All clients of a core share one session with it, in the legacy era.
    pub shares_sessions: bool,
    /// Most processes of one core when each client has its own.
    pub processes_max: usize,
    /// How its tools and prompts are called.
    pub naming: Naming,
    /// Which of its tools are shown.
    pub tools: ToolFilter,
    /// It was registered while the process ran. Else the configuration names it.
    pub is_registered: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            restart: RestartPolicy::default(),
            is_lazy: false,
            reap_after: Duration::ZERO,
            is_required: false,
            is_interactive: false,
            shares_sessions: false,
            processes_max: UPSTREAM_PROCESSES_DEFAULT,
            naming: Naming::default(),
            tools: ToolFilter::default(),
            is_registered: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_a_command() {
        assert!(matches!(Target::parse("https://h/mcp"), Ok(Target::Http(url)) if url.is_tls));
        let words = Target::parse(r#"stdio:npx -y "a b" c\ d"#).expect("a command");
        assert_eq!(words, Target::Stdio(["npx", "-y", "a b", "c d"].map(str::to_owned).into()));
        for bad in ["", "npx x", "stdio:", "stdio:  ", "stdio:''", "stdio:a 'b", "ws://h/", "http://u@h/"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_sounds_like_a_secret_is_not_shown() {
        let words = [
            "--token=a",
            "--api-key",
            "b",
            "-v",
            "https://h/?key=c",
            "--url=http://x?y",
            "plain",
            "PASSWORD=d",
            "--header",
            "Authorization: e",
        ];
        let shown = shown_command("p", &words.map(str::to_owned));
        assert_eq!(
            shown,
            "stdio:p '--token=<hidden>' --api-key '<hidden>' -v 'https://h/?<hidden>' '--url=http://x?<hidden>' plain 'PASSWORD=<hidden>' --header '<hidden>'"
        );
        assert_eq!(shown_url("https://h/a?b"), "https://h/a?<hidden>");
        assert_eq!(shown_url("https://h/a"), "https://h/a");
    }

    #[test]
    fn tools_are_shown_by_patterns() {
        for (pattern, good, bad) in [
            ("read", &["read"][..], &["reader", "rea", ""][..]),
            ("read*", &["read", "read_file"], &["bread"]),
            ("*file", &["file", "read_file"], &["files"]),
            ("a*b*c", &["abc", "aXbYc", "abbc"], &["ab", "acb", "bc"]),
            ("*", &["", "x"], &[]),
            ("ab*ba", &["abba", "abxba"], &["aba"]),
        ] {
            assert!(good.iter().all(|name| matches(pattern, name)), "{pattern}");
            assert!(!bad.iter().any(|name| matches(pattern, name)), "{pattern}");
        }
        let filter = ToolFilter { allow: Box::new(["a*".into()]), deny: Box::new(["ab".into()]) };
        assert!(filter.admits("a") && filter.admits("abc") && !filter.admits("ab") && !filter.admits("b"));
        assert!(ToolFilter::default().admits("anything"));
    }
}
