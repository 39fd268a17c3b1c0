//! Why a relayed request was not answered by its upstream.

use std::fmt;

use super::link::Down;
use crate::base::fault::Kind;
use crate::wire::http1::Broken;

/// Why there is no answer. Reads as what follows the name of the server in a sentence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It could not be reached, or the link to it broke.
    Down(Down),
    /// The answer did not begin, or go on, in time.
    TimedOut,
    /// It closed the connection before it had answered.
    Closed,
    /// It answered this HTTP status, and no JSON-RPC.
    Status(u16),
    /// What came is no HTTP response.
    Http(Broken),
    /// What came is no answer; says why.
    Garbage(&'static str),
    /// Its answer is larger than allowed.
    TooLarge,
    /// This gateway's memory ran out while it was to take the answer.
    NoRoom,
    /// As many requests as may wait for it do.
    Busy,
    /// It failed lately, and is left alone for a while.
    Resting,
    /// It is a process that answered nothing for so long that it was ended.
    Silent,
    /// It is a process that has ended, and is not started again.
    Over,
    /// It is not among the upstreams any more.
    Gone,
    /// It did not agree to a session.
    NoSession,
    /// As many principals as may have a session with it.
    Sessions,
    /// As many of its processes run as may.
    Processes,
    /// It asked for what the client cannot be asked for.
    Asks,
    /// It asked for what the client did not give.
    Unanswered,
    /// It made a task of the request.
    Task,
    /// It does not speak the version that the request was sent in, nor took it in another one.
    Version,
    /// It does not take the header fields that its list of tools asks for.
    Headers,
}

impl Failure {
    /// How it is counted and coded.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Down(_) | Self::Closed | Self::Resting | Self::Over | Self::Gone => Kind::UpstreamDown,
            Self::TimedOut | Self::Silent => Kind::UpstreamTimeout,
            Self::Http(_)
            | Self::Status(_)
            | Self::Garbage(_)
            | Self::TooLarge
            | Self::NoSession
            | Self::Task
            | Self::Asks
            | Self::Version
            | Self::Headers => Kind::UpstreamBroken,
            Self::NoRoom | Self::Busy | Self::Sessions | Self::Processes => Kind::UpstreamBusy,
            Self::Unanswered => Kind::Internal,
        }
    }

    /// Whether it speaks against the upstream, as opposed to this gateway or the request.
    pub(super) const fn is_its_fault(&self) -> bool {
        match self {
            Self::Down(Down::TooMany | Down::Hung)
            | Self::Busy
            | Self::NoRoom
            | Self::Sessions
            | Self::Processes
            | Self::Resting
            | Self::Over
            | Self::Gone
            | Self::Asks
            | Self::Unanswered
            | Self::Task
            | Self::Version
            | Self::Headers
            | Self::TooLarge => false,
            Self::Status(status) => *status >= 500,
            Self::Down(_) | Self::TimedOut | Self::Silent | Self::Closed | Self::Http(_) | Self::Garbage(_) | Self::NoSession => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down(down) => write!(f, "cannot be reached: {down}"),
            Self::TimedOut => f.write_str("did not answer in time"),
            Self::Closed => f.write_str("closed the connection before it answered"),
            Self::Status(401 | 403) => f.write_str("does not accept this gateway's credentials"),
            Self::Status(status) => write!(f, "answered HTTP {status}"),
            Self::Http(broken) => write!(f, "cannot be understood: {broken}"),
            Self::Garbage(why) => write!(f, "sent what is no answer: {why}"),
            Self::TooLarge => f.write_str("sent a larger answer than this gateway takes"),
            Self::NoRoom => f.write_str("sent an answer for which this gateway has no memory left; try again later"),
            Self::Busy => f.write_str("has too many requests in work; try again later"),
            Self::Resting => f.write_str("failed lately; it is tried again soon"),
            Self::Sessions => f.write_str("has sessions for as many clients as this gateway keeps; try again later"),
            Self::Processes => f.write_str("runs for as many clients as it may; try again later"),
            Self::Silent => f.write_str("answered nothing for so long that it was ended"),
            Self::Over => f.write_str("has ended and is not started again"),
            Self::Gone => f.write_str("is not fronted any more"),
            Self::NoSession => f.write_str("did not agree to a session"),
            Self::Unanswered => f.write_str("asked for input that was not given"),
            Self::Task => f.write_str("made a task of the request, though nobody said that its client could follow one: this gateway relays none"),
            Self::Version => f.write_str(
                "did not take the version of the protocol that it was found to speak; what it speaks is found out again: try again later, and \
                 see whether the `era` that is configured for it is right",
            ),
            Self::Headers => f.write_str(
                "did not take the header fields that its list of tools asks for; that list was read again: ask for the list of tools, try again, \
                 and see to it that the server checks what its schemas (x-mcp-header) say",
            ),
            Self::Asks => f.write_str("asks for input, which cannot be relayed to this client"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reads_as_a_sentence() {
        assert_eq!(Failure::Down(Down::Refused).to_string(), "cannot be reached: nobody listens at its port");
        assert_eq!(Failure::Status(502).to_string(), "answered HTTP 502");
    }

    #[test]
    fn what_the_upstream_cannot_help_is_not_held_against_it() {
        assert!(Failure::Status(500).is_its_fault() && Failure::Down(Down::Refused).is_its_fault() && Failure::TimedOut.is_its_fault());
        assert!(!Failure::Status(404).is_its_fault() && !Failure::Busy.is_its_fault() && !Failure::Down(Down::TooMany).is_its_fault());
    }
}
