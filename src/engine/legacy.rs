//! The call points of the legacy era. Nothing of it is served here yet: its requests are told which versions are.

use super::call::{Call, Ending};
use super::ladder::Fall;
use super::modern::Post;
use super::out::{Lists, Out};
use super::{ConnMemo, Engine, EngineConfig, Shared, Verdict};
use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId};
use crate::base::time::{Nanos, Now};
use crate::native::host::Effect as Wish;
use crate::wire::jsonrpc::{Body, Message};

/// What a response of the legacy era belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carried {}

/// Who of the legacy era hears of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {}

/// The legacy era's whole state on one core.
#[derive(Debug)]
pub(super) struct Legacy;

impl Legacy {
    pub fn new(_core: CoreId, _config: &EngineConfig, _shared: &'static Shared) -> Self {
        Self
    }

    /// When [`on_tick`] has something to do.
    pub fn next_due(&self) -> Nanos {
        Nanos::NEVER
    }
}

/// A POST of the legacy era.
pub(super) fn on_post(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    _memo: &mut ConnMemo,
    body: &Body<'_>,
    reply: &mut Vec<u8>,
    _out: &mut Out,
) -> Verdict {
    let id = match body {
        Body::One(Message::Request(request)) => Some(request.id),
        _ => None,
    };
    engine.refuse(now, &post.terms, id, &Fall::unsupported(None), reply)
}

/// A GET: the standalone stream, or the rest of a broken one.
pub(super) fn on_get(engine: &mut Engine, now: Now, post: &Post<'_>, _memo: &mut ConnMemo, reply: &mut Vec<u8>, _out: &mut Out) -> Verdict {
    engine.refuse(now, &post.terms, None, &Fall::new(Kind::MethodNotAllowed, Kind::MethodNotAllowed.message()), reply)
}

/// A DELETE: the client ends its session.
pub(super) fn on_delete(
    engine: &mut Engine,
    now: Now,
    post: &Post<'_>,
    _memo: &mut ConnMemo,
    reply: &mut Vec<u8>,
    _out: &mut Out,
) -> Verdict {
    engine.refuse(now, &post.terms, None, &Fall::new(Kind::MethodNotAllowed, Kind::MethodNotAllowed.message()), reply)
}

/// A call of a session ended.
pub(super) fn on_ended(_: &mut Engine, _: Now, asker: Asker, _: &Call, _: &Ending, _: &[u8], _: &mut Out) {
    match asker {}
}

/// A handler of a session's call wants something told or asked.
pub(super) fn on_wish(_: &mut Engine, _: Now, asker: Asker, _: Wish, _: &mut Out) {
    match asker {}
}

/// Lists of a server changed.
pub(super) fn on_changed(_: &mut Engine, _: Now, _server: u32, _: Lists, _: &mut Out) {}

/// A resource of a server changed; none: any of them may have.
pub(super) fn on_updated(_: &mut Engine, _: Now, _server: u32, _uri: Option<&str>, _: &mut Out) {}

/// The connection that carried this is no more. Its exchange has been removed.
pub(super) fn on_gone(_: &mut Engine, _: Now, _: ConnId, carried: Carried, _: &mut Out) {
    match carried {}
}

/// The peer that waits for this will send no more.
pub(super) fn on_half_close(_: &mut Engine, _: Now, _: ConnId, carried: Carried, _: &mut Out) {
    match carried {}
}

/// Time passes.
pub(super) fn on_tick(_: &mut Engine, _: Now, _: &mut Out) {}

/// The process is to end: open-ended streams end.
pub(super) fn on_drain(_: &mut Engine, _: Now, _: &mut Out) {}
