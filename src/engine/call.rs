//! Calls in work: those of native servers, started, polled, answered, called off, timed out; those of upstreams, which [`super::relay`] starts and
//! answers, are called off and timed out here, too. The same for both eras; what differs is who is answered.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use compact_str::CompactString;

use super::legacy;
use super::mrtr::Binding;
use super::out::{Effect, Out};
use super::view::{Signer, rename_contents};
use super::{Engine, modern};
use crate::base::ids::{CallId, ConnId, CoreId};
use crate::base::limits::CALLS_PER_CORE_MAX;
use crate::base::metrics::{Counter, Gauge};
use crate::base::time::{Nanos, Now};
use crate::gateway::{Failure, TripId};
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

/// One call in work.
pub(super) struct Call {
    pub id: CallId,
    pub caller: Caller,
    pub server: u32,
    pub signer: Signer,
    pub kind: TargetKind,
    /// As the caller named it.
    pub name: CompactString,
    /// What the server calls a resource that callers know by another URI.
    uri: Option<Box<str>>,
    /// The JSON-RPC id, raw.
    pub rpc_id: CompactString,
    work: Work,
    deadline: Nanos,
}

/// Where an upstream's work on a call is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    /// On this core.
    Here(TripId),
    /// On the core that has the upstream's process.
    Core(CoreId),
}

/// Who works on a call.
enum Work {
    /// A native server.
    Native {
        context: Context,
        /// What a `requestState` of this call is bound to (modern era).
        binding: Option<Binding>,
        /// None: it is on the blocking pool.
        job: Option<Job>,
    },
    /// An upstream.
    Upstream { number: u32, at: At },
}

impl Call {
    /// A call of an upstream.
    #[expect(clippy::too_many_arguments, reason = "one call in all its parts")]
    pub fn relayed(id: CallId, caller: Caller, kind: TargetKind, name: &str, rpc_id: &[u8], number: u32, at: At, deadline: Nanos) -> Self {
        let rpc_id = CompactString::from_utf8_lossy(rpc_id);
        let work = Work::Upstream { number, at };
        Self { id, caller, server: 0, signer: Signer::Node, kind, name: name.into(), uri: None, rpc_id, work, deadline }
    }

    /// The request that an upstream works on.
    pub const fn trip(&self) -> Option<TripId> {
        match self.work {
            Work::Upstream { at: At::Here(trip), .. } => Some(trip),
            _ => None,
        }
    }

    /// The other core on which an upstream works on it.
    pub const fn elsewhere(&self) -> Option<CoreId> {
        match self.work {
            Work::Upstream { at: At::Core(core), .. } => Some(core),
            _ => None,
        }
    }

    /// The upstream that works on it.
    pub const fn upstream(&self) -> Option<u32> {
        match self.work {
            Work::Upstream { number, .. } => Some(number),
            Work::Native { .. } => None,
        }
    }

    /// What its handler holds.
    pub const fn context(&self) -> Option<&Context> {
        match &self.work {
            Work::Native { context, .. } => Some(context),
            Work::Upstream { .. } => None,
        }
    }

    const fn job(&mut self) -> Option<&mut Option<Job>> {
        match &mut self.work {
            Work::Native { job, .. } => Some(job),
            Work::Upstream { .. } => None,
        }
    }

    /// The members of the result with the resource named as the caller names it.
    pub fn expose<'a>(&self, members: &'a [u8]) -> Cow<'a, [u8]> {
        match &self.uri {
            Some(uri) => Cow::Owned(rename_contents(members, uri, &self.name)),
            None => Cow::Borrowed(members),
        }
    }
}

/// The calls in work, by slot. A slot's number is that of its task.
#[derive(Default)]
pub(super) struct Calls {
    slots: Vec<(u32, Option<Call>)>,
    free: Vec<u32>,
    in_work: usize,
    /// No deadline passes before this moment.
    due: Nanos,
    /// The call that is being started, which has no slot yet.
    starting: Option<(CallId, Caller)>,
}

impl Calls {
    pub fn len(&self) -> usize {
        self.in_work
    }

    pub fn is_empty(&self) -> bool {
        self.in_work == 0
    }

    /// When [`Engine::expire_calls`] is due.
    pub fn next_due(&self) -> Nanos {
        if self.is_empty() { Nanos::NEVER } else { self.due }
    }

    /// The id that the next call gets. Never given twice, so that what an earlier call left behind is told apart.
    pub fn next_id(&mut self) -> CallId {
        if self.free.is_empty() {
            self.free.push(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
            self.slots.push((0, None));
        }
        let index = self.free[self.free.len() - 1];
        let generation = &mut self.slots[index as usize].0;
        *generation = generation.wrapping_add(1);
        CallId { index, generation: *generation }
    }

    pub fn insert(&mut self, id: CallId, call: Call) {
        let index = self.free.pop();
        debug_assert_eq!(index, Some(id.index), "nothing else takes a slot while a call is started");
        self.due = if self.in_work == 0 { call.deadline } else { self.due.min(call.deadline) };
        self.in_work += 1;
        self.slots[id.index as usize].1 = Some(call);
    }

    pub fn get(&self, id: CallId) -> Option<&Call> {
        let (generation, call) = self.slots.get(id.index as usize)?;
        if *generation == id.generation { call.as_ref() } else { None }
    }

    pub fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        let (generation, call) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { call.as_mut() } else { None }
    }

    pub fn remove(&mut self, id: CallId) -> Option<Call> {
        let (generation, call) = self.slots.get_mut(id.index as usize)?;
        if *generation != id.generation {
            return None;
        }
        let call = call.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        self.in_work -= 1;
        Some(call)
    }

    /// Takes the call out of its slot for a moment; [`Self::put_back`] follows.
    fn lift(&mut self, id: CallId) -> Option<Call> {
        let (generation, call) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { call.take() } else { None }
    }

    fn put_back(&mut self, id: CallId, call: Call) {
        self.slots[id.index as usize].1 = Some(call);
    }

    /// The calls of this caller.
    pub fn of(&self, caller: Caller) -> Vec<CallId> {
        let slots = (0..).zip(&self.slots);
        let is_its = |call: &Option<Call>| call.as_ref().is_some_and(|call| call.caller == caller);
        slots.filter(|(_, (_, call))| is_its(call)).map(|(index, (generation, _))| CallId { index, generation: *generation }).collect()
    }

    /// Gives a call until this moment.
    pub fn postpone(&mut self, id: CallId, until: Nanos) {
        if let Some(call) = self.get_mut(id) {
            call.deadline = until;
            self.due = self.due.min(until);
        }
    }

    /// The id of the call whose task has this slot.
    fn id_at(&self, index: u32) -> Option<CallId> {
        let (generation, call) = self.slots.get(index as usize)?;
        call.as_ref().map(|_| CallId { index, generation: *generation })
    }

    /// Who hears of the call, also while it is only being started.
    fn caller(&self, id: CallId) -> Option<Caller> {
        match self.starting {
            Some((starting, caller)) if starting == id => Some(caller),
            _ => self.get(id).map(|call| call.caller),
        }
    }
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
        if self.calls.len() >= CALLS_PER_CORE_MAX {
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
            Caller::Nobody => {}
        }
    }

    /// Counts how a call ended.
    fn count_ending(&self, kind: TargetKind, ending: &Ending) {
        match ending {
            Ending::Outcome(Outcome::Panicked) => self.metrics.count(Counter::Panics),
            Ending::Outcome(Outcome::Result { is_error: true, .. }) => self.metrics.count(Counter::ToolErrors),
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
            Caller::Nobody => {}
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
            Some(Caller::Nobody) | None => {}
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
