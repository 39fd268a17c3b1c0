//! From HTTP to an era: who may ask, where, how; then which rules the message falls under.

use std::borrow::Cow;

use super::ladder::{self, Fall};
use super::modern::{self, Post};
use super::out::Out;
use super::principal::Principal;
use super::reply::{self, Terms};
use super::route::{Around, Found};
use super::{Engine, Inbound, Verdict, legacy};
use crate::base::fault::Kind;
use crate::base::metrics::Counter;
use crate::base::time::Now;
use crate::wire::http1::{Known, Media, Method, Request};
use crate::wire::jsonrpc::{self, Body, Id, Message};
use crate::wire::mcp::{Inbound as Seen, Route, classify};

const PREFLIGHT_MAX_AGE: &[u8] = b"86400";
/// What nearly every client sends as Accept.
const ACCEPT_USUAL: &[u8] = b"application/json, text/event-stream";
/// The same in the other order.
const ACCEPT_TURNED: &[u8] = b"text/event-stream, application/json";
/// The media type of every body that is taken.
const JSON: &[u8] = b"application/json";

/// How a request wants to be answered, once its Origin is known to be allowed.
pub(super) fn terms<'a>(request: &Request<'a>, is_draining: bool) -> Terms<'a> {
    let (json, sse) = match request.headers.get(Known::Accept) {
        // Compared as a whole, which a pattern would do byte by byte.
        Some(value) if value != ACCEPT_USUAL && value != ACCEPT_TURNED => {
            (request.headers.accepts(Media::Json), request.headers.accepts(Media::EventStream))
        }
        _ => (true, true),
    };
    Terms {
        minor: request.minor,
        close: !request.keep_alive || is_draining,
        is_head: request.method == Method::Head,
        json,
        sse,
        origin: request.headers.get(Known::Origin).map(Cow::Borrowed),
    }
}

impl Engine {
    /// A request to the MCP listener.
    pub(super) fn on_public(&mut self, now: Now, inbound: Inbound<'_>, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
        let request = inbound.request;
        let headers = &request.headers;
        let mut terms = terms(request, self.is_draining);
        // Of two origins nobody can say which one a page came from.
        if headers.repeated(Known::Origin) || !self.gate.allows(headers.get(Known::Origin), headers.get(Known::Host)) {
            terms.origin = None;
            return self.refuse_kind(now, &terms, Kind::Forbidden, reply);
        }
        if request.method == Method::Options {
            return self.preflight(now, request, &terms, reply);
        }
        let around = Around { now, hosted: &self.hosted, metrics: self.metrics };
        let view = match self.routes.find(request.path, inbound.conn, around, out) {
            Found::View(view) => view,
            Found::Asked => return Verdict::Park,
            Found::Refused(kind) => return self.refuse_path(now, &inbound, &terms, kind, reply),
        };
        let principal = Principal::of(headers.get(Known::Authorization), inbound.peer);
        let post = Post { conn: inbound.conn, view, principal, headers, terms };
        match request.method {
            Method::Post => self.on_post(now, &post, request.body, inbound.memo, reply, out),
            Method::Get | Method::Delete if self.config.era.legacy() => {
                if let Some(verdict) = self.judge_bare(now, &post, inbound.memo, reply) {
                    return verdict;
                }
                let on = if request.method == Method::Get { legacy::on_get } else { legacy::on_delete };
                on(self, now, &post, inbound.memo, reply, out)
            }
            _ => self.refuse_method(now, &post.terms, reply),
        }
    }

    /// What is asked for cannot be shown. A client that stays must learn which of its requests that answers.
    fn refuse_path(&mut self, now: Now, inbound: &Inbound<'_>, terms: &Terms<'_>, kind: Kind, reply: &mut Vec<u8>) -> Verdict {
        let request = inbound.request;
        if kind != Kind::CatalogTooLarge || request.method != Method::Post {
            return self.refuse_kind(now, terms, kind, reply);
        }
        let body = jsonrpc::parse_again(request.body, &mut self.last_request, inbound.conn.pack());
        let id = body.as_ref().map_or_else(|refusal| refusal.id, id_of);
        self.refuse(now, terms, id, &Fall::new(kind, kind.message()), reply)
    }

