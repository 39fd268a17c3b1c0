//! One core's life: turns, and one sleep between them.
//!
//! A turn handles what there is in a fixed order: stop, tick, replies of other cores, their asks, completions. Then everything that the
//! turn produced leaves together: one send per connection, one wake per core. Only when nothing is left does the core sleep, in its ring.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use super::blocking::Jobs;
use super::bridge;
use super::config::Config;
use super::conn::{Pool, Table};
use super::drain::Drain;
use super::durable::Keeper;
use super::ledger::Ledger;
use super::link::Links;
use super::listen::Listener;
use super::lobby::Lobby;
use super::mesh::{Mesh, Parcel};
use super::permit::{Node, Stage};
use super::queue::Queue;
use super::ring::{Completion, Op, Ring};
use super::seam::Engine;
use super::wheel::{TICK_NS, Wheel, tick_of, ticks};
use crate::base::ids::CoreId;
use crate::base::limits::{CHILD_STOP_MS_MAX, COMPLETIONS_AT_ONCE, LINGER_MS_MAX, TURN_MS_MAX, TURN_PART_US};
use crate::base::metrics::{CoreMetrics, Counter, Gauge};
use crate::base::time::{Nanos, Now};
use crate::engine::{Lane, Out};
use crate::guard::late::Late;
use crate::native::Inbox;
use crate::wire::http1::LastHead;

