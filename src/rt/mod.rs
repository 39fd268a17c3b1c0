//! Floor 4, the shell: the only one that knows io_uring, glommio, sockets, clocks, signals and threads.
//!
//! Each core is a glommio executor with one task, which drives the core's own io_uring and sleeps only there. What the cores share is the
//! mesh between them and a handful of counters that change when a connection comes or goes.

mod ahead;
mod balance;
mod blocking;
mod bridge;
mod close;
mod config;
mod conn;
mod core;
mod drain;
mod durable;
pub mod host;
mod ledger;
mod link;
mod listen;
mod lobby;
#[doc(hidden)]
pub mod measure;
mod mesh;
mod permit;
mod queue;
mod ring;
mod seam;
mod serve;
mod signal;
mod traffic;
mod wake;
mod wheel;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

pub use bridge::{WithGlommio, with_glommio};
pub use config::{Config, RingChoice, StartError};
pub use ring::{Offer, RingPath, probe};

use self::core::{Core, Parts, is_coarse_fine, mono, mono_coarse, wall_ms};
use crate::base::ids::{CoreId, NodeId};
use crate::base::limits::CORES_MAX;
use crate::base::metrics::CoreMetrics;
use crate::engine::{EngineConfig, Role, Shared};
use crate::native::{Factory, Inbox};
use blocking::Jobs;
use durable::{Keeper, Store};
use host::Level;
pub(crate) use link::problem_with_authorities;
use link::{Hands, Links, Trust};
use listen::Listener;
use mesh::Mesh;
use permit::{Node, Stage};
use ring::Ring;
use seam::Engine;
use signal::{Over, Signals, Told};
use wake::Wake;

/// Memory that glommio registers for its own file I/O, per executor, bytes: ringhub's connections use none of it.
const GLOMMIO_IO_MEMORY: usize = 64 * 1024;
/// Entries of each of an executor's three rings.
const GLOMMIO_RING_DEPTH: usize = 32;
/// When an executor takes a task off the CPU: never. Should this timer fire before the executor has run anything, as it may on a busy
/// machine, glommio 0.9 goes to sleep without its one task having run, and nothing would wake it.
const GLOMMIO_PREEMPT: Duration = Duration::from_hours(24);
/// How long blocking work that has begun may hold up the end of the process.
const BLOCKING_GRACE: Duration = Duration::from_secs(1);

/// Serves until the process is told to end: SIGTERM or SIGINT drain it, a second one ends it at once. SIGHUP has it read its configuration again.
///
/// # Errors
/// When it cannot start; the text names the remedy.
pub fn run(config: Config, engine: EngineConfig, servers: Vec<Arc<Factory>>) -> Result<(), StartError> {
    run_with(config, engine, servers, |_| ())
}

/// Like [`run`], and calls `started` once every core serves.
///
/// # Errors
/// When it cannot start; the text names the remedy.
pub fn run_with(
    config: Config,
    engine: EngineConfig,
    servers: Vec<Arc<Factory>>,
    started: impl FnOnce(&Running),
) -> Result<(), StartError> {
    let signals = Signals::install().map_err(|error| StartError::System("signals cannot be handled", error))?;
    let mut running = start(config, engine, servers)?;
    started(&running);
    let mut is_draining = false;
    loop {
        match signals.wait(running.over.fd()) {
            Told::Reload => running.reload(),
            Told::Stop if is_draining => {
                running.stop();
                break;
            }
            Told::Stop => {
                tracing::info!("draining; a second signal ends at once");
                running.drain();
                is_draining = true;
            }
            Told::Over => break,
        }
    }
    running.join();
    Ok(())
}

/// A process that serves.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    node: Arc<Node>,
    shared: &'static Shared,
    path: RingPath,
    pinned: bool,
    threads: Vec<JoinHandle<()>>,
    pool: Option<blocking::Pool>,
    hands: Hands,
    store: Option<Store>,
    over: Arc<Over>,
    /// Of the core that has the admin port.
    inbox: Arc<Inbox>,
}

impl Running {
    /// Where MCP is served, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where health and metrics are served.
    #[must_use]
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The counters of every core.
    #[must_use]
    pub fn metrics(&self) -> &'static [CoreMetrics] {
        self.shared.metrics()
    }

    /// Which io_uring path the cores run.
    #[must_use]
    pub const fn ring_path(&self) -> RingPath {
        self.path
    }

    /// How it runs, in words.
    #[must_use]
    pub fn description(&self) -> String {
        let (cores, path, most) = (self.node.wakes().len(), self.path.label(), self.node.conns.max());
        let pinned = if self.pinned { "pinned" } else { "not pinned" };
        format!("{cores} core{}, {pinned}; io_uring path {path}; at most {most} connections", if cores == 1 { "" } else { "s" })
    }

    /// Reads the configuration again, when it was told how. What came of it is in the log.
    pub fn reload(&self) {
        self.inbox.reload();
    }

    /// Takes nothing new, finishes what is in work, then ends.
    pub fn drain(&self) {
        self.shared.set_ready(false);
        self.node.advance(Stage::Draining);
    }

    /// Ends at once.
    pub fn stop(&self) {
        self.shared.set_ready(false);
        self.node.advance(Stage::Stopping);
    }

    /// Whether every core has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until every core has ended.
    ///
    /// # Panics
    /// When a core panicked.
    pub fn join(&mut self) {
        let panicked = self.threads.drain(..).filter_map(|thread| thread.join().err()).count();
        self.hands.close();
        if let Some(pool) = self.pool.take() {
            pool.close(BLOCKING_GRACE);
        }
        if let Some(store) = &mut self.store {
            store.close();
        }
        assert!(panicked == 0, "{panicked} core(s) panicked");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.hands.close();
        if let Some(pool) = self.pool.take() {
            pool.close(BLOCKING_GRACE);
        }
        if let Some(store) = &mut self.store {
            store.close();
        }
    }
}

