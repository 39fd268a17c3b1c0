//! The mesh alone, for the bench of that name: two threads that send, sleep and wake as cores do, with neither engines nor connections.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use super::host::allowed_cpus;
use super::mesh::{self, Mesh, Parcel};
use super::ring::{Completion, Op, Ring, RingPath};
use super::wake::Wake;
use crate::base::ids::CoreId;
use crate::engine::{Frame, Lane, Lists};

/// No run takes so long; one that does has lost a frame or a wake.
const RUN_MAX: Duration = Duration::from_secs(60);
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// What two threads do with each other.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Which io_uring path they run.
    pub path: RingPath,
    /// How long each looks for work before it sleeps.
    pub spin: Duration,
    /// Asks on their way at once, 1 to 64.
    pub window: u32,
    /// Asks in all, each of which is replied to.
    pub asks: u32,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// From the first Ask to the last Reply.
    pub took: Duration,
    /// Asks and Replies that arrived.
    pub frames: u64,
    /// Times that one thread woke the other.
    pub wakes: u64,
}

impl Run {
    /// Lets one thread ask and another reply, each pinned to a CPU of its own if there are two.
    ///
    /// # Panics
    /// When no ring can be made, or when a frame or a wake is lost.
    #[must_use]
    pub fn go(self) -> Outcome {
        assert!((1..=64).contains(&self.window), "the smallest lane has room for 64");
        let mut ends = cores(2, self.path, self.spin).into_iter();
        let mut make = || {
            let core = ends.next().expect("two ends");
            move || End { run: self, core: core() }
        };
        let (asker, replier) = (make(), make());
        let (ready, done) = (&Barrier::new(2), &Barrier::new(2));
        std::thread::scope(|scope| {
            let asker = scope.spawn(move || {
                let mut end = asker();
                ready.wait();
                let took = end.ask_all();
                done.wait();
                (took, end.core.wakes_sent)
            });
            let replier = scope.spawn(move || {
                let mut end = replier();
                ready.wait();
                end.reply_to_all();
                done.wait();
                end.core.wakes_sent
            });
            let ((took, asker), replier) = (asker.join().expect("the asker"), replier.join().expect("the replier"));
            Outcome { took, frames: 2 * u64::from(self.asks), wakes: asker + replier }
        })
    }
}

/// One thread's side.
struct End {
    run: Run,
    core: Core,
}

impl End {
    fn ask_all(&mut self) -> Duration {
        let start = Instant::now();
        let (mut asked, mut replied) = (0, 0);
        let mut frames = Vec::new();
        while replied < self.run.asks {
            while asked < self.run.asks && asked - replied < self.run.window {
                self.send(Lane::Ask, asked);
                asked += 1;
            }
            self.core.go_on();
            self.core.take(&mut frames);
            for (_, frame) in frames.drain(..) {
                assert_eq!(number(&frame), replied, "replies come in order");
                replied += 1;
            }
        }
        start.elapsed()
    }

    fn reply_to_all(&mut self) {
        let mut replied = 0;
        let mut frames = Vec::new();
        while replied < self.run.asks {
            self.core.take(&mut frames);
            for (_, frame) in frames.drain(..) {
                self.send(Lane::Reply, number(&frame));
                replied += 1;
            }
            self.core.go_on();
        }
    }

    fn send(&mut self, lane: Lane, number: u32) {
        let frame = Frame::Changed { server: number, lists: Lists::NONE };
        let sent = self.core.send(CoreId(1 - self.core.me as u16), lane, frame);
        assert!(sent.is_ok(), "a window fits into a lane");
    }
}

/// A thread's end of the mesh, with the turns and the sleep of a core, for benches that put something of their own between the lanes.
pub struct Core {
    spin: Duration,
    me: usize,
    mesh: Mesh,
    ring: Ring,
    wakes: Arc<[Wake]>,
    wakes_sent: u64,
    parcels: Vec<(CoreId, Parcel)>,
    completions: Vec<Completion>,
    until: Instant,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("me", &self.me).finish_non_exhaustive()
    }
}

/// Makes the ends of so many cores, each to be called by the thread that uses it: it pins the thread when there are CPUs enough.
///
/// # Panics
/// When a wake cannot be made; an end, when no ring can be.
pub fn cores(count: usize, path: RingPath, spin: Duration) -> Vec<impl FnOnce() -> Core + Send> {
    let wakes: Arc<[Wake]> = (0..count).map(|_| Wake::new().expect("an eventfd")).collect();
    let cpus = allowed_cpus();
    let ends = mesh::build(&wakes).into_iter().enumerate();
    let make = |(me, mesh)| {
        let (wakes, cpu) = (Arc::clone(&wakes), (cpus.len() >= count).then(|| cpus[me]));
        // A ring is made by the thread that uses it.
        move || Core::new(path, spin, me, mesh, wakes, cpu)
    };
    ends.map(make).collect()
}