/// The longest sleep while a future uses glommio's reactor.
const BRIDGED_SLEEP: Duration = Duration::from_millis(1);
/// How long the core then rests in glommio, so that its executor polls the reactor.
const REACTOR_SLEEP: Duration = Duration::from_micros(50);
/// How long what is in use is watched before the rest is given back: two seconds.
const APPRAISE_TICKS: u32 = 20;
/// For so long the longest turn is that of one stretch: ten seconds.
const TURNS_TICKS: u32 = 100;
/// How long the end of a core may wait for the kernel to let go, and for child processes to end.
const LETTING_GO_MAX: Duration = Duration::from_secs(1);
/// How long child processes have then until SIGTERM, and from there until SIGKILL.
const CHILD_STOP: Duration = Duration::from_millis(CHILD_STOP_MS_MAX);
/// Slow turns are counted always and logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The process's origin of time: one for all cores, so that their moments compare.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Monotonic time since the process's origin.
pub(crate) fn mono() -> Nanos {
    Nanos(u64::try_from(ORIGIN.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Monotonic time as the kernel last noted it, at its own tick: many times cheaper to read than [`mono`], of an origin of its own.
pub(crate) fn mono_coarse() -> Nanos {
    Nanos(coarse(libc::clock_gettime))
}

/// Whether [`mono_coarse`] moves on at least every 5 ms: the kernel's tick decides.
pub(crate) fn is_coarse_fine() -> bool {
    (1..=5_000_000).contains(&coarse(libc::clock_getres))
}

/// What a call about the coarse clock says, nanoseconds; zero when it says nothing.
fn coarse(ask: unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> libc::c_int) -> u64 {
    let mut said = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills a local.
    unsafe { ask(libc::CLOCK_MONOTONIC_COARSE, &raw mut said) };
    said.tv_sec.cast_unsigned() * 1_000_000_000 + said.tv_nsec.cast_unsigned()
}

/// The wall clock, milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> u64 {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}

/// Reads time, with one system call less than two clocks would take.
#[derive(Clone, Copy)]
struct Clock {
    /// The wall clock at some moment, milliseconds since the Unix epoch; read again at each tick.
    wall_ms: u64,
    wall_at: Nanos,
}

impl Clock {
    fn new() -> Self {
        let mut clock = Self { wall_ms: 0, wall_at: Nanos(0) };
        clock.read_wall();
        clock
    }

    fn read_wall(&mut self) {
        self.wall_at = mono();
        self.wall_ms = wall_ms();
    }

    fn now(&self) -> Now {
        let mono = mono();
        Now { mono, wall_ms: self.wall_ms + mono.0.saturating_sub(self.wall_at.0) / 1_000_000 }
    }
}

/// A part of a turn, which is not to keep the others waiting.
pub(super) struct TurnPart(Nanos);

impl TurnPart {
    pub(super) fn begin() -> Self {
        Self(mono())
    }

    pub(super) fn is_over(&self) -> bool {
        mono().since(self.0) >= Duration::from_micros(TURN_PART_US)
    }
}

/// A listener and where its accept stands.
pub(crate) struct Door {
    /// None once it is closed.
    pub(crate) listener: Option<Listener>,
    /// An accept is in the ring.
    pub(crate) accepting: bool,
    /// It is to close as soon as that is taken back.
    pub(crate) closing: bool,
}

/// The configured times in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) idle: u32,
    pub(crate) head: u32,
    pub(crate) body: u32,
    pub(crate) write: u32,
    pub(crate) linger: u32,
}

impl Timeouts {
    fn of(config: &Config) -> Self {
        Self {
            idle: ticks(config.idle_timeout),
            head: ticks(config.head_timeout),
            body: ticks(config.body_timeout),
            write: ticks(config.write_timeout),
            linger: ticks(Duration::from_millis(LINGER_MS_MAX)),
        }
    }
}

/// What a core is made of.
pub(crate) struct Parts {
    pub(crate) id: CoreId,
    pub(crate) config: Arc<Config>,
    pub(crate) engine: Engine,
    pub(crate) ring: Ring,
    pub(crate) mesh: Mesh,
    pub(crate) node: Arc<Node>,
    pub(crate) metrics: &'static CoreMetrics,
    pub(crate) jobs: Jobs,
    pub(crate) links: Links,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) listeners: Vec<Listener>,
}

/// One core.
pub(crate) struct Core {
    pub(super) id: CoreId,
    pub(super) config: Arc<Config>,
    pub(super) timeouts: Timeouts,
    pub(super) engine: Engine,
    /// What the engine wants done, and the room for it while it is being done.
    pub(super) out: Out,
    pub(super) doing: Out,
    pub(super) ring: Ring,
    pub(super) conns: Table,
    pub(super) pool: Pool,
    pub(super) wheel: Wheel,
    pub(super) mesh: Mesh,
    pub(super) node: Arc<Node>,
    pub(super) metrics: &'static CoreMetrics,
    pub(super) jobs: Jobs,
    pub(super) links: Links,
    /// Writes what is durable, and where it answers.
    pub(super) keeper: Option<Keeper>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) doors: Vec<Door>,
    pub(super) lobby: Lobby,
    pub(super) ledger: Ledger,
    /// How long requests have waited; none when nobody asks.
    pub(super) queue: Option<Queue>,
    /// Requests taken, wrapping.
    pub(super) served: u32,
    /// The core has slept since its last turn.
    has_slept: bool,
    /// Few descriptors are left: connections are accepted one at a time.
    pub(super) filling: bool,
    /// Connections with something to send, or to be closed once everything is sent.
    pub(super) dirty: Vec<u32>,
    /// Connections whose stored input is to be looked at again.
    pub(super) resumed: VecDeque<u32>,
    /// Connections that wait for room in a lane.
    pub(super) leaving: Vec<u32>,
    pub(super) dechunked: Vec<u8>,
    /// The head that came last.
    pub(super) last_head: LastHead,
    /// When glommio's reactor was polled last.
    reactor_polled: Nanos,
    pub(super) now: Now,
    pub(super) tick: u32,
    /// The longest turn of the last whole stretch of ten seconds and of the current one, nanoseconds, and when that began.
    turns_max: (u64, u64, u32),
    /// The tick at which unused memory was last looked for.
    appraised: u32,
    pub(super) drain: Option<Drain>,
    completions: Vec<Completion>,
    parcels: Vec<(CoreId, Parcel)>,
    due: Vec<u32>,
    clock: Clock,
    pub(super) stopped: bool,
    /// What the node knows of the engine.
    busy: bool,
    logged: Option<Instant>,
}

