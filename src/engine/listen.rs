//! `subscriptions/listen` (2026-07-28): streams that stay open and tell what changed.

use hashbrown::{HashMap, HashSet};

use super::exchange::Owner;
use super::ladder::Fall;
use super::modern::Post;
use super::news::News;
use super::out::{Lists, Out};
use super::view::Offers;
use super::watches::Watches;
use super::{Engine, Verdict};
use crate::base::fault::Kind;
use crate::base::ids::ConnId;
use crate::base::limits::{SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX};
use crate::base::metrics::Gauge;
use crate::base::time::Now;
use crate::wire::json::{self, write_array, write_str};
use crate::wire::jsonrpc::{self, Id, Request};
use crate::wire::mcp::meta_key;

/// What a client wants to hear of, as far as the server tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    lists: Lists,
    uris: HashSet<Box<str>>,
}

/// One open stream.
#[derive(Debug)]
struct Listen {
    /// Number of the endpoint.
    endpoint: u64,
    /// The JSON-RPC id of the request, raw: it names the subscription.
    id: Box<[u8]>,
    filter: Filter,
}

impl Listen {
    /// It is over.
    fn leave(self, watches: &mut Watches) {
        let Self { endpoint, filter, .. } = self;
        filter.uris.into_iter().for_each(|uri| watches.moved(endpoint, uri, false));
    }
}

/// The open streams of one core.
#[derive(Debug, Default)]
pub(super) struct Listens {
    open: HashMap<ConnId, Listen>,
}

impl Listens {
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// For tests: resources that anybody wants to hear of.
    #[cfg(test)]
    pub fn uris(&self) -> usize {
        self.open.values().map(|listen| listen.filter.uris.len()).sum()
    }

    /// Numbers of the endpoints that clients listen to.
    pub fn endpoints(&self) -> impl Iterator<Item = u64> {
        self.open.values().map(|listen| listen.endpoint)
    }

    /// The stream of this connection is no more.
    pub fn remove(&mut self, conn: ConnId, watches: &mut Watches) {
        if let Some(listen) = self.open.remove(&conn) {
            listen.leave(watches);
        }
    }
}

/// Opens a stream: its first frame says what was granted (2026-07-28, subscriptions, "Acknowledgement").
pub(super) fn on_request(engine: &mut Engine, now: Now, post: &Post<'_>, request: &Request<'_>, out: &mut Out) -> Result<Verdict, Fall> {
    let offers = post.view.offers;
    if !post.terms.sse {
        return Err(Fall::new(Kind::NotAcceptable, "Not acceptable: subscriptions/listen answers with text/event-stream"));
    }
    if engine.is_draining {
        // It would have no end but the drain's.
        return Err(Fall::new(Kind::Draining, Kind::Draining.message()));
    }
    let mut filter = read_filter(request, offers)?;
    filter.uris.retain(|uri| engine.tells_of(&post.view, uri));
    let date = engine.date_at(now);
    engine.exchanges.open(post.conn, &post.terms, Owner::Listen, now.mono);
    let mut message = std::mem::take(&mut engine.scratch.body);
    message.clear();
    write_acknowledgement(&mut message, request.id.raw(), &filter, offers);
    engine.exchanges.tell(post.conn, &date, &message, now.mono, out);
    engine.scratch.body = message;
    let endpoint = post.view.endpoint.id.number;
    filter.uris.iter().for_each(|uri| engine.watches.moved(endpoint, uri.clone(), true));
    engine.listens.open.insert(post.conn, Listen { endpoint, id: request.id.raw().into(), filter });
    engine.count_listens();
    Ok(Verdict::Later)
}

/// What of the wanted is granted: the kinds that the server tells.
fn read_filter(request: &Request<'_>, offers: Offers) -> Result<Filter, Fall> {
    let wrong = |why: &'static str| Fall::new(Kind::InvalidParams, why);
    let wanted = request.params.get("notifications").filter(|raw| raw.starts_with(b"{"));
    let wanted = wanted.ok_or_else(|| wrong("Invalid params: notifications must be an object"))?;
    let mut filter = Filter::default();
    for (list, name) in FLAGS {
        match json::get(wanted, name) {
            Some(b"true") if offers.changes.has(list) => filter.lists = filter.lists.with(list),
            None | Some(b"true" | b"false" | b"null") => {}
            Some(_) => return Err(wrong("Invalid params: a flag in notifications must be true or false")),
        }
    }
    let uris = match json::get(wanted, "resourceSubscriptions") {
        None | Some(b"null") => return Ok(filter),
        Some(raw) if raw.starts_with(b"[") => raw,
        Some(_) => return Err(wrong("Invalid params: resourceSubscriptions must be an array of URIs")),
    };
    let mut bytes = 0;
    for raw in json::elements(uris) {
        let uri = json::string(raw).ok_or_else(|| wrong("Invalid params: resourceSubscriptions must be an array of URIs"))?;
        if !offers.updates || filter.uris.contains(uri.as_ref()) {
            continue;
        }
        bytes += uri.len();
        if filter.uris.len() >= SUBSCRIPTIONS_MAX || bytes > SUBSCRIPTION_BYTES_MAX {
            return Err(wrong("Invalid params: too many resourceSubscriptions, or too long ones; spread them over several streams"));
        }
        filter.uris.insert(uri.as_ref().into());
    }
    Ok(filter)
}

