//! Servers, endpoints and bindings: what a request asks of the registry, and what is answered when the registry has.

use std::sync::Arc;

use super::answer::{Answer, Next};
use super::entry_json::{Form, read_binding, read_endpoint, read_spec, write_endpoint, write_server};
use super::front::Front;
use super::mcp_registry::{self, Public};
use super::pages::{List, write_binding};
use super::problem::Problem;
use super::route::Route;
use super::target::encode;
use super::{Call, WAITER};
use crate::base::fault::Kind as Fault;
use crate::base::metrics::Refused;
use crate::base::time::{Now, rfc3339};
use crate::engine::Engine;
use crate::engine::admin::gather::Gather;
use crate::engine::out::{Effect, Frame, Lane, Out};
use crate::registry::{self, Change, Changed, Endpoint, Lookup, Page, Refusal, Server, Waiter};
use crate::wire::http1::Method;
use crate::wire::json::{write_str, write_u64};
use std::num::NonZeroU64;

/// What a request that waits will be answered with.
#[derive(Debug)]
pub(super) enum Want {
    /// A server's entry.
    Server(Box<str>),
    /// An endpoint's entry.
    Endpoint(Box<str>),
    /// Whether a server is bound to an endpoint.
    Binding(Box<str>, Box<str>),
    /// How a change went.
    Change(Done),
    /// A page.
    List(List),
    /// Something of the registry API.
    Public(Public),
    /// Parts of all cores.
    Gather(Gather),
    /// What a reload has done.
    Reload,
}

/// What is to be said of a change.
#[derive(Debug)]
pub(super) struct Done {
    what: &'static str,
    name: Box<str>,
    status: u16,
    /// Where the new entry is.
    location: Option<String>,
    /// The server that is to be unbound.
    bound: Option<Box<str>>,
}

/// An entry, found or not.
enum Looked<'a> {
    Server(Option<&'a Arc<Server>>),
    Endpoint(Option<&'a Endpoint>),
    Asked,
    Full,
}

/// The version that If-Match names (RFC 9110 section 13.1.1). `*` asks for no more than that the entry exists.
pub(super) fn if_match(field: Option<&[u8]>, is_repeated: bool) -> Result<Option<NonZeroU64>, Problem> {
    let Some(field) = field.filter(|field| *field != b"*") else { return Ok(None) };
    let digits = field.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).filter(|_| !is_repeated);
    let version = digits.and_then(|digits| str::from_utf8(digits).ok()).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    match version.and_then(|digits| digits.parse().ok()) {
        // No entry has the version 0, nor the highest there is.
        Some(version) => Ok(Some(NonZeroU64::new(version).unwrap_or(NonZeroU64::MAX))),
        None => Err(Problem::new(400, Refused::BadIfMatch, "If-Match must be one ETag as it was given here, such as \"7\", or *")),
    }
}

/// What a refusal that is about no single entry is answered.
pub(super) fn unless_busy(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Overloaded => Problem::overloaded(),
        Refusal::NotStored => Problem::new(
            503,
            Refused::NotStored,
            "The change could not be written to the state file, so it was not made: see the log of `ringhub serve`",
        ),
        Refusal::StoreStuck => Problem::new(
            503,
            Refused::StoreStuck,
            "The state file takes too long to be written, so the change was not made: see to the disk, then try again",
        ),
        Refusal::Unknown => Problem::new(
            500,
            Refused::OutcomeUnknown,
            "The state file failed while the change was written. It is not made as long as this process runs, and may be there after a restart: see the log of `ringhub serve`",
        ),
        Refusal::Invalid(why) => Problem::new(422, Refused::Invalid, why),
        _ => Problem::with(Fault::Conflict, "The registry refused this"),
    }
}

fn refused(refusal: Refusal, done: &Done) -> Problem {
    let Done { what, name, .. } = done;
    match refusal {
        Refusal::Taken => Problem::new(
            409,
            Refused::Taken,
            format!("There is a {what} `{name}` already: choose another name, or update that one with PUT"),
        ),
        Refusal::Absent => match &done.bound {
            Some(server) => {
                Problem::new(404, Refused::Absent, format!("There is no endpoint `{name}`, or the server `{server}` is not bound to it"))
            }
            None => Problem::absent(what, name),
        },
        Refusal::NotPermitted => {
            let detail = format!(
                "`{name}` is part of this program or of its configuration and is not changed here: change the configuration, then `ringhub ctl reload`"
            );
            Problem::new(403, Refused::NotPermitted, detail)
        }
        Refusal::Full => {
            let remedy = format!("remove some, or restart `ringhub serve` with a larger --max-{what}s");
            Problem::new(507, Refused::Full, format!("This node has as many {what}s as it may: {remedy}"))
        }
        Refusal::VersionMismatch { current } => Problem {
            current: Some(current),
            ..Problem::new(
                412,
                Refused::VersionMismatch,
                format!("The {what} `{name}` has version {current} by now: get it again, then decide"),
            )
        },
        other => unless_busy(other),
    }
}