impl Core {
    pub(crate) fn new(parts: Parts) -> Self {
        let clock = Clock::new();
        let now = clock.now();
        let ledger = Ledger::new(parts.config.memory_max.is_some());
        let queue = parts.config.late_target.map(|target| Queue::new(Late::new(target)));
        let doors = parts.listeners.into_iter().map(|listener| Door { listener: Some(listener), accepting: false, closing: false });
        let mut core = Self {
            id: parts.id,
            timeouts: Timeouts::of(&parts.config),
            config: parts.config,
            engine: parts.engine,
            out: Out::default(),
            doing: Out::default(),
            ring: parts.ring,
            conns: Table::default(),
            pool: Pool::default(),
            wheel: Wheel::new(tick_of(now.mono)),
            mesh: parts.mesh,
            node: parts.node,
            metrics: parts.metrics,
            jobs: parts.jobs,
            links: parts.links,
            keeper: parts.keeper,
            inbox: parts.inbox,
            doors: doors.collect(),
            lobby: Lobby::default(),
            ledger,
            queue,
            served: 0,
            has_slept: true,
            filling: false,
            dirty: Vec::new(),
            resumed: VecDeque::new(),
            leaving: Vec::new(),
            dechunked: Vec::new(),
            last_head: LastHead::default(),
            reactor_polled: Nanos(0),
            now,
            tick: tick_of(now.mono),
            turns_max: (0, 0, tick_of(now.mono)),
            appraised: tick_of(now.mono),
            drain: None,
            completions: Vec::with_capacity(COMPLETIONS_AT_ONCE),
            parcels: Vec::new(),
            due: Vec::new(),
            clock,
            stopped: false,
            busy: false,
            logged: None,
        };
        if core.ring.takes_messages() {
            core.node.wakes()[core.id.index()].set_ring(core.ring.fd());
        }
        core.watch_event();
        core.open_doors();
        core
    }

    /// Runs the core to its end. The only task of its executor, apart from what handlers that use glommio spawn.
    pub(crate) async fn drive(mut self) {
        while !self.stopped {
            self.turn();
            if bridge::live() == 0 {
                self.rest(Duration::MAX);
            } else {
                self.rest(BRIDGED_SLEEP);
                self.let_glommio_run().await;
            }
        }
        self.finish();
    }

    /// Lets what glommio has ready run and, once in a while, its executor come to rest: only then does it poll its reactor.
    async fn let_glommio_run(&mut self) {
        let now = self.clock.now().mono;
        if now.since(self.reactor_polled) < BRIDGED_SLEEP {
            return glommio::executor().yield_task_queue_now().await;
        }
        self.reactor_polled = now;
        glommio::timer::sleep(REACTOR_SLEEP).await;
    }

    fn turn(&mut self) {
        self.now = self.clock.now();
        let start = self.now.mono;
        let has_slept = std::mem::take(&mut self.has_slept);
        if let Some(queue) = &mut self.queue {
            queue.turn(start, has_slept);
        }
        self.metrics.count(Counter::Turns);
        self.node.wakes()[self.id.index()].take_poke();
        self.follow_stage();
        if tick_of(start) != self.tick || self.engine.next_deadline() <= start {
            self.on_tick();
        }
        self.take_parcels();
        self.take_completions();
        if self.engine.has_ready() {
            self.engine.on_wake(self.now, &mut self.out);
            self.apply();
        }
        self.take_link_news();
        self.resume_links();
        self.resume();
        self.retry_leaving();
        self.tend_lobby();
        self.tend_ledger();
        self.send_links();
        self.send_dirty();
        self.announce();
        self.publish();
        self.measure(start);
    }

    fn follow_stage(&mut self) {
        match self.node.stage() {
            Stage::Serving => (),
            Stage::Draining => self.begin_drain(),
            Stage::Stopping => self.stopped = true,
        }
    }

