//! The change stream: who is told which entries of the registry changed.
//!
//! The owner of an entry says that it changed. The admin port is at one core, so the other owners send it a frame, while anybody listens; what
//! finds its lane full is sent again, and more than can be kept becomes "anything may have changed".

use std::collections::VecDeque;
use std::time::Duration;

use super::Frame;
use crate::base::ids::{ConnId, CoreId};
use crate::base::limits::NOTICES_OWED_MAX;
use crate::base::time::Nanos;
use crate::engine::out::{self, Effect, Lane, Out};
use crate::engine::reply;
use crate::registry::Kind;
use crate::wire::json::write_str;
use crate::wire::sse;

/// The core that has the admin port.
pub(in crate::engine) const HOME: CoreId = CoreId(0);

/// One listener.
#[derive(Debug)]
struct Listener {
    conn: ConnId,
    minor: u8,
    wrote: Nanos,
}

/// What is to be told of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An entry was made, altered or removed.
    Entry {
        /// Which of the two.
        kind: Kind,
        /// Its name or path.
        name: Box<str>,
    },
    /// More than could be told.
    Any,
}

/// The listeners of this core, and what this core owes to the one that has them.
#[derive(Debug, Default)]
pub(super) struct Stream {
    listeners: Vec<Listener>,
    owed: VecDeque<Notice>,
}

impl Stream {
    pub fn open(&mut self, conn: ConnId, minor: u8, now: Nanos) {
        self.listeners.push(Listener { conn, minor, wrote: now });
    }

    /// Whether it was one.
    pub fn remove(&mut self, conn: ConnId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| listener.conn != conn);
        before != self.listeners.len()
    }

    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Tells every listener here.
    pub fn tell(&mut self, now: Nanos, notice: &Notice, out: &mut Out) {
        let mut data = Vec::new();
        write(&mut data, notice);
        for listener in &mut self.listeners {
            listener.wrote = now;
            out.write(listener.conn, |bytes| reply::event(bytes, listener.minor, &data));
        }
    }

    /// Tells the core that has the listeners.
    pub fn pass_on(&mut self, notice: Notice, out: &mut Out) {
        if self.owed.is_empty() {
            send(notice, out);
        } else {
            self.owe(notice);
        }
    }

    /// A notice found no room.
    pub fn owe(&mut self, notice: Notice) {
        if self.owed.len() >= NOTICES_OWED_MAX {
            self.owed.clear();
            self.owed.push_back(Notice::Any);
        } else if self.owed.back() != Some(&notice) {
            self.owed.push_back(notice);
        }
    }

    /// Sends what found no room.
    pub fn resend(&mut self, out: &mut Out) {
        std::mem::take(&mut self.owed).into_iter().for_each(|notice| send(notice, out));
    }

    /// Writes a comment on what was silent for `silence`.
    pub fn comment(&mut self, now: Nanos, silence: Duration, out: &mut Out) {
        for listener in self.listeners.iter_mut().filter(|listener| now.since(listener.wrote) >= silence) {
            listener.wrote = now;
            out.write(listener.conn, |bytes| reply::stream_part(bytes, listener.minor, sse::comment));
        }
    }

    /// When [`Self::comment`] is due.
    pub fn next_comment(&self, silence: Duration) -> Nanos {
        self.listeners.iter().map(|listener| listener.wrote.after(silence)).min().unwrap_or(Nanos::NEVER)
    }

    /// Ends every stream.
    pub fn end(&mut self, out: &mut Out) {
        for listener in self.listeners.drain(..) {
            out.write(listener.conn, |bytes| reply::stream_end(bytes, listener.minor));
            out.effects.push(Effect::End { conn: listener.conn, close: true });
        }
    }
}

fn send(notice: Notice, out: &mut Out) {
    out.effects.push(Effect::Send { to: HOME, lane: Lane::Ask, frame: out::Frame::Admin(Box::new(Frame::Notice(notice))) });
}

fn write(data: &mut Vec<u8>, notice: &Notice) {
    match notice {
        Notice::Entry { kind, name } => {
            data.extend_from_slice(match kind {
                Kind::Server => br#"{"kind":"server","name":"#,
                Kind::Endpoint => br#"{"kind":"endpoint","name":"#,
            });
            write_str(data, name);
            data.push(b'}');
        }
        Notice::Any => data.extend_from_slice(br#"{"kind":"any"}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str) -> Notice {
        Notice::Entry { kind: Kind::Server, name: name.into() }
    }

    #[test]
    fn what_cannot_be_kept_becomes_anything() {
        let mut stream = Stream::default();
        for number in 0..=NOTICES_OWED_MAX {
            stream.owe(entry(&number.to_string()));
        }
        assert_eq!(stream.owed, [Notice::Any]);
        stream.owe(Notice::Any);
        assert_eq!(stream.owed.len(), 1);
        let mut out = Out::default();
        stream.pass_on(entry("later"), &mut out);
        assert!(out.is_empty(), "it goes behind what is owed");
        stream.resend(&mut out);
        assert_eq!((out.effects.len(), stream.owed.len()), (2, 0));
    }

    #[test]
    fn every_listener_is_told() {
        let mut stream = Stream::default();
        let conn = |index| ConnId { index, generation: 1 };
        stream.open(conn(1), 1, Nanos(0));
        stream.open(conn(2), 0, Nanos(0));
        let mut out = Out::default();
        stream.tell(Nanos(5), &entry("a\"b"), &mut out);
        let text = String::from_utf8(out.bytes.clone()).expect("text");
        assert_eq!(text.matches(r#"data: {"kind":"server","name":"a\"b"}"#).count(), 2);
        assert!(stream.remove(conn(1)) && !stream.remove(conn(1)));
        assert_eq!(stream.next_comment(Duration::from_nanos(10)), Nanos(15));
        stream.end(&mut out);
        assert_eq!(stream.len(), 0);
    }
}
