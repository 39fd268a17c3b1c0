//! Responses that did not complete at once: one per connection at most.
//!
//! A response is undecided until the first of: its result (one JSON body, or a stream of one event for a client that takes no JSON), or
//! something to say before the result (a stream, if the client takes one). From then on it is committed.

use std::time::Duration;

use hashbrown::HashMap;

use super::legacy;
use super::out::{Effect, Out};
use super::reply::{self, Date, Terms};
use crate::base::ids::{CallId, ConnId};
use crate::base::time::Nanos;
use crate::wire::sse;

/// What a response waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    /// A call of the modern era.
    Call(CallId),
    /// `subscriptions/listen`: it has no end of its own.
    Listen,
    /// A stream of a legacy session.
    Legacy(legacy::Carried),
}

/// One response in the making.
#[derive(Debug)]
pub(super) struct Exchange {
    pub terms: Terms<'static>,
    pub owner: Owner,
    /// The head of a stream is out.
    pub is_stream: bool,
    /// Its client reads slower than is written.
    pub is_choked: bool,
    /// When something was written last.
    pub wrote: Nanos,
}

/// The responses in the making, by connection.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    table: HashMap<ConnId, Exchange>,
    /// No stream needs a comment before this moment.
    comment_due: Nanos,
}

impl Exchanges {
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// A response begins. The connection has no other.
    pub fn open(&mut self, conn: ConnId, terms: &Terms<'_>, owner: Owner, now: Nanos) {
        let exchange = Exchange { terms: terms.kept(), owner, is_stream: false, is_choked: false, wrote: now };
        let before = self.table.insert(conn, exchange);
        debug_assert!(before.is_none(), "a connection takes no request while a response is pending");
    }

    pub fn get(&self, conn: ConnId) -> Option<&Exchange> {
        self.table.get(&conn)
    }

    /// Notes that its client has fallen behind, or has caught up. Gives what the response waits for.
    pub fn choke(&mut self, conn: ConnId, is_choked: bool) -> Option<Owner> {
        let exchange = self.table.get_mut(&conn)?;
        exchange.is_choked = is_choked;
        Some(exchange.owner)
    }

    /// Forgets a response without another word.
    pub fn remove(&mut self, conn: ConnId) -> Option<Exchange> {
        self.table.remove(&conn)
    }

    /// The connections with such an owner.
    pub fn conns(&self, mut is_wanted: impl FnMut(Owner) -> bool) -> Vec<ConnId> {
        self.table.iter().filter(|(_, exchange)| is_wanted(exchange.owner)).map(|(conn, _)| *conn).collect()
    }

    /// Commits the response to being a stream. False when the client takes none, or there is no such response.
    pub fn commit(&mut self, conn: ConnId, date: &Date, extra: &[(&str, &[u8])], now: Nanos, out: &mut Out) -> bool {
        let Some(exchange) = self.table.get_mut(&conn) else { return false };
        if exchange.is_stream {
            return true;
        }
        if !exchange.terms.sse {
            return false;
        }
        exchange.is_stream = true;
        exchange.wrote = now;
        out.write(conn, |bytes| reply::stream_head(bytes, &exchange.terms, date, extra));
        true
    }

    /// Appends to a response that is a stream, as one chunk.
    pub fn part(&mut self, conn: ConnId, now: Nanos, out: &mut Out, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(exchange) = self.table.get_mut(&conn)
            && exchange.is_stream
        {
            exchange.wrote = now;
            out.write(conn, |bytes| reply::stream_part(bytes, exchange.terms.minor, write));
        }
    }

    /// Says something before the result. Without a stream the client cannot hear it.
    pub fn tell(&mut self, conn: ConnId, date: &Date, message: &[u8], now: Nanos, out: &mut Out) {
        if self.commit(conn, date, &[], now, out) {
            self.part(conn, now, out, |bytes| sse::event(bytes, None, message));
        }
    }

    /// Ends a stream: the connection takes the next request, also while draining when the stream's head did not say otherwise.
    pub fn end(&mut self, conn: ConnId, is_draining: bool, out: &mut Out) {
        let Some(exchange) = self.table.remove(&conn) else { return };
        let minor = exchange.terms.minor;
        if exchange.is_stream {
            out.write(conn, |bytes| reply::stream_end(bytes, minor));
        }
        let close = exchange.terms.close || (is_draining && !exchange.is_stream) || (exchange.is_stream && minor == 0);
        out.effects.push(Effect::End { conn, close });
    }

    /// Completes the response with its last message. `status` counts unless a stream is committed already.
    pub fn finish(&mut self, conn: ConnId, date: &Date, status: u16, message: &[u8], is_draining: bool, out: &mut Out) {
        let Some(exchange) = self.table.get_mut(&conn) else { return };
        exchange.terms.close |= is_draining && !exchange.is_stream;
        if exchange.is_stream || (!exchange.terms.json && exchange.terms.sse && status == 200) {
            let now = exchange.wrote;
            self.tell(conn, date, message, now, out);
            self.end(conn, is_draining, out);
        } else if let Some(exchange) = self.table.remove(&conn) {
            out.write(conn, |bytes| reply::json(bytes, &exchange.terms, date, status, &[], message));
            out.effects.push(Effect::End { conn, close: exchange.terms.close });
        }
    }

    /// When [`Self::comment`] is due.
    pub fn next_comment(&self) -> Nanos {
        if self.table.is_empty() { Nanos::NEVER } else { self.comment_due }
    }

    /// Writes a comment on every stream that was silent for `silence`.
    pub fn comment(&mut self, now: Nanos, silence: Duration, out: &mut Out) {
        if now < self.comment_due {
            return;
        }
        self.comment_due = now.after(silence);
        for (&conn, exchange) in self.table.iter_mut().filter(|(_, exchange)| exchange.is_stream) {
            if now.since(exchange.wrote) >= silence {
                exchange.wrote = now;
                out.write(conn, |bytes| reply::stream_part(bytes, exchange.terms.minor, sse::comment));
            }
            self.comment_due = self.comment_due.min(exchange.wrote.after(silence));
        }
    }
}
