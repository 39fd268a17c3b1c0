//! Tier 3, messages per second of the whole node: tokens that are in one place each, lent from core to core.
//!
//! There are as many tokens as messages are allowed in a second. A message takes one, which comes back when a second has passed: so no second
//! sees more messages than there are tokens, on whatever cores they were. Each core has a [`Leaf`] with tokens to use; core 0 has the
//! [`Bank`] besides, to which what a core does not need goes back, and which lends to those that ask.
//!
//! As long as there are enough, a leaf keeps its tokens and hardly ever asks. When the bank cannot give what it is asked for, the node is
//! *pressed*: tokens go back as soon as they are free, and the bank lends them evenly over time, each to the core that has the fewest for
//! its active connections.

use std::time::Duration;

use super::window::{Pacer, Window};
use crate::base::time::Nanos;

/// How often a leaf reports and the bank lends while the node is pressed.
const PRESSED_EACH: Duration = Duration::from_millis(2);
/// After which time unused tokens go back while the node is pressed.
const UNUSED: Duration = Duration::from_millis(4);
/// From how many messages between two reports on a leaf asks for tokens for those to come.
const BUSY: u32 = 4;
/// Of the messages of connections that had their share, so many may wait for a token: then each finds one to use it at once.
pub(super) const WAITING_MAX: usize = 4;
/// For how long a leaf believes that there are not enough.
const BELIEVED: Duration = Duration::from_millis(20);
/// For how long a quarter of all tokens must be left before the node is pressed no more.
const CALM: Duration = Duration::from_millis(500);
/// How often that is looked at, and a state that found no room in a lane is told again.
const LOOK_EACH: Duration = Duration::from_millis(50);
/// Length of a slot, nanoseconds.
const SLOT_NS: u64 = 4_000_000;
/// So many slots make a second and one slot more, since a core's clock may be a turn behind.
const SLOTS: usize = 252;

/// What a leaf tells the bank.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Tokens that it could use.
    pub(super) want: u32,
    /// Of these, those that messages lacked.
    pub(super) need: u32,
    /// Tokens that it gives back.
    pub(super) back: u32,
    /// Of these, those that nobody used.
    pub(super) idle: u32,
    /// Its active connections.
    pub(super) conns: u32,
}

/// What the bank tells a leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Tokens for it.
    pub(super) tokens: u32,
    /// There are hardly enough.
    pub(super) is_pressed: bool,
    /// There were not enough just now.
    pub(super) is_dry: bool,
    /// Messages per second that each active connection could have.
    pub(super) share: u32,
}

/// What a leaf says to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tier {
    Admitted,
    /// Perhaps, once the bank has answered.
    Wait,
    Refused,
}

/// One core's tokens.
#[derive(Debug)]
pub(super) struct Leaf {
    limit: u32,
    /// Most tokens that it keeps unused while there are enough.
    keep: u32,
    unused: u32,
    window: Window<SLOTS>,
    /// On their way back to the bank.
    back: u32,
    /// Of the unused ones, those for messages that waited; until when.
    reserved: (u32, Nanos),
    /// Messages since the last report, and those of them that lacked a token.
    demand: u32,
    need: u32,
    /// Of those on their way back, those that nobody used.
    idle: u32,
    is_pressed: bool,
    /// Until when there are thought to be not enough.
    dry_until: Nanos,
    /// What was asked for is not answered yet.
    has_asked: bool,
    used_at: Nanos,
    pub share: u32,
    due: Nanos,
}

impl Leaf {
    pub fn new(limit: u32, cores: u16) -> Self {
        let keep = (limit / (2 * u32::from(cores))).max(1);
        Self {
            limit,
            keep,
            unused: 0,
            window: Window::new(SLOT_NS),
            back: 0,
            reserved: (0, Nanos(0)),
            demand: 0,
            need: 0,
            idle: 0,
            is_pressed: false,
            dry_until: Nanos(0),
            has_asked: false,
            used_at: Nanos(0),
            share: limit,
            due: Nanos::NEVER,
        }
    }

    /// Tokens that are here, in whatever state.
    #[cfg(test)]
    pub fn held(&self) -> u32 {
        self.unused + self.window.used() + self.back
    }

    /// When [`Self::report`] has something to say.
    pub const fn next_due(&self) -> Nanos {
        self.due
    }

    /// Asks for so many messages. `is_poor`: the connection had far less than its share. `has_waited`: it was told to wait before, and is
    /// told so no more. `may_queue`: it may wait all the same.
    pub fn admit(&mut self, now: Nanos, messages: u32, is_poor: bool, has_waited: bool, may_queue: bool) -> Tier {
        self.settle(now);
        let messages = messages.min(self.limit);
        let reserved = self.reserved_at(now);
        if has_waited {
            self.reserved.0 = reserved.saturating_sub(messages);
        } else {
            self.demand = self.demand.saturating_add(messages);
        }
        let free = if has_waited { self.unused } else { self.unused.saturating_sub(reserved) };
        if free >= messages {
            self.unused -= messages;
            self.window.add(messages);
            self.used_at = now;
            if self.is_pressed || self.unused < self.keep / 4 {
                self.due_by(now, false);
            }
            return Tier::Admitted;
        }
        let is_dry = now < self.dry_until;
        if !has_waited {
            self.need = self.need.saturating_add(messages);
        }
        self.due_by(now, !is_dry && !self.has_asked);
        if !has_waited && (is_poor || !is_dry || may_queue) { Tier::Wait } else { Tier::Refused }
    }

