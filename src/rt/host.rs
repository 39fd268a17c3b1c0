//! What the host offers and what is missing: read by `ringhub check` and before a start.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use super::config::{Config, RingChoice};
use super::listen;
use super::ring::{self, RingPath};
use crate::base::limits::{FD_HEADROOM, LINK_DESCRIPTORS_SHARE};

/// Descriptors of a core besides its connections: three rings and an eventfd of its executor, its own ring and eventfd, its listeners, and
/// for moments a pair of sockets.
const DESCRIPTORS_PER_CORE: usize = 12;
/// Below this an executor cannot be made.
const MEMLOCK_MIN: u64 = 512 * 1024;
/// Before 5.12 the rings themselves count as locked memory, bytes for each core.
const MEMLOCK_PER_CORE_OLD: u64 = 2 * 1024 * 1024;
/// A backlog shorter than this loses connections in a burst.
const BACKLOG_MIN: i32 = 1024;

/// How bad a finding is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Warn,
    /// It cannot work.
    Fatal,
}

/// One thing found about the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// The command or setting that mends it; empty when nothing is to be mended.
    pub remedy: String,
}

impl Finding {
    fn ok(what: impl Into<String>) -> Self {
        Self { level: Level::Ok, what: what.into(), remedy: String::new() }
    }

    fn warn(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, what: what.into(), remedy: remedy.into() }
    }

    fn fatal(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fatal, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok   ",
            Level::Warn => "warn ",
            Level::Fatal => "FATAL",
        };
        write!(f, "{level} {}", self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n      {}", self.remedy) }
    }
}

/// Everything about the host that matters to a process with these settings.
#[must_use]
pub fn probe(config: &Config) -> Vec<Finding> {
    let allowed = allowed_cpus();
    let cores = cores_of(config, &allowed);
    let kernel = kernel_release();
    vec![
        kernel_finding(&kernel),
        ring_finding(config.ring),
        memlock_finding(limit_of(libc::RLIMIT_MEMLOCK).0, parse_release(&kernel), cores),
        descriptors_finding(limit_of(libc::RLIMIT_NOFILE), config.connections_max, cores),
        backlog_finding(listen::backlog()),
        ports_finding(&read("/proc/sys/net/ipv4/ip_local_port_range"), config),
        cpus_finding(config, &allowed, cores),
    ]
}

/// How many cores a process with these settings has.
pub(crate) fn cores_of(config: &Config, allowed: &[usize]) -> usize {
    config.cores.unwrap_or_else(|| config.cpus.as_ref().map_or(allowed.len(), Vec::len)).max(1)
}

/// CPUs that this process may run on.
pub(crate) fn allowed_cpus() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn kernel_release() -> String {
    read("/proc/sys/kernel/osrelease")
}

/// Major and minor number of a kernel release.
fn parse_release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn kernel_finding(release: &str) -> Finding {
    match parse_release(release) {
        version if version < (5, 8) => Finding::fatal(
            format!("kernel {release}: ringhub needs 5.8"),
            "run it on a host with kernel 5.8 or later; 6.1 or later is faster",
        ),
        version if version < (6, 1) => Finding::warn(format!("kernel {release}"), "kernel 6.1 or later is faster"),
        _ => Finding::ok(format!("kernel {release}")),
    }
}

fn ring_finding(choice: RingChoice) -> Finding {
    let offer = ring::probe();
    match (&offer.path, choice) {
        (Err(lack), _) => {
            let disabled = read("/proc/sys/kernel/io_uring_disabled");
            let remedy = if disabled.is_empty() || disabled == "0" {
                "in a container, allow the io_uring system calls: `docker run --security-opt seccomp=unconfined`, or a profile that lists them"
            } else {
                "`sysctl -w kernel.io_uring_disabled=0`"
            };
            Finding::fatal(format!("io_uring does not work: {lack}"), remedy)
        }
        (Ok(RingPath::Modern), RingChoice::Legacy) => Finding::warn(
            format!("io_uring: path {}, as told", RingPath::Legacy.label()),
            "leave the ring setting out to run the faster path",
        ),
        (Ok(RingPath::Modern), RingChoice::Auto) => Finding::ok(format!("io_uring: path {}", RingPath::Modern.label())),
        (Ok(RingPath::Legacy), _) => Finding::warn(
            format!("io_uring: path {}: {}", RingPath::Legacy.label(), offer.modern_lacks.as_deref().unwrap_or("as told")),
            "kernel 6.1 or later runs the faster path",
        ),
    }
}

