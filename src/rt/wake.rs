//! How a sleeping core is woken, and how a core makes sure that it sleeps through nothing.
//!
//! A sender first publishes what it has for the core (a bit per lane, or the poke of a foreign thread), then looks whether the core is
//! asleep. The core first says that it is asleep, then looks once more at everything that could have been published. Both sides use one
//! total order (SeqCst), so at least one of them sees the other.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crate::base::limits::CORES_MAX;

const WORDS: usize = CORES_MAX.div_ceil(64);

/// A set of cores.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct CoreSet([u64; WORDS]);

impl CoreSet {
    pub(crate) fn insert(&mut self, core: usize) {
        self.0[core / 64] |= 1 << (core % 64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The members, in ascending order.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(word, mut bits)| {
            std::iter::from_fn(move || {
                let bit = bits.trailing_zeros() as usize;
                bits &= bits.wrapping_sub(1);
                (bit < 64).then_some(word * 64 + bit)
            })
        })
    }
}

/// What others need in order to wake one core.
#[repr(align(128))]
pub(crate) struct Wake {
    /// Cores whose lanes to this one have frames.
    pending: [AtomicU64; WORDS],
    /// Another thread wants the core to look around.
    poked: AtomicBool,
    asleep: AtomicBool,
    event: OwnedFd,
    /// Where ring messages go; negative when the core's ring takes none.
    ring: AtomicI32,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: plain system call; a result that is not negative is a descriptor that nobody else owns.
        let event = unsafe {
            let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Self {
            pending: [const { AtomicU64::new(0) }; WORDS],
            poked: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            event,
            ring: AtomicI32::new(-1),
        })
    }

    /// The descriptor that the core's ring polls.
    pub(crate) fn event(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// The core's ring takes messages, at this descriptor; or no more, when negative.
    pub(crate) fn set_ring(&self, ring: RawFd) {
        self.ring.store(ring, Ordering::Release);
    }

    pub(crate) fn ring(&self) -> Option<RawFd> {
        let ring = self.ring.load(Ordering::Acquire);
        (ring >= 0).then_some(ring)
    }

    /// Lets the core, if it is awake, find what core `from` has pushed so far. [`Self::publish`] must follow: who is asleep sleeps on.
    pub(crate) fn show(&self, from: usize) {
        self.pending[from / 64].fetch_or(1 << (from % 64), Ordering::SeqCst);
    }

    /// Called by core `from` after it has pushed frames. The answer says whether the core must be woken, which is then the caller's task.
    #[must_use]
    pub(crate) fn publish(&self, from: usize) -> bool {
        self.pending[from / 64].fetch_or(1 << (from % 64), Ordering::SeqCst);
        self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst)
    }

    /// Makes the core look at its inbox and at the process's stage. From any thread.
    pub(crate) fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.ring_event();
        }
    }

    /// Makes the eventfd readable.
    pub(crate) fn ring_event(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from a local. A full counter (EAGAIN) is readable already.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Takes what made the eventfd readable.
    pub(crate) fn clear_event(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are written to a local; the descriptor does not block.
        unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    /// Takes the set of cores that have frames for this one.
    pub(crate) fn take_pending(&self) -> CoreSet {
        let mut set = CoreSet::default();
        for (taken, word) in set.0.iter_mut().zip(&self.pending) {
            // A plain look first: nothing is pending in most turns.
            if word.load(Ordering::Relaxed) != 0 {
                *taken = word.swap(0, Ordering::SeqCst);
            }
        }
        set
    }

    /// Takes the poke.
    pub(crate) fn take_poke(&self) -> bool {
        self.poked.load(Ordering::Relaxed) && self.poked.swap(false, Ordering::SeqCst)
    }

    /// The core is about to sleep. False: something came in between, and it must not.
    #[must_use]
    pub(crate) fn fall_asleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let quiet = !self.poked.load(Ordering::SeqCst) && self.pending.iter().all(|word| word.load(Ordering::SeqCst) == 0);
        if !quiet {
            self.wake_up();
        }
        quiet
    }

    /// The core is awake.
    pub(crate) fn wake_up(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_set_of_cores() {
        let mut set = CoreSet::default();
        assert!(set.is_empty());
        for core in [0, 63, 64, 255] {
            set.insert(core);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 255]);
    }

    #[test]
    fn what_was_published_keeps_the_core_awake() {
        let wake = Wake::new().expect("an eventfd");
        assert!(!wake.publish(3), "awake: nobody to wake");
        assert!(!wake.fall_asleep());
        assert_eq!(wake.take_pending().iter().collect::<Vec<_>>(), [3]);
        assert!(wake.fall_asleep());
        assert!(wake.publish(200), "asleep: to be woken");
        assert!(!wake.publish(200), "once");
        wake.wake_up();
        wake.poke();
        assert!(!wake.fall_asleep());
        assert!(wake.take_poke() && !wake.take_poke());
    }

    /// Sleeper and sender race; a lost wake would leave the sleeper asleep with a frame pending.
    #[test]
    fn no_wake_is_lost() {
        const ROUNDS: usize = 20_000;
        let wake = Arc::new(Wake::new().expect("an eventfd"));
        let seen = Arc::new(AtomicU64::new(0));
        let (sender_wake, sender_seen) = (Arc::clone(&wake), Arc::clone(&seen));
        let sender = std::thread::spawn(move || {
            for round in 1..=ROUNDS as u64 {
                if sender_wake.publish(1) {
                    sender_wake.ring_event();
                }
                while sender_seen.load(Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
            }
        });
        for round in 1..=ROUNDS as u64 {
            loop {
                if !wake.take_pending().is_empty() {
                    break;
                }
                if wake.fall_asleep() {
                    let mut poll = libc::pollfd { fd: wake.event(), events: libc::POLLIN, revents: 0 };
                    // SAFETY: one entry, which lives across the call.
                    let ready = unsafe { libc::poll(&raw mut poll, 1, 10_000) };
                    assert_eq!(ready, 1, "asleep with a frame pending");
                    wake.clear_event();
                    wake.wake_up();
                }
            }
            seen.store(round, Ordering::Release);
        }
        sender.join().expect("the sender");
    }
}
