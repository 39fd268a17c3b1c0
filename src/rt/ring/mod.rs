//! A core's own io_uring: the one place where it sleeps and the only way in which its connections' bytes move.
//!
//! Two sets of operations: that of 6.1 (multishot, buffer ring, deferred completions) and that of 5.8. Which one runs is decided once,
//! at start.

mod legacy;
mod modern;
mod recall;
mod store;
mod token;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::register::Probe;
use io_uring::{IoUring, squeue, types};

use recall::Recall;
pub(crate) use store::Lease;
use store::Store;
pub(crate) use token::{Completion, Op, Token};

/// Entries of the submission queue: one turn's operations, typically.
const SUBMISSIONS: u32 = 1024;
/// Entries of the completion queue. When it is full the kernel keeps the rest (since 5.5).
const COMPLETIONS: u32 = 8192;

/// Which set of operations a ring uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingPath {
    /// Kernel 6.1 and later.
    Modern,
    /// Operations of kernel 5.8 alone.
    Legacy,
}

impl RingPath {
    /// As `ringhub check` names it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Modern => "6.1 (multishot, buffer ring, deferred completions)",
            Self::Legacy => "5.8 (one-shot operations)",
        }
    }
}

/// One core's ring. Made and used by the core's own thread.
pub(crate) struct Ring {
    uring: IoUring,
    path: RingPath,
    /// None once it was leaked, see `Drop`.
    store: Option<Store>,
    /// Buffers that were asked back.
    recall: Option<Recall>,
    /// Entries for which the submission queue had no room.
    waiting: VecDeque<squeue::Entry>,
    in_flight: usize,
    wait: types::Timespec,
}

impl Ring {
    /// A ring of the given path.
    pub(crate) fn new(path: RingPath) -> io::Result<Self> {
        match path {
            RingPath::Modern => {
                let uring = modern::builder(COMPLETIONS).build(SUBMISSIONS)?;
                let store = Store::ring(&uring)?;
                Ok(Self::around(uring, path, store))
            }
            RingPath::Legacy => {
                let uring = legacy_ring()?;
                Ok(Self::around(uring, path, Store::operation()?))
            }
        }
    }

    fn around(uring: IoUring, path: RingPath, store: Store) -> Self {
        Self { uring, path, store: Some(store), recall: None, waiting: VecDeque::new(), in_flight: 0, wait: types::Timespec::new() }
    }

    /// The ring's descriptor, to which other rings send their wakes.
    pub(crate) fn fd(&self) -> RawFd {
        self.uring.as_raw_fd()
    }

    /// Whether wakes from other cores come through the ring itself.
    pub(crate) const fn takes_messages(&self) -> bool {
        matches!(self.path, RingPath::Modern)
    }

    /// Operations that have not completed.
    pub(crate) const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Accepts on a listener: until it fails or is cancelled; or once, if told so or on the older path.
    pub(crate) fn accept(&mut self, listener: RawFd, index: u32, once: bool) {
        let token = Token::new(Op::Accept, index);
        self.submit(match self.path {
            RingPath::Modern if !once => modern::accept(listener, token),
            RingPath::Modern | RingPath::Legacy => legacy::accept(listener, token),
        });
    }

    /// Receives on a connection: until it ends, fails or is cancelled, or once.
    pub(crate) fn recv(&mut self, socket: RawFd, index: u32) {
        self.recv_for(Op::Recv, socket, index);
    }

    /// As [`Self::recv`], for a link.
    pub(crate) fn recv_link(&mut self, socket: RawFd, index: u32) {
        self.recv_for(Op::LinkRecv, socket, index);
    }

    fn recv_for(&mut self, op: Op, socket: RawFd, index: u32) {
        let token = Token::new(op, index);
        self.submit(match self.path {
            RingPath::Modern => modern::recv(socket, store::GROUP, token),
            RingPath::Legacy => legacy::recv(socket, store::GROUP, store::BUFFER_BYTES, token),
        });
    }

    /// Sends. A short send is reported as such.
    ///
    /// # Safety
    /// `bytes` must stay where they are, unchanged, until the operation completes.
    pub(crate) unsafe fn send(&mut self, socket: RawFd, bytes: &[u8], index: u32) {
        self.submit(legacy::send(socket, bytes, Token::new(Op::Send, index)));
    }

    /// As [`Self::send`], for a link.
    ///
    /// # Safety
    /// As for [`Self::send`].
    pub(crate) unsafe fn send_link(&mut self, socket: RawFd, bytes: &[u8], index: u32) {
        self.submit(legacy::send(socket, bytes, Token::new(Op::LinkSend, index)));
    }

