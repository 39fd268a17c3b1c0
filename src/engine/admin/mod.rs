//! The admin port: health, metrics, the control API and the read side of the MCP Registry API.
//!
//! Reading needs no token from this host; writing always does. Browsers have no business with the control API: a request to write that
//! names an Origin is refused, nothing there carries CORS fields, and a body must be declared as JSON, which a page of another origin cannot
//! do without asking first. The registry API is for clients everywhere, pages included, and says nothing that a client may not know.
//!
//! An answer that needs another core is [`Verdict::Later`]: what it waits for stands in a table by serial number, which is also the
//! registry's [`Waiter`]. There are as many as connections of the admin port at most.

mod answer;
mod control;
mod entry_json;
mod front;
mod gather;
mod mcp_registry;
mod monitor;
mod pages;
mod problem;
mod reach;
mod reload;
mod route;
mod stream;
mod target;
mod token;

use std::num::NonZeroU64;
use std::time::Duration;

use hashbrown::HashMap;

use super::config::EngineConfig;
use super::gate::Gate;
use super::out::{self, Effect, Lane, Out};
use super::reply::{self, Terms};
use super::{Engine, Inbound, Verdict};
use crate::base::fault::Kind as Fault;
use crate::base::ids::{ConnId, CoreId};
use crate::base::limits::ADMIN_WAIT_MS_MAX;
use crate::base::metrics::Refused;
use crate::base::time::{Nanos, Now};
use crate::registry::{self, Kind, Waiter};
use crate::wire::http1::{Known, Media, Method};
use answer::{Answer, TEXT};
use control::Want;
use front::Front;
use problem::Problem;
use route::Route;
use stream::Stream;
use target::Query;

pub use entry_json::{keep_endpoint, keep_server, kept_endpoint, kept_server};
pub use gather::{Ask, Part};
pub(super) use stream::HOME;
pub use stream::Notice;
pub use target::encode;
pub use token::Token;

/// The document that describes all of it.
const OPENAPI: &str = include_str!("openapi.json");
/// Set in every [`Waiter`] of this room.
const WAITER: u64 = 1 << 63;
/// How long an answer may wait for other cores. The registry gives up sooner; this is for what it cannot know of.
const WAIT_MAX: Duration = Duration::from_millis(ADMIN_WAIT_MS_MAX);

/// Core-to-core frames of the admin port.
#[derive(Debug)]
pub enum Frame {
    /// Ask: your part of what was asked for.
    Ask {
        /// Comes back with the reply.
        serial: u64,
        /// What is asked for.
        ask: Ask,
    },
    /// Reply to [`Frame::Ask`].
    Reply {
        /// The serial number of the Ask.
        serial: u64,
        /// The part.
        part: Part,
    },
    /// Told on the Ask lane: this changed.
    Notice(Notice),
}

/// A request that waits for other cores.
#[derive(Debug)]
struct Pending {
    conn: ConnId,
    terms: Terms<'static>,
    want: Want,
    due: Nanos,
}

/// The admin port of one core.
#[derive(Debug)]
pub(super) struct Admin {
    token: Option<Token>,
    gate: Gate,
    serial: u64,
    pending: HashMap<u64, Pending>,
    /// What is to become of upstreams when a change that was asked for is made. No more than the registry has questions open.
    fronts: HashMap<u64, Front>,
    stream: Stream,
    /// Replies that found no room. As many as the admin port's core may have questions open.
    owed: Vec<(CoreId, Box<Frame>)>,
}

impl Admin {
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            token: config.admin_token.clone(),
            gate: Gate::strict(config),
            serial: 0,
            pending: HashMap::new(),
            fronts: HashMap::new(),
            stream: Stream::default(),
            owed: Vec::new(),
        }
    }

    /// Whether nothing is in work. Streams of changes have no end of their own and do not count.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// When [`Engine::on_admin_tick`] is due.
    pub fn next_due(&self, silence: Duration) -> Nanos {
        let due = self.pending.values().map(|pending| pending.due).min().unwrap_or(Nanos::NEVER);
        due.min(self.stream.next_comment(silence))
    }

    /// Whether this field presents the token.
    fn knows(&self, authorization: Option<&[u8]>) -> bool {
        self.token.as_ref().is_some_and(|token| token.is_presented(authorization))
    }

    /// A request begins to wait.
    fn wait(&mut self, now: Now, conn: ConnId, terms: &Terms<'_>, want: Want) -> u64 {
        self.serial += 1;
        let serial = self.serial | WAITER;
        self.pending.insert(serial, Pending { conn, terms: terms.kept(), want, due: now.mono.after(WAIT_MAX) });
        serial
    }
}

