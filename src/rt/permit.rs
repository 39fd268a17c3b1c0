//! What all cores of a process share besides the mesh: its stage, its limits, what still lives.
//!
//! The counters are plain shared atomics: they change when a connection comes or goes, never for a request, so one contended line costs
//! nothing that could be measured, and a limit of 350 means 350.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use super::ledger::Memory;
use super::listen;
use super::wake::Wake;
use crate::base::limits::{ADMIN_CONNS_MAX, FD_HEADROOM, LINGERING_MAX, LINK_DESCRIPTORS_SHARE};
use crate::guard::arrivals::Arrivals;

/// How far the process is from its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    /// It serves.
    Serving = 0,
    /// It takes nothing new and finishes what it has.
    Draining = 1,
    /// It ends now.
    Stopping = 2,
}

/// A counter with an upper bound.
pub(crate) struct Quota {
    taken: AtomicUsize,
    max: usize,
}

impl Quota {
    pub(crate) const fn new(max: usize) -> Self {
        Self { taken: AtomicUsize::new(0), max }
    }

    /// Takes one, if one is left.
    pub(crate) fn take(&self) -> bool {
        self.take_many(1)
    }

    /// Takes so many, if they are left.
    pub(crate) fn take_many(&self, count: usize) -> bool {
        let more = |taken: usize| taken.checked_add(count).filter(|taken| *taken <= self.max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives one back.
    pub(crate) fn give(&self) {
        self.give_many(1);
    }

    /// Gives so many back.
    pub(crate) fn give_many(&self, count: usize) {
        let before = self.taken.fetch_sub(count, Ordering::Relaxed);
        debug_assert!(before >= count, "more was given back than taken");
    }

    /// How many there are.
    pub(crate) const fn max(&self) -> usize {
        self.max
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Shared by the cores of one process.
pub(crate) struct Node {
    stage: AtomicU8,
    wakes: Arc<[Wake]>,
    /// Connections that the limit counts.
    pub(crate) conns: Quota,
    /// Those beyond that which wait.
    pub(crate) queued: Quota,
    /// How many may come in a second.
    pub(crate) arrivals: Option<Arrivals>,
    /// Memory that buffers may take.
    pub(crate) memory: Memory,
    pub(crate) admin: Quota,
    pub(crate) lingering: Quota,
    /// Descriptors of links.
    pub(crate) links: Quota,
    /// Connections of each core, those on their way to it included.
    per_core: Box<[AtomicUsize]>,
    /// Sockets of the public listeners, whatever their state, wherever they are.
    sockets: AtomicUsize,
    /// Public listeners that still accept.
    listeners: AtomicUsize,
    /// Cores whose engine has something in work.
    busy: AtomicUsize,
    /// Descriptors the process may have.
    descriptors_max: usize,
    /// Connections that can come at once: the backlogs of all public listeners.
    burst_max: usize,
    /// Accepting is paused for want of descriptors.
    starved: AtomicBool,
}

impl Node {
    pub(crate) fn new(wakes: Arc<[Wake]>, conns_max: usize, descriptors_max: usize, listeners: usize) -> Self {
        let cores = wakes.len();
        Self {
            stage: AtomicU8::new(Stage::Serving as u8),
            per_core: wakes.iter().map(|_| AtomicUsize::new(0)).collect(),
            wakes,
            conns: Quota::new(conns_max),
            queued: Quota::new(0),
            arrivals: None,
            memory: Memory::new(None, cores),
            admin: Quota::new(ADMIN_CONNS_MAX),
            lingering: Quota::new(LINGERING_MAX),
            links: Quota::new(descriptors_max / LINK_DESCRIPTORS_SHARE),
            sockets: AtomicUsize::new(0),
            listeners: AtomicUsize::new(listeners),
            busy: AtomicUsize::new(0),
            descriptors_max,
            burst_max: listeners.saturating_mul(usize::try_from(listen::backlog()).unwrap_or(0)),
            starved: AtomicBool::new(false),
        }
    }

    /// Lets so many connections come in a second, and so many wait.
    pub(crate) fn admitting(mut self, arrivals_max: Option<u32>, queue: usize) -> Self {
        self.arrivals = arrivals_max.map(Arrivals::new);
        self.queued = Quota::new(queue);
        self
    }

    /// Lets the buffers of connections hold so many bytes.
    pub(crate) fn holding(mut self, memory_max: Option<usize>) -> Self {
        self.memory = Memory::new(memory_max, self.wakes.len());
        self
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Stopping,
        }
    }

    /// Moves on to a later stage; never back.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        for wake in self.wakes.iter() {
            wake.poke();
        }
    }

    pub(crate) fn wakes(&self) -> &Arc<[Wake]> {
        &self.wakes
    }

    pub(crate) fn add_to_core(&self, core: usize) {
        self.per_core[core].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn take_from_core(&self, core: usize) {
        self.per_core[core].fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections of one core.
    pub(crate) fn on_core(&self, core: usize) -> usize {
        self.per_core[core].load(Ordering::Relaxed)
    }

    pub(crate) fn socket_opened(&self) {
        self.sockets.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn socket_closed(&self) {
        self.sockets.fetch_sub(1, Ordering::AcqRel);
        self.end_if_drained();
    }

    pub(crate) fn listener_closed(&self) {
        self.listeners.fetch_sub(1, Ordering::AcqRel);
        self.end_if_drained();
    }

    pub(crate) fn core_became_busy(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn core_became_idle(&self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
        self.end_if_drained();
    }

    /// A draining process ends once nothing lives in it. A connection between two cores counts as living.
    pub(crate) fn end_if_drained(&self) {
        let lives = |count: &AtomicUsize| count.load(Ordering::Acquire) > 0;
        if self.stage() == Stage::Draining && !lives(&self.listeners) && !lives(&self.sockets) && !lives(&self.busy) {
            self.advance(Stage::Stopping);
        }
    }

    /// Called with the number of a new descriptor. Numbers are given lowest first, so a high one means that few are left.
    pub(crate) fn is_near_limit(&self, fd: i32) -> bool {
        usize::try_from(fd).is_ok_and(|fd| fd + FD_HEADROOM >= self.descriptors_max)
    }

    /// Called with the number of a new link's descriptor: links do without before accepting pauses.
    pub(crate) fn is_scarce(&self, fd: i32) -> bool {
        usize::try_from(fd).is_ok_and(|fd| fd + 2 * FD_HEADROOM >= self.descriptors_max)
    }

    /// Whether a burst could use up the descriptors: then connections are accepted one at a time, so that the headroom holds.
    pub(crate) fn is_filling(&self, fd: i32) -> bool {
        usize::try_from(fd).is_ok_and(|fd| fd.saturating_add(FD_HEADROOM + self.burst_max) >= self.descriptors_max)
    }

    /// Pauses accepting on all cores.
    pub(crate) fn starve(&self) {
        self.starved.store(true, Ordering::Relaxed);
    }

    /// Whether accepting was paused and has not gone on.
    pub(crate) fn is_paused(&self) -> bool {
        self.starved.load(Ordering::Relaxed)
    }

    /// Whether accepting must stay paused. A paused process goes on once a descriptor with a low enough number is free.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved.load(Ordering::Relaxed) && !self.recover()
    }

    fn recover(&self) -> bool {
        // SAFETY: plain system call; the descriptor it makes, if any, is closed at once.
        let near = unsafe {
            let fd = libc::fcntl(self.wakes[0].event(), libc::F_DUPFD_CLOEXEC, 0);
            if fd >= 0 {
                libc::close(fd);
            }
            fd < 0 || self.is_near_limit(fd)
        };
        if !near {
            self.starved.store(false, Ordering::Relaxed);
        }
        !near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conns_max: usize, listeners: usize) -> Node {
        let wakes = (0..2).map(|_| Wake::new().expect("an eventfd")).collect();
        Node::new(wakes, conns_max, 1024, listeners)
    }

    #[test]
    fn the_limit_is_exact_across_threads() {
        let node = node(350, 1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        node.conns.take();
                    }
                });
            }
        });
        assert_eq!(node.conns.taken(), 350);
        assert!(!node.conns.take());
        node.conns.give();
        assert!(node.conns.take());
        assert!(!node.links.take_many(257) && node.links.take_many(255) && !node.links.take_many(2) && node.links.take());
        node.links.give_many(256);
        assert_eq!(node.links.taken(), 0);
    }

    #[test]
    fn stages_only_advance_and_the_drain_ends_with_the_last_socket() {
        let node = node(1, 1);
        node.socket_opened();
        node.socket_closed();
        assert_eq!(node.stage(), Stage::Serving);
        node.socket_opened();
        node.advance(Stage::Draining);
        node.listener_closed();
        assert_eq!(node.stage(), Stage::Draining);
        node.core_became_busy();
        node.socket_closed();
        assert_eq!(node.stage(), Stage::Draining);
        node.core_became_idle();
        assert_eq!(node.stage(), Stage::Stopping);
        node.advance(Stage::Draining);
        assert_eq!(node.stage(), Stage::Stopping);
    }

    #[test]
    fn a_starved_process_recovers_when_descriptors_are_free() {
        let node = node(1, 1);
        assert!(node.is_scarce(896) && !node.is_scarce(895), "before accepting pauses");
        assert!(node.is_near_limit(960) && !node.is_near_limit(959));
        assert!(node.is_filling(959) && node.is_filling(960 - node.burst_max.min(960) as i32));
        node.starve();
        assert!(!node.is_starved(), "this test has descriptors enough");
    }
}
