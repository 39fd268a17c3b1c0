//! One process that loads: an epoll loop of its own, pinned to a CPU, with a state machine per connection and no task per request.
//!
//! It reads its [`Job`] from standard input, one line of JSON, opens the connections that are there from the beginning, says [`Said::Ready`],
//! waits for the line that tells the moment to begin at, and tells a [`Tick`] at the end of each interval. A line more, or the end of its
//! input, ends it early.

use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustix::time::{ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use serde::{Deserialize, Serialize};

use super::conn::{Conn, Fate, Measure, Script, State};
use super::plan::{Plan, Step};
use super::tally::{ByClass, Tick, Times};
use super::{Job, LoadError, NS_PER_S};
use crate::base::limits::LOAD_LAG_NS_MAX;

/// What a process says, each on a line of its own.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Its first connections are there, as far as they can be: so many.
    Ready {
        /// Connections that can be used.
        open: u64,
        /// Connections that cannot.
        unopened: ByClass,
    },
    /// An interval is over.
    Tick(Box<Tick>),
    /// All is over, and nothing will follow.
    Done,
    /// It cannot go on.
    Failed(String),
}

/// Steps that are taken in one turn at the most, so that answers are not left lying.
const STEPS_PER_TURN: usize = 256;
/// The loop does not sleep on a CPU of its own when something is due sooner than this, nanoseconds: waking up would take as long.
const SPIN_NS: u64 = 60_000;
/// How often a part of the connections is looked through for what is overdue, nanoseconds.
const SWEEP_NS: u64 = 5_000_000;
/// Of so many parts one is looked through each time.
const SWEEP_PARTS: usize = 10;
/// How long what is in work may take when the run was interrupted, nanoseconds.
const INTERRUPTED_NS: u64 = NS_PER_S / 2;
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 512;
/// Names of descriptors that are no connection.
const INPUT: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// The moment on the clock that all processes of the host share, nanoseconds.
#[must_use]
pub fn clock_ns() -> u64 {
    ns_of(rustix::time::clock_gettime(ClockId::Monotonic))
}

/// CPU time of this process, nanoseconds.
fn cpu_ns() -> u64 {
    ns_of(rustix::time::clock_gettime(ClockId::ProcessCPUTime))
}

const fn ns_of(time: Timespec) -> u64 {
    time.tv_sec.unsigned_abs() * NS_PER_S + time.tv_nsec.unsigned_abs()
}

/// Leaves the choice of a port to `connect`, which knows the server's address: `bind` would keep a whole port for each connection
/// (`IP_BIND_ADDRESS_NO_PORT`, which IPv6 sockets have, too).
fn choose_port_late(socket: &OwnedFd) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option's value is read during the call only, and its length is its own.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), length) };
    if done == 0 { Ok(()) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)) }
}

const fn timespec(ns: u64) -> Timespec {
    Timespec { tv_sec: (ns / NS_PER_S).cast_signed(), tv_nsec: (ns % NS_PER_S).cast_signed() }
}

/// Runs a process of a load until its end. What goes wrong is said, too.
pub fn run() -> Result<(), LoadError> {
    let result = Process::begin().and_then(|mut process| process.go());
    if let Err(error) = &result {
        let _ = say(&Said::Failed(error.to_string()));
    }
    result
}

fn say(said: &Said) -> Result<(), LoadError> {
    let mut line = serde_json::to_vec(said).unwrap_or_default();
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(|error| LoadError::System("the process that drives the load has gone", error))
}

fn system(what: &'static str) -> impl Fn(Errno) -> LoadError {
    move |error| LoadError::System(what, error.into())
}

struct Process {
    job: Job,
    script: Script,
    plan: Plan,
    conns: Vec<Conn>,
    sockets: Vec<Socket>,
    measure: Measure,
    lag: Times,
    epoll: OwnedFd,
    timer: OwnedFd,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    /// Connections that may have something to send.
    dirty: Vec<u32>,
    /// The moment the run begins, on the shared clock.
    start_ns: u64,
    index: u32,
    busy_ns: u64,
    cpu_before_ns: u64,
    swept_ns: u64,
    sweep_at: usize,
    is_interrupted: bool,
    /// It does not sleep when something is due sooner than this.
    spin_ns: u64,
}

