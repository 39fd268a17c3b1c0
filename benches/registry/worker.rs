//! A core's part of a workload: tasks that do one operation after the other, the registry they ask, and the lanes to the other core.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use compact_str::CompactString;
use ringhub::base::ids::{CoreId, NodeId};
use ringhub::base::metrics::{CoreMetrics, Counter};
use ringhub::base::time::{Nanos, Now};
use ringhub::engine::Frame;
use ringhub::registry::{
    Catalog, Change, Config, Effect, Effects, Frame as RegistryFrame, Lookup, Refusal, Registry, ServerSpec, Source, State, Waiter,
};
use ringhub::rt::measure::Core;

use super::clock::{Clock, Histogram};

pub const NAMES: usize = 10_000;
pub const OWN_NAMES: usize = 1_000;
/// Operations a task does in a row before another has its turn.
const BURST: usize = 4;
/// Tasks that have their turn between two looks at the lanes.
const TASKS_PER_TURN: usize = 8;
/// How often a registry publishes its counts.
const PUBLISHED_EACH: Duration = Duration::from_millis(250);
/// One operation in so many is timed.
const TIMED_EACH: u32 = 8;

/// What the tasks of a run do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Lookups of servers.
    Lookups,
    /// 40 lookups, 30 routes, 20 registrations, 10 bindings.
    Mixed,
    /// The same, but a task registers all of its names before it unregisters them: up to 100,000 entries come and go.
    MixedManyEntries,
    /// As the first, but registrations are updates of the names that are read, and bindings are of the endpoints that are read.
    MixedWritingToRead,
    /// Half of the tasks look up, half register.
    RegisterAndLookup,
}

/// What a run is.
#[derive(Clone, Copy)]
pub struct Plan {
    pub work: Work,
    pub tasks: usize,
    /// Operations of each task; none: until the time is over.
    pub operations: Option<u64>,
    pub seconds: f64,
    pub near_names_max: usize,
}

/// The names of a run, made once.
pub struct Names {
    /// In the list itself, as a name is in a request: names apart would have each operation wait for one more line of memory.
    pub servers: Vec<CompactString>,
    pub endpoints: Vec<CompactString>,
    /// By task.
    pub own: Vec<Vec<Box<str>>>,
    pub own_endpoints: Vec<Box<str>>,
}

impl Names {
    pub fn new(tasks: usize) -> Self {
        Self {
            servers: (1..=NAMES).map(|n| format!("server_{n}").into()).collect(),
            endpoints: (1..=NAMES).map(|n| format!("transport_{n}").into()).collect(),
            own: (0..tasks).map(|task| (0..OWN_NAMES).map(|n| format!("task_{task}_server_{n}").into()).collect()).collect(),
            own_endpoints: (0..tasks).map(|task| format!("task_{task}").into()).collect(),
        }
    }
}

pub fn spec(name: &str) -> ServerSpec {
    ServerSpec {
        name: name.into(),
        title: Box::default(),
        description: Box::default(),
        software_version: Box::default(),
        source: Source::Upstream("http://10.0.0.1:8080/mcp".into()),
        state: State::Online,
        is_configured: false,
        front: None,
        fronted: None,
        catalog: Catalog::default(),
    }
}

pub fn registry(core: u16, cores: u16, near_names_max: usize, names: &Names) -> Registry {
    let config = Config { near_names_max, ..Config::default() };
    let mut registry = Registry::new(&config, CoreId(core), cores, NodeId(0));
    let start = Now { mono: Nanos(0), wall_ms: 1_800_000_000_000 };
    for (server, endpoint) in names.servers.iter().zip(&names.endpoints) {
        registry.load_server(start, spec(server));
        registry.load_endpoint(start, endpoint, &[server.as_str().into()]);
    }
    for endpoint in &names.own_endpoints {
        registry.load_endpoint(start, endpoint, &[names.servers[0].as_str().into()]);
    }
    registry
}

/// What a task is doing.
#[derive(Clone, Copy)]
enum Step {
    Server(u32),
    /// A route: the endpoint first, then the server bound to it.
    Endpoint(u32),
    Change,
}