/// A resource limit: soft, hard.
pub(crate) fn limit_of(resource: libc::__rlimit_resource_t) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills a local.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// Keeps the kernel from backing this process with huge pages: with them, memory that was freed stays resident by the 2 MiB, and what a
/// connection costs cannot be told. Children would inherit it; those that ringhub starts are freed of it.
pub(crate) fn refuse_huge_pages() {
    // SAFETY: it reads and writes no memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// The limit of descriptors that the process was started with.
static DESCRIPTORS_GIVEN: OnceLock<u64> = OnceLock::new();

/// The limit of descriptors that child processes have, as if it had never been raised: many programs break with more than they expect.
pub(crate) fn descriptors_given() -> libc::rlimit {
    let (soft, hard) = limit_of(libc::RLIMIT_NOFILE);
    libc::rlimit { rlim_cur: DESCRIPTORS_GIVEN.get().copied().unwrap_or(soft), rlim_max: hard }
}

/// Raises the limit of descriptors to what the process may have without asking. The answer is what it then has.
pub(crate) fn raise_descriptors() -> u64 {
    let (soft, hard) = limit_of(libc::RLIMIT_NOFILE);
    DESCRIPTORS_GIVEN.get_or_init(|| soft);
    if soft < hard {
        let limit = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        // SAFETY: the kernel reads a local.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
    limit_of(libc::RLIMIT_NOFILE).0
}

fn memlock_finding(soft: u64, kernel: (u32, u32), cores: usize) -> Finding {
    let needed = if kernel < (5, 12) { MEMLOCK_PER_CORE_OLD.saturating_mul(cores as u64).max(MEMLOCK_MIN) } else { MEMLOCK_MIN };
    let remedy = format!("`ulimit -l {}`, LimitMEMLOCK= in the systemd unit, or `docker run --ulimit memlock=-1`", needed / 1024);
    if soft >= needed {
        Finding::ok(format!(
            "locked memory (memlock): {}",
            if soft == libc::RLIM_INFINITY { "unlimited".to_owned() } else { format!("{} KiB", soft / 1024) }
        ))
    } else {
        Finding::fatal(format!("locked memory (memlock): {} KiB, and {} are needed", soft / 1024, needed / 1024), remedy)
    }
}

/// Connections that a limit of descriptors leaves room for, when links take their part: upstreams may come at any time.
pub(crate) fn connections_for(descriptors: u64, cores: usize) -> usize {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    (descriptors - descriptors / LINK_DESCRIPTORS_SHARE).saturating_sub(FD_HEADROOM + DESCRIPTORS_PER_CORE * cores)
}

/// The limit of descriptors that leaves room for so many connections.
fn descriptors_for(connections: usize, cores: usize) -> usize {
    let wanted = connections + FD_HEADROOM + DESCRIPTORS_PER_CORE * cores;
    (wanted * LINK_DESCRIPTORS_SHARE).div_ceil(LINK_DESCRIPTORS_SHARE - 1)
}

fn descriptors_finding((_, hard): (u64, u64), connections_max: Option<usize>, cores: usize) -> Finding {
    let room = connections_for(hard, cores);
    let wanted = connections_max.unwrap_or(1);
    let what = format!("open files (nofile): at most {hard}, which is room for {room} connections");
    let remedy =
        format!("`ulimit -Hn {}`, LimitNOFILE= in the systemd unit, or `docker run --ulimit nofile=...`", descriptors_for(wanted, cores));
    match room {
        0 => Finding::fatal(what, remedy),
        room if room < wanted => Finding::warn(format!("{what}; {wanted} are configured: those beyond wait unaccepted"), remedy),
        _ => Finding::ok(what),
    }
}

fn backlog_finding(somaxconn: i32) -> Finding {
    let what = format!("backlog of listeners (somaxconn): {somaxconn}");
    if somaxconn < BACKLOG_MIN { Finding::warn(what, "`sysctl -w net.core.somaxconn=4096`") } else { Finding::ok(what) }
}

fn ports_finding(range: &str, config: &Config) -> Finding {
    let mut numbers = range.split_whitespace().filter_map(|number| number.parse::<u16>().ok());
    let (Some(low), Some(high)) = (numbers.next(), numbers.next()) else {
        return Finding::warn("outgoing connections' port range: unknown", "");
    };
    let what = format!("outgoing connections' port range: {low} to {high}");
    let taken = config.listen.iter().chain(&config.admin).find(|address| (low..=high).contains(&address.port()));
    match taken {
        Some(address) => Finding::warn(
            format!("{what}; {address} lies among them: an outgoing connection can take it before a restart does"),
            format!("`sysctl -w net.ipv4.ip_local_reserved_ports={}`", address.port()),
        ),
        None => Finding::ok(what),
    }
}

fn cpus_finding(config: &Config, allowed: &[usize], cores: usize) -> Finding {
    if let Some(denied) = config.cpus.iter().flatten().find(|cpu| !allowed.contains(cpu)) {
        return Finding::fatal(
            format!("CPU {denied} is not allowed to this process, which may use {allowed:?}"),
            "name allowed CPUs with --cpus, or allow more (`taskset`, AllowedCPUs= in the systemd unit, `docker run --cpuset-cpus`)",
        );
    }
    let cpus = config.cpus.as_ref().map_or(allowed.len(), Vec::len);
    if config.pin && cores > cpus {
        return Finding::fatal(format!("{cores} cores cannot be pinned to {cpus} CPUs"), format!("`--cores {cpus}`, or --no-pin"));
    }
    Finding::ok(format!("CPUs: {cores} of {} allowed, {}", allowed.len(), if config.pin { "pinned" } else { "not pinned" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(parse_release("6.18.44-custom"), (6, 18));
        assert_eq!(parse_release("5.8"), (5, 8));
        assert_eq!(parse_release("junk"), (0, 0));
        assert_eq!(kernel_finding("5.4.0-100").level, Level::Fatal);
        assert_eq!(kernel_finding("5.15.1").level, Level::Warn);
        assert_eq!(kernel_finding("6.1.0").level, Level::Ok);
    }

    #[test]
    fn limits() {
        assert_eq!(memlock_finding(64 * 1024, (6, 1), 2).level, Level::Fatal);
        assert_eq!(memlock_finding(512 * 1024, (6, 1), 64).level, Level::Ok);
        assert_eq!(memlock_finding(512 * 1024, (5, 10), 4).level, Level::Fatal);
        assert_eq!(memlock_finding(libc::RLIM_INFINITY, (5, 10), 4).level, Level::Ok);
        assert_eq!(descriptors_finding((1024, 20_000), Some(1000), 2).level, Level::Ok);
        for (connections, cores) in [(1, 1), (1000, 2), (12_345, 8)] {
            let room = connections_for(descriptors_for(connections, cores) as u64, cores);
            assert!((connections..connections + 2).contains(&room), "{connections}: {room}");
        }
        assert_eq!(descriptors_finding((1024, 20_000), Some(100_000), 2).level, Level::Warn);
        assert_eq!(descriptors_finding((64, 64), None, 2).level, Level::Fatal);
        assert_eq!(backlog_finding(128).level, Level::Warn);
    }

    #[test]
    fn ports_and_cpus() {
        let mut config = Config { cores: Some(4), ..Config::default() };
        assert_eq!(ports_finding("32768\t60999", &config).level, Level::Ok);
        assert_eq!(ports_finding("1024 60999", &config).level, Level::Warn);
        assert_eq!(cpus_finding(&config, &[0, 1], 4).level, Level::Fatal);
        config.pin = false;
        assert_eq!(cpus_finding(&config, &[0, 1], 4).level, Level::Ok);
        config.cpus = Some(vec![0, 7]);
        let denied = cpus_finding(&config, &[0, 1], 4);
        assert!(denied.level == Level::Fatal && denied.what.contains("CPU 7"), "{denied}");
    }

    #[test]
    fn this_host_can_run_its_tests() {
        let config = Config { cores: Some(1), ..Config::default() };
        let findings = probe(&config);
        assert_eq!(findings.len(), 7);
        for finding in findings {
            assert!(finding.level != Level::Fatal, "{finding}");
            assert_eq!(finding.level == Level::Ok, finding.remedy.is_empty(), "{finding}");
        }
    }
}
