//! One connection of the load: what waits to be sent, what is unanswered, and what its answers mean. Bytes and moments in, bytes and counts
//! out: it has no socket and reads no clock.

use std::collections::VecDeque;

use super::plan::Random;
use super::request::{ID_FIRST, Kind, Target, Template, id_after};
use super::tally::{Class, Counts, Times};
use super::{LoadError, NS_PER_S};
use crate::base::limits::{LOAD_ANSWER_BYTES_MAX, LOAD_OUT_BYTES_MAX};
use crate::wire::http1::{Known, Media, Part, ResponseReader};
use crate::wire::jsonrpc::{self, Body, Message};
use crate::wire::mcp::{Era, Method, Version};
use crate::wire::sse;

/// How long a connection stays down after it could not be used, unless the server said for how long.
const RETRY_NS: u64 = NS_PER_S;
/// Longest time that a server's Retry-After is heeded, nanoseconds.
const RETRY_NS_MAX: u64 = 60 * NS_PER_S;

/// What all connections of a process send.
#[derive(Debug)]
pub struct Script {
    /// The requests to choose from.
    pub templates: Vec<Template>,
    /// What a legacy session begins with: `initialize` and `notifications/initialized`.
    greeting: Option<(Template, Template)>,
    /// Requests of one connection that may be on their way at once.
    pub pipeline: usize,
    /// Time until a message that is not answered counts as timed out, from its planned time.
    pub timeout_ns: u64,
}

impl Script {
    /// The requests of these kinds in the target's version.
    ///
    /// # Errors
    /// [`LoadError::Unsendable`].
    pub fn new(kinds: &[Kind], target: &Target, pipeline: usize, timeout_ns: u64) -> Result<Self, LoadError> {
        let version = Version::parse(target.version.as_bytes()).unwrap_or(Version::LEGACY_NEWEST);
        let templates = kinds.iter().map(|kind| Template::of(kind.nearest(version), version, target)).collect::<Result<_, _>>()?;
        let greeting = match version.era() {
            Era::Modern => None,
            Era::Legacy => Some((initialize(version, target)?, Template::initialized(version, &target.place)?)),
        };
        Ok(Self { templates, greeting, pipeline: pipeline.max(1), timeout_ns })
    }
}

/// The first request of a legacy session.
///
/// # Errors
/// [`LoadError::Unsendable`].
pub fn initialize(version: Version, target: &Target) -> Result<Template, LoadError> {
    let params = format!(
        r#"{{"protocolVersion":"{}","capabilities":{{}},"clientInfo":{{"name":"ringhub-load","version":"{}"}}}}"#,
        version.as_str(),
        env!("CARGO_PKG_VERSION")
    );
    Template::request(Method::Initialize, params.as_bytes(), None, version, &target.place, Some(b"\"protocolVersion\""))
}

/// What one process counts and measures.
#[derive(Debug, Default)]
pub struct Measure {
    /// Since the last interval.
    pub counts: Counts,
    /// From the planned time to the right answer.
    pub answered: Times,
    /// From the planned time to the refusal.
    pub refused: Times,
    /// Messages that were offered, and are neither answered nor given up.
    pub outstanding: u64,
}

impl Measure {
    /// A message came to nothing. `refused_after` is how long its refusal took, when the server has given one to it.
    fn fail(&mut self, class: Class, refused_after: Option<u64>) {
        self.counts.failed.add(class);
        self.outstanding -= 1;
        if let Some(ns) = refused_after.filter(|_| class.is_refusal()) {
            self.refused.record(ns);
        }
    }

    fn answer(&mut self, after_ns: u64) {
        self.counts.answered += 1;
        self.outstanding -= 1;
        self.answered.record(after_ns);
    }
}

/// What a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in use: not opened yet, or closed for good.
    Closed,
    /// There is a socket that is not connected yet.
    Connecting,
    /// A legacy session is being opened.
    Greeting,
    /// It sends.
    Ready,
    /// It could not be used; messages meanwhile come to this class. It is opened again.
    Down(Class),
}

/// What is to be done with the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Keep,
    /// Close it, and open another at this moment.
    Reopen(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// One of the script's requests.
    Message(u8),
    /// The same; it has its answer, or counts as timed out.
    Settled,
    Expired,
    Initialize,
    Initialized,
}

/// A request that was written.
#[derive(Clone, Copy, Debug)]
struct Entry {
    planned_ns: u64,
    id: u64,
    what: What,
}