    fn due_by(&mut self, now: Nanos, is_urgent: bool) {
        let due = if is_urgent { now } else { now.after(PRESSED_EACH) };
        self.due = self.due.min(due);
    }

    fn reserved_at(&self, now: Nanos) -> u32 {
        if now < self.reserved.1 { self.reserved.0.min(self.unused) } else { 0 }
    }

    /// Takes back the tokens whose second is over.
    fn settle(&mut self, now: Nanos) {
        let free = self.window.advance(now);
        if self.is_pressed {
            self.back += free;
            return;
        }
        self.unused += free;
        if self.unused > self.keep {
            self.back += self.unused - self.keep;
            self.unused = self.keep;
        }
    }

    /// What is to be told to the bank, if anything. `waiting` messages wait for an answer.
    pub fn report(&mut self, now: Nanos, waiting: u32, conns: u32) -> Option<Ask> {
        if now < self.due {
            return None;
        }
        self.settle(now);
        let want = if self.is_pressed {
            if now.since(self.used_at) > UNUSED && self.reserved_at(now) == 0 {
                self.idle += self.unused;
                self.back += std::mem::take(&mut self.unused);
            }
            // What comes next is thought to be like what came.
            let coming = if self.demand >= BUSY { self.demand } else { 0 };
            coming.max(waiting).saturating_sub(self.unused)
        } else {
            (self.keep + self.need).saturating_sub(self.unused)
        };
        let want = want.min(self.limit);
        let need = std::mem::take(&mut self.need).max(waiting).min(want);
        self.demand = 0;
        let is_active = self.is_pressed && (want > 0 || self.unused > 0 || self.window.used() > 0);
        self.due = if is_active { now.after(PRESSED_EACH) } else { Nanos::NEVER };
        let (back, idle) = (std::mem::take(&mut self.back), std::mem::take(&mut self.idle));
        self.has_asked = need > 0;
        // A want that is over is told, too.
        (want > 0 || back > 0 || is_active).then_some(Ask { want, need, back, idle, conns })
    }

    /// Takes what the bank says.
    pub fn hear(&mut self, now: Nanos, grant: Grant) {
        self.unused += grant.tokens;
        if grant.tokens > 0 {
            self.used_at = now;
        }
        self.share = grant.share;
        self.has_asked = false;
        self.dry_until = if grant.is_dry { now.after(BELIEVED) } else { Nanos(0) };
        if self.need > 0 && !grant.is_dry {
            self.due_by(now, true);
        }
        if self.is_pressed != grant.is_pressed {
            self.is_pressed = grant.is_pressed;
            self.due_by(now, true);
        }
    }

    /// Tokens that messages which wait can have.
    pub fn unused(&self, now: Nanos) -> u32 {
        self.unused - self.reserved_at(now)
    }

    /// Keeps one token for a message that waited and is offered again now.
    pub fn reserve(&mut self, now: Nanos) {
        self.reserved = (self.reserved_at(now) + 1, now.after(Duration::from_millis(20)));
    }

    /// The report found no room in its lane.
    pub fn unsent(&mut self, now: Nanos, ask: Ask) {
        self.back += ask.back;
        self.idle += ask.idle;
        self.demand = self.demand.saturating_add(ask.want);
        self.need = self.need.saturating_add(ask.need);
        self.has_asked = false;
        self.due = self.due.min(now.after(PRESSED_EACH));
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    /// Tokens that are there, or on their way.
    out: u32,
    want: u32,
    need: u32,
    conns: u32,
    /// It is to be told something, if only how things are.
    is_owed: bool,
}

/// Where all tokens come from: core 0's.
#[derive(Debug)]
pub(super) struct Bank {
    limit: u32,
    free: u32,
    pacer: Pacer,
    is_pressed: bool,
    calm_since: Option<Nanos>,
    accounts: Box<[Account]>,
    lend_due: Nanos,
    look_due: Nanos,
}

impl Bank {
    pub fn new(limit: u32, cores: u16) -> Self {
        Self {
            limit,
            free: limit,
            pacer: Pacer::new(limit),
            is_pressed: false,
            calm_since: None,
            accounts: (0..cores).map(|_| Account::default()).collect(),
            lend_due: Nanos::NEVER,
            look_due: Nanos::NEVER,
        }
    }

    #[cfg(test)]
    pub const fn free(&self) -> u32 {
        self.free
    }

    pub fn next_due(&self) -> Nanos {
        self.lend_due.min(self.look_due)
    }

