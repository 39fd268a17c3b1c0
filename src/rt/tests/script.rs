//! An engine for the shell's own tests: what it does stands in the path of the request.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::upstreams::Upstreams;
use crate::base::fault;
use crate::base::ids::{ConnId, CoreId, LinkId};
use crate::base::time::{Nanos, Now};
use crate::engine::{Effect, EngineConfig, Frame, Inbound, Lane, Out, Role, Shared, Verdict};
use crate::gateway::link::LinkEvent;
use crate::native::inbox::Event;
use crate::native::{BuildError, Factory, Inbox};
use crate::rt::with_glommio;
use crate::wire::http1::{self, Head};

const DATE: &[u8; 29] = b"Mon, 23 Nov 2026 00:00:00 GMT";
/// Marks the end of blocking work among the wakes of tasks.
const BLOCKING: u64 = 1 << 63;
/// What a flood writes per tick.
const FLOOD_BYTES: usize = 1 << 20;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// What a connection's pending response waits for.
enum Pending {
    Answer(Nanos),
    Park(Nanos),
    Flood,
    Other,
}

pub(crate) struct Engine {
    core: CoreId,
    inbox: Arc<Inbox>,
    pending: HashMap<ConnId, Pending>,
    /// Parked before: served when offered again.
    released: Vec<ConnId>,
    tasks: HashMap<u64, (ConnId, Task)>,
    draining: bool,
    gone: usize,
    half_closed: usize,
    upstreams: Upstreams,
}

struct TaskWake {
    inbox: Arc<Inbox>,
    task: u64,
}

impl std::task::Wake for TaskWake {
    fn wake(self: Arc<Self>) {
        self.inbox.push(Event::Wake { task: self.task });
    }
}

impl Engine {
    pub(crate) const fn set_late(&mut self, _: bool) {}

    pub(crate) const fn held_bytes(&self) -> usize {
        0
    }

    pub(crate) const fn largest_held(&self) -> usize {
        0
    }

    pub(crate) const fn relieve(&self, _: Now, _: &mut Out) {}

    pub(crate) fn new(
        core: CoreId,
        _cores: u16,
        _config: &EngineConfig,
        _servers: &[Arc<Factory>],
        _shared: &'static Shared,
        inbox: Arc<Inbox>,
    ) -> Result<Self, BuildError> {
        let (pending, released, tasks) = (HashMap::new(), Vec::new(), HashMap::new());
        Ok(Self { core, inbox, pending, released, tasks, draining: false, gone: 0, half_closed: 0, upstreams: Upstreams::default() })
    }

    fn answer(&self, reply: &mut Vec<u8>, body: &[u8], close: bool) -> bool {
        let close = close || self.draining;
        http1::response(reply, &Head { status: 200, content_type: Some("text/plain"), close, extra: &[], date: DATE }, body);
        close
    }

    fn answer_later(&mut self, conn: ConnId, out: &mut Out) {
        if self.pending.remove(&conn).is_some() {
            let mut reply = Vec::new();
            let close = self.answer(&mut reply, b"later", false);
            out.write(conn, |bytes| bytes.extend_from_slice(&reply));
            out.effects.push(Effect::End { conn, close });
        }
    }

    pub(crate) fn on_request(&mut self, now: Now, inbound: Inbound<'_>, reply: &mut Vec<u8>, out: &mut Out) -> Verdict {
        let request = inbound.request;
        let conn = inbound.conn;
        assert!(!self.pending.contains_key(&conn), "a connection with a pending response takes no request");
        let mut parts = request.path.trim_start_matches('/').split('/');
        let name = parts.next().unwrap_or_default();
        let number: u64 = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
        let after = now.mono.after(Duration::from_millis(number));
        let close = !request.keep_alive;
        let answered = |close| Verdict::Answered { close };
        match name {
            "echo" => answered(self.answer(reply, request.body, close)),
            "close" => answered(self.answer(reply, b"bye", true)),
            "big" => answered(self.answer(reply, &vec![b'x'; number as usize], close)),
            "core" => answered(self.answer(reply, self.core.to_string().as_bytes(), close)),
            "peer" => answered(self.answer(reply, inbound.peer.to_string().as_bytes(), close)),
            "events" => {
                let text = format!("gone={} half_closed={} pending={}", self.gone, self.half_closed, self.pending.len());
                answered(self.answer(reply, text.as_bytes(), close))
            }
            "move" if CoreId(number as u16) == self.core => answered(self.answer(reply, request.body, close)),
            "move" => Verdict::Move(CoreId(number as u16)),
            "park" if self.released.contains(&conn) => {
                self.released.retain(|released| *released != conn);
                answered(self.answer(reply, request.body, close))
            }
            "park" => {
                self.pending.insert(conn, Pending::Park(after));
                Verdict::Park
            }
            "later" => self.later(conn, Pending::Answer(after)),
            "never" => self.later(conn, Pending::Other),
            "flood" => self.later(conn, Pending::Flood),
            "glommio" => {
                self.spawn(
                    conn,
                    Box::pin(with_glommio(async move {
                        glommio::timer::sleep(Duration::from_millis(number)).await;
                        let spawned = glommio::spawn_local(async { 20 });
                        let blocked = glommio::executor().spawn_blocking(|| 22).await;
                        assert_eq!(spawned.await + blocked, 42);
                    })),
                );
                self.later(conn, Pending::Other)
            }
            "blocking" => {
                let inbox = Arc::clone(&self.inbox);
                out.effects.push(Effect::Blocking(Box::new(move || {
                    std::thread::sleep(Duration::from_millis(number));
                    inbox.push(Event::Wake { task: BLOCKING | conn.pack() });
                })));
                self.later(conn, Pending::Other)
            }
            "hop" => {
                let frame = Frame::Updated { server: 0, uri: conn.pack().to_string().into() };
                out.effects.push(Effect::Send { to: CoreId(number as u16), lane: Lane::Ask, frame });
                self.later(conn, Pending::Other)
            }
            "link" => match self.upstreams.on_request(conn, request, out) {
                Some(text) => answered(self.answer(reply, &text, close)),
                None => self.later(conn, Pending::Other),
            },
            _ => answered(self.answer(reply, b"what?", true)),
        }
    }