    /// The methods that an endpoint takes.
    fn allowed_methods(&self) -> &'static [u8] {
        if self.config.era.legacy() { b"POST, GET, DELETE, OPTIONS" } else { b"POST, OPTIONS" }
    }

    fn refuse_method(&mut self, now: Now, terms: &Terms<'_>, reply: &mut Vec<u8>) -> Verdict {
        let kind = Kind::MethodNotAllowed;
        self.metrics.fault(kind);
        let (allow, date) = (self.allowed_methods(), self.date_at(now));
        reply::fault(reply, &mut self.scratch.body, terms, &date, kind, &[("Allow", allow)], &reply::RpcFault::default());
        Verdict::Answered { close: terms.close }
    }

    /// What browsers ask before they send (Fetch standard, "CORS-preflight request").
    fn preflight(&mut self, now: Now, request: &Request<'_>, terms: &Terms<'_>, reply: &mut Vec<u8>) -> Verdict {
        let (allow, date) = (self.allowed_methods(), self.date_at(now));
        let asks = request.headers.get(Known::AccessControlRequestHeaders).unwrap_or_default();
        let fields: [(&str, &[u8]); 4] = [
            ("Allow", allow),
            ("Access-Control-Allow-Methods", allow),
            ("Access-Control-Allow-Headers", asks),
            ("Access-Control-Max-Age", PREFLIGHT_MAX_AGE),
        ];
        let shown = if terms.origin.is_some() { fields.len() } else { 1 };
        reply::plain(reply, terms, &date, 204, None, &fields[..shown], b"");
        Verdict::Answered { close: terms.close }
    }

    /// A POST to an endpoint: what kind of body, what kind of message, which era.
    fn on_post(
        &mut self,
        now: Now,
        post: &Post<'_>,
        body: &[u8],
        memo: &mut super::ConnMemo,
        reply: &mut Vec<u8>,
        out: &mut Out,
    ) -> Verdict {
        if !is_json(post) {
            return self.refuse(now, &post.terms, None, &Fall::new(Kind::UnsupportedMedia, why_not_json(post)), reply);
        }
        // Looked at where it is: a message is large to move.
        let parsed = jsonrpc::parse_again(body, &mut self.last_request, post.conn.pack());
        if let Some(verdict) = self.judge_post(now, post, &parsed, memo, reply) {
            return verdict;
        }
        let body = match &parsed {
            Ok(body) => body,
            Err(refusal) => {
                let what = if refusal.kind == Kind::Parse { "Parse error: the body is not valid JSON" } else { "Invalid request" };
                let fall = Fall::new(refusal.kind, format!("{what}: {}", refusal.why));
                return self.refuse(now, &post.terms, refusal.id, &fall, reply);
            }
        };
        self.metrics.count(Counter::Messages);
        match classify(Seen::Post(body), post.headers.get(Known::ProtocolVersion)) {
            Route::Modern if self.config.era.modern() => self.on_modern(now, post, body, reply, out),
            Route::Legacy if self.config.era.legacy() => legacy::on_post(self, now, post, memo, body, reply, out),
            Route::Refuse(kind, why) if self.config.era.modern() => {
                self.refuse(now, &post.terms, id_of(body), &Fall::new(kind, why), reply)
            }
            Route::Legacy => self.not_modern(now, post, body, reply),
            // A body that is none of the modern era's: probes fall back to the handshake.
            Route::Modern | Route::Refuse(..) => self.refuse_kind(now, &post.terms, Kind::VersionHeader, reply),
        }
    }

    fn on_modern(&mut self, now: Now, post: &Post<'_>, body: &Body<'_>, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
        match body {
            Body::One(Message::Request(request)) => modern::on_request(self, now, post, request, reply, out),
            // No notification is defined here, and a `cancelled` could come from anybody: acknowledged and dropped.
            Body::One(Message::Notification(_)) => self.accept(now, &post.terms, reply),
            Body::One(Message::Response(_)) | Body::Batch(_) => self.refuse_kind(now, &post.terms, Kind::InvalidRequest, reply),
        }
    }

    /// A message without a modern claim where the modern era alone is served.
    fn not_modern(&mut self, now: Now, post: &Post<'_>, body: &Body<'_>, reply: &mut Vec<u8>) -> Verdict {
        match body {
            Body::One(Message::Request(request)) => self.refuse(now, &post.terms, Some(request.id), &ladder::not_modern(request), reply),
            Body::One(Message::Notification(_)) => self.accept(now, &post.terms, reply),
            Body::One(Message::Response(_)) => {
                let fall = Fall::new(Kind::InvalidRequest, "Invalid request: this server asks nothing, so nothing can be answered");
                self.refuse(now, &post.terms, None, &fall, reply)
            }
            Body::Batch(_) => {
                let fall = Fall::new(Kind::InvalidRequest, "Invalid request: one message per request");
                self.refuse(now, &post.terms, None, &fall, reply)
            }
        }
    }

    /// Acknowledges a message that is not answered.
    pub(super) fn accept(&mut self, now: Now, terms: &Terms<'_>, reply: &mut Vec<u8>) -> Verdict {
        let date = self.date_at(now);
        reply::plain(reply, terms, &date, 202, None, &[], b"");
        Verdict::Answered { close: terms.close }
    }

    /// Answers with what is in the scratch.
    pub(super) fn answer(&mut self, now: Now, terms: &Terms<'_>, status: u16, reply: &mut Vec<u8>) -> Verdict {
        let date = self.date.at(now.wall_ms);
        if terms.json || !terms.sse || status != 200 {
            reply::json(reply, terms, date, status, &[], &self.scratch.body);
            return Verdict::Answered { close: terms.close };
        }
        reply::stream_head(reply, terms, date, &[]);
        reply::event(reply, terms.minor, &self.scratch.body);
        reply::stream_end(reply, terms.minor);
        Verdict::Answered { close: terms.close || terms.minor == 0 }
    }

    /// Answers with a fault.
    pub(super) fn refuse(&mut self, now: Now, terms: &Terms<'_>, id: Option<Id<'_>>, fall: &Fall, reply: &mut Vec<u8>) -> Verdict {
        self.metrics.fault(fall.kind);
        let date = self.date_at(now);
        reply::fault(reply, &mut self.scratch.body, terms, &date, fall.kind, &[], &fall.as_fault(id));
        Verdict::Answered { close: terms.close }
    }

    /// Answers with a fault that needs no more words.
    pub(super) fn refuse_kind(&mut self, now: Now, terms: &Terms<'_>, kind: Kind, reply: &mut Vec<u8>) -> Verdict {
        self.refuse(now, terms, None, &Fall::new(kind, kind.message()), reply)
    }
}

/// The id to echo, when the body is one request.
fn id_of<'a>(body: &Body<'a>) -> Option<Id<'a>> {
    match body {
        Body::One(Message::Request(request)) => Some(request.id),
        _ => None,
    }
}

/// A media type without its parameters.
fn essence(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether the body is declared to be plain JSON.
fn is_json(post: &Post<'_>) -> bool {
    let is_plain = post.headers.get(Known::ContentEncoding).is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    let Some(value) = post.headers.get(Known::ContentType) else { return false };
    is_plain && (value == JSON || essence(value).eq_ignore_ascii_case(JSON))
}

/// Why it is not.
fn why_not_json(post: &Post<'_>) -> &'static str {
    match post.headers.get(Known::ContentEncoding) {
        Some(coding) if !coding.eq_ignore_ascii_case(b"identity") => {
            "Unsupported media type: the body must not be encoded (Content-Encoding)"
        }
        _ => Kind::UnsupportedMedia.message(),
    }
}