/// A request to the admin port, as its handlers see it.
struct Call<'a> {
    now: Now,
    conn: ConnId,
    terms: Terms<'a>,
    body: &'a [u8],
    query: Query<'a>,
    /// The version that the entry must have (If-Match).
    if_version: Option<NonZeroU64>,
    /// Below which URL the asker reaches endpoints, when the registry API is asked and that is known.
    base: Option<String>,
}

impl Engine {
    /// A request to the admin listener.
    pub(super) fn on_admin(&mut self, now: Now, inbound: &Inbound<'_>, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
        let terms = Terms { origin: None, ..super::dispatch::terms(inbound.request, self.is_draining) };
        let done = self.admin_answer(now, inbound, &terms, out);
        let mut answer = match done {
            Ok(Some(answer)) => answer,
            Ok(None) => return Verdict::Later,
            Err(problem) => self.refuse_admin(problem),
        };
        answer.is_public = ["/v0.1/", "/v0/"].iter().any(|below| inbound.request.path.starts_with(below));
        let date = self.date_at(now);
        answer.write(reply, &terms, &date);
        Verdict::Answered { close: terms.close }
    }

    /// What a request is answered, if it can be said at once.
    fn admin_answer(&mut self, now: Now, inbound: &Inbound<'_>, terms: &Terms<'_>, out: &mut Out) -> Result<Option<Answer>, Problem> {
        let request = inbound.request;
        let headers = &request.headers;
        let segments = target::segments(request.path)?.ok_or_else(Problem::no_such_path)?;
        let route = Route::find(&segments).ok_or_else(Problem::no_such_path)?;
        if !route.is_open() && !route.is_public() {
            let (origin, host) = (headers.get(Known::Origin), headers.get(Known::Host));
            // No page knows the token: whoever presents it may call this host what they like.
            let host = host.filter(|_| !self.admin.knows(headers.get(Known::Authorization)));
            if headers.repeated(Known::Origin) || !self.admin.gate.allows(origin, host) {
                return Err(Problem::of(Fault::Forbidden));
            }
        }
        if request.method == Method::Options && route.is_public() {
            return Ok(Some(mcp_registry::preflight()));
        }
        if !route.takes(request.method) {
            return Err(Problem::method(route.allow()));
        }
        let is_write = !matches!(request.method, Method::Get | Method::Head);
        if is_write && headers.get(Known::Origin).is_some() {
            let detail =
                "A request that names an Origin comes from a web page, and pages may not write here: use `ringhub ctl`, or another client";
            return Err(Problem::with(Fault::Forbidden, detail));
        }
        let may_read = route.is_open() || route.is_public() || inbound.peer.to_canonical().is_loopback();
        if is_write || !may_read {
            self.check_token(headers.get(Known::Authorization))?;
        }
        if route.has_body(request.method) && !is_json(headers.get(Known::ContentType), headers.get(Known::ContentEncoding)) {
            return Err(Problem::of(Fault::UnsupportedMedia));
        }
        let query = Query::parse(request.query)?;
        let if_version = control::if_match(headers.get(Known::IfMatch), headers.repeated(Known::IfMatch))?;
        let base = route.is_public().then(|| reach::base(&self.config, headers.get(Known::Host), inbound.peer)).flatten();
        let call = Call { now, conn: inbound.conn, terms: terms.clone(), body: request.body, query, if_version, base };
        match route {
            Route::Live | Route::Ready | Route::Metrics | Route::OpenApi => Ok(Some(self.monitor(&route))),
            Route::Reload => self.ask_reload(&call, out),
            Route::Changes => self.open_changes(&call, headers.accepts(Media::EventStream), out),
            Route::Cores | Route::Core(_) | Route::Shards | Route::Shard(_) | Route::Sessions | Route::Session(_) => {
                self.gather(&call, &route, is_write, out)
            }
            Route::PublicList | Route::PublicVersions(_) | Route::PublicVersion(..) => self.public(&call, &route, out),
            route => self.control(&call, request.method, route, out),
        }
    }