impl Core {
    fn new(path: RingPath, spin: Duration, me: usize, mesh: Mesh, wakes: Arc<[Wake]>, cpu: Option<usize>) -> Self {
        if let Some(id) = cpu {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let mut ring = Ring::new(path).expect("a ring");
        if ring.takes_messages() {
            wakes[me].set_ring(ring.fd());
        }
        ring.watch(wakes[me].event(), libc::POLLIN, Op::Event, 0);
        let (parcels, completions) = (Vec::new(), Vec::with_capacity(64));
        Self { spin, me, mesh, ring, wakes, wakes_sent: 0, parcels, completions, until: Instant::now() + RUN_MAX }
    }

    /// Pushes a frame; gives it back when the lane is full.
    ///
    /// # Errors
    /// The frame.
    pub fn send(&mut self, to: CoreId, lane: Lane, frame: Frame) -> Result<(), Frame> {
        self.mesh.send(to, lane, Parcel::Frame(frame)).map_err(|parcel| match parcel {
            Parcel::Frame(frame) => frame,
            Parcel::Moved(_) | Parcel::Fresh(_) => unreachable!("a frame was sent"),
        })
    }

    /// The beginning of a turn: takes what came, replies first.
    pub fn take(&mut self, into: &mut Vec<(CoreId, Frame)>) {
        self.mesh.look();
        self.mesh.take(Lane::Reply, &mut self.parcels);
        self.mesh.take(Lane::Ask, &mut self.parcels);
        self.mesh.settle();
        let frames = self.parcels.drain(..).filter_map(|(from, parcel)| match parcel {
            Parcel::Frame(frame) => Some((from, frame)),
            Parcel::Moved(_) | Parcel::Fresh(_) => None,
        });
        into.extend(frames);
        self.ring.completions(&mut self.completions);
        for completion in self.completions.drain(..) {
            if completion.op() == Some(Op::Event) {
                self.wakes[self.me].clear_event();
                self.ring.watch(self.wakes[self.me].event(), libc::POLLIN, Op::Event, 0);
            }
        }
    }

    /// The end of a turn after which there is more to do: what was sent is announced.
    pub fn hurry_on(&mut self) {
        let ring = &mut self.ring;
        self.wakes_sent += self.mesh.announce(|fd| ring.message(fd));
        if self.ring.has_queued() {
            self.ring.flush();
        }
    }

    /// The end of a turn and the rest after it, as a core has them.
    ///
    /// # Panics
    /// When a run takes a minute: then a frame or a wake was lost.
    pub fn go_on(&mut self) {
        let ring = &mut self.ring;
        self.wakes_sent += self.mesh.announce(|fd| ring.message(fd));
        if self.has_work() || self.ring.has_queued() {
            return self.ring.flush();
        }
        if self.spin() || !self.wakes[self.me].fall_asleep() {
            return;
        }
        self.ring.sleep(SLEEP_MAX);
        self.wakes[self.me].wake_up();
        assert!(Instant::now() < self.until, "a frame or a wake was lost");
    }

    fn has_work(&mut self) -> bool {
        self.mesh.has_more() || !self.ring.is_dry()
    }

    fn spin(&mut self) -> bool {
        if self.spin.is_zero() {
            return false;
        }
        let start = Instant::now();
        while start.elapsed() < self.spin {
            self.ring.flush();
            self.mesh.look();
            if self.has_work() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

fn number(frame: &Frame) -> u32 {
    match frame {
        Frame::Changed { server, .. } => *server,
        _ => panic!("nobody sends anything else"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ask_is_replied_to_on_each_path_asleep_and_awake() {
        for path in [RingPath::Modern, RingPath::Legacy] {
            for spin in [Duration::ZERO, Duration::from_micros(20)] {
                for window in [1, 64] {
                    let outcome = Run { path, spin, window, asks: 200 }.go();
                    assert_eq!(outcome.frames, 400);
                    assert!(outcome.wakes <= 400 && !outcome.took.is_zero(), "{path:?}, {spin:?}, {window}: {outcome:?}");
                }
            }
        }
    }
}