impl Want {
    /// What is answered when the time is over and nothing came.
    pub fn late(&self) -> Problem {
        match self {
            // It may be on its way still: to say that it was not made could be a lie.
            Self::Change(Done { what, name, .. }) => Problem::new(
                504,
                Refused::OutcomeUnknown,
                format!("The change is not decided yet, and may be made later or not at all: get the {what} `{name}` before you try again"),
            ),
            Self::Reload => {
                Problem::new(504, Refused::OutcomeUnknown, "The reload is still under way: the log of `ringhub serve` says how it ends")
            }
            _ => Problem::overloaded(),
        }
    }

    /// The answer when the registry has made a change, or refused to.
    pub fn changed(&self, result: Result<Changed, Refusal>) -> Result<Answer, Problem> {
        let Self::Change(done) = self else { return Err(Problem::overloaded()) };
        let changed = result.map_err(|refusal| refused(refusal, done))?;
        if done.status == 204 {
            return Ok(Answer::no_content());
        }
        let mut body = br#"{"name":"#.to_vec();
        write_str(&mut body, &done.name);
        body.extend_from_slice(br#","id":"#);
        write_str(&mut body, &format!("{}-{}", changed.id.node.0, changed.id.number));
        body.extend_from_slice(br#","version":"#);
        write_u64(&mut body, changed.version);
        body.extend_from_slice(br#","updatedAt":"#);
        write_str(&mut body, &rfc3339(changed.updated_ms));
        body.push(b'}');
        let extra = done.location.iter().map(|location| ("Location", location.clone().into_bytes())).collect();
        Ok(Answer { extra, ..Answer::json(done.status, body) }.with_version(changed.version))
    }

    /// What follows when a page has been gathered.
    pub fn listed(&mut self, result: Result<Page, Refusal>) -> Result<Next, Problem> {
        match self {
            Self::List(list) => list.write(result).map(|body| Next::Answer(Answer::json(200, body))),
            Self::Public(public) => public.listed(result),
            _ => Err(Problem::overloaded()),
        }
    }

    /// What follows when an entry has been looked up.
    fn found(&mut self, looked: &Looked<'_>) -> Result<Next, Problem> {
        let mut body = Vec::new();
        let answer = match (self, looked) {
            (Self::Server(_), Looked::Server(Some(server))) => {
                write_server(&mut body, server, Form::Whole);
                Ok(Answer::json(200, body).with_version(server.version))
            }
            (Self::Server(name), Looked::Server(None)) => Err(Problem::absent("server", name)),
            (Self::Endpoint(_), Looked::Endpoint(Some(endpoint))) => {
                write_endpoint(&mut body, endpoint);
                Ok(Answer::json(200, body).with_version(endpoint.version))
            }
            (Self::Endpoint(path) | Self::Binding(path, _), Looked::Endpoint(None)) => Err(Problem::absent("endpoint", path)),
            (Self::Binding(path, name), Looked::Endpoint(Some(endpoint))) => {
                if !endpoint.servers.contains(name) {
                    return Err(Problem::new(404, Refused::Absent, format!("The server `{name}` is not bound to the endpoint `{path}`")));
                }
                write_binding(&mut body, path, name);
                Ok(Answer::json(200, body).with_version(endpoint.version))
            }
            (Self::Public(public), Looked::Server(server)) => return public.found(*server),
            _ => Err(Problem::overloaded()),
        };
        answer.map(Next::Answer)
    }
}

impl Engine {
    /// A request about servers, endpoints or bindings.
    pub(super) fn control(&mut self, call: &Call<'_>, method: Method, route: Route<'_>, out: &mut Out) -> Result<Option<Answer>, Problem> {
        let is_list = matches!(route, Route::Servers | Route::Endpoints | Route::Bindings) && method != Method::Post;
        if !is_list {
            call.query.only(&[])?;
        }
        match (route, method) {
            (Route::Servers, Method::Post) => self.register(call, out),
            (Route::Server(name), Method::Put) => {
                let (spec, front) = self.check_server(read_spec(call.body, Some(name))?)?;
                self.ask_server(call, Change::Update { spec: Box::new(spec), if_version: call.if_version }, front, (200, None), out)
            }
            (Route::Server(name), Method::Delete) => {
                let change = Change::Unregister { name: name.into(), if_version: call.if_version };
                self.ask_server(call, change, Front::None(name.into()), (204, None), out)
            }
            (Route::Endpoints, Method::Post) => {
                let (path, servers) = read_endpoint(call.body, None)?;
                let location = located("/v1/endpoints/", &[&path]);
                self.ask_change(call, Change::Create { path, servers }, 201, Some(location), out)
            }
            (Route::Endpoint(path), Method::Put) => {
                let (path, servers) = read_endpoint(call.body, Some(path))?;
                self.ask_change(call, Change::Rebind { path, servers, if_version: call.if_version }, 200, None, out)
            }
            (Route::Endpoint(path), Method::Delete) => {
                self.ask_change(call, Change::Delete { path: path.into(), if_version: call.if_version }, 204, None, out)
            }
            (Route::Bindings, Method::Post) => {
                let (path, server) = read_binding(call.body)?;
                let location = located("/v1/bindings/", &[&path, &server]);
                self.ask_change(call, Change::Bind { path, server, if_version: call.if_version }, 201, Some(location), out)
            }
            (Route::Binding(path, name), Method::Delete) => {
                let change = Change::Unbind { path: path.into(), server: name.into(), if_version: call.if_version };
                self.ask_change(call, change, 204, None, out)
            }
            (Route::Servers, _) => self.ask_list(call, List::servers(&call.query)?, out),
            (Route::Endpoints, _) => self.ask_list(call, List::endpoints(&call.query)?, out),
            (Route::Bindings, _) => self.ask_list(call, List::bindings(&call.query)?, out),
            (Route::Server(name), _) => self.look_up(call, Want::Server(name.into()), out),
            (Route::Endpoint(path), _) => self.look_up(call, Want::Endpoint(path.into()), out),
            (Route::Binding(path, name), _) => self.look_up(call, Want::Binding(path.into(), name.into()), out),
            _ => Err(Problem::no_such_path()),
        }
    }

    fn register(&mut self, call: &Call<'_>, out: &mut Out) -> Result<Option<Answer>, Problem> {
        let (spec, front) = self.check_server(read_spec(call.body, None)?)?;
        let location = located("/v1/servers/", &[&spec.name]);
        self.ask_server(call, Change::Register(Box::new(spec)), front, (201, Some(location)), out)
    }

    pub(super) fn ask_change(
        &mut self,
        call: &Call<'_>,
        change: Change,
        status: u16,
        location: Option<String>,
        out: &mut Out,
    ) -> Result<Option<Answer>, Problem> {
        let what = match change.kind() {
            registry::Kind::Server => "server",
            registry::Kind::Endpoint => "endpoint",
        };
        let bound = match &change {
            Change::Unbind { server, .. } => Some(server.clone()),
            _ => None,
        };
        let done = Done { what, name: change.name().into(), status, location, bound };
        let serial = self.admin.wait(call.now, call.conn, &call.terms, Want::Change(done));
        let mut effects = registry::Effects::new();
        self.routes.registry().change(call.now, change, Waiter(serial), &mut effects);
        self.carry_out_registry(effects, call.now, out);
        Ok(None)
    }

    fn ask_list(&mut self, call: &Call<'_>, (list, query): (List, registry::Query), out: &mut Out) -> Result<Option<Answer>, Problem> {
        self.ask_page(call, Want::List(list), query, out)
    }

    /// Asks the registry for a page.
    pub(super) fn ask_page(
        &mut self,
        call: &Call<'_>,
        want: Want,
        query: registry::Query,
        out: &mut Out,
    ) -> Result<Option<Answer>, Problem> {
        let serial = self.admin.wait(call.now, call.conn, &call.terms, want);
        self.ask_registry(call.now, query, serial, out);
        Ok(None)
    }

    fn ask_registry(&mut self, now: Now, query: registry::Query, serial: u64, out: &mut Out) {
        let mut effects = registry::Effects::new();
        self.routes.registry().list(now, query, Waiter(serial), &mut effects);
        self.carry_out_registry(effects, now, out);
    }

    /// The answer that follows, if it can be said by now.
    pub(super) fn go_on(&mut self, now: Now, serial: u64, next: Result<Next, Problem>, out: &mut Out) -> Option<Result<Answer, Problem>> {
        match next {
            Ok(Next::Answer(answer)) => Some(Ok(answer)),
            Ok(Next::List(query)) => {
                self.ask_registry(now, query, serial, out);
                None
            }
            Err(problem) => Some(Err(problem)),
        }
    }

    /// Looks an entry up; the owner may have to be asked.
    pub(super) fn look_up(&mut self, call: &Call<'_>, want: Want, out: &mut Out) -> Result<Option<Answer>, Problem> {
        let serial = self.admin.wait(call.now, call.conn, &call.terms, want);
        let answer = self.look(call.now, serial, out);
        if answer.is_some() {
            self.admin.pending.remove(&serial);
        }
        answer.transpose()
    }

    /// The owner has replied.
    pub(super) fn look_again(&mut self, now: Now, serial: u64, out: &mut Out) {
        let answer = self.look(now, serial, out);
        if answer.is_some() {
            self.complete_admin(now, serial, answer, out);
        }
    }

    fn look(&mut self, now: Now, serial: u64, out: &mut Out) -> Option<Result<Answer, Problem>> {
        debug_assert_ne!(serial & WAITER, 0, "the registry's waiters of this room are marked");
        let Some(pending) = self.admin.pending.get_mut(&serial) else {
            self.routes.registry().forget(Waiter(serial));
            return None;
        };
        let registry = self.routes.registry();
        let mut ask = |to, frame| {
            out.effects.push(Effect::Send { to, lane: Lane::Ask, frame: Frame::Registry(frame) });
            Looked::Asked
        };
        let looked = match &pending.want {
            Want::Endpoint(path) | Want::Binding(path, _) => match registry.endpoint(now, path, Waiter(serial), self.metrics) {
                Lookup::Here(entry) | Lookup::Once(entry) => Looked::Endpoint(Some(entry)),
                Lookup::Absent | Lookup::AbsentOnce => Looked::Endpoint(None),
                Lookup::Ask { to, frame } => ask(to, frame),
                Lookup::Full => Looked::Full,
            },
            want => {
                let name = match want {
                    Want::Server(name) => name,
                    Want::Public(public) => public.server(),
                    _ => return None,
                };
                match registry.server(now, name, Waiter(serial), self.metrics) {
                    Lookup::Here(entry) | Lookup::Once(entry) => Looked::Server(Some(entry)),
                    Lookup::Absent | Lookup::AbsentOnce => Looked::Server(None),
                    Lookup::Ask { to, frame } => ask(to, frame),
                    Lookup::Full => Looked::Full,
                }
            }
        };
        let next = match looked {
            Looked::Asked => return None,
            Looked::Full => Err(Problem::overloaded()),
            looked => pending.want.found(&looked),
        };
        self.go_on(now, serial, next, out)
    }

    /// A request to the registry API.
    pub(super) fn public(&mut self, call: &Call<'_>, route: &Route<'_>, out: &mut Out) -> Result<Option<Answer>, Problem> {
        let base = call.base.clone();
        match *route {
            Route::PublicVersions(name) => self.look_up(call, Want::Public(Public::versions(name, base)), out),
            Route::PublicVersion(name, version) => self.look_up(call, Want::Public(Public::version(name, version, base)), out),
            _ => {
                let (public, query) = mcp_registry::list(&call.query, base)?;
                self.ask_page(call, Want::Public(public), query, out)
            }
        }
    }
}

/// The path of an entry.
fn located(below: &str, names: &[&str]) -> String {
    let mut path = below.to_owned();
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            path.push('/');
        }
        encode(&mut path, name);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_names_one_version() {
        assert_eq!(if_match(None, false), Ok(None));
        assert_eq!(if_match(Some(b"*"), false), Ok(None));
        assert_eq!(if_match(Some(b"\"12\""), false), Ok(NonZeroU64::new(12)));
        assert_eq!(if_match(Some(b"\"0\""), false), Ok(Some(NonZeroU64::MAX)), "which no entry has");
        for bad in [&b"12"[..], b"\"\"", b"W/\"12\"", b"\"1\", \"2\"", b"\"+1\"", b"\"99999999999999999999\"", b"", b"\""] {
            assert_eq!(if_match(Some(bad), false).expect_err("no version").status, 400);
        }
        assert!(if_match(Some(b"\"12\""), true).is_err());
    }

    #[test]
    fn every_refusal_has_its_status() {
        let done = Done { what: "server", name: "a".into(), status: 201, location: None, bound: None };
        let statuses = [
            (Refusal::Taken, 409),
            (Refusal::Absent, 404),
            (Refusal::Overloaded, 503),
            (Refusal::NotPermitted, 403),
            (Refusal::VersionMismatch { current: 3 }, 412),
            (Refusal::Invalid("no"), 422),
            (Refusal::NotStored, 503),
            (Refusal::StoreStuck, 503),
            (Refusal::Unknown, 500),
            (Refusal::Full, 507),
        ];
        for (refusal, status) in statuses {
            let problem = refused(refusal, &done);
            assert_eq!(problem.status, status);
            assert_eq!(Answer::from(problem).version, if status == 412 { Some(3) } else { None });
        }
        assert_eq!(located("/v1/bindings/", &["/mcp", "a/b"]), "/v1/bindings/%2Fmcp/a%2Fb");
    }
}