    /// Takes a report. What follows is told to `tell`: a core's number and what it is told.
    pub fn on_ask(&mut self, now: Nanos, core: usize, ask: Ask, tell: &mut impl FnMut(usize, Grant)) {
        let Some(account) = self.accounts.get_mut(core) else { return };
        account.out -= ask.back;
        account.want = ask.want;
        account.need = ask.need;
        account.is_owed |= ask.need > 0;
        account.conns = ask.conns;
        self.free += ask.back;
        self.pacer.give(ask.idle);
        self.lend(now, tell);
    }

    /// Time passes.
    pub fn on_tick(&mut self, now: Nanos, tell: &mut impl FnMut(usize, Grant)) {
        if now >= self.lend_due {
            self.lend(now, tell);
        }
        if now >= self.look_due {
            self.look(now, tell);
        }
    }

    /// A grant found no room in its lane.
    pub fn unsent(&mut self, now: Nanos, core: usize, grant: Grant) {
        let Some(account) = self.accounts.get_mut(core) else { return };
        account.out -= grant.tokens;
        account.want = account.want.saturating_add(grant.tokens);
        account.need = account.need.saturating_add(grant.tokens);
        account.is_owed = true;
        self.free += grant.tokens;
        self.look_due = self.look_due.min(now.after(PRESSED_EACH));
        self.lend_due = self.lend_due.min(now.after(PRESSED_EACH));
    }

    fn lend(&mut self, now: Nanos, tell: &mut impl FnMut(usize, Grant)) {
        let level = self.pacer.level(now);
        let needed = self.accounts.iter().map(|account| u64::from(account.need)).sum::<u64>();
        if needed > u64::from(self.free) && !self.is_pressed {
            self.set_pressed(now, true);
        }
        if !self.is_pressed {
            // Some are left for the next to ask.
            let most = self.free / 2;
            self.accounts.iter_mut().for_each(|account| account.want = account.want.min(account.need.max(most)));
        }
        let mut budget = if self.is_pressed { self.free.min(level) } else { self.free };
        if self.is_pressed && needed > u64::from(budget) {
            self.pacer.refused(now);
        }
        let mut granted = vec![0; self.accounts.len()];
        while budget > 0 {
            let hungry = self.accounts.iter().filter(|account| account.want > 0).count() as u32;
            // The fewest tokens for its connections first.
            let poorest = (0..self.accounts.len()).filter(|core| self.accounts[*core].want > 0).min_by(|one, other| {
                let (one, other) = (&self.accounts[*one], &self.accounts[*other]);
                let weigh = |account: &Account, by: &Account| u64::from(account.out) * u64::from(by.conns.max(1));
                weigh(one, other).cmp(&weigh(other, one))
            });
            let Some(core) = poorest else { break };
            let account = &mut self.accounts[core];
            let tokens = account.want.min((budget / (4 * hungry)).max(1));
            account.want -= tokens;
            account.need = account.need.saturating_sub(tokens);
            account.out += tokens;
            granted[core] += tokens;
            budget -= tokens;
            self.free -= tokens;
            self.pacer.take(if self.is_pressed { tokens } else { 0 });
        }
        if !self.is_pressed {
            // Whatever was only wanted is asked for again.
            self.accounts.iter_mut().for_each(|account| account.want = 0);
        }
        for (core, tokens) in granted.into_iter().enumerate() {
            if tokens > 0 || self.accounts[core].is_owed {
                self.tell(core, tokens, tell);
            }
        }
        let is_hungry = self.accounts.iter().any(|account| account.want > 0);
        self.lend_due = if is_hungry { now.after(PRESSED_EACH) } else { Nanos::NEVER };
    }

    fn tell(&mut self, core: usize, tokens: u32, tell: &mut impl FnMut(usize, Grant)) {
        self.accounts[core].is_owed = false;
        let conns: u32 = self.accounts.iter().map(|account| account.conns).fold(0, u32::saturating_add);
        let is_dry = self.accounts.iter().any(|account| account.need > 0);
        tell(core, Grant { tokens, is_pressed: self.is_pressed, is_dry, share: (self.limit / conns.max(1)).max(1) });
    }

    fn set_pressed(&mut self, now: Nanos, is_pressed: bool) {
        self.is_pressed = is_pressed;
        self.calm_since = None;
        self.accounts.iter_mut().for_each(|account| account.is_owed = true);
        self.look_due = now;
    }

    /// Whether the node is pressed no more; and who does not know.
    fn look(&mut self, now: Nanos, tell: &mut impl FnMut(usize, Grant)) {
        if self.is_pressed && self.free >= self.limit.div_ceil(4) && self.accounts.iter().all(|account| account.need == 0) {
            let since = *self.calm_since.get_or_insert(now);
            if now.since(since) >= CALM {
                self.set_pressed(now, false);
            }
        } else {
            self.calm_since = None;
        }
        for core in 0..self.accounts.len() {
            if self.accounts[core].is_owed {
                self.tell(core, 0, tell);
            }
        }
        self.look_due = if self.is_pressed { now.after(LOOK_EACH) } else { Nanos::NEVER };
    }
}
