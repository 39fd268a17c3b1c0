//! Links: bounded, ordered streams of bytes to and from an upstream. The shell makes them; everything else sees only these values.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::LinkId;

/// Where a link leads.
#[derive(PartialEq, Eq, Debug)]
pub enum Dial {
    /// To a TCP port.
    Tcp {
        /// A name, or an address; an IPv6 address may stand in brackets.
        host: Box<str>,
        /// The port.
        port: u16,
        /// Whether TLS is spoken there. The certificate must be the host's, and HTTP/1.1 is what is asked for (RFC 7301).
        tls: bool,
    },
    /// To the standard input and output of a process that is started for it.
    Child(Box<Command>),
}

/// How a child process is started.
#[derive(PartialEq, Eq)]
pub struct Command {
    /// What the log calls it: the name of the upstream.
    pub name: Box<str>,
    /// A path, or a name that is looked up in `PATH`.
    pub program: Box<str>,
    /// Its arguments, without the program's own name.
    pub args: Box<[Box<str>]>,
    /// Set in addition to what every child has from the environment of this process: `HOME`, `LANG`, `LC_ALL`, `LOGNAME`, `PATH`,
    /// `SHELL`, `TERM`, `TMPDIR`, `TZ` and `USER`. It has no more: secrets of one upstream are none of another's business.
    pub env: Box<[(Box<str>, Box<str>)]>,
    /// Where it runs; here, if not said.
    pub cwd: Option<Box<str>>,
}

/// Arguments and values are not shown: they may be secret.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("name", &self.name)
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &env)
            .field("cwd", &self.cwd)
            .finish()
    }
}

/// What is to be done about a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Make a link. Whatever becomes of it is told by a [`LinkEvent`], and the last that is told is always a [`Down`](LinkEvent::Down).
    Dial {
        /// Its name, chosen by the engine; no other link has it until this one is down.
        link: LinkId,
        /// Where it leads.
        dial: Arc<Dial>,
        /// How long it may take until it is up: the name looked up, connected, the TLS handshake done; or the process started.
        timeout: Duration,
    },
    /// Append these bytes to what the link sends. Before it is up they wait.
    Feed {
        /// The link.
        link: LinkId,
        /// Where they are, in what is shown with it.
        range: Range<usize>,
    },
    /// Stop reading the link, or go on.
    Throttle {
        /// The link.
        link: LinkId,
        /// Whether it is not read.
        is_paused: bool,
    },
    /// Close the link. A connection is closed at once; what was fed and is not with the kernel is dropped. A child is fed the rest, then
    /// its standard input is closed; if it goes on, its process group gets SIGTERM and at last SIGKILL. Nothing more is read.
    Hang {
        /// The link.
        link: LinkId,
    },
}

/// What happened to a link.
///
/// In order: at most one [`Up`](Self::Up); after it [`Bytes`](Self::Bytes), at most one [`End`](Self::End) after all of them, and
/// [`Drained`](Self::Drained); last, always and once, [`Down`](Self::Down).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEvent<'a> {
    /// It is made: connected, with the TLS handshake done; or the process runs.
    Up,
    /// What came from the other end.
    Bytes(&'a [u8]),
    /// The other end sends no more. It may still be fed.
    End,
    /// All that was fed is with the kernel.
    Drained,
    /// It is gone; its id is stale.
    Down(Down),
}

/// Why a link is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Down {
    /// The host's name has no address.
    NameUnknown,
    /// Nobody listens at the port.
    Refused,
    /// There is no way to the host.
    Unreachable,
    /// It was not up in time.
    TimedOut,
    /// The connection broke: what was fed may not have arrived, and what came may not be all.
    Reset,
    /// The TLS handshake failed, or what came is not TLS. The text says why.
    Tls(Box<str>),
    /// The process was not started. The text says why.
    NotStarted(Box<str>),
    /// The process has ended.
    Exited {
        /// Its exit code; none when a signal ended it.
        code: Option<i32>,
    },
    /// It was hung up by [`Effect::Hang`]. Of a child: and has ended.
    Hung,
    /// A limit of this node: of descriptors, of links, or of bytes that wait for the other end to take them.
    TooMany,
}

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameUnknown => f.write_str("its name has no address"),
            Self::Refused => f.write_str("nobody listens at its port"),
            Self::Unreachable => f.write_str("there is no way to its host"),
            Self::TimedOut => f.write_str("it did not answer in time"),
            Self::Reset => f.write_str("the connection broke"),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::NotStarted(why) => write!(f, "it could not be started: {why}"),
            Self::Exited { code: Some(code) } => write!(f, "it exited with code {code}"),
            Self::Exited { code: None } => f.write_str("a signal ended it"),
            Self::Hung => f.write_str("it was hung up"),
            Self::TooMany => f.write_str("a limit of this node is reached"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let command = Command {
            name: "files".into(),
            program: "server".into(),
            args: Box::new(["--token=hush".into()]),
            env: Box::new([("API_KEY".into(), "hush".into())]),
            cwd: Some("/srv".into()),
        };
        let shown = format!("{:?}", Dial::Child(Box::new(command)));
        assert!(shown.contains("API_KEY") && shown.contains("server") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn why_it_is_gone_reads_as_a_sentence() {
        assert_eq!(Down::Exited { code: Some(3) }.to_string(), "it exited with code 3");
        assert_eq!(Down::Tls("certificate expired".into()).to_string(), "TLS: certificate expired");
    }
}