const FLAGS: [(Lists, &str); 3] =
    [(Lists::TOOLS, "toolsListChanged"), (Lists::PROMPTS, "promptsListChanged"), (Lists::RESOURCES, "resourcesListChanged")];

fn write_acknowledgement(out: &mut Vec<u8>, id: &[u8], filter: &Filter, offers: Offers) {
    begin_notification(out, "notifications/subscriptions/acknowledged");
    out.extend_from_slice(br#""notifications":{"#);
    let mut separator = "";
    for (_, name) in FLAGS.into_iter().filter(|(list, _)| filter.lists.has(*list)) {
        out.extend_from_slice(separator.as_bytes());
        write_str(out, name);
        out.extend_from_slice(b":true");
        separator = ",";
    }
    if offers.updates && !filter.uris.is_empty() {
        out.extend_from_slice(separator.as_bytes());
        out.extend_from_slice(br#""resourceSubscriptions":"#);
        write_array(out, &filter.uris, |out, uri| write_str(out, uri));
    }
    out.extend_from_slice(b"},");
    end_notification(out, id);
}

fn begin_notification(out: &mut Vec<u8>, method: &str) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    write_str(out, method);
    out.extend_from_slice(br#","params":{"#);
}

/// Every frame of the stream names the subscription, with the id's own JSON type.
fn end_notification(out: &mut Vec<u8>, id: &[u8]) {
    write_subscription(out, id);
    out.extend_from_slice(b"}}");
}

fn write_subscription(out: &mut Vec<u8>, id: &[u8]) {
    out.extend_from_slice(br#""_meta":{"#);
    write_str(out, meta_key::SUBSCRIPTION_ID);
    out.push(b':');
    out.extend_from_slice(id);
    out.push(b'}');
}

impl Engine {
    pub(super) fn count_listens(&self) {
        self.metrics.set(Gauge::Listens, (self.listens.len() + self.legacy.gets) as u64);
    }

    /// Tells every open stream of this core what it wants to hear of.
    pub(super) fn tell_listens(&mut self, now: Now, news: &News, out: &mut Out) {
        let mut message = std::mem::take(&mut self.scratch.body);
        let (listens, exchanges, date) = (&self.listens, &mut self.exchanges, self.date.at(now.wall_ms));
        for (&conn, listen) in &listens.open {
            let mut tell = |method: &str, uri: Option<&str>| {
                message.clear();
                begin_notification(&mut message, method);
                if let Some(uri) = uri {
                    message.extend_from_slice(br#""uri":"#);
                    write_str(&mut message, uri);
                    message.push(b',');
                }
                end_notification(&mut message, &listen.id);
                exchanges.tell(conn, date, &message, now.mono, out);
            };
            let Some(at) = news.at(listen.endpoint) else { continue };
            at.lists.and(listen.filter.lists).each().for_each(|list| tell(list.notification(), None));
            let is_updated = |uri: &str| at.are_all_updated || at.updated.contains(uri);
            listen.filter.uris.iter().filter(|uri| is_updated(uri)).for_each(|uri| tell("notifications/resources/updated", Some(uri)));
        }
        self.scratch.body = message;
    }

    /// Ends every stream, or those of these endpoints, with its result (2026-07-28, subscriptions, "Graceful Closure").
    pub(super) fn end_listens(&mut self, now: Now, of: Option<&[u64]>, out: &mut Out) {
        let mut message = std::mem::take(&mut self.scratch.body);
        let date = self.date_at(now);
        let is_over = |_: &ConnId, listen: &mut Listen| of.is_none_or(|endpoints| endpoints.contains(&listen.endpoint));
        let ended: Vec<_> = self.listens.open.extract_if(is_over).collect();
        for (conn, listen) in ended {
            let raw = listen.id.clone();
            listen.leave(&mut self.watches);
            let Some(id) = Id::from_raw(&raw) else { continue };
            message.clear();
            jsonrpc::begin_result(&mut message, id);
            message.extend_from_slice(br#"{"resultType":"complete","#);
            write_subscription(&mut message, &raw);
            message.push(b'}');
            jsonrpc::end(&mut message);
            self.exchanges.finish(conn, &date, 200, &message, of.is_none(), out);
        }
        self.scratch.body = message;
        self.count_listens();
    }
}
