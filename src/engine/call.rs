//! Calls in work: those of native servers, started, polled, answered, called off, timed out; those of upstreams, which [`super::relay`] starts and
//! answers, are called off and timed out here, too. The same for both eras; what differs is who is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use compact_str::CompactString;

use super::calls::{Call, Work};
use super::legacy;
use super::mrtr::Binding;
use super::out::{Effect, Out};
use super::view::{Signer, rename_contents};
use super::{Engine, modern};
use crate::base::fault::code;
use crate::base::ids::{CallId, ConnId};
use crate::base::metrics::{Counter, Gauge};
use crate::base::time::{Nanos, Now};
use crate::gateway::Failure;
use crate::native::Context;
use crate::native::Server;
use crate::native::host::{CallSpec, Effect as Wish};
use crate::native::inbox::Event;
use crate::native::outcome::{Finished, Job, Outcome, Started};

/// A turn of a handler that is longer than this is logged with the handler's name.
const SLOW_TURN: Duration = Duration::from_millis(5);

/// What of a server is called.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Tool {
        name: &'a str,
        arguments: Option<&'a [u8]>,
    },
    Resource {
        uri: &'a str,
    },
    Prompt {
        name: &'a str,
        arguments: Option<&'a [u8]>,
    },
    /// The whole parameters of `completion/complete`.
    Completion {
        params: &'a [u8],
    },
}

impl<'a> Target<'a> {
    /// What the caller named.
    pub fn name(&self) -> &'a str {
        match *self {
            Self::Tool { name, .. } | Self::Prompt { name, .. } => name,
            Self::Resource { uri } => uri,
            Self::Completion { .. } => "completion/complete",
        }
    }

    pub fn kind(&self) -> TargetKind {
        match self {
            Self::Tool { .. } => TargetKind::Tool,
            Self::Resource { .. } => TargetKind::Resource,
            Self::Prompt { .. } => TargetKind::Prompt,
            Self::Completion { .. } => TargetKind::Completion,
        }
    }
}

/// What of a server is called, without its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TargetKind {
    Tool,
    Resource,
    Prompt,
    Completion,
}

/// Who hears what comes of a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Caller {
    /// The request that this connection waits for, modern era.
    Modern(ConnId),
    /// A request of a legacy session.
    Legacy(legacy::Asker),
    /// A client of the modern era that is to come back: its upstream asked something.
    Parked,
    /// Nobody any more: the call was called off while its work is on the blocking pool.
    Nobody,
}

/// A call to be started.
pub(super) struct Begin<'a> {
    /// The call's id in here is set when it is started.
    pub spec: CallSpec<'a>,
    /// As its server knows it.
    pub target: Target<'a>,
    /// As the caller named it.
    pub name: &'a str,
    /// Whose `serverInfo` its result has.
    pub signer: Signer,
    /// The JSON-RPC id, raw.
    pub rpc_id: &'a [u8],
    pub caller: Caller,
}

impl Begin<'_> {
    /// What the server calls a resource that the caller knows by another URI.
    fn uri(&self) -> Option<&str> {
        match self.target {
            Target::Resource { uri } if uri != self.name => Some(uri),
            _ => None,
        }
    }

    /// Has the members of the result name the resource as the caller does.
    pub fn expose(&self, members: &mut Vec<u8>) {
        if let Some(uri) = self.uri() {
            *members = rename_contents(members, uri, self.name);
        }
    }
}

/// What became of a call when it was started.
pub(super) enum Begun {
    /// It is over; the members of a result stand in the engine's scratch. What it wished for is still to be carried out: see
    /// [`Engine::has_wishes`].
    Done(Ending),
    /// It goes on.
    Waiting(CallId),
}

/// How a call ended.
pub(super) enum Ending {
    Outcome(Outcome),
    /// The server has nothing of that name.
    NotFound,
    /// The server of this name cannot be called.
    Away(Box<str>),
    /// An upstream did not answer.
    Failed {
        upstream: u32,
        failure: Failure,
    },
    /// Modern era: the client must answer first. The members of the result are ready.
    InputRequired,
    /// The deadline passed.
    TimedOut,
    /// Too many calls in work.
    Overloaded,
}