/// Starts the cores and returns once all of them serve.
///
/// # Errors
/// When it cannot start; the text names the remedy.
pub fn start(config: Config, mut engine: EngineConfig, servers: Vec<Arc<Factory>>) -> Result<Running, StartError> {
    let allowed = host::allowed_cpus();
    let cores = host::cores_of(&config, &allowed);
    if cores > CORES_MAX {
        return Err(StartError::Config(format!("{cores} cores are more than the {CORES_MAX} one process can have")));
    }
    let fatal: Vec<_> = host::probe(&config).into_iter().filter(|finding| finding.level == Level::Fatal).collect();
    if !fatal.is_empty() {
        return Err(StartError::Host(fatal));
    }
    let path = match config.ring {
        RingChoice::Legacy => RingPath::Legacy,
        RingChoice::Auto => ring::probe().path.unwrap_or(RingPath::Legacy),
    };
    host::refuse_huge_pages();
    engine.clock.get_or_insert(mono);
    engine.registry.clock = engine.registry.clock.or(engine.clock);
    engine.coarse_clock = engine.coarse_clock.or_else(|| is_coarse_fine().then_some(mono_coarse as fn() -> crate::base::time::Nanos));
    let descriptors = usize::try_from(host::raise_descriptors()).unwrap_or(usize::MAX);
    engine.started_ms = wall_ms();
    let (store, keeper) = match &config.state {
        Some(directory) => {
            let (store, keeper, kept) = Store::open(directory)?;
            engine.kept = kept.into();
            engine.registry.is_durable = true;
            (Some(store), Some(keeper))
        }
        None => (None, None),
    };
    let (addresses, admin, doors) = open_doors(&config, cores)?;
    engine.public_address = engine.public_address.or(addresses.first().copied());
    let system = |what| move |error| StartError::System(what, error);
    let wakes = (0..cores).map(|_| Wake::new()).collect::<Result<Arc<[Wake]>, _>>().map_err(system("no eventfd"))?;
    let conns_max = config.connections_max.unwrap_or_else(|| host::connections_for(descriptors as u64, cores));
    let node = Node::new(Arc::clone(&wakes), conns_max, descriptors, config.listen.len() * cores)
        .admitting(config.arrivals_max, config.accept_queue)
        .holding(config.memory_max);
    let pool = blocking::Pool::start(config.blocking_threads).map_err(system("no thread for blocking work"))?;
    let mut boot = [0; _];
    getrandom::fill(&mut boot).map_err(|error| StartError::System("no random numbers", std::io::Error::other(error.to_string())))?;
    let shared: &'static Shared = Box::leak(Box::new(Shared::new(NodeId(0), cores as u16, engine.sessions_max, boot)));
    let hands = Hands::new();
    let trust = Arc::new(Trust::new(config.ca_file.clone()));
    let inbox = |core: usize| {
        let wakes = Arc::clone(&wakes);
        Arc::new(Inbox::new(Box::new(move || wakes[core].poke())))
    };
    let inboxes: Arc<[_]> = (0..cores).map(inbox).collect();
    let plan = Plan {
        placements: placements(&config, &allowed, cores),
        config: Arc::new(config),
        engine: Arc::new(engine),
        servers: servers.into(),
        node: Arc::new(node),
        shared,
        jobs: pool.jobs(),
        keeper,
        path,
        trust,
        hands: hands.clone(),
        over: Arc::new(Over::new().map_err(system("no eventfd"))?),
        inboxes,
    };
    let mut running = Running {
        addresses,
        admin,
        node: Arc::clone(&plan.node),
        shared,
        path,
        pinned: plan.config.pin,
        threads: Vec::new(),
        pool: Some(pool),
        hands,
        store,
        over: Arc::clone(&plan.over),
        inbox: Arc::clone(&plan.inboxes[0]),
    };
    start_cores(plan, mesh::build(&wakes), doors, &mut running)?;
    shared.set_ready(true);
    Ok(running)
}

type Doors = (Vec<SocketAddr>, Option<SocketAddr>, Vec<Vec<Listener>>);

