//! The process that drives: starts those that load, lets them begin together, and gathers what they tell.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::gather::{Gather, Progress};
use super::process::{Said, clock_ns};
use super::profile::{Profile, Shape, Wishes};
use super::report::{Report, Setting};
use super::tally::{ByClass, Class};
use super::target::{self, Known, Wanted};
use super::watch::Watch;
use super::{Job, LoadError, source};
use crate::base::limits::{
    LOAD_CONNECTIONS_MAX, LOAD_INTERVAL_MS_MIN, LOAD_INTERVALS, LOAD_PIPELINE_MAX, LOAD_PROCESSES_MAX, LOAD_RATE_MAX, LOAD_SECONDS_MAX,
};
use crate::base::time::rfc3339;

/// Files that a process opens besides its connections.
const FILES_BESIDES: u64 = 64;
/// How long the processes have to get ready after they agreed to begin, nanoseconds.
const BEGIN_NS: u64 = 50_000_000;
/// How often it is looked whether the run is to be ended.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process may say nothing at all, beyond the time-out of a message.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Order {
    /// The profile.
    pub profile: Profile,
    /// What is wished for.
    pub wishes: Wishes,
    /// Whom it is done to.
    pub wanted: Wanted,
    /// From which everything that looks random follows.
    pub seed: u64,
    /// Time until a message counts as timed out, seconds.
    pub timeout_s: f64,
    /// Requests of a connection on their way at once, if not the profile's own.
    pub pipeline: Option<usize>,
    /// Each connection waits for its answer.
    pub is_closed_loop: bool,
    /// Connections that are opened in a second before the run begins.
    pub connect_rate: f64,
    /// Addresses and networks to connect from.
    pub sources: Vec<String>,
    /// How many processes at least.
    pub processes: usize,
    /// CPUs that they are pinned to, in turn; empty for none.
    pub cpus: Vec<usize>,
    /// The server's processes, if they cannot be found by the socket that listens.
    pub pids: Vec<u32>,
    /// p99 up to which a rate of a ramp counts as sustained, microseconds.
    pub sustained_p99_us: f64,
    /// The program that runs a process of the load when it is called with [`PROCESS_COMMAND`].
    pub program: PathBuf,
}

/// The command that makes the program a process of a load.
pub const PROCESS_COMMAND: &str = "load-process";