    fn check_token(&self, authorization: Option<&[u8]>) -> Result<(), Problem> {
        match &self.admin.token {
            Some(_) if self.admin.knows(authorization) => Ok(()),
            Some(_) => {
                let detail = "The token of this server is needed, as `Authorization: Bearer TOKEN`: `ringhub serve` says at its start which file it is in";
                Err(Problem::new(401, Refused::Unauthorized, detail))
            }
            None => Err(Problem::new(401, Refused::Unauthorized, "This server was started without a token: nothing can be written here")),
        }
    }

    /// Health, metrics and the document.
    fn monitor(&self, route: &Route<'_>) -> Answer {
        let text = |status, text: &str| Answer { content_type: TEXT, ..Answer::json(status, text.as_bytes().to_vec()) };
        match route {
            Route::Live => text(200, "live\n"),
            Route::Ready if self.shared.is_ready() && !self.is_draining => text(200, "ready\n"),
            Route::Ready => text(503, "not ready\n"),
            Route::Metrics => Answer { content_type: monitor::METRICS, ..Answer::json(200, monitor::metrics(self.shared).into_bytes()) },
            _ => Answer::json(200, OPENAPI.as_bytes().to_vec()),
        }
    }

    /// Begins a stream of changes.
    fn open_changes(&mut self, call: &Call<'_>, is_acceptable: bool, out: &mut Out) -> Result<Option<Answer>, Problem> {
        call.query.only(&[])?;
        if !is_acceptable {
            return Err(Problem::with(Fault::NotAcceptable, "This answers with text/event-stream, which Accept does not allow"));
        }
        let date = self.date_at(call.now);
        if call.terms.is_head || self.is_draining {
            return Ok(Some(Answer { content_type: crate::wire::http1::EVENT_STREAM, ..Answer::json(200, Vec::new()) }));
        }
        out.write(call.conn, |bytes| {
            reply::stream_head(bytes, &call.terms, &date, &[]);
            reply::stream_part(bytes, call.terms.minor, crate::wire::sse::comment);
        });
        self.admin.stream.open(call.conn, call.terms.minor, call.now.mono);
        self.shared.set_change_listeners(self.admin.stream.len());
        Ok(None)
    }

    /// The registry says that an entry changed; on its owner's core at least.
    pub(super) fn on_admin_changed(&mut self, now: Now, kind: Kind, name: &str, out: &mut Out) {
        if self.shared.change_listeners() > 0 && self.routes.registry().is_at_home(name) {
            self.tell_admin(now, Notice::Entry { kind, name: name.into() }, out);
        }
    }

    fn tell_admin(&mut self, now: Now, notice: Notice, out: &mut Out) {
        if self.core == HOME {
            self.admin.stream.tell(now.mono, &notice, out);
        } else {
            self.admin.stream.pass_on(notice, out);
        }
    }

    /// What the registry wants done for a request of the admin port; given back when it is somebody else's.
    pub(super) fn on_admin_effect(&mut self, now: Now, effect: registry::Effect, out: &mut Out) -> Option<registry::Effect> {
        let (registry::Effect::Resume { waiter }
        | registry::Effect::Unasked { waiter }
        | registry::Effect::Done { waiter, .. }
        | registry::Effect::Listed { waiter, .. }) = &effect
        else {
            return Some(effect);
        };
        if waiter.0 & WAITER == 0 {
            return Some(effect);
        }
        let serial = waiter.0;
        match effect {
            registry::Effect::Resume { .. } => self.look_again(now, serial, out),
            registry::Effect::Done { result, .. } => {
                self.settle_front(now, serial, &result, out);
                let answer = self.admin.pending.get(&serial).map(|pending| pending.want.changed(result));
                self.complete_admin(now, serial, answer, out);
            }
            registry::Effect::Listed { result, .. } => {
                let next = self.admin.pending.get_mut(&serial).map(|pending| pending.want.listed(result));
                let answer = next.and_then(|next| self.go_on(now, serial, next, out));
                self.complete_admin(now, serial, answer, out);
            }
            _ => self.complete_admin(now, serial, Some(Err(Problem::overloaded())), out),
        }
        None
    }