/// Opens every listener: one per core for MCP, and core 0's for health and metrics.
fn open_doors(config: &Config, cores: usize) -> Result<Doors, StartError> {
    if config.listen.is_empty() {
        return Err(StartError::Config("there is no address to listen on: give one with --listen".to_owned()));
    }
    let mut doors: Vec<Vec<Listener>> = (0..cores).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for address in &config.listen {
        let (taken, listeners) = listen::open(*address, cores, Role::Public, config.is_port_shared)?;
        addresses.push(taken);
        for (core, listener) in doors.iter_mut().zip(listeners) {
            core.push(listener);
        }
    }
    let mut admin = None;
    if let Some(address) = config.admin {
        let (taken, listeners) = listen::open(address, 1, Role::Admin, false)?;
        admin = Some(taken);
        doors[0].extend(listeners);
    }
    Ok((addresses, admin, doors))
}

/// The CPU of each core, if it is to be pinned.
fn placements(config: &Config, allowed: &[usize], cores: usize) -> Vec<Option<usize>> {
    let cpus = config.cpus.as_deref().unwrap_or(allowed);
    (0..cores).map(|core| config.pin.then(|| cpus[core])).collect()
}

/// What every core is started from.
#[derive(Clone)]
struct Plan {
    placements: Vec<Option<usize>>,
    config: Arc<Config>,
    engine: Arc<EngineConfig>,
    servers: Arc<[Arc<Factory>]>,
    node: Arc<Node>,
    shared: &'static Shared,
    jobs: Jobs,
    keeper: Option<Keeper>,
    path: RingPath,
    trust: Arc<Trust>,
    hands: Hands,
    over: Arc<Over>,
    inboxes: Arc<[Arc<Inbox>]>,
}

/// Ends the process in order when a core ends in disorder: half a node serves nobody well.
struct LastBreath {
    node: Arc<Node>,
    over: Arc<Over>,
}

impl Drop for LastBreath {
    fn drop(&mut self) {
        self.node.advance(Stage::Stopping);
        self.over.set();
    }
}

fn start_cores(plan: Plan, meshes: Vec<Mesh>, doors: Vec<Vec<Listener>>, running: &mut Running) -> Result<(), StartError> {
    let (report, reports) = mpsc::channel::<Result<(), StartError>>();
    let cores = meshes.len();
    for (core, (mesh, listeners)) in meshes.into_iter().zip(doors).enumerate() {
        let (plan, report) = (plan.clone(), report.clone());
        let thread = std::thread::Builder::new()
            .name(format!("ringhub-core-{core}"))
            .spawn(move || plan.run_core(CoreId(core as u16), mesh, listeners, &report))
            .map_err(|error| StartError::System("no thread for a core", error))?;
        running.threads.push(thread);
    }
    drop(report);
    for _ in 0..cores {
        // A core that panics before it reports drops its sender.
        let ended = || StartError::System("a core did not start", std::io::Error::other("it panicked"));
        reports.recv().unwrap_or_else(|_| Err(ended()))?;
    }
    Ok(())
}

impl Plan {
    fn run_core(self, id: CoreId, mesh: Mesh, listeners: Vec<Listener>, report: &mpsc::Sender<Result<(), StartError>>) {
        let _last_breath = LastBreath { node: Arc::clone(&self.node), over: Arc::clone(&self.over) };
        let placement = self.placements[id.index()].map_or(Placement::Unbound, Placement::Fixed);
        let executor = LocalExecutorBuilder::new(placement)
            .name(&format!("ringhub-core-{id}"))
            .io_memory(GLOMMIO_IO_MEMORY)
            .ring_depth(GLOMMIO_RING_DEPTH)
            .preempt_timer(GLOMMIO_PREEMPT)
            .make();
        let executor = match executor {
            Ok(executor) => executor,
            Err(error) => {
                let error = std::io::Error::other(error.to_string());
                let _ = report.send(Err(StartError::System("an executor cannot be made: `ringhub check` says what the host lacks", error)));
                return;
            }
        };
        executor.run(async move {
            match self.make_core(id, mesh, listeners) {
                Ok(core) => {
                    // Nobody waits for it if another core has failed.
                    let _ = report.send(Ok(()));
                    core.drive().await;
                }
                Err(error) => {
                    let _ = report.send(Err(error));
                }
            }
        });
    }

    fn make_core(&self, id: CoreId, mesh: Mesh, listeners: Vec<Listener>) -> Result<Core, StartError> {
        let ring = Ring::new(self.path)
            .map_err(|error| StartError::System("a ring cannot be made: `ringhub check` says what the host lacks", error))?;
        let inbox = Arc::clone(&self.inboxes[id.index()]);
        let cores = self.placements.len() as u16;
        let engine = Engine::new(id, cores, &self.engine, &self.servers, self.shared, Arc::clone(&inbox)).map_err(StartError::Server)?;
        Ok(Core::new(Parts {
            id,
            config: Arc::clone(&self.config),
            engine,
            ring,
            mesh,
            node: Arc::clone(&self.node),
            metrics: &self.shared.metrics()[id.index()],
            jobs: self.jobs.clone(),
            links: Links::new(id.index(), Arc::clone(self.node.wakes()), Arc::clone(&self.trust), self.hands.clone()),
            keeper: self.keeper.clone(),
            inbox,
            listeners,
        }))
    }
}