#[derive(Default)]
struct Socket {
    fd: Option<OwnedFd>,
    /// Which socket of the connection it is: what epoll says of an earlier one means nothing.
    generation: u32,
    /// The kernel takes no more bytes for now.
    is_blocked: bool,
    is_dirty: bool,
}

impl Process {
    fn begin() -> Result<Self, LoadError> {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| LoadError::System("the job cannot be read", error))?;
        let job: Job = serde_json::from_str(&line).map_err(|error| LoadError::Process(format!("the job cannot be read: {error}")))?;
        if let Some(id) = job.cpu {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let script = Script::new(&job.kinds, &job.target, job.pipeline, job.timeout_ms * 1_000_000)?;
        let plan = Plan::new(job.shape.clone(), job.process, job.processes, job.seed, !job.is_closed_loop);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(system("epoll_create"))?;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .map_err(system("timerfd_create"))?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN).map_err(system("epoll_ctl"))?;
        let count = plan.connections();
        let seed = |number: usize| job.seed ^ ((number * job.processes + job.process) as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95);
        Ok(Self {
            conns: (0..count).map(|number| Conn::new(seed(number))).collect(),
            sockets: (0..count).map(|_| Socket::default()).collect(),
            script,
            plan,
            measure: Measure::default(),
            lag: Times::default(),
            epoll,
            timer,
            events: Vec::with_capacity(EVENTS),
            buffer: Vec::with_capacity(READ_BYTES),
            dirty: Vec::new(),
            start_ns: 0,
            index: 0,
            busy_ns: 0,
            cpu_before_ns: 0,
            swept_ns: 0,
            sweep_at: 0,
            is_interrupted: false,
            spin_ns: if job.spins { SPIN_NS } else { 0 },
            job,
        })
    }

    /// The moment, nanoseconds from the beginning of the run; before that it stands still at 0 for what is planned, and goes on here.
    fn now(&self) -> u64 {
        clock_ns().saturating_sub(self.start_ns)
    }

    fn go(&mut self) -> Result<(), LoadError> {
        self.open_first()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| LoadError::System("the beginning cannot be read", error))?;
        let Ok(start_ns) = line.trim().parse::<u64>() else { return Ok(()) };
        epoll::add(&self.epoll, io::stdin().as_fd(), EventData::new_u64(INPUT), EventFlags::IN).map_err(system("epoll_ctl"))?;
        self.rebase(start_ns);
        // What was counted while connections were opened belongs to the first interval.
        self.cpu_before_ns = cpu_ns();
        self.busy_ns = 0;
        self.run()?;
        say(&Said::Done)
    }

    /// Opens the connections that are there from the beginning, as fast as the job says.
    fn open_first(&mut self) -> Result<(), LoadError> {
        self.start_ns = clock_ns();
        let first: Vec<_> = self.plan.initial().collect();
        let apart_ns = (1e9 * self.job.processes as f64 / self.job.connect_rate) as u64;
        let mut next = 0;
        loop {
            let now = self.now();
            while next < first.len() && next as u64 * apart_ns <= now {
                self.connect(first[next], now)?;
                next += 1;
            }
            let is_waiting = |number: &u32| matches!(self.conns[*number as usize].state, State::Connecting | State::Greeting);
            if next == first.len() && !first.iter().any(is_waiting) {
                break;
            }
            let wait_ns = if next < first.len() { (next as u64 * apart_ns).saturating_sub(now) } else { 1_000_000 };
            self.wait(now + wait_ns.min(10_000_000), true)?;
            self.handle_events()?;
            self.flush()?;
            self.sweep(self.now(), true)?;
        }
        let unopened = self.measure.counts.unopened;
        say(&Said::Ready { open: self.open(), unopened })
    }

    /// The clock begins anew at the moment that all processes have agreed upon.
    fn rebase(&mut self, start_ns: u64) {
        let shift = start_ns.saturating_sub(self.start_ns);
        for conn in &mut self.conns {
            conn.since_ns = conn.since_ns.saturating_sub(shift);
        }
        self.start_ns = start_ns;
        self.swept_ns = 0;
    }

    fn open(&self) -> u64 {
        self.conns.iter().filter(|conn| conn.state == State::Ready).count() as u64
    }

    fn run(&mut self) -> Result<(), LoadError> {
        while clock_ns() < self.start_ns {
            self.wait_until_clock(self.start_ns)?;
        }
        if self.job.is_closed_loop {
            self.offer_all();
        }
        let interval_ns = self.job.interval_ms * 1_000_000;
        let (mut end_ns, mut tick_ns, mut due_ns, mut did) = (u64::MAX, interval_ns, 0, true);
        loop {
            let mut began = self.now();
            let may_sleep = !did && due_ns > began + self.spin_ns;
            self.wait(due_ns, may_sleep)?;
            if may_sleep {
                began = self.now();
            }
            did = !self.events.is_empty();
            self.handle_events()?;
            did |= self.take_steps(self.now())?;
            did |= self.flush()?;
            let now = self.now();
            if did {
                self.busy_ns += now - began;
            }
            if now >= self.swept_ns + SWEEP_NS {
                self.sweep(now, false)?;
            }
            // Should it have been kept from running for longer than an interval, it still tells of each.
            while now >= tick_ns {
                self.tick()?;
                self.index += 1;
                tick_ns += interval_ns;
            }
            if self.is_interrupted && end_ns == u64::MAX {
                end_ns = now + INTERRUPTED_NS;
            }
            let next_ns = self.plan.next_ns().filter(|_| !self.is_interrupted);
            if next_ns.is_none() && (self.measure.outstanding == 0 || now >= end_ns) {
                break;
            }
            due_ns = next_ns.unwrap_or(u64::MAX).min(tick_ns).min(self.swept_ns + SWEEP_NS);
        }
        for conn in &mut self.conns {
            conn.cut(&mut self.measure);
        }
        self.tick()
    }

    /// Does what is due. Whether there was anything.
    fn take_steps(&mut self, now: u64) -> Result<bool, LoadError> {
        if self.is_interrupted {
            return Ok(false);
        }
        for taken in 0..STEPS_PER_TURN {
            let Some((at_ns, number, step)) = self.plan.take(now) else { return Ok(taken > 0) };
            match step {
                Step::Send => self.offer(at_ns, number, now),
                Step::Open => {
                    self.connect(number, now)?;
                    if self.job.is_closed_loop {
                        self.offer(now, number, now);
                    }
                }
                Step::Close => {
                    self.conns[number as usize].is_ending = true;
                    self.close_if_over(number);
                }
            }
        }
        Ok(true)
    }

    fn offer(&mut self, planned_ns: u64, number: u32, now: u64) {
        let counts = &mut self.measure.counts;
        counts.planned += 1;
        let late_ns = now.saturating_sub(planned_ns);
        self.lag.record(late_ns);
        if late_ns > LOAD_LAG_NS_MAX {
            counts.not_offered += 1;
            return;
        }
        self.conns[number as usize].offer(planned_ns, &self.script, &mut self.measure);
        self.mark(number);
    }

    /// In a closed loop each connection begins with as many requests as may be on their way.
    fn offer_all(&mut self) {
        let now = self.now();
        for number in self.plan.initial().collect::<Vec<_>>() {
            for _ in 0..self.script.pipeline {
                self.offer(now, number, now);
            }
        }
    }

    fn mark(&mut self, number: u32) {
        if !std::mem::replace(&mut self.sockets[number as usize].is_dirty, true) {
            self.dirty.push(number);
        }
    }

    /// Sends what connections have to send. Whether there was anything.
    fn flush(&mut self) -> Result<bool, LoadError> {
        let did = !self.dirty.is_empty();
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            self.sockets[number as usize].is_dirty = false;
            self.send(number)?;
        }
        // Sending marks nobody: the list is empty, and its memory is used again.
        self.dirty = dirty;
        Ok(did)
    }

    fn send(&mut self, number: u32) -> Result<(), LoadError> {
        let at = number as usize;
        loop {
            let (conn, socket) = (&mut self.conns[at], &mut self.sockets[at]);
            let Some(fd) = socket.fd.as_ref().filter(|_| !socket.is_blocked) else { return Ok(()) };
            if conn.state == State::Connecting {
                return Ok(());
            }
            let bytes = conn.fill(&self.script, &mut self.measure);
            if bytes.is_empty() {
                return Ok(());
            }
            match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => conn.sent(sent, &mut self.measure),
                Err(Errno::AGAIN) => socket.is_blocked = true,
                Err(Errno::INTR) => {}
                // What the server said before it closed is still to be read.
                Err(_) => socket.is_blocked = true,
            }
        }
    }

    fn connect(&mut self, number: u32, now: u64) -> Result<(), LoadError> {
        let at = number as usize;
        self.conns[at].connecting(now);
        match self.socket(number) {
            Ok(fd) => {
                let socket = &mut self.sockets[at];
                socket.generation = socket.generation.wrapping_add(1);
                let name = u64::from(socket.generation) << 32 | u64::from(number);
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(&self.epoll, &fd, EventData::new_u64(name), flags).map_err(system("epoll_ctl"))?;
                socket.fd = Some(fd);
                socket.is_blocked = true;
                Ok(())
            }
            Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                Err(LoadError::System("no more sockets can be opened; raise the limit of open files (`ulimit -n`)", error.into()))
            }
            Err(_) => {
                let fate = self.conns[at].failed(now, &mut self.measure);
                self.carry_out(number, fate, now)
            }
        }
    }

    fn socket(&self, number: u32) -> Result<OwnedFd, Errno> {
        let family = if self.job.address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        if !self.job.sources.is_empty() {
            let global = number as usize * self.job.processes + self.job.process;
            let source = self.job.sources[global % self.job.sources.len()];
            choose_port_late(&fd)?;
            rustix::net::bind(&fd, &std::net::SocketAddr::new(source, 0))?;
        }
        match rustix::net::connect(&fd, &self.job.address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
            Err(error) => Err(error),
        }
    }

    /// Waits until something happens, or `due_ns` is there; does not sleep unless it `may_sleep`.
    fn wait(&mut self, due_ns: u64, may_sleep: bool) -> Result<(), LoadError> {
        self.events.clear();
        let timeout = if may_sleep {
            // Waking takes a while: the rest is waited for awake.
            let at = timespec(self.start_ns.saturating_add(due_ns.saturating_sub(self.spin_ns / 2)).max(1));
            let once = Itimerspec { it_interval: timespec(0), it_value: at };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once).map_err(system("timerfd_settime"))?;
            None
        } else {
            Some(timespec(0))
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(system("epoll_wait")(error)),
        }
    }

    fn wait_until_clock(&mut self, at_ns: u64) -> Result<(), LoadError> {
        let left_ns = at_ns.saturating_sub(clock_ns());
        if left_ns > SPIN_NS {
            std::thread::sleep(std::time::Duration::from_nanos(left_ns - SPIN_NS));
        }
        Ok(())
    }

    fn handle_events(&mut self) -> Result<(), LoadError> {
        let events = std::mem::take(&mut self.events);
        for event in &events {
            match event.data.u64() {
                INPUT => self.interrupt()?,
                TIMER => {
                    let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
                }
                name => {
                    let (number, generation) = (name as u32, (name >> 32) as u32);
                    let socket = &self.sockets[number as usize];
                    if socket.fd.is_some() && socket.generation == generation {
                        let flags = event.flags;
                        self.on_socket(number, flags)?;
                    }
                }
            }
        }
        self.events = events;
        Ok(())
    }

    /// The run ends early: nothing new is sent.
    fn interrupt(&mut self) -> Result<(), LoadError> {
        self.is_interrupted = true;
        epoll::delete(&self.epoll, io::stdin().as_fd()).map_err(system("epoll_ctl"))
    }

    fn on_socket(&mut self, number: u32, flags: EventFlags) -> Result<(), LoadError> {
        let at = number as usize;
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            self.sockets[at].is_blocked = false;
            if self.conns[at].state == State::Connecting {
                let now = self.now();
                let error = self.sockets[at].fd.as_ref().map(sockopt::socket_error);
                if !matches!(error, Some(Ok(Ok(())))) {
                    let fate = self.conns[at].failed(now, &mut self.measure);
                    return self.carry_out(number, fate, now);
                }
                self.conns[at].connected(now, &self.script, &mut self.measure);
            }
            self.mark(number);
        }
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::ERR | EventFlags::HUP) {
            self.receive(number)?;
        }
        Ok(())
    }

    fn receive(&mut self, number: u32) -> Result<(), LoadError> {
        let at = number as usize;
        loop {
            let Some(fd) = self.sockets[at].fd.as_ref() else { return Ok(()) };
            self.buffer.clear();
            let received = rustix::net::recv(fd, spare_capacity(&mut self.buffer), RecvFlags::empty());
            let now = clock_ns().saturating_sub(self.start_ns);
            let before = self.measure.outstanding;
            let (conn, measure) = (&mut self.conns[at], &mut self.measure);
            let (fate, is_dry) = match received {
                Ok((_, 0)) => (conn.ended(false, now, &self.script, measure), true),
                Ok((_, length)) => (conn.take(&self.buffer, now, &self.script, measure), length < READ_BYTES),
                Err(Errno::AGAIN) => (Fate::Keep, true),
                Err(Errno::INTR) => continue,
                Err(_) => (conn.ended(true, now, &self.script, measure), true),
            };
            if self.job.is_closed_loop && !self.is_interrupted {
                self.offer_again(number, before - self.measure.outstanding.min(before), now);
            }
            self.mark(number);
            self.carry_out(number, fate, now)?;
            self.close_if_over(number);
            if is_dry || fate != Fate::Keep {
                return Ok(());
            }
        }
    }

    /// In a closed loop an answer is what the next request waits for. A connection that is down is asked again when it is up.
    fn offer_again(&mut self, number: u32, answered: u64, now: u64) {
        for _ in 0..answered {
            let conn = &self.conns[number as usize];
            if !conn.is_ending && matches!(conn.state, State::Ready | State::Connecting) {
                self.offer(now, number, now);
            }
        }
    }

    fn carry_out(&mut self, number: u32, fate: Fate, now: u64) -> Result<(), LoadError> {
        let Fate::Reopen(at_ns) = fate else { return Ok(()) };
        self.sockets[number as usize].fd = None;
        let conn = &mut self.conns[number as usize];
        if conn.is_ending && conn.is_idle() {
            conn.state = State::Closed;
            return Ok(());
        }
        if at_ns <= now { self.connect(number, now) } else { Ok(()) }
    }

    fn close_if_over(&mut self, number: u32) {
        let conn = &mut self.conns[number as usize];
        if conn.is_ending && conn.is_idle() {
            conn.state = State::Closed;
            self.sockets[number as usize].fd = None;
        }
    }

    /// Looks for what is overdue, and for connections that are to be opened again: in a part of them, or in all.
    fn sweep(&mut self, now: u64, is_whole: bool) -> Result<(), LoadError> {
        self.swept_ns = now;
        let count = self.conns.len();
        let part = if is_whole { count } else { count / SWEEP_PARTS + 1 };
        for _ in 0..part.min(count) {
            let number = self.sweep_at as u32;
            self.sweep_at = (self.sweep_at + 1) % count;
            let conn = &mut self.conns[number as usize];
            let fate = conn.expire(now, &self.script, &mut self.measure);
            if let State::Down(_) = conn.state
                && fate == Fate::Keep
                && conn.since_ns <= now
                && !conn.is_ending
                && !is_whole
            {
                self.connect(number, now)?;
                if self.job.is_closed_loop {
                    self.offer(now, number, now);
                }
            }
            self.carry_out(number, fate, now)?;
            self.close_if_over(number);
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), LoadError> {
        let cpu = cpu_ns();
        let tick = Tick {
            index: self.index,
            counts: std::mem::take(&mut self.measure.counts),
            open: self.open(),
            answered: self.measure.answered.take(),
            refused: self.measure.refused.take(),
            lag: self.lag.take(),
            cpu_ns: cpu - std::mem::replace(&mut self.cpu_before_ns, cpu),
            busy_ns: std::mem::take(&mut self.busy_ns),
        };
        say(&Said::Tick(Box::new(tick)))
    }
}