    fn on_tick(&mut self) {
        self.engine.on_tick(self.now, &mut self.out);
        self.apply();
        let tick = tick_of(self.now.mono);
        if tick == self.tick {
            return;
        }
        self.tick = tick;
        self.clock.read_wall();
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(&mut self.conns, tick, &mut due);
        for index in due.drain(..) {
            self.on_due(index);
        }
        self.due = due;
        self.apply();
        self.tick_links();
        self.open_doors();
        self.go_on_draining();
        self.tidy();
        self.age_turns();
        self.settle_ledger();
        self.metrics.set(Gauge::MessagesWaiting, self.pool.waiting() as u64);
        self.metrics.set(Gauge::Conns, self.conns.len() as u64);
        self.metrics.set(Gauge::ReceiveBuffers, u64::from(self.ring.buffers()));
    }

    /// Forgets the longest turn of more than a stretch ago.
    fn age_turns(&mut self) {
        let (_, current, since) = self.turns_max;
        if self.tick >= since + TURNS_TICKS {
            self.turns_max = (current, 0, self.tick);
            self.metrics.set(Gauge::TurnNsRecent, current);
        }
    }

    /// Gives back memory that a while of ticks had no use for: after a burst a core is as small as before.
    fn tidy(&mut self) {
        if self.tick >= self.appraised + APPRAISE_TICKS {
            self.appraised = self.tick;
            self.ring.appraise();
            self.pool.appraise();
            self.conns.trim();
        }
        self.ring.tidy();
    }

    fn take_parcels(&mut self) {
        self.mesh.look();
        let mut parcels = std::mem::take(&mut self.parcels);
        for lane in [Lane::Reply, Lane::Ask] {
            self.mesh.take(lane, &mut parcels);
            for (from, parcel) in parcels.drain(..) {
                match parcel {
                    Parcel::Frame(frame) => self.engine.on_frame(self.now, from, frame, &mut self.out),
                    Parcel::Moved(moved) => self.adopt(*moved),
                    Parcel::Fresh(fresh) => self.install(fresh),
                }
                self.apply();
            }
        }
        self.mesh.settle();
        self.parcels = parcels;
    }

