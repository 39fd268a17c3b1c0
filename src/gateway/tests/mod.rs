//! The room driven as an engine would: requests in, bytes for links out, and an upstream that says what the test has it say.

mod faults;
mod flood;
mod hostile;
mod instances;
mod mend;
mod owners;
mod relay;
mod relief;
mod retired;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use super::link::{Dial, Down, LinkEvent};
use super::{Dialect, Effect, Failure, Forward, Gateway, Heard, Owner, Roster, Settings, Starts, TripId, What};
use crate::base::ids::{CallId, CoreId, LinkId};
use crate::base::metrics::CoreMetrics;
use crate::base::time::Nanos;
use crate::wire::jsonrpc::Id;
use crate::wire::mcp::{Era, Level, Method, Version};

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Notice(String),
    Answer(u16, String),
    Asks(String),
    Apart(u64),
    Failed(Failure),
}

/// One upstream named `u`.
struct Bench {
    gateway: Gateway,
    now: Nanos,
    /// What the shell was told to do and was not looked at yet.
    effects: Vec<Effect>,
    fed: Vec<(LinkId, String)>,
    metrics: &'static CoreMetrics,
}

pub(super) fn settings() -> Settings {
    Settings {
        name: "u".into(),
        url: "http://u.test/mcp".into(),
        dial: Arc::new(Dial::Tcp { host: "u.test".into(), port: 80, tls: false }),
        starts: Starts::new("/mcp", "u.test", &[("X-Key".into(), "k".into())]).expect("what can be sent"),
        dialect: Dialect::Auto,
        connect_timeout: Duration::from_secs(1),
        first_byte_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(20),
        total_timeout: Duration::from_secs(60),
        in_flight_max: 2,
        queued_max: 2,
        idle_links_max: 2,
        retries: true,
        options: crate::gateway::config::Options::default(),
    }
}

fn call(index: u32) -> CallId {
    CallId { index, generation: 1 }
}

fn forward(index: u32, method: Method) -> Forward<'static> {
    let params: &[u8] = if method == Method::ResourcesRead { br#"{"uri":"a:1"}"# } else { br#"{"name":"t"}"# };
    Forward {
        core: CoreId(0),
        call: call(index),
        era: Era::Modern,
        method,
        id: Id::Number(b"1"),
        params,
        renamed: None,
        name: if method == Method::ResourcesRead { "a:1" } else { "t" },
        exposed: if method == Method::ResourcesRead { "a:1" } else { "t" },
        progress_token: None,
        level: Some(Level::Info),
        wanted: None,
        client_info: None,
        owner: Owner::Shared,
        speaks: Version::V2026_07_28,
        capabilities: crate::wire::mcp::ClientCapabilities::NONE,
        agrees: true,
        fields: &[],
    }
}

/// A whole response with this body.
fn response(body: &str) -> String {
    status("200 OK", body)
}

fn status(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const ANSWER: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"resultType":"complete"}}"#;

impl Bench {
    fn new(settings: Settings) -> Self {
        let metrics = Box::leak(Box::default());
        Self { gateway: Gateway::new(&Roster::new([settings]), 1, metrics), now: Nanos(1), effects: Vec::new(), fed: Vec::new(), metrics }
    }

    fn relay(&mut self, index: u32) -> Result<TripId, Failure> {
        self.relay_as(&forward(index, Method::ToolsCall), Version::V2026_07_28)
    }

    fn relay_as(&mut self, forward: &Forward<'_>, version: Version) -> Result<TripId, Failure> {
        let trip = self.gateway.relay(self.now, 0, version, forward);
        self.take();
        trip
    }

    fn take(&mut self) {
        let (effects, fed) = (&mut self.effects, &mut self.fed);
        self.gateway.drain(|effect, bytes| {
            if let Effect::Feed { link, range } = &effect {
                fed.push((*link, String::from_utf8_lossy(&bytes[range.clone()]).into_owned()));
            }
            effects.push(effect);
        });
    }

    /// The links that were asked for since this was asked last.
    fn dialled(&mut self) -> Vec<LinkId> {
        let dialled = |effect: Effect| if let Effect::Dial { link, .. } = effect { Some(link) } else { None };
        std::mem::take(&mut self.effects).into_iter().filter_map(dialled).collect()
    }

    /// The links that were hung up since this was asked last.
    fn hung(&mut self) -> Vec<LinkId> {
        let hung = |effect: Effect| if let Effect::Hang { link } = effect { Some(link) } else { None };
        std::mem::take(&mut self.effects).into_iter().filter_map(hung).collect()
    }

    /// What was fed since this was asked last.
    fn fed(&mut self) -> Vec<(LinkId, String)> {
        std::mem::take(&mut self.fed)
    }

    fn event(&mut self, link: LinkId, event: LinkEvent<'_>) -> Vec<(u32, Told)> {
        self.gateway.on_link(self.now, link, &event);
        self.take();
        self.told(None)
    }

    /// The link is made, and has taken everything.
    fn up(&mut self, link: LinkId) {
        assert_eq!(self.event(link, LinkEvent::Up), []);
        assert_eq!(self.event(link, LinkEvent::Drained), []);
    }

    fn bytes(&mut self, link: LinkId, bytes: &str) -> Vec<(u32, Told)> {
        let heard = self.gateway.on_bytes(self.now, link, bytes.as_bytes());
        let told = heard.map(tell);
        self.take();
        self.told(told)
    }

    fn told(&mut self, first: Option<(u32, Told)>) -> Vec<(u32, Told)> {
        let mut told: Vec<_> = first.into_iter().collect();
        while let Some(heard) = self.gateway.next_heard() {
            told.push(tell(heard));
        }
        told
    }

    fn pass(&mut self, duration: Duration) -> Vec<(u32, Told)> {
        self.now = self.now.after(duration);
        self.gateway.on_tick(self.now);
        self.take();
        self.told(None)
    }

    /// One request over a link that is then idle.
    fn warm(&mut self) -> LinkId {
        self.relay(1).expect("it is taken");
        let link = self.dialled()[0];
        self.up(link);
        assert_eq!(self.bytes(link, &response(ANSWER)), [(1, Told::Answer(200, ANSWER.to_owned()))]);
        self.fed();
        link
    }
}

fn tell(heard: Heard<'_>) -> (u32, Told) {
    let text = |message: std::borrow::Cow<'_, [u8]>| String::from_utf8(message.into_owned()).expect("UTF-8");
    let told = match heard.what {
        What::Notice(message) => Told::Notice(text(message)),
        What::Answer { status, message } => Told::Answer(status, text(message)),
        What::Asks(message) => Told::Asks(text(message)),
        What::Question { id, .. } => Told::Asks(id.into()),
        What::Apart { retry_ms } => Told::Apart(retry_ms),
        What::Failed(failure) => Told::Failed(failure),
    };
    (heard.call.index, told)
}

fn failed(index: u32, failure: Failure) -> Vec<(u32, Told)> {
    vec![(index, Told::Failed(failure))]
}

const DOWN: LinkEvent<'static> = LinkEvent::Down(Down::Reset);
