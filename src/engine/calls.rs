//! The calls in work, by slot, and what is known of each.

use std::borrow::Cow;
use std::rc::Rc;

use compact_str::CompactString;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::bridge::Round;
use super::call::{Caller, TargetKind};
use super::mrtr::Binding;
use super::park::Askable;
use super::view::{Signer, View, rename_contents};
use crate::base::ids::{CallId, ConnId, CoreId};
use crate::base::limits::{PARKED_PER_CORE_MAX, PARKED_PER_PRINCIPAL_MAX};
use crate::base::time::Nanos;
use crate::gateway::{Digest, TripId};
use crate::guard::pending::Permit;
use crate::native::Context;
use crate::native::outcome::Job;

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
    pub uri: Option<Box<str>>,
    /// The JSON-RPC id, raw.
    pub rpc_id: CompactString,
    pub work: Work,
    pub deadline: Nanos,
    /// Counts it for its principal, when those are counted.
    #[expect(dead_code, reason = "its drop is what counts")]
    pub permit: Option<Permit>,
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
pub(super) enum Work {
    /// A native server.
    Native {
        context: Context,
        /// What a `requestState` of this call is bound to (modern era).
        binding: Option<Binding>,
        /// None: it is on the blocking pool.
        job: Option<Job>,
    },
    /// An upstream.
    Upstream {
        number: u32,
        at: At,
        /// What it asked its client last, and what was answered.
        round: Option<Box<Round>>,
        /// What is to be known to ask a client of the modern era.
        askable: Option<Box<Askable>>,
        /// By which resources in its result are called otherwise.
        links: Option<Rc<View>>,
    },
}

impl Call {
    /// A call of an upstream.
    #[expect(clippy::too_many_arguments, reason = "one call in all its parts")]
    pub fn relayed(id: CallId, caller: Caller, kind: TargetKind, name: &str, rpc_id: &[u8], number: u32, at: At, deadline: Nanos) -> Self {
        let rpc_id = CompactString::from_utf8_lossy(rpc_id);
        let work = Work::Upstream { number, at, round: None, askable: None, links: None };
        Self { id, caller, server: 0, signer: Signer::Node, kind, name: name.into(), uri: None, rpc_id, work, deadline, permit: None }
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

    /// What its upstream asks.
    pub const fn round_mut(&mut self) -> Option<&mut Option<Box<Round>>> {
        match &mut self.work {
            Work::Upstream { round, .. } => Some(round),
            Work::Native { .. } => None,
        }
    }

    /// What is to be known to ask its client of the modern era.
    pub fn askable_mut(&mut self) -> Option<&mut Askable> {
        match &mut self.work {
            Work::Upstream { askable, .. } => askable.as_deref_mut(),
            Work::Native { .. } => None,
        }
    }

    /// Its client of the modern era may be asked.
    pub fn set_askable(&mut self, new: Option<Box<Askable>>) {
        if let Work::Upstream { askable, .. } = &mut self.work {
            *askable = new;
        }
    }

    /// Resources in its result are called as this view calls them.
    pub fn set_links(&mut self, view: Rc<View>) {
        if let Work::Upstream { links, .. } = &mut self.work {
            *links = Some(view);
        }
    }

    /// The response of its upstream with resources called as the caller calls them, unless it is so already.
    pub fn relink(&self, response: &[u8]) -> Option<Vec<u8>> {
        match &self.work {
            Work::Upstream { number, links: Some(view), .. } => view.relink(*number, response),
            _ => None,
        }
    }

    /// What its handler holds.
    pub const fn context(&self) -> Option<&Context> {
        match &self.work {
            Work::Native { context, .. } => Some(context),
            Work::Upstream { .. } => None,
        }
    }

    pub const fn job(&mut self) -> Option<&mut Option<Job>> {
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
    pub slots: Vec<(u32, Option<Call>)>,
    free: Vec<u32>,
    pub in_work: usize,
    /// No deadline passes before this moment.
    pub due: Nanos,
    /// The call that is being started, which has no slot yet.
    pub starting: Option<(CallId, Caller)>,
    parked: Parked,
}

/// How many calls wait for their client to come back with an answer. Each holds a place at its upstream.
#[derive(Debug, Default)]
struct Parked {
    all: usize,
    by_principal: HashMap<Digest, usize>,
    by_upstream: HashMap<u32, usize>,
}

impl Parked {
    fn leave(&mut self, call: &mut Call) {
        let (Some(upstream), Some(principal)) = (call.upstream(), call.askable_mut().map(|askable| askable.principal)) else { return };
        self.all -= 1;
        take_one(&mut self.by_principal, principal);
        take_one(&mut self.by_upstream, upstream);
    }
}

fn take_one<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
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
        let mut call = call.take()?;
        if call.caller == Caller::Parked {
            self.parked.leave(&mut call);
        }
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        self.in_work -= 1;
        Some(call)
    }