    /// Connects a link's socket.
    ///
    /// # Safety
    /// `address` must stay where it is, unchanged, until the operation completes.
    pub(crate) unsafe fn connect(&mut self, socket: RawFd, address: &libc::sockaddr_storage, length: libc::socklen_t, index: u32) {
        self.submit(legacy::connect(socket, std::ptr::from_ref(address).cast(), length, Token::new(Op::Connect, index)));
    }

    /// Watches a descriptor once for `events` of `poll(2)`; errors and hang-ups are always reported.
    pub(crate) fn watch(&mut self, fd: RawFd, events: i16, op: Op, index: u32) {
        self.submit(legacy::watch(fd, u32::from(events.cast_unsigned()), Token::new(op, index)));
    }

    /// Asks the kernel to give up an operation, which then completes on its own account.
    pub(crate) fn cancel(&mut self, op: Op, index: u32) {
        self.submit(legacy::cancel(Token::new(op, index)));
    }

    /// Wakes the core whose ring this is.
    pub(crate) fn message(&mut self, ring: RawFd) {
        // It reports nothing when it succeeds, so it is not counted as in flight.
        self.push(modern::wake(ring));
    }

    fn submit(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        self.push(entry);
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.waiting.is_empty() || !self.push_now(&entry) {
            self.waiting.push_back(entry);
        }
    }

    fn push_now(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what an entry points to is valid until its completion: buffers belong to the store, which the ring owns; sent bytes
        // and addresses are the caller's promise (`send`, `connect`); a wait's end is read at submission, which follows before it changes.
        unsafe { self.uring.submission().push(entry).is_ok() }
    }

    fn refill(&mut self) {
        if let Some(store) = &mut self.store {
            let (waiting, in_flight) = (&mut self.waiting, &mut self.in_flight);
            // Before everything else: the receives behind them need buffers.
            let mut at = 0;
            store.refill();
            store.provisions(|entry| {
                *in_flight += 1;
                waiting.insert(at, entry);
                at += 1;
            });
        }
        while let Some(entry) = self.waiting.pop_front() {
            if !self.push_now(&entry) {
                self.waiting.push_front(entry);
                break;
            }
        }
    }

    /// Whether something waits to be submitted.
    pub(crate) fn has_queued(&mut self) -> bool {
        !self.waiting.is_empty() || !self.uring.submission().is_empty()
    }

    /// Submits what is queued and runs completions that the kernel deferred. Never blocks.
    pub(crate) fn flush(&mut self) {
        self.refill();
        self.enter(0, None);
        while !self.waiting.is_empty() && self.uring.completion().is_empty() {
            self.refill();
            self.enter(0, None);
        }
    }

    /// Submits what is queued and waits until something completes, at most `longest`.
    pub(crate) fn sleep(&mut self, longest: Duration) {
        self.refill();
        if !self.waiting.is_empty() {
            // A full queue's worth of operations: some complete at once.
            return self.enter(0, None);
        }
        self.wait = types::Timespec::from(longest.min(Duration::from_secs(3600)));
        match self.path {
            RingPath::Modern => self.enter(1, Some(self.wait)),
            RingPath::Legacy => {
                let entry = legacy::timeout(&self.wait);
                if self.push_now(&entry) {
                    self.in_flight += 1;
                    self.enter(1, None);
                } else {
                    self.enter(0, None);
                }
            }
        }
    }

    fn enter(&mut self, want: u32, longest: Option<types::Timespec>) {
        let queued = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        let outcome = match longest {
            Some(longest) => submitter.submit_with_args(want as usize, &types::SubmitArgs::new().timespec(&longest)),
            // SAFETY: no argument is passed.
            None => unsafe { submitter.enter::<libc::sigset_t>(queued, want, legacy::ENTER_FLAGS, None) },
        };
        let Err(error) = outcome else { return };
        match error.raw_os_error() {
            // A signal, the end of the wait, or a kernel that wants its completions taken first: the next turn does what is due.
            Some(libc::EINTR | libc::ETIME | libc::EAGAIN | libc::EBUSY) => (),
            _ => panic!("the core's ring is unusable: {error}"),
        }
    }

    /// Moves what has completed into `into`, up to its capacity.
    pub(crate) fn completions(&mut self, into: &mut Vec<Completion>) {
        let room = into.capacity() - into.len();
        let mut last = 0;
        let mut messages = 0;
        into.extend(self.uring.completion().take(room).map(|entry| {
            let completion = Completion::of(&entry);
            last += usize::from(completion.is_last());
            messages += usize::from(completion.op() == Some(Op::Wake));
            completion
        }));
        self.in_flight -= last - messages;
    }

    /// Whether nothing has completed that was not taken.
    pub(crate) fn is_dry(&mut self) -> bool {
        self.uring.completion().is_empty()
    }