    /// Counts a refusal, and says it.
    fn refuse_admin(&self, problem: Problem) -> Answer {
        problem.code.count(self.metrics);
        problem.into()
    }

    /// Answers a request that waited.
    fn complete_admin(&mut self, now: Now, serial: u64, answer: Option<Result<Answer, Problem>>, out: &mut Out) {
        let Some(answer) = answer else { return };
        let Some(mut pending) = self.admin.pending.remove(&serial) else { return };
        let date = self.date_at(now);
        pending.terms.close |= self.is_draining;
        let mut answer = answer.unwrap_or_else(|problem| self.refuse_admin(problem));
        answer.is_public = matches!(pending.want, Want::Public(_));
        answer.complete(pending.conn, &pending.terms, &date, out);
    }

    /// Takes a frame of another core.
    pub(super) fn on_admin_frame(&mut self, now: Now, from: CoreId, frame: Frame, out: &mut Out) {
        match frame {
            Frame::Ask { serial, ask } => {
                let part = self.part(now, &ask, out);
                let frame = out::Frame::Admin(Box::new(Frame::Reply { serial, part }));
                out.effects.push(Effect::Send { to: from, lane: Lane::Reply, frame });
            }
            Frame::Reply { serial, part } => self.gathered(now, serial, part, out),
            Frame::Notice(notice) => self.admin.stream.tell(now.mono, &notice, out),
        }
    }

    /// Takes back a frame for which the lane had no room.
    pub(super) fn on_admin_unsent(&mut self, to: CoreId, frame: Box<Frame>) {
        match *frame {
            // It is refused at the next tick.
            Frame::Ask { serial, .. } => {
                if let Some(pending) = self.admin.pending.get_mut(&serial) {
                    pending.due = Nanos(0);
                }
            }
            Frame::Reply { .. } => self.admin.owed.push((to, frame)),
            Frame::Notice(notice) => self.admin.stream.owe(notice),
        }
    }

    /// The connection is no more. Whether it was one of the admin port that waited.
    pub(super) fn on_admin_gone(&mut self, conn: ConnId) -> bool {
        let serials: Vec<u64> = self.admin.pending.iter().filter(|(_, pending)| pending.conn == conn).map(|(&serial, _)| serial).collect();
        for serial in &serials {
            self.admin.pending.remove(serial);
            self.routes.registry().forget(Waiter(*serial));
        }
        let listened = self.admin.stream.remove(conn);
        if listened {
            self.shared.set_change_listeners(self.admin.stream.len());
        }
        listened || !serials.is_empty()
    }

    /// Time passes.
    pub(super) fn on_admin_tick(&mut self, now: Now, out: &mut Out) {
        let late: Vec<u64> = self.admin.pending.iter().filter(|(_, pending)| pending.due <= now.mono).map(|(&serial, _)| serial).collect();
        for serial in late {
            self.routes.registry().forget(Waiter(serial));
            let answer = self.admin.pending.get(&serial).map(|pending| Err(pending.want.late()));
            self.complete_admin(now, serial, answer, out);
        }
        self.admin.stream.resend(out);
        self.admin.stream.comment(now.mono, self.config.keepalive_comment, out);
        for (to, frame) in std::mem::take(&mut self.admin.owed) {
            out.effects.push(Effect::Send { to, lane: Lane::Reply, frame: out::Frame::Admin(frame) });
        }
    }

    /// The process is to end: streams do.
    pub(super) fn on_admin_drain(&mut self, out: &mut Out) {
        self.admin.stream.end(out);
        self.shared.set_change_listeners(0);
    }

    /// The framing of a request to the admin port is broken: appends the whole answer.
    pub(super) fn admin_reject(&mut self, now: Now, kind: Fault, terms: &Terms<'_>, reply: &mut Vec<u8>) {
        let date = self.date_at(now);
        self.refuse_admin(Problem::of(kind)).write(reply, terms, &date);
    }
}

/// Whether a body is declared to be plain JSON.
fn is_json(content_type: Option<&[u8]>, content_encoding: Option<&[u8]>) -> bool {
    let essence = content_type.and_then(|value| value.split(|&byte| byte == b';').next()).unwrap_or_default();
    let is_plain = content_encoding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"));
    is_plain && essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}