    fn later(&mut self, conn: ConnId, pending: Pending) -> Verdict {
        self.pending.insert(conn, pending);
        Verdict::Later
    }

    fn spawn(&mut self, conn: ConnId, task: Task) {
        let id = u64::from(conn.index);
        self.tasks.insert(id, (conn, task));
        self.inbox.push(Event::Wake { task: id });
    }

    pub(crate) fn on_reject(&mut self, _now: Now, _role: Role, kind: fault::Kind, reply: &mut Vec<u8>) {
        let extra = kind.retry_after_s().map(|seconds| [("Retry-After", seconds.as_bytes())]);
        let extra = extra.as_ref().map_or(&[][..], |field| field);
        http1::response(reply, &Head { status: kind.status(), content_type: None, close: true, extra, date: DATE }, b"");
    }

    pub(crate) fn on_half_close(&mut self, _now: Now, conn: ConnId, _out: &mut Out) {
        assert!(self.pending.contains_key(&conn));
        self.half_closed += 1;
    }

    pub(crate) fn on_gone(&mut self, _now: Now, conn: ConnId, _out: &mut Out) {
        self.gone += 1;
        self.pending.remove(&conn);
        self.tasks.remove(&u64::from(conn.index));
    }

    pub(crate) fn on_frame(&mut self, _now: Now, from: CoreId, frame: Frame, out: &mut Out) {
        let Frame::Updated { server, uri } = frame else { return };
        if server == 0 {
            out.effects.push(Effect::Send { to: from, lane: Lane::Reply, frame: Frame::Updated { server: 1, uri } });
        } else {
            self.answer_later(ConnId::unpack(uri.parse().expect("a number")), out);
        }
    }

    pub(crate) fn on_link(&mut self, now: Now, link: LinkId, event: LinkEvent<'_>, out: &mut Out) {
        if let Some(conn) = self.upstreams.on_link(now, link, event, out) {
            self.pending.remove(&conn);
        }
    }

    pub(crate) fn on_choked(&mut self, _now: Now, conn: ConnId, is_choked: bool, out: &mut Out) {
        assert!(self.pending.contains_key(&conn), "only a pending response is told of");
        self.upstreams.on_choked(conn, is_choked, out);
    }

    pub(crate) fn on_unsent(&mut self, _to: CoreId, _lane: Lane, _frame: Frame) {}

    pub(crate) fn on_tick(&mut self, now: Now, out: &mut Out) {
        let due: Vec<ConnId> = self
            .pending
            .iter()
            .filter(|(_, pending)| matches!(pending, Pending::Answer(at) if *at <= now.mono))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in due {
            self.answer_later(conn, out);
        }
        let released: Vec<ConnId> = self
            .pending
            .iter()
            .filter(|(_, pending)| matches!(pending, Pending::Park(at) if *at <= now.mono))
            .map(|(conn, _)| *conn)
            .collect();
        for conn in released {
            self.pending.remove(&conn);
            self.released.push(conn);
            out.effects.push(Effect::Resume { conn });
        }
        self.upstreams.on_tick(out);
        for (conn, _) in self.pending.iter().filter(|(_, pending)| matches!(pending, Pending::Flood)) {
            out.write(*conn, |bytes| bytes.extend_from_slice(&[b'x'; FLOOD_BYTES]));
        }
    }

    pub(crate) fn on_wake(&mut self, _now: Now, out: &mut Out) {
        let mut events = Vec::new();
        self.inbox.drain(&mut events);
        for event in events {
            let Event::Wake { task } = event else { continue };
            if task & BLOCKING != 0 {
                self.answer_later(ConnId::unpack(task & !BLOCKING), out);
            } else {
                self.poll(task, out);
            }
        }
    }

    fn poll(&mut self, id: u64, out: &mut Out) {
        let Some((conn, mut task)) = self.tasks.remove(&id) else { return };
        let waker = Waker::from(Arc::new(TaskWake { inbox: Arc::clone(&self.inbox), task: id }));
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => self.answer_later(conn, out),
            Poll::Pending => {
                self.tasks.insert(id, (conn, task));
            }
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.inbox.is_empty()
    }

    pub(crate) fn next_deadline(&self) -> Nanos {
        self.pending
            .values()
            .filter_map(|pending| match pending {
                Pending::Answer(at) | Pending::Park(at) => Some(*at),
                Pending::Flood | Pending::Other => None,
            })
            .min()
            .unwrap_or(Nanos::NEVER)
    }

    pub(crate) fn on_drain(&mut self, _now: Now, _out: &mut Out) {
        self.draining = true;
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}