impl Engine {
    /// Starts a call. The handler runs now, outside any borrow of the engine's state.
    pub(super) fn begin(&mut self, now: Now, begin: &mut Begin<'_>, binding: impl FnOnce() -> Option<Binding>, out: &mut Out) -> Begun {
        let begun = self.begin_uncounted(now, begin, binding, out);
        if let Begun::Done(ending) = &begun {
            self.count_ending(begin.target.kind(), ending);
        }
        begun
    }

    fn begin_uncounted(&mut self, now: Now, begin: &mut Begin<'_>, binding: impl FnOnce() -> Option<Binding>, out: &mut Out) -> Begun {
        self.scratch.members.clear();
        if !self.has_room() {
            return Begun::Done(Ending::Overloaded);
        }
        let id = self.calls.next_id();
        self.calls.starting = Some((id, begin.caller));
        begin.spec.call = id;
        let context = self.host.context(&begin.spec);
        match self.start(begin.spec.server, &begin.target, &context) {
            Started::Done(outcome) => Begun::Done(Ending::Outcome(outcome)),
            Started::NotFound => Begun::Done(Ending::NotFound),
            Started::Later(job) => self.begin_job(now, id, job, begin, context, binding),
            Started::Blocking(work) => {
                self.keep(now, id, None, begin, context, binding());
                out.effects.push(self.on_pool(id, work));
                Begun::Waiting(id)
            }
        }
    }

    /// Runs the handler's first turn.
    fn start(&mut self, server: u32, target: &Target<'_>, context: &Context) -> Started {
        let Some(hosted) = self.hosted.get(server as usize) else { return Started::NotFound };
        let (members, decoder) = (&mut self.scratch.members, &mut self.scratch.decoder);
        let server: &Server = &hosted.server;
        let run = AssertUnwindSafe(|| match *target {
            Target::Tool { name, arguments } => server.start_tool(name, arguments, decoder, context, members),
            Target::Resource { uri } => server.start_read(uri, context, members),
            Target::Prompt { name, arguments } => server.start_prompt(name, arguments, decoder, context, members),
            Target::Completion { params } => server.start_complete(params, decoder, context, members),
        });
        let started = catch_unwind(run).unwrap_or_else(|_| Started::Done(Outcome::Panicked));
        self.lap(target.name());
        started
    }

    /// Polls a future for the first time; it gets a slot only when it is not ready at once.
    fn begin_job(
        &mut self,
        now: Now,
        id: CallId,
        mut job: Job,
        begin: &Begin<'_>,
        context: Context,
        binding: impl FnOnce() -> Option<Binding>,
    ) -> Begun {
        match self.poll(id, &mut job, begin.target.name()) {
            Poll::Ready(finished) => {
                self.scratch.members = finished.members;
                Begun::Done(Ending::Outcome(finished.outcome))
            }
            Poll::Pending => {
                let binding = binding();
                let asked = binding.as_ref().and_then(|binding| self.take_questions(now, &context, binding));
                if let Some(ending) = asked {
                    drop_caught(job);
                    return Begun::Done(ending);
                }
                self.keep(now, id, Some(job), begin, context, binding);
                Begun::Waiting(id)
            }
        }
    }

    fn keep(&mut self, now: Now, id: CallId, job: Option<Job>, begin: &Begin<'_>, context: Context, binding: Option<Binding>) {
        let call = Call {
            id,
            caller: begin.caller,
            server: begin.spec.server,
            signer: begin.signer,
            kind: begin.target.kind(),
            name: begin.name.into(),
            uri: begin.uri().map(Into::into),
            rpc_id: CompactString::from_utf8_lossy(begin.rpc_id),
            work: Work::Native { context, binding, job },
            deadline: now.mono.after(self.config.request_timeout),
            permit: self.guard.pending.permit(),
        };
        self.calls.insert(id, call);
        self.calls.starting = None;
        self.gauge_calls();
    }

    pub(super) fn gauge_calls(&self) {
        self.metrics.set(Gauge::Calls, self.calls.len() as u64);
    }