/// What happens meanwhile.
#[derive(Debug)]
pub enum Event<'a> {
    /// The server is known; its connections are being opened.
    Opening(&'a Known),
    /// They are open, so many of them; the rest came to nothing.
    Begun {
        /// That can be used.
        open: u64,
        /// That cannot.
        unopened: u64,
    },
    /// An interval is over.
    Progress(&'a Progress),
}

/// Does it, and reports. It ends early, and reports all the same, when `stop` is set.
///
/// # Errors
/// When there is nothing to report.
pub fn run(order: &Order, stop: &AtomicBool, on: &mut dyn FnMut(&Event<'_>)) -> Result<Report, LoadError> {
    let shape = Shape::of(order.profile, &order.wishes);
    check(order, &shape)?;
    let connections = shape.connections();
    let sources = source::parse(&order.sources, connections)?;
    let processes = processes(connections, order.processes, raise_files())?;
    let known = target::learn(&order.wanted)?;
    source::check(&sources, connections, known.address)?;
    on(&Event::Opening(&known));
    // It has no business on the CPUs of the server, least of all while it looks at it.
    if let Some(id) = order.cpus.last() {
        core_affinity::set_for_current(core_affinity::CoreId { id: *id });
    }
    let watch = Watch::new(&order.pids, known.address);
    let interval_ms = ((shape.seconds() * 1e3 / LOAD_INTERVALS).ceil() as u64).max(LOAD_INTERVAL_MS_MIN);
    let job = Job {
        profile: order.profile,
        shape,
        address: known.address,
        target: known.target.clone(),
        kinds: known.kinds.clone(),
        seed: order.seed,
        timeout_ms: (order.timeout_s * 1e3).ceil() as u64,
        pipeline: order.pipeline.unwrap_or(if order.is_closed_loop { 1 } else { order.profile.pipeline() }),
        is_closed_loop: order.is_closed_loop,
        connect_rate: order.connect_rate,
        interval_ms,
        sources,
        processes,
        process: 0,
        cpu: None,
        spins: processes <= order.cpus.len(),
    };
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut fleet = Fleet::start(order, &job)?;
    let (open, unopened) = fleet.ready(stop)?;
    // Where not one connection can be opened there is nothing to measure, unless it refuses them: that is an answer.
    let is_refused = unopened.get(Class::Refused503) + unopened.get(Class::Refused429) > 0;
    if open == 0 && unopened.errors() > 0 && !is_refused && job.shape.opens_at(0) == Some(0.0) {
        let why: Vec<_> = unopened.iter().map(|(class, count)| format!("{count} {}", class.name())).collect();
        return Err(LoadError::Process(format!("not one connection to {} can be used: {}", order.wanted.url, why.join(", "))));
    }
    on(&Event::Begun { open, unopened: unopened.errors() + unopened.refused() });
    let mut gather = Gather::new(order.profile, &job.shape, interval_ms as f64 / 1e3, processes, watch.look());
    fleet.begin()?;
    let is_interrupted = fleet.gather(&mut gather, &watch, stop, job.timeout_ms, on)?;
    let mut report = gather.report(watch.pids().to_vec(), order.sustained_p99_us);
    report.began = rfc3339(began);
    report.is_interrupted = is_interrupted;
    report.setting = setting(order, &job, &known);
    report.notes = notes(&known, &report);
    Ok(report)
}

fn setting(order: &Order, job: &Job, known: &Known) -> Setting {
    let rate = |phase: &super::profile::Phase| phase.rate.0.max(phase.rate.1) * phase.connections.0.max(phase.connections.1);
    Setting {
        profile: order.profile.name().to_owned(),
        url: order.wanted.url.clone(),
        server: known.server.clone(),
        version: known.target.version.clone(),
        kinds: known.kinds.iter().map(|kind| kind.method().name().to_owned()).collect(),
        connections: job.shape.connections(),
        rate: job.shape.phases.iter().map(rate).fold(0.0, f64::max),
        seconds: job.shape.seconds(),
        time_scale: order.wishes.time_scale,
        pipeline: job.pipeline,
        is_closed_loop: job.is_closed_loop,
        timeout_s: order.timeout_s,
        seed: order.seed,
        processes: job.processes,
        cpus: (0..job.processes).filter_map(|process| cpu(&order.cpus, process)).collect(),
        sources: job.sources.len(),
    }
}

fn notes(known: &Known, report: &Report) -> Vec<String> {
    let mut notes = known.notes.clone();
    if !known.address.ip().to_canonical().is_loopback() {
        notes.push(format!("{} is not a loopback address: the network is part of what was measured", known.address));
    }
    if report.server.is_none() {
        notes.push("the server's process is not on this host, or may not be looked at: name it with --pid".to_owned());
    }
    if !report.counts.adds_up() {
        notes.push("the counts do not add up: a process of the load was lost".to_owned());
    }
    notes
}

/// Everything is bounded, and nothing is started that could not end.
fn check(order: &Order, shape: &Shape) -> Result<(), LoadError> {
    let wrong = |why: String| Err(LoadError::Impossible(why));
    let in_range = |value: f64, max: f64| value > 0.0 && value <= max;
    let rate = order.wishes.rate.unwrap_or(1.0);
    if !(1..=LOAD_CONNECTIONS_MAX).contains(&shape.connections()) {
        return wrong(format!("--connections: 1 to {LOAD_CONNECTIONS_MAX}"));
    }
    if !in_range(rate, LOAD_RATE_MAX) {
        return wrong(format!("--rate: more than 0 and at most {LOAD_RATE_MAX}"));
    }
    if !in_range(shape.seconds(), LOAD_SECONDS_MAX) {
        return wrong("--duration and --time-scale: more than 0, and 31 days at most".to_owned());
    }
    if !in_range(order.timeout_s, 600.0) {
        return wrong("--timeout: more than 0, and 10 minutes at most".to_owned());
    }
    if !(0.1..=1e6).contains(&order.connect_rate) {
        return wrong("--connect-rate: 0.1 to 1000000".to_owned());
    }
    if !(1..=LOAD_PIPELINE_MAX).contains(&order.pipeline.unwrap_or(1)) {
        return wrong(format!("--pipeline: 1 to {LOAD_PIPELINE_MAX}"));
    }
    Ok(())
}

/// Raises the limit of open files to what is allowed without asking; children inherit it.
fn raise_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many processes so many connections need, each of which may open so many files.
fn processes(connections: usize, at_least: usize, files: u64) -> Result<usize, LoadError> {
    let each = usize::try_from(files.saturating_sub(FILES_BESIDES)).unwrap_or(usize::MAX);
    if at_least > LOAD_PROCESSES_MAX {
        return Err(LoadError::Impossible(format!("--processes: 1 to {LOAD_PROCESSES_MAX}")));
    }
    let needed = if each == 0 { usize::MAX } else { connections.div_ceil(each) };
    if needed > LOAD_PROCESSES_MAX {
        let needed = connections.div_ceil(LOAD_PROCESSES_MAX) as u64 + FILES_BESIDES;
        return Err(LoadError::Files { connections, room: each.saturating_mul(LOAD_PROCESSES_MAX), needed });
    }
    Ok(needed.max(at_least).max(1).min(connections))
}

fn cpu(cpus: &[usize], process: usize) -> Option<usize> {
    cpus.get(process % cpus.len().max(1)).copied()
}

/// The processes of a load. They end with it, however it ends.
struct Fleet {
    members: Vec<Member>,
    said: Receiver<(usize, Option<Said>)>,
}

struct Member {
    child: Child,
    input: ChildStdin,
}

impl Fleet {
    fn start(order: &Order, job: &Job) -> Result<Self, LoadError> {
        let (sender, said) = mpsc::channel();
        let mut fleet = Self { members: Vec::new(), said };
        for process in 0..job.processes {
            let job = Job { process, cpu: cpu(&order.cpus, process), ..job.clone() };
            fleet.members.push(Member::start(order, &job, sender.clone())?);
        }
        Ok(fleet)
    }

    /// Waits until all have opened their first connections: how many can be used, and what became of the others.
    fn ready(&mut self, stop: &AtomicBool) -> Result<(u64, ByClass), LoadError> {
        let (mut ready, mut open, mut unopened) = (0, 0, ByClass::default());
        while ready < self.members.len() {
            if stop.load(Ordering::Relaxed) {
                return Err(LoadError::Impossible("ended before it began".to_owned()));
            }
            match self.said.recv_timeout(LOOK) {
                Ok((_, Some(Said::Ready { open: more, unopened: others }))) => {
                    ready += 1;
                    open += more;
                    unopened.merge(&others);
                }
                Ok((_, Some(Said::Failed(why)))) => return Err(LoadError::Process(why)),
                Ok((_, None)) | Err(RecvTimeoutError::Disconnected) => {
                    return Err(LoadError::Process("a process of the load ended".to_owned()));
                }
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
        Ok((open, unopened))
    }

    fn begin(&mut self) -> Result<(), LoadError> {
        let line = format!("{}\n", clock_ns() + BEGIN_NS);
        for member in &mut self.members {
            member.input.write_all(line.as_bytes()).map_err(|error| LoadError::System("a process of the load has gone", error))?;
        }
        Ok(())
    }

    /// Gathers until all are done. Whether it was ended early.
    fn gather(
        &mut self,
        gather: &mut Gather,
        watch: &Watch,
        stop: &AtomicBool,
        timeout_ms: u64,
        on: &mut dyn FnMut(&Event<'_>),
    ) -> Result<bool, LoadError> {
        let (mut done, mut is_stopped) = (0, false);
        let mut heard_ns = clock_ns();
        let silence_ns = (SILENCE_MAX + Duration::from_millis(timeout_ms)).as_nanos() as u64;
        while done < self.members.len() {
            if !is_stopped && stop.load(Ordering::Relaxed) {
                is_stopped = true;
                // One that is done may have gone already.
                for member in &mut self.members {
                    let _ = member.input.write_all(b"end\n");
                }
            }
            match self.said.recv_timeout(LOOK) {
                Ok((process, said)) => {
                    heard_ns = clock_ns();
                    match said {
                        Some(Said::Tick(tick)) => gather.add(process, &tick),
                        Some(Said::Done) => {
                            gather.end(process);
                            done += 1;
                        }
                        Some(Said::Failed(why)) => return Err(LoadError::Process(why)),
                        None => return Err(LoadError::Process("a process of the load ended before its time".to_owned())),
                        Some(Said::Ready { .. }) => {}
                    }
                }
                Err(RecvTimeoutError::Timeout) if clock_ns() - heard_ns < silence_ns => {}
                Err(_) => return Err(LoadError::Process("the processes of the load say nothing any more".to_owned())),
            }
            if gather.is_complete()
                && let Some(progress) = gather.settle(watch.look())
            {
                on(&Event::Progress(&progress));
            }
        }
        Ok(is_stopped)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            // One that is done has ended, or is about to: its input says so, too.
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

impl Member {
    fn start(order: &Order, job: &Job, said: Sender<(usize, Option<Said>)>) -> Result<Self, LoadError> {
        let failed = |error| LoadError::System("a process of the load cannot be started", error);
        let mut command = Command::new(&order.program);
        command.arg(PROCESS_COMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(failed)?;
        let process = job.process;
        let output = child.stdout.take();
        std::thread::spawn(move || {
            for line in output.into_iter().flat_map(|output| BufReader::new(output).lines()).map_while(Result::ok) {
                let Ok(heard) = serde_json::from_str(&line) else { break };
                let is_last = matches!(heard, Said::Done | Said::Failed(_));
                if said.send((process, Some(heard))).is_err() || is_last {
                    return;
                }
            }
            let _ = said.send((process, None));
        });
        let mut line = serde_json::to_vec(job).unwrap_or_default();
        line.push(b'\n');
        let input = child.stdin.take();
        let mut member = Self { child, input: input.ok_or_else(|| failed(std::io::Error::other("it has no input")))? };
        member.input.write_all(&line).map_err(failed)?;
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_as_many_as_the_limit_of_files_asks_for() {
        let of = |connections, at_least, files| processes(connections, at_least, files).ok();
        assert_eq!(of(64, 1, 20_000), Some(1));
        assert_eq!(of(19_936, 1, 20_000), Some(1));
        assert_eq!(of(19_937, 1, 20_000), Some(2));
        assert_eq!(of(100_000, 1, 20_000), Some(6));
        assert_eq!(of(100_000, 8, 20_000), Some(8));
        assert_eq!(of(2, 8, 20_000), Some(2));
        let low = processes(100_000, 1, 1_024).expect_err("too few files");
        assert!(low.to_string().contains("ulimit -n 1627"), "{low}");
        assert!(processes(1, 1, 10).is_err() && processes(1, 65, 20_000).is_err());
    }

    #[test]
    fn processes_take_their_cpus_in_turn() {
        assert_eq!([0, 1, 2].map(|process| cpu(&[3, 5], process)), [Some(3), Some(5), Some(3)]);
        assert_eq!(cpu(&[], 0), None);
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let order = Order {
            profile: Profile::Mixed,
            wishes: Wishes { time_scale: 1.0, ..Wishes::default() },
            wanted: Wanted::default(),
            seed: 1,
            timeout_s: 10.0,
            pipeline: None,
            is_closed_loop: false,
            connect_rate: 1000.0,
            sources: Vec::new(),
            processes: 1,
            cpus: Vec::new(),
            pids: Vec::new(),
            sustained_p99_us: 5_000.0,
            program: PathBuf::new(),
        };
        let judge = |order: &Order| check(order, &Shape::of(order.profile, &order.wishes)).is_ok();
        assert!(judge(&order));
        let wished = |wishes| Order { wishes, ..order.clone() };
        for wishes in [
            Wishes { rate: Some(0.0), ..order.wishes },
            Wishes { rate: Some(1e9), ..order.wishes },
            Wishes { connections: Some(0), ..order.wishes },
            Wishes { connections: Some(2_000_000), ..order.wishes },
            Wishes { seconds: Some(1e9), ..order.wishes },
            Wishes { time_scale: 0.0, ..order.wishes },
        ] {
            assert!(!judge(&wished(wishes)), "{wishes:?}");
        }
        assert!(!judge(&Order { pipeline: Some(0), ..order.clone() }) && !judge(&Order { timeout_s: 0.0, ..order.clone() }));
        assert!(!judge(&Order { connect_rate: 0.0, ..order }));
    }
}
