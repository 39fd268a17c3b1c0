//! The core's own task set: which futures are ready to be polled.
//!
//! A waker is made once per slot and lasts as long as the core, so that a wake allocates nothing. A wake on the core itself, while
//! the engine runs, goes into a plain queue; every other wake goes through the core's [`Inbox`], which makes the shell look.
//! A waker that outlives its task wakes the slot's next tenant for nothing, which futures must bear.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::task::{Wake, Waker};

use crate::native::Inbox;
use crate::native::inbox::Event;

thread_local! {
    /// The inbox of the engine that runs on this thread right now; null when none does.
    static RUNNING: Cell<*const Inbox> = const { Cell::new(std::ptr::null()) };
    /// Slots woken on this thread by that engine's own run.
    static WOKEN: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// Who a waker wakes.
struct Slot {
    index: u32,
    is_queued: AtomicBool,
    inbox: Arc<Inbox>,
}

impl Wake for Slot {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, AcqRel) {
            return;
        }
        if RUNNING.get() == Arc::as_ptr(&self.inbox) {
            WOKEN.with_borrow_mut(|woken| woken.push(self.index));
        } else {
            self.inbox.push(Event::Wake { task: u64::from(self.index) });
        }
    }
}

/// The slots, and which of them are ready.
pub(super) struct Tasks {
    inbox: Arc<Inbox>,
    slots: Vec<(Arc<Slot>, Waker)>,
    ready: Vec<u32>,
}

/// The engine runs on this thread until this is dropped.
pub(super) struct Running {
    before: *const Inbox,
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.set(self.before);
    }
}

impl Tasks {
    pub fn new(inbox: Arc<Inbox>) -> Self {
        Self { inbox, slots: Vec::new(), ready: Vec::new() }
    }

    /// Says that the engine runs on this thread: wakes of its tasks need no other thread's help. [`Self::collect`] follows.
    pub fn run(&self) -> Running {
        Running { before: RUNNING.replace(Arc::as_ptr(&self.inbox)) }
    }

    /// Takes over what was woken while the engine ran.
    pub fn collect(&mut self) {
        WOKEN.with_borrow_mut(|woken| self.ready.append(woken));
    }

    /// A slot was woken through the inbox.
    pub fn woken(&mut self, task: u64) {
        if let Ok(index) = u32::try_from(task) {
            self.ready.push(index);
        }
    }

    /// Whether any slot is ready.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves the slots that are ready now into `into`. From here on a wake queues them again.
    pub fn take_ready(&mut self, into: &mut Vec<u32>) {
        into.append(&mut self.ready);
        for &index in into.iter() {
            if let Some((slot, _)) = self.slots.get(index as usize) {
                slot.is_queued.store(false, Release);
            }
        }
    }

    /// The waker of a slot.
    pub fn waker(&mut self, index: u32) -> &Waker {
        let wanted = index as usize;
        while self.slots.len() <= wanted {
            let next = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            let slot = Arc::new(Slot { index: next, is_queued: AtomicBool::new(false), inbox: Arc::clone(&self.inbox) });
            self.slots.push((Arc::clone(&slot), Waker::from(slot)));
        }
        &self.slots[wanted].1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn tasks() -> (Tasks, Arc<AtomicUsize>) {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let inbox = Arc::new(Inbox::new(Box::new(move || {
            counted.fetch_add(1, Relaxed);
        })));
        (Tasks::new(inbox), looks)
    }

    fn ready(tasks: &mut Tasks) -> Vec<u32> {
        let mut into = Vec::new();
        tasks.take_ready(&mut into);
        into
    }

    #[test]
    fn a_wake_while_running_stays_on_the_thread_and_counts_once() {
        let (mut tasks, looks) = tasks();
        let waker = tasks.waker(3).clone();
        let running = tasks.run();
        waker.wake_by_ref();
        waker.wake_by_ref();
        drop(running);
        tasks.collect();
        assert_eq!(ready(&mut tasks), [3]);
        assert!(!tasks.has_ready());
        assert_eq!(looks.load(Relaxed), 0);
        assert!(tasks.inbox.is_empty());
    }

    #[test]
    fn a_wake_from_elsewhere_goes_through_the_inbox() {
        let (mut tasks, looks) = tasks();
        let waker = tasks.waker(0).clone();
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake_by_ref());
        });
        waker.wake_by_ref();
        assert_eq!(looks.load(Relaxed), 1);
        let mut events = Vec::new();
        tasks.inbox.drain(&mut events);
        assert!(matches!(events[..], [Event::Wake { task: 0 }]));
        tasks.woken(0);
        assert_eq!(ready(&mut tasks), [0]);
        waker.wake_by_ref();
        assert_eq!(looks.load(Relaxed), 2, "once taken, a task can be woken again");
    }

    #[test]
    fn another_engine_on_the_thread_does_not_take_the_wake() {
        let (mut one, _) = tasks();
        let (other, _) = tasks();
        let waker = one.waker(0).clone();
        let running = other.run();
        waker.wake_by_ref();
        drop(running);
        assert!(!one.inbox.is_empty());
    }
}
