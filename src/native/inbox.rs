//! What other threads tell a core: results of blocking work, wakes of its tasks, notifications.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::host::{List, Notify};
use super::outcome::Finished;
use crate::base::ids::CallId;
use crate::base::limits::INBOX_NOTICES_MAX;
use crate::base::stored::Stored;

/// One thing another thread tells a core.
pub(crate) enum Event {
    /// Blocking work is done. At most one per call in work.
    Finished { call: CallId, finished: Finished },
    /// A task of the core may go on. The engine keeps at most one per task in the queue.
    Wake { task: u64 },
    /// A notification of a call that runs on the blocking pool.
    Notify { call: CallId, method: Notify, params: Vec<u8> },
    /// A list of a server changed.
    Changed { server: u32, list: List },
    /// A resource of a server changed.
    Updated { server: u32, uri: String },
    /// How it went to store the change of this ticket. The registry bounds how many are on their way.
    Persisted { ticket: u64, stored: Stored },
    /// The configuration is to be read again. A person asks for that.
    Reload,
    /// It was. One thread reads at a time.
    Reread,
}

impl Event {
    /// Whether the calls and changes in work bound how many of these there are; the others are bounded by the queue.
    const fn is_bounded_by_work(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Wake { .. } | Self::Persisted { .. } | Self::Reload | Self::Reread)
    }
}

/// The queue between other threads and one core, made by whoever runs the core. Off the request path: only blocking handlers, foreign wakers and [`super::Notifier`] use it.
///
/// ```
/// use ringhub::native::Inbox;
/// let inbox = Inbox::new(Box::new(|| println!("the core is to look")));
/// # let _ = inbox;
/// ```
pub struct Inbox {
    queue: Mutex<Queue>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    notices: usize,
}

impl Inbox {
    /// An empty queue. `wake` is called by the thread that puts an event into an empty queue; it must make the core look.
    #[must_use]
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { queue: Mutex::default(), wake }
    }

    /// Puts an event in, in order. A notification finds no room when the core is far behind: it is dropped, and the answer is false.
    pub(crate) fn push(&self, event: Event) -> bool {
        let mut queue = self.lock();
        if !event.is_bounded_by_work() {
            if queue.notices >= INBOX_NOTICES_MAX {
                return false;
            }
            queue.notices += 1;
        }
        let was_empty = queue.events.is_empty();
        queue.events.push(event);
        drop(queue);
        if was_empty {
            (self.wake)();
        }
        true
    }

    /// The durable store tells how the change of this ticket went.
    pub(crate) fn persisted(&self, ticket: u64, stored: Stored) {
        self.push(Event::Persisted { ticket, stored });
    }

    /// The configuration is to be read again.
    pub(crate) fn reload(&self) {
        self.push(Event::Reload);
    }

    /// It was.
    pub(crate) fn reread(&self) {
        self.push(Event::Reread);
    }

    /// Moves everything into `into`, oldest first.
    pub(crate) fn drain(&self, into: &mut Vec<Event>) {
        let mut queue = self.lock();
        queue.notices = 0;
        into.append(&mut queue.events);
    }

    /// Whether there is nothing to take.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().events.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[test]
    fn one_wake_per_filling_and_order_kept() {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&wakes);
        let inbox = Inbox::new(Box::new(move || {
            counted.fetch_add(1, Relaxed);
        }));
        assert!(inbox.is_empty());
        assert!(inbox.push(Event::Wake { task: 1 }));
        assert!(inbox.push(Event::Wake { task: 2 }));
        assert_eq!(wakes.load(Relaxed), 1);
        let mut events = Vec::new();
        inbox.drain(&mut events);
        assert!(matches!(events[..], [Event::Wake { task: 1 }, Event::Wake { task: 2 }]));
        assert!(inbox.push(Event::Wake { task: 3 }));
        assert_eq!(wakes.load(Relaxed), 2);
    }

    #[test]
    fn notices_are_bounded_and_wakes_still_pass() {
        let inbox = Inbox::new(Box::new(|| {}));
        for _ in 0..INBOX_NOTICES_MAX {
            assert!(inbox.push(Event::Changed { server: 0, list: List::Tools }));
        }
        assert!(!inbox.push(Event::Changed { server: 0, list: List::Tools }));
        assert!(inbox.push(Event::Wake { task: 0 }));
    }
}