struct Task {
    number: usize,
    random: u64,
    step: Step,
    /// When the operation began; 0: it is not timed.
    start: u64,
    done: u64,
    /// Which of its own names is registered or unregistered next, and which of the two.
    own: usize,
    registers: bool,
    /// The two as they were before the change that is under way: one that is refused is not made, and comes next again.
    before: (usize, bool),
    rebinds: usize,
    /// For another core's answer.
    is_waiting: bool,
}

/// What came of a run on one core.
pub struct Outcome {
    pub operations: u64,
    pub seconds: f64,
    pub times: Histogram,
    pub hits: u64,
    pub misses: u64,
    pub refused: u64,
    pub invalidations: u64,
}

pub struct Worker<'a> {
    plan: Plan,
    names: &'a Names,
    clock: Clock,
    core: Option<Core>,
    pub registry: Registry,
    metrics: CoreMetrics,
    tasks: Vec<Task>,
    ready: VecDeque<u32>,
    effects: Effects,
    spare: Effects,
    frames: Vec<(CoreId, Frame)>,
    now: Now,
    counted: u64,
    refused: u64,
    untimed: u32,
    /// The task whose change is being asked for.
    current: usize,
    serves: bool,
    times: Histogram,
}

impl<'a> Worker<'a> {
    pub fn new(plan: Plan, names: &'a Names, clock: Clock, me: usize, cores: usize, core: Option<Core>) -> Self {
        let tasks: Vec<Task> = (0..plan.tasks)
            .filter(|number| number % cores == me)
            .map(|number| Task {
                number,
                random: (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                step: Step::Change,
                start: 0,
                done: 0,
                own: 0,
                registers: true,
                before: (0, true),
                rebinds: 0,
                is_waiting: false,
            })
            .collect();
        Self {
            ready: (0..tasks.len() as u32).collect(),
            registry: registry(me as u16, cores as u16, plan.near_names_max, names),
            plan,
            names,
            clock,
            core,
            metrics: CoreMetrics::default(),
            tasks,
            effects: Effects::new(),
            spare: Effects::new(),
            frames: Vec::new(),
            now: Now { mono: Nanos(0), wall_ms: 1_800_000_000_000 },
            counted: 0,
            refused: 0,
            untimed: 0,
            current: usize::MAX,
            serves: false,
            times: Histogram::new(),
        }
    }

    /// Has every name looked up once, so that the near cache is as full as it gets.
    pub fn warm(&mut self) {
        let plan = self.plan;
        self.plan = Plan { work: Work::Lookups, operations: None, seconds: 0.3, ..plan };
        let work = plan.work;
        self.run();
        if matches!(work, Work::Mixed | Work::MixedManyEntries | Work::MixedWritingToRead) {
            self.plan.work = work;
            self.run();
        }
        self.plan = plan;
    }

    pub fn run(&mut self) -> Outcome {
        let [hits, misses] = [Counter::NearHits, Counter::NearMisses].map(|counter| self.metrics.counter(counter));
        let invalidations = self.registry.invalidations();
        let start = self.clock.ticks();
        let end = start + (self.plan.seconds * 1e9 / self.clock.ns_per_tick) as u64;
        let mut turns = 0u32;
        let mut now = start;
        // With a set number of operations the time of the last one counts, not the time until the other core is through too.
        let mut last = start;
        while self.plan.operations.is_some() || now < end {
            now = self.clock.ticks();
            self.now.mono = Nanos(self.clock.nanos(now));
            self.turn();
            if let Some(operations) = self.plan.operations
                && self.tasks.iter().all(|task| task.done >= operations)
            {
                last = self.clock.ticks();
                break;
            }
            turns += 1;
            if turns.is_multiple_of(1024) || self.registry.next_deadline() <= self.now.mono {
                self.registry.on_tick(self.now, &self.metrics, &mut self.effects);
                self.carry_out();
            }
        }
        let last = if self.plan.operations.is_some() { last } else { self.clock.ticks() };
        // Late enough for the registry to publish its counts, and not so late that it gives up a change.
        let late = Now { mono: self.now.mono.after(PUBLISHED_EACH), ..self.now };
        self.registry.on_tick(late, &self.metrics, &mut self.effects);
        Outcome {
            operations: self.counted,
            seconds: (last - start) as f64 * self.clock.ns_per_tick / 1e9,
            times: self.times.clone(),
            hits: self.metrics.counter(Counter::NearHits) - hits,
            misses: self.metrics.counter(Counter::NearMisses) - misses,
            refused: self.refused,
            invalidations: self.registry.invalidations() - invalidations,
        }
    }

    /// Serves the other core until it says that it is through.
    pub fn serve(&mut self, is_over: impl Fn() -> bool) {
        self.serves = true;
        while !is_over() {
            self.now.mono = Nanos(self.clock.nanos(self.clock.ticks()));
            self.ready.clear();
            self.turn();
        }
        self.serves = false;
    }

    /// Has every task go on that does not wait for an answer.
    pub fn resume(&mut self) {
        let waits = |task: &Task| task.is_waiting;
        (self.counted, self.refused, self.times) = (0, 0, Histogram::new());
        self.tasks.iter_mut().for_each(|task| task.done = 0);
        self.ready = (0..self.tasks.len() as u32).filter(|at| !waits(&self.tasks[*at as usize])).collect();
    }

    fn turn(&mut self) {
        if let Some(core) = &mut self.core {
            core.take(&mut self.frames);
            let mut frames = std::mem::take(&mut self.frames);
            for (from, frame) in frames.drain(..) {
                if let Frame::Registry(frame) = frame {
                    self.registry.on_frame(self.now, from, frame, &mut self.effects);
                    self.carry_out();
                }
            }
            self.frames = frames;
        }
        for _ in 0..TASKS_PER_TURN {
            let Some(task) = self.ready.pop_front() else { break };
            self.go(task as usize);
        }
        match &mut self.core {
            // Nobody wakes who serves when the run is over, and a question that waits for him too long would be refused.
            Some(core) if self.ready.is_empty() && !self.serves => core.go_on(),
            Some(core) => core.hurry_on(),
            None => {}
        }
    }

    /// Lets a task do a few operations, until it must wait.
    fn go(&mut self, at: usize) {
        for _ in 0..BURST {
            if self.plan.operations.is_some_and(|operations| self.tasks[at].done >= operations) {
                return;
            }
            self.untimed += 1;
            self.tasks[at].start = 0;
            if self.untimed == TIMED_EACH {
                self.untimed = 0;
                self.tasks[at].start = self.clock.ticks();
            }
            self.begin(at);
            if !self.look(at) {
                self.tasks[at].is_waiting = true;
                return;
            }
        }
        self.ready.push_back(at as u32);
    }

    fn begin(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        // xorshift64: what is drawn must cost next to nothing.
        task.random ^= task.random << 13;
        task.random ^= task.random >> 7;
        task.random ^= task.random << 17;
        let drawn = (((task.random >> 32) * NAMES as u64) >> 32) as u32;
        let percent = task.random % 100;
        let work = self.plan.work;
        task.step = match work {
            Work::Lookups => Step::Server(drawn),
            Work::RegisterAndLookup if task.number % 4 < 2 => Step::Server(drawn),
            Work::Mixed | Work::MixedManyEntries | Work::MixedWritingToRead if percent < 40 => Step::Server(drawn),
            Work::Mixed | Work::MixedManyEntries | Work::MixedWritingToRead if percent < 70 => Step::Endpoint(drawn),
            _ => Step::Change,
        };
        if !matches!(task.step, Step::Change) {
            return;
        }
        task.before = (task.own, task.registers);
        let names = self.names;
        let binds = matches!(work, Work::Mixed | Work::MixedManyEntries | Work::MixedWritingToRead) && percent >= 90;
        let change = match (work, binds) {
            (Work::MixedWritingToRead, true) => {
                let path = names.endpoints[drawn as usize].as_str().into();
                Change::Rebind { path, servers: [names.servers[drawn as usize].as_str().into()].into(), if_version: None }
            }
            (Work::MixedWritingToRead, false) => Change::Update { spec: Box::new(spec(&names.servers[drawn as usize])), if_version: None },
            (_, true) => {
                task.rebinds += 1;
                let servers = [names.servers[task.rebinds % NAMES].as_str().into()].into();
                Change::Rebind { path: names.own_endpoints[task.number].clone(), servers, if_version: None }
            }
            (_, false) => {
                let name = &names.own[task.number][task.own];
                let change = match task.registers {
                    true => Change::Register(Box::new(spec(name))),
                    false => Change::Unregister { name: name.clone(), if_version: None },
                };
                let is_next = work == Work::MixedManyEntries || !task.registers;
                task.own = (task.own + usize::from(is_next)) % OWN_NAMES;
                if work != Work::MixedManyEntries || task.own == 0 {
                    task.registers = !task.registers;
                }
                change
            }
        };
        self.registry.change(self.now, change, Waiter(at as u64), &mut self.effects);
    }

    /// Goes on with an operation. Whether it is over.
    fn look(&mut self, at: usize) -> bool {
        if let Step::Endpoint(n) = self.tasks[at].step {
            let path = &self.names.endpoints[n as usize];
            let bound = match self.registry.endpoint(self.now, path, Waiter(at as u64), &self.metrics) {
                Lookup::Here(endpoint) | Lookup::Once(endpoint) => &*endpoint.servers[0],
                Lookup::Ask { to, frame } => return self.ask(to, frame),
                other => panic!("{other:?}"),
            };
            // What is bound to it has its number; what the registry says is what is looked up.
            assert!(bound.len() == self.names.servers[n as usize].len());
            self.tasks[at].step = Step::Server(n);
        }
        match self.tasks[at].step {
            Step::Server(n) => {
                let name = &self.names.servers[n as usize];
                match self.registry.server(self.now, name, Waiter(at as u64), &self.metrics) {
                    Lookup::Here(server) | Lookup::Once(server) => assert!(black_box(server).version > 0),
                    Lookup::Ask { to, frame } => return self.ask(to, frame),
                    other => panic!("{other:?}"),
                }
            }
            Step::Endpoint(_) => unreachable!("made a lookup above"),
            Step::Change => {
                let before = self.tasks[at].done;
                self.current = at;
                self.carry_out();
                self.current = usize::MAX;
                return self.tasks[at].done > before;
            }
        }
        self.end(at);
        true
    }

    fn end(&mut self, at: usize) {
        let task = &mut self.tasks[at];
        task.is_waiting = false;
        task.done += 1;
        self.counted += 1;
        if task.start != 0 {
            self.times.record(self.clock.ticks() - task.start);
        }
    }

    fn ask(&mut self, to: CoreId, frame: RegistryFrame) -> bool {
        self.effects.push(Effect::Send { to, lane: frame.lane(), frame });
        self.carry_out();
        false
    }

    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            let mut effects = std::mem::replace(&mut self.effects, std::mem::take(&mut self.spare));
            for effect in effects.drain(..) {
                match effect {
                    Effect::Send { to, lane, frame } => {
                        let core = self.core.as_mut().expect("one core sends nothing");
                        if let Err(Frame::Registry(frame)) = core.send(to, lane, Frame::Registry(frame)) {
                            self.registry.on_unsent(to, frame, &mut self.effects);
                        }
                    }
                    Effect::Resume { waiter } => {
                        let is_over = self.look(waiter.0 as usize);
                        self.ready.extend(is_over.then_some(waiter.0 as u32));
                    }
                    Effect::Done { waiter, result } => {
                        if result.is_err() {
                            self.refused += 1;
                            let task = &mut self.tasks[waiter.0 as usize];
                            (task.own, task.registers) = task.before;
                        }
                        assert!(matches!(result, Ok(_) | Err(Refusal::Overloaded)), "{result:?}");
                        self.end(waiter.0 as usize);
                        // Who is answered at once goes on at once.
                        if waiter.0 as usize != self.current {
                            self.ready.push_back(waiter.0 as u32);
                        }
                    }
                    Effect::Unasked { waiter } => {
                        self.tasks[waiter.0 as usize].is_waiting = false;
                        self.refused += 1;
                        self.ready.push_back(waiter.0 as u32);
                    }
                    _ => {}
                }
            }
            self.spare = effects;
        }
    }
}