/// What is known of the response in work.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    status: u16,
    retry_after_ns: Option<u64>,
    is_stream: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Conn {
    /// What it is.
    pub state: State,
    /// Since when it is that; while it is down, when it is opened again.
    pub since_ns: u64,
    /// Bytes to be sent, from `out_at` on.
    out: Vec<u8>,
    out_at: usize,
    /// Messages that are not written yet: their planned time, and which of the script's requests.
    waiting: VecDeque<(u64, u8)>,
    in_flight: VecDeque<Entry>,
    reader: ResponseReader,
    head: Head,
    body: Vec<u8>,
    events: Option<Box<sse::Parser>>,
    /// The session's header field, whole.
    session: Vec<u8>,
    next_id: u64,
    random: Random,
    /// It was answered rightly since it was opened.
    is_good: bool,
    /// Nothing new will be offered to it.
    pub is_ending: bool,
}

impl Conn {
    /// A connection that is not open.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            state: State::Closed,
            since_ns: 0,
            out: Vec::new(),
            out_at: 0,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            reader: ResponseReader::new(),
            head: Head { status: 0, retry_after_ns: None, is_stream: false },
            body: Vec::new(),
            events: None,
            session: Vec::new(),
            next_id: ID_FIRST,
            random: Random::new(seed),
            is_good: false,
            is_ending: false,
        }
    }

    /// A message's time has come.
    pub fn offer(&mut self, planned_ns: u64, script: &Script, measure: &mut Measure) {
        let which = self.random.below(script.templates.len() as u64) as u8;
        measure.outstanding += 1;
        match self.state {
            State::Down(class) => measure.fail(class, None),
            State::Closed => measure.fail(Class::Connect, None),
            _ => self.waiting.push_back((planned_ns, which)),
        }
    }

    /// Nothing is waiting and nothing unanswered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.in_flight.is_empty()
    }

    /// There is a socket that connects.
    pub fn connecting(&mut self, now_ns: u64) {
        (self.state, self.since_ns) = (State::Connecting, now_ns);
        (self.reader, self.events) = (ResponseReader::new(), None);
        (self.is_good, self.out_at) = (false, 0);
        self.out.clear();
        self.body.clear();
        self.session.clear();
    }

    /// The socket is connected.
    pub fn connected(&mut self, now_ns: u64, script: &Script, measure: &mut Measure) {
        self.since_ns = now_ns;
        match &script.greeting {
            None => {
                self.state = State::Ready;
                measure.counts.opened += 1;
            }
            Some((initialize, _)) => {
                self.state = State::Greeting;
                self.write(initialize, now_ns, What::Initialize);
            }
        }
    }

    fn write(&mut self, template: &Template, planned_ns: u64, what: What) {
        let id = self.next_id;
        self.next_id = id_after(id);
        template.write(&mut self.out, &self.session, id);
        self.in_flight.push_back(Entry { planned_ns, id, what });
    }

    /// Writes what waits as far as it may be on its way, and gives the bytes to be sent.
    pub fn fill(&mut self, script: &Script, measure: &mut Measure) -> &[u8] {
        while self.state == State::Ready && self.in_flight.len() < script.pipeline && self.out.len() < LOAD_OUT_BYTES_MAX {
            let Some((planned_ns, which)) = self.waiting.pop_front() else { break };
            self.write(&script.templates[usize::from(which)], planned_ns, What::Message(which));
            measure.counts.sent += 1;
        }
        &self.out[self.out_at..]
    }

    /// So many bytes of them were sent.
    pub fn sent(&mut self, bytes: usize, measure: &mut Measure) {
        measure.counts.bytes_out += bytes as u64;
        self.out_at += bytes;
        if self.out_at == self.out.len() {
            self.out.clear();
            self.out_at = 0;
        }
    }

    /// Bytes came.
    pub fn take(&mut self, mut input: &[u8], now_ns: u64, script: &Script, measure: &mut Measure) -> Fate {
        measure.counts.bytes_in += input.len() as u64;
        // A body that comes in one piece is read where it is.
        let mut piece: &[u8] = &[];
        loop {
            match self.reader.next(&mut input) {
                Ok(Some(Part::Head(head))) => {
                    let retry_after_ns =
                        head.headers.get(Known::RetryAfter).map(|_| head.retry_after_s().unwrap_or(1).saturating_mul(NS_PER_S));
                    self.head = Head { status: head.status, retry_after_ns, is_stream: head.media == Some(Media::EventStream) };
                    if self.state == State::Greeting
                        && let Some(id) = head.session_id()
                    {
                        self.session = [b"Mcp-Session-Id: ", id, b"\r\n"].concat();
                    }
                    self.events = self.head.is_stream.then(|| Box::new(sse::Parser::new(LOAD_ANSWER_BYTES_MAX)));
                }
                Ok(Some(Part::Data(data))) if self.head.is_stream => {
                    if self.on_events(data, now_ns, script, measure).is_err() {
                        return self.broke(now_ns, measure);
                    }
                }
                Ok(Some(Part::Data(data))) => {
                    if piece.is_empty() && self.body.is_empty() {
                        piece = data;
                        continue;
                    }
                    self.body.extend_from_slice(std::mem::take(&mut piece));
                    self.body.extend_from_slice(data);
                    if self.body.len() > LOAD_ANSWER_BYTES_MAX {
                        return self.broke(now_ns, measure);
                    }
                }
                Ok(Some(Part::End)) => {
                    let fate = self.complete(std::mem::take(&mut piece), now_ns, script, measure);
                    if fate != Fate::Keep {
                        return fate;
                    }
                }
                Ok(None) => {
                    self.body.extend_from_slice(piece);
                    return Fate::Keep;
                }
                Err(_) => return self.broke(now_ns, measure),
            }
        }
    }

    /// The peer ended, or `is_reset`: the connection broke.
    pub fn ended(&mut self, is_reset: bool, now_ns: u64, script: &Script, measure: &mut Measure) -> Fate {
        if !is_reset && !self.reader.is_idle() && self.reader.on_end().is_ok() {
            // A body that ends with the connection.
            let fate = self.complete(&[], now_ns, script, measure);
            if fate != Fate::Keep {
                return fate;
            }
        }
        self.lost(Class::Reset, now_ns, measure)
    }

    /// It could not be connected.
    pub fn failed(&mut self, now_ns: u64, measure: &mut Measure) -> Fate {
        self.lost(Class::Connect, now_ns, measure)
    }

    /// What is overdue counts as timed out. A connection whose server has forgotten it is given up.
    pub fn expire(&mut self, now_ns: u64, script: &Script, measure: &mut Measure) -> Fate {
        let is_over = |planned_ns: u64| planned_ns.saturating_add(script.timeout_ns) <= now_ns;
        while self.waiting.front().is_some_and(|(planned_ns, _)| is_over(*planned_ns)) {
            self.waiting.pop_front();
            measure.fail(Class::Timeout, None);
        }
        for entry in self.in_flight.iter_mut().take_while(|entry| is_over(entry.planned_ns)) {
            if matches!(entry.what, What::Message(_)) {
                entry.what = What::Expired;
                measure.fail(Class::Timeout, None);
            }
        }
        match self.state {
            State::Connecting if is_over(self.since_ns) => self.lost(Class::Connect, now_ns, measure),
            State::Greeting if is_over(self.since_ns) => self.lost(Class::Timeout, now_ns, measure),
            State::Ready
                if self.in_flight.front().is_some_and(|entry| entry.planned_ns.saturating_add(2 * script.timeout_ns) <= now_ns) =>
            {
                self.lost(Class::Timeout, now_ns, measure)
            }
            _ => Fate::Keep,
        }
    }

    /// The run was interrupted: what is in work is cut off.
    pub fn cut(&mut self, measure: &mut Measure) {
        let unanswered = self.in_flight.iter().filter(|entry| matches!(entry.what, What::Message(_))).count() + self.waiting.len();
        measure.counts.cut += unanswered as u64;
        measure.outstanding -= unanswered as u64;
        self.waiting.clear();
        self.in_flight.clear();
        self.state = State::Closed;
    }

    fn on_events(&mut self, mut data: &[u8], now_ns: u64, script: &Script, measure: &mut Measure) -> Result<(), sse::TooLong> {
        let Some(mut events) = self.events.take() else { return Ok(()) };
        while let Some(event) = events.next(&mut data)? {
            // What is said before the answer, and what the server asks, is not measured.
            if let Some(entry) = self.in_flight.front_mut()
                && let Some(result) = judge(event.data, entry, script)
            {
                self.settle(result, now_ns, measure);
            }
        }
        self.events = Some(events);
        Ok(())
    }

    /// The answer to the oldest request is there. Its entry stays until its response is whole.
    fn settle(&mut self, result: Result<(), Class>, now_ns: u64, measure: &mut Measure) {
        let Some(entry) = self.in_flight.front_mut() else { return };
        match (entry.what, result) {
            (What::Message(_), Ok(())) => {
                measure.answer(now_ns.saturating_sub(entry.planned_ns));
                self.is_good = true;
            }
            (What::Message(_), Err(class)) => {
                measure.fail(class, Some(now_ns.saturating_sub(entry.planned_ns)));
                measure.counts.refused_bare += u64::from(class.is_refusal() && self.head.retry_after_ns.is_none());
            }
            (What::Expired, _) => measure.counts.late += 1,
            // How the greeting went is judged when its response is whole.
            (What::Initialize, Ok(())) => {}
            _ => return,
        }
        entry.what = What::Settled;
    }

    /// A response is whole. `piece` is its body, unless that was gathered.
    fn complete(&mut self, piece: &[u8], now_ns: u64, script: &Script, measure: &mut Measure) -> Fate {
        let status = self.head.status;
        let Some(entry) = self.in_flight.front().copied() else {
            // It answers nothing: a refusal of the connection.
            self.body.clear();
            return self.lost(if status == 200 { Class::WrongContent } else { Class::of_status(status) }, now_ns, measure);
        };
        let was_greeting = self.state == State::Greeting;
        let mut class = (status != 200).then(|| Class::of_status(status));
        match entry.what {
            What::Initialized => class = class.filter(|_| !matches!(status, 202 | 204)),
            What::Settled => {}
            _ => {
                let body = std::mem::take(&mut self.body);
                let message = if body.is_empty() { piece } else { &body };
                let result = match class {
                    Some(class) => Err(class),
                    None => judge(message, &entry, script).unwrap_or(Err(Class::WrongContent)),
                };
                self.body = body;
                class = result.err();
                self.settle(result, now_ns, measure);
            }
        }
        self.body.clear();
        self.in_flight.pop_front();
        if was_greeting {
            match (class, &script.greeting) {
                (Some(class), _) => return self.lost(class, now_ns, measure),
                (None, Some((_, initialized))) if entry.what != What::Initialized => {
                    self.write(initialized, now_ns, What::Initialized);
                }
                _ => {
                    self.state = State::Ready;
                    measure.counts.opened += 1;
                }
            }
        }
        if self.reader.keeps_alive() {
            return Fate::Keep;
        }
        // The server will answer no more of what was sent here. What it refused with that it has refused; the rest is asked again.
        match class {
            Some(class) => self.lost(class, now_ns, measure),
            None => {
                while let Some(entry) = self.in_flight.pop_back() {
                    if let What::Message(which) = entry.what {
                        self.waiting.push_front((entry.planned_ns, which));
                    }
                }
                self.let_go(now_ns)
            }
        }
    }

    /// What came is no HTTP, or too much of it.
    fn broke(&mut self, now_ns: u64, measure: &mut Measure) -> Fate {
        if let Some(Entry { what: What::Message(_), .. }) = self.in_flight.front() {
            self.settle(Err(Class::WrongContent), now_ns, measure);
        }
        self.lost(Class::Reset, now_ns, measure)
    }

    /// The connection is lost, and with it what is unanswered. What was not sent waits for the next one, unless this one was of no use.
    fn lost(&mut self, class: Class, now_ns: u64, measure: &mut Measure) -> Fate {
        for entry in self.in_flight.drain(..) {
            if matches!(entry.what, What::Message(_)) {
                measure.fail(class, class.is_refusal().then(|| now_ns.saturating_sub(entry.planned_ns)));
            }
        }
        if self.state == State::Ready && !self.is_ending {
            measure.counts.dropped += 1;
        }
        if self.is_good && !class.is_refusal() {
            return self.let_go(now_ns);
        }
        measure.counts.unopened.add(class);
        measure.counts.refused_bare += u64::from(class.is_refusal() && self.head.retry_after_ns.is_none());
        for _ in self.waiting.drain(..) {
            measure.fail(class, None);
        }
        let told_ns = self.head.retry_after_ns.filter(|_| class.is_refusal()).unwrap_or(RETRY_NS);
        self.state = State::Down(class);
        self.since_ns = now_ns + told_ns.clamp(RETRY_NS, RETRY_NS_MAX);
        Fate::Reopen(self.since_ns)
    }

    fn let_go(&mut self, now_ns: u64) -> Fate {
        self.state = State::Connecting;
        self.since_ns = now_ns;
        Fate::Reopen(now_ns)
    }
}

/// What a message means for the request: `None` when it does not answer it.
fn judge(message: &[u8], entry: &Entry, script: &Script) -> Option<Result<(), Class>> {
    let Ok(Body::One(Message::Response(response))) = jsonrpc::parse(message) else { return None };
    let id = response.id.and_then(|id| std::str::from_utf8(id.raw()).ok()?.parse::<u64>().ok());
    if id != Some(entry.id) {
        return None;
    }
    let Some(result) = response.result else { return Some(Err(Class::RpcError)) };
    let is_right = match entry.what {
        What::Message(which) => script.templates[usize::from(which)].is_answered_by(result),
        What::Initialize => script.greeting.as_ref().is_some_and(|(initialize, _)| initialize.is_answered_by(result)),
        _ => true,
    };
    Some(if is_right { Ok(()) } else { Err(Class::WrongContent) })
}

#[cfg(test)]
mod tests;