    /// The buffer that came with a completion.
    pub(crate) fn lease(&mut self, completion: &Completion) -> Option<Lease> {
        let id = completion.buffer()?;
        let bytes = usize::try_from(completion.result).unwrap_or(0);
        self.store.as_mut().map(|store| store.lease(id, bytes))
    }

    /// Lets the kernel have a buffer again.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        if let Some(store) = &mut self.store {
            store.give_back(lease);
        }
    }

    /// The kernel ran out of buffers: gives it more, if there are more.
    pub(crate) fn starve(&mut self) {
        if let Some(store) = &mut self.store {
            store.starve();
        }
    }

    /// Buffers that the kernel may receive into, or that hold what it received.
    pub(crate) fn buffers(&self) -> u16 {
        self.store.as_ref().map_or(0, Store::circulating)
    }

    /// The end of a while of ticks: buffers that it did not take are to come back.
    pub(crate) fn appraise(&mut self) {
        if let Some(store) = &mut self.store {
            store.appraise();
        }
        self.waiting.shrink_to(SUBMISSIONS as usize);
    }

    /// Asks buffers back that are to be withheld, some at each tick, and lets their memory go.
    pub(crate) fn tidy(&mut self) {
        let Some(store) = &mut self.store else { return };
        store.release_pages();
        let surplus = store.surplus();
        if surplus == 0 || self.recall.is_some() {
            return;
        }
        // Without a descriptor to spare the next tick tries again.
        let Ok(recall) = Recall::new(surplus) else { return };
        let token = Token::new(Op::Recall, 0);
        for _ in 0..recall.left() {
            self.submit(legacy::recv(recall.socket(), store::GROUP, 1, token));
        }
        self.recall = Some(recall);
    }

    /// A buffer that was asked back has come, or there was none.
    pub(crate) fn on_recalled(&mut self, completion: &Completion) {
        if let Some(lease) = self.lease(completion) {
            self.give_back(lease);
        }
        if self.recall.as_mut().is_some_and(Recall::one_less) {
            self.recall = None;
            if let Some(store) = &mut self.store {
                store.release_pages();
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel may still write into the buffers: they outlive the process rather than be given to somebody else.
            std::mem::forget(self.store.take());
        }
    }
}

/// The 5.8 path's ring.
#[cfg(not(test))]
fn legacy_ring() -> io::Result<IoUring> {
    legacy::builder(COMPLETIONS).build(SUBMISSIONS)
}

/// In tests the kernel forbids every operation that is not on the 5.8 path's list, so that each test of that path holds it to the list.
#[cfg(test)]
fn legacy_ring() -> io::Result<IoUring> {
    let mut builder = legacy::builder(COMPLETIONS);
    let uring = builder.setup_r_disabled().build(SUBMISSIONS)?;
    tests::restrict(&uring)?;
    uring.submitter().register_enable_rings()?;
    Ok(uring)
}

/// What the kernel offers.
#[derive(Debug)]
pub struct Offer {
    /// The best path that runs here, with the reason why it is not a better one.
    pub path: Result<RingPath, String>,
    /// Why the modern path does not run, if it does not.
    pub modern_lacks: Option<String>,
}

/// Finds out by trying which paths this kernel can run.
#[must_use]
pub fn probe() -> Offer {
    let legacy = probe_legacy();
    let modern = probe_modern();
    match (legacy, modern) {
        (Ok(()), Ok(())) => Offer { path: Ok(RingPath::Modern), modern_lacks: None },
        (Ok(()), Err(lack)) => Offer { path: Ok(RingPath::Legacy), modern_lacks: Some(lack) },
        (Err(lack), modern) => Offer { path: Err(lack), modern_lacks: modern.err() },
    }
}

fn probe_codes(ring: &IoUring, codes: &[u8]) -> Result<(), String> {
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| format!("the kernel does not say what it offers: {error}"))?;
    match codes.iter().find(|code| !probe.is_supported(**code)) {
        None => Ok(()),
        Some(code) => Err(format!("the kernel lacks io_uring operation {code}")),
    }
}

fn probe_legacy() -> Result<(), String> {
    let ring = legacy::builder(16).build(8).map_err(|error| format!("io_uring_setup: {error}"))?;
    if !ring.params().is_feature_nodrop() || !ring.params().is_feature_fast_poll() {
        return Err("the kernel's io_uring is older than 5.7".to_owned());
    }
    probe_codes(&ring, &legacy::CODES)
}

fn probe_modern() -> Result<(), String> {
    let ring = modern::builder(16).build(8).map_err(|error| format!("deferred completions need kernel 6.1: {error}"))?;
    probe_codes(&ring, &modern::CODES)?;
    Store::ring(&ring).map(drop).map_err(|error| format!("buffer rings need kernel 5.19: {error}"))
}

#[cfg(test)]
mod tests;