    fn take_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        let part = TurnPart(self.now.mono);
        loop {
            self.ring.completions(&mut completions);
            let are_all = completions.len() < COMPLETIONS_AT_ONCE;
            for completion in completions.drain(..) {
                self.on_completion(&completion);
                self.apply();
            }
            if are_all || part.is_over() {
                break;
            }
        }
        self.completions = completions;
    }

    fn on_completion(&mut self, completion: &Completion) {
        match completion.op() {
            Some(Op::Recv) => self.on_received(completion),
            Some(Op::Send) => self.on_sent(completion),
            Some(Op::Accept) => self.on_accepted(completion),
            Some(Op::Watch) => self.on_watched(completion),
            Some(Op::Event) => {
                self.node.wakes()[self.id.index()].clear_event();
                self.watch_event();
            }
            Some(op @ (Op::Connect | Op::LinkRecv | Op::LinkSend | Op::ChildIn | Op::ChildOut | Op::ChildErr | Op::ChildExit)) => {
                self.on_link_completion(op, completion)
            }
            Some(Op::Recall) => self.ring.on_recalled(completion),
            Some(Op::Wake | Op::Timeout | Op::Cancel | Op::Provide) | None => (),
        }
    }

    fn watch_event(&mut self) {
        let event = self.node.wakes()[self.id.index()].event();
        self.ring.watch(event, libc::POLLIN, Op::Event, 0);
    }

    fn announce(&mut self) {
        let ring = &mut self.ring;
        let wakes = self.mesh.announce(|fd| ring.message(fd));
        if wakes > 0 {
            self.metrics.add(Counter::Wakes, wakes);
        }
    }

    /// Tells the node whether the engine has something in work: a drain ends only when none has.
    fn publish(&mut self) {
        let busy = !self.engine.is_idle();
        if busy != self.busy {
            self.busy = busy;
            if busy {
                self.node.core_became_busy();
            } else {
                self.node.core_became_idle();
            }
        }
    }

    fn measure(&mut self, start: Nanos) {
        let took = mono().since(start);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if nanos > self.turns_max.1 {
            self.turns_max.1 = nanos;
            self.metrics.set(Gauge::TurnNsRecent, nanos.max(self.turns_max.0));
        }
        if nanos > self.metrics.gauge(Gauge::TurnNsMax) {
            self.metrics.set(Gauge::TurnNsMax, nanos);
        }
        if took > Duration::from_millis(TURN_MS_MAX) {
            self.metrics.count(Counter::SlowTurns);
            if self.logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
                self.logged = Some(Instant::now());
                tracing::warn!(core = self.id.0, took_ms = took.as_millis(), "a slow turn: a handler held its core");
            }
        }
    }

    /// Whether there is something to do that no completion will announce.
    fn has_work(&mut self) -> bool {
        self.stopped
            || !self.resumed.is_empty()
            || self.mesh.has_more()
            || self.engine.has_ready()
            || self.links.has_work()
            || self.lobby.has_work()
            || !self.ring.is_dry()
    }

    /// Between two turns: hands the kernel what is queued, then looks around for a while if told to, then sleeps.
    fn rest(&mut self, longest: Duration) {
        if self.has_work() || self.ring.has_queued() {
            // What was just queued completes at once in most cases; sleeping is for when nothing is under way.
            return self.ring.flush();
        }
        if !self.config.spin.is_zero() && self.spin() {
            return;
        }
        let wait = self.until_deadline().min(longest);
        let wake = &self.node.wakes()[self.id.index()];
        if wait.is_zero() || !wake.fall_asleep() {
            return;
        }
        self.metrics.count(Counter::Sleeps);
        self.ring.sleep(wait);
        wake.wake_up();
        self.has_slept = true;
    }

    /// Looks for work without sleeping. True: there is some.
    fn spin(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < self.config.spin {
            self.ring.flush();
            self.mesh.look();
            if self.has_work() || self.until_deadline().is_zero() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    fn until_deadline(&self) -> Duration {
        let tick = Nanos((u64::from(self.tick) + 1) * TICK_NS);
        // A connection that waits for room in a lane hears nothing when there is.
        let lane = if self.leaving.is_empty() { Nanos::NEVER } else { Nanos(self.now.mono.0 + 1_000_000) };
        tick.min(self.engine.next_deadline()).min(self.links.next_deadline()).min(lane).since(mono())
    }

    /// Lets go of everything, and waits until the kernel has, too.
    fn finish(&mut self) {
        self.node.wakes()[self.id.index()].set_ring(-1);
        self.close_doors_now();
        for index in 0..self.conns.slots() {
            self.kill(index);
        }
        self.hang_all_links();
        // The engine's last wishes have nobody to go to.
        self.out.clear();
        self.ring.cancel(Op::Event, 0);
        let start = Instant::now();
        let mut signals = [libc::SIGTERM, libc::SIGKILL].into_iter();
        let mut signal_at = CHILD_STOP;
        while self.ring.in_flight() > 0 && start.elapsed() < LETTING_GO_MAX {
            if start.elapsed() >= signal_at {
                signal_at += CHILD_STOP;
                if let Some(signal) = signals.next() {
                    self.signal_children(signal);
                }
            }
            self.ring.sleep(Duration::from_millis(10));
            let mut completions = std::mem::take(&mut self.completions);
            self.ring.completions(&mut completions);
            for completion in completions.drain(..) {
                if completion.op() != Some(Op::Event) {
                    self.on_completion(&completion);
                }
            }
            self.completions = completions;
            self.out.clear();
        }
        if self.busy {
            self.node.core_became_idle();
        }
        if self.ring.in_flight() > 0 {
            tracing::warn!(core = self.id.0, operations = self.ring.in_flight(), "the kernel did not let go of everything in time");
            // It may still read what was to be sent.
            self.links.abandon();
            std::mem::forget(std::mem::take(&mut self.conns));
        }
    }
}