    /// One turn of a handler's future.
    fn poll(&mut self, id: CallId, job: &mut Job, name: &str) -> Poll<Finished> {
        let waker = self.tasks.waker(id.index);
        let mut task = TaskContext::from_waker(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut task)));
        self.lap(name);
        polled.unwrap_or_else(|_| Poll::Ready(Finished { members: Vec::new(), outcome: Outcome::Panicked }))
    }

    /// The work as it goes to the blocking pool: it leaves its result in this core's inbox.
    fn on_pool(&self, call: CallId, work: Box<dyn FnOnce() -> Finished + Send>) -> Effect {
        let inbox = std::sync::Arc::clone(self.host.inbox());
        Effect::Blocking(Box::new(move || {
            let finished =
                catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Finished { members: Vec::new(), outcome: Outcome::Panicked });
            inbox.push(Event::Finished { call, finished });
        }))
    }

    /// Gives the task in this slot a turn.
    pub(super) fn poll_slot(&mut self, now: Now, index: u32, out: &mut Out) {
        let Some(id) = self.calls.id_at(index) else { return };
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(mut job) = call.job().and_then(Option::take) else { return };
        let name = std::mem::take(&mut call.name);
        let polled = self.poll(id, &mut job, &name);
        let Some(call) = self.calls.get_mut(id) else { return };
        call.name = name;
        match polled {
            Poll::Ready(finished) => {
                drop_caught(job);
                self.finished(now, id, finished, out);
            }
            Poll::Pending => {
                if let Some(place) = call.job() {
                    *place = Some(job);
                }
                self.ask_or_wait(now, id, out);
            }
        }
    }

    /// After a turn without a result: the modern era answers with the questions, if there are any.
    fn ask_or_wait(&mut self, now: Now, id: CallId, out: &mut Out) {
        let Some(call) = self.calls.get(id) else { return };
        let asker = match &call.work {
            Work::Native { context, binding: Some(binding), .. } => Some((binding.clone(), context.clone())),
            _ => None,
        };
        let ending = asker.and_then(|(binding, context)| self.take_questions(now, &context, &binding));
        self.carry_out(now, out);
        if let Some(ending) = ending {
            let members = std::mem::take(&mut self.scratch.members);
            self.conclude(now, id, ending, &members, out);
            self.scratch.members = members;
        }
    }

    /// A call ended, on this core or on the blocking pool.
    pub(super) fn finished(&mut self, now: Now, id: CallId, finished: Finished, out: &mut Out) {
        // A capability that is missing decides the HTTP status, so nothing may have been said before it.
        if matches!(finished.outcome, Outcome::MissingCapability(_)) {
            self.drop_notices();
        }
        self.carry_out(now, out);
        self.conclude(now, id, Ending::Outcome(finished.outcome), &finished.members, out);
    }

    /// Takes the call out of work and answers its caller.
    pub(super) fn conclude(&mut self, now: Now, id: CallId, ending: Ending, members: &[u8], out: &mut Out) {
        let Some(mut call) = self.calls.remove(id) else { return };
        self.gauge_calls();
        if let Some(job) = call.job().and_then(Option::take) {
            drop_caught(job);
        }
        self.count_ending(call.kind, &ending);
        match call.caller {
            Caller::Modern(conn) => modern::on_ended(self, now, conn, &call, &ending, members, out),
            Caller::Legacy(asker) => legacy::on_ended(self, now, asker, &call, &ending, members, out),
            Caller::Nobody | Caller::Parked => {}
        }
    }

    /// Counts how a call ended.
    fn count_ending(&self, kind: TargetKind, ending: &Ending) {
        match ending {
            Ending::Outcome(Outcome::Panicked) => self.metrics.count(Counter::Panics),
            Ending::Outcome(Outcome::Result { is_error: true, .. }) => self.metrics.count(Counter::ToolErrors),
            Ending::Outcome(Outcome::Error(error)) if error.code == code::INTERNAL => self.metrics.count(Counter::InternalErrors),
            _ => {}
        }
        if kind == TargetKind::Tool && !matches!(ending, Ending::NotFound | Ending::Away(_) | Ending::Overloaded) {
            self.metrics.count(Counter::ToolCalls);
        }
    }

    /// Calls a call off: its caller hears nothing more of it, its future is dropped, its blocking work or its upstream is told.
    pub(super) fn call_off(&mut self, now: Now, id: CallId, out: &mut Out) {
        let Some(call) = self.calls.get_mut(id) else { return };
        self.metrics.count(Counter::Cancelled);
        let Some(context) = call.context().cloned() else {
            if let Some(call) = self.calls.remove(id) {
                self.cancel_relay(now, &call, out);
            }
            return self.gauge_calls();
        };
        call.caller = Caller::Nobody;
        let job = call.job().and_then(Option::take);
        context.cancel();
        // Work on the blocking pool cannot be dropped; it keeps its slot, and so its place among the calls, until it is done.
        if let Some(job) = job {
            drop_caught(job);
            self.calls.remove(id);
        }
        self.gauge_calls();
    }

    /// Answers the calls whose deadline has passed.
    pub(super) fn expire_calls(&mut self, now: Now, out: &mut Out) {
        if now.mono < self.calls.next_due() {
            return;
        }
        let mut late = Vec::new();
        let mut due = Nanos::NEVER;
        for (index, (generation, call)) in self.calls.slots.iter().enumerate() {
            let Some(call) = call.as_ref().filter(|call| call.caller != Caller::Nobody) else { continue };
            if call.deadline <= now.mono {
                late.push(CallId { index: index as u32, generation: *generation });
            } else {
                due = due.min(call.deadline);
            }
        }
        self.calls.due = due;
        for id in late {
            self.time_out(now, id, out);
        }
    }

    fn time_out(&mut self, now: Now, id: CallId, out: &mut Out) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let (caller, is_blocking) = (call.caller, matches!(call.work, Work::Native { job: None, .. }));
        if let Some(context) = call.context().cloned() {
            context.cancel();
        }
        if !is_blocking {
            if let Some(call) = self.calls.lift(id) {
                self.cancel_relay(now, &call, out);
                self.calls.put_back(id, call);
            }
            return self.conclude(now, id, Ending::TimedOut, &[], out);
        }
        // The slot stays with the blocking work; what the caller hears needs the call's facts all the same.
        let Some(mut call) = self.calls.lift(id) else { return };
        match caller {
            Caller::Modern(conn) => modern::on_ended(self, now, conn, &call, &Ending::TimedOut, &[], out),
            Caller::Legacy(asker) => legacy::on_ended(self, now, asker, &call, &Ending::TimedOut, &[], out),
            Caller::Nobody | Caller::Parked => {}
        }
        call.caller = Caller::Nobody;
        self.calls.put_back(id, call);
    }

    /// Whether handlers wished for something that is still to be carried out.
    pub(super) fn has_wishes(&self) -> bool {
        self.host.has_effects()
    }

    /// Carries out what handlers wished for, in order.
    pub(super) fn carry_out(&mut self, now: Now, out: &mut Out) {
        if !self.host.has_effects() {
            return;
        }
        let mut wishes = std::mem::take(&mut self.scratch.wishes);
        self.host.drain_effects(&mut wishes);
        for wish in wishes.drain(..) {
            self.carry_out_one(now, wish, out);
        }
        self.scratch.wishes = wishes;
    }

    pub(super) fn carry_out_one(&mut self, now: Now, wish: Wish, out: &mut Out) {
        let call = match &wish {
            Wish::Changed { server, list } => return self.changes.changed(*server, (*list).into()),
            Wish::Updated { server, uri } => return self.changes.updated(*server, uri),
            Wish::Notify { call, .. } | Wish::Ask { call, .. } | Wish::CloseStream { call, .. } => *call,
        };
        match self.calls.caller(call) {
            Some(Caller::Modern(conn)) => {
                if let Wish::Notify { method, params, .. } = wish {
                    modern::tell(self, now, conn, method, &params, out);
                }
            }
            Some(Caller::Legacy(asker)) => legacy::on_wish(self, now, asker, wish, out),
            Some(Caller::Nobody | Caller::Parked) | None => {}
        }
    }

    /// Drops what the handler that just had its turn wished to tell its caller; what it wished to tell others stays.
    pub(super) fn drop_notices(&mut self) {
        let mut wishes = std::mem::take(&mut self.scratch.wishes);
        self.host.drain_effects(&mut wishes);
        for wish in wishes.drain(..) {
            match wish {
                Wish::Changed { server, list } => self.changes.changed(server, list.into()),
                Wish::Updated { server, uri } => self.changes.updated(server, &uri),
                _ => {}
            }
        }
        self.scratch.wishes = wishes;
    }

    /// Names a handler that held the core up.
    fn lap(&mut self, name: &str) {
        let took = self.laps.lap();
        if took > SLOW_TURN {
            tracing::warn!(handler = name, took_ms = took.as_millis() as u64, "a handler held its core up; make it async or blocking");
        }
    }
}

/// Drops a handler's future. What it does while it is dropped is a handler's code, too.
fn drop_caught(job: Job) {
    // The panic was printed by the hook; the future is gone either way.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(job)));
}