    /// Has a call of the modern era wait for its client to come back. False when too many do: of its principal, of this core, or of those that its
    /// upstream may have in work.
    pub fn park(&mut self, id: CallId, places: usize) -> bool {
        let Some((_, Some(call))) = self.slots.get_mut(id.index as usize).filter(|(generation, _)| *generation == id.generation) else {
            return false;
        };
        let (Some(upstream), Some(principal)) = (call.upstream(), call.askable_mut().map(|askable| askable.principal)) else {
            return false;
        };
        let of_principal = self.parked.by_principal.get(&principal).copied().unwrap_or_default();
        let of_upstream = self.parked.by_upstream.get(&upstream).copied().unwrap_or_default();
        if self.parked.all >= PARKED_PER_CORE_MAX || of_principal >= PARKED_PER_PRINCIPAL_MAX || of_upstream >= places {
            return false;
        }
        call.caller = Caller::Parked;
        self.parked.all += 1;
        *self.parked.by_principal.entry(principal).or_default() += 1;
        *self.parked.by_upstream.entry(upstream).or_default() += 1;
        true
    }

    /// The client of a call that is parked has come back on this connection.
    pub fn unpark(&mut self, id: CallId, conn: ConnId) {
        let Some((_, Some(call))) = self.slots.get_mut(id.index as usize).filter(|(generation, _)| *generation == id.generation) else {
            return;
        };
        if call.caller == Caller::Parked {
            self.parked.leave(call);
            call.caller = Caller::Modern(conn);
        }
    }

    /// Takes the call out of its slot for a moment; [`Self::put_back`] follows.
    pub fn lift(&mut self, id: CallId) -> Option<Call> {
        let (generation, call) = self.slots.get_mut(id.index as usize)?;
        if *generation == id.generation { call.take() } else { None }
    }

    pub fn put_back(&mut self, id: CallId, call: Call) {
        self.slots[id.index as usize].1 = Some(call);
    }

    /// The calls of this caller.
    pub fn of(&self, caller: Caller) -> Vec<CallId> {
        let slots = (0..).zip(&self.slots);
        let is_its = |call: &Option<Call>| call.as_ref().is_some_and(|call| call.caller == caller);
        slots.filter(|(_, (_, call))| is_its(call)).map(|(index, (generation, _))| CallId { index, generation: *generation }).collect()
    }

    /// Whether a call is in work at this upstream.
    pub fn has_upstream(&self, upstream: u32) -> bool {
        self.slots.iter().any(|(_, call)| call.as_ref().is_some_and(|call| call.upstream() == Some(upstream)))
    }

    /// Gives a call until this moment.
    pub fn postpone(&mut self, id: CallId, until: Nanos) {
        if let Some(call) = self.get_mut(id) {
            call.deadline = until;
            self.due = self.due.min(until);
        }
    }

    /// The id of the call whose task has this slot.
    pub fn id_at(&self, index: u32) -> Option<CallId> {
        let (generation, call) = self.slots.get(index as usize)?;
        call.as_ref().map(|_| CallId { index, generation: *generation })
    }

    /// Who hears of the call, also while it is only being started.
    pub fn caller(&self, id: CallId) -> Option<Caller> {
        match self.starting {
            Some((starting, caller)) if starting == id => Some(caller),
            _ => self.get(id).map(|call| call.caller),
        }
    }
}
