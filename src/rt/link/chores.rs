//! Threads for what links need done that blocks: look-ups of names, starts of processes.
//!
//! What one upstream needs never keeps more than one thread: a name server that is slow, or a file system that hangs when a program is to be
//! started from it, holds up those links that need the same, and no others. Threads are made as they are needed, up to
//! [`LINK_THREADS_MAX`], and stay: the kernel ends a process with the thread that started it.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::base::limits::LINK_THREADS_MAX;

/// Something to be done for a link.
pub(super) trait Chore: Send + 'static {
    /// What it is about. Of chores that are about the same, one is done at a time.
    fn about(&self) -> String;

    /// Does the first of those that wait and are about the same, and takes all that this does from them.
    fn run(waiting: &mut VecDeque<Self>)
    where
        Self: Sized;
}

struct State<C> {
    /// By what they are about; what is being done is in here, too, without those that it is done for.
    waiting: HashMap<String, VecDeque<C>>,
    /// What is waited for and not being done.
    ready: VecDeque<String>,
    threads: usize,
    idle: usize,
    is_closed: bool,
}

struct Shared<C> {
    state: Mutex<State<C>>,
    filled: Condvar,
}

/// Where cores leave chores. When its last value is dropped the threads end, as soon as they can.
pub(super) struct Chores<C: Chore>(Arc<Shared<C>>);

impl<C: Chore> Chores<C> {
    pub(super) fn new() -> Self {
        let state = State { waiting: HashMap::new(), ready: VecDeque::new(), threads: 0, idle: 0, is_closed: false };
        Self(Arc::new(Shared { state: Mutex::new(state), filled: Condvar::new() }))
    }

    /// Has a chore done. After the end it is dropped.
    pub(super) fn push(&self, chore: C) {
        let mut state = self.0.lock();
        if state.is_closed {
            return;
        }
        let about = chore.about();
        if let Some(waiting) = state.waiting.get_mut(&about) {
            return waiting.push_back(chore);
        }
        state.waiting.insert(about.clone(), VecDeque::from([chore]));
        state.ready.push_back(about);
        if state.idle < state.ready.len() && state.threads < LINK_THREADS_MAX {
            let shared = Arc::clone(&self.0);
            let name = format!("ringhub-link-{}", state.threads);
            match std::thread::Builder::new().name(name).spawn(move || shared.work()) {
                Ok(_) => state.threads += 1,
                // One of those that there are does it; when there is none, the links run out of time and the next one tries again.
                Err(error) => tracing::warn!(%error, "no thread for what links need"),
            }
        }
        drop(state);
        self.0.filled.notify_one();
    }

    /// Drops what has not begun.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.waiting.clear();
        state.ready.clear();
        drop(state);
        self.0.filled.notify_all();
    }
}

impl<C: Chore> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(about) = state.ready.pop_front() else {
                if state.is_closed {
                    return;
                }
                state.idle += 1;
                state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            let mut waiting = state.waiting.get_mut(&about).map(std::mem::take).unwrap_or_default();
            drop(state);
            if catch_unwind(AssertUnwindSafe(|| C::run(&mut waiting))).is_err() {
                tracing::error!("what a link needs done panicked");
            }
            state = self.lock();
            if let Some(more) = state.waiting.get_mut(&about) {
                waiting.append(more);
                if waiting.is_empty() {
                    state.waiting.remove(&about);
                } else {
                    *more = waiting;
                    state.ready.push_back(about);
                    self.filled.notify_one();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// Says that it is being done, then waits until it may be.
    struct Test {
        about: &'static str,
        begun: Sender<&'static str>,
        may_end: Option<Receiver<()>>,
        is_shared: bool,
    }

    impl Chore for Test {
        fn about(&self) -> String {
            self.about.to_owned()
        }

        fn run(waiting: &mut VecDeque<Self>) {
            let first = waiting.pop_front().expect("there is one");
            first.begun.send(first.about).expect("the test listens");
            if let Some(may_end) = &first.may_end {
                let _ = may_end.recv();
            }
            if first.is_shared {
                waiting.clear();
            }
            assert_ne!(first.about, "broken", "expected by this test");
        }
    }

    #[test]
    fn what_hangs_holds_up_nothing_but_its_like() {
        let chores = Chores::new();
        let (begun, begins) = channel();
        let mut held = Vec::new();
        for about in ["slow.example", "slower.example", "slowest.example"] {
            for _ in 0..20 {
                let (may_end, ends) = channel();
                held.push(may_end);
                chores.push(Test { about, begun: begun.clone(), may_end: Some(ends), is_shared: true });
            }
        }
        let mut hanging: Vec<_> = (0..3).map(|_| begins.recv_timeout(LONG).expect("each begins")).collect();
        hanging.sort_unstable();
        assert_eq!(hanging, ["slow.example", "slower.example", "slowest.example"]);
        for _ in 0..50 {
            chores.push(Test { about: "broken", begun: begun.clone(), may_end: None, is_shared: false });
            chores.push(Test { about: "quick", begun: begun.clone(), may_end: None, is_shared: false });
        }
        for _ in 0..100 {
            assert!(["quick", "broken"].contains(&begins.recv_timeout(LONG).expect("it is done all the same")));
        }
        assert!(chores.0.lock().threads <= 5, "one thread each");
        // What waited for the same is done once more at most: those that came while it hung wait for one that begins after them.
        drop(held);
        let again: Vec<_> = begins.try_iter().collect();
        assert!(again.len() <= 3, "{again:?}");
        chores.close();
        chores.push(Test { about: "late", begun, may_end: None, is_shared: false });
        assert!(!begins.iter().any(|about| about == "late"));
    }

    #[test]
    fn there_are_no_more_threads_than_there_may_be() {
        let chores = Chores::new();
        let (begun, begins) = channel();
        let names: Vec<&'static str> = (0..2 * LINK_THREADS_MAX).map(|number| &*number.to_string().leak()).collect();
        let mut held = Vec::new();
        for about in &names {
            let (may_end, ends) = channel();
            held.push(may_end);
            chores.push(Test { about, begun: begun.clone(), may_end: Some(ends), is_shared: false });
        }
        let first: Vec<_> = (0..LINK_THREADS_MAX).map(|_| begins.recv_timeout(LONG).expect("it begins")).collect();
        assert_eq!((first.len(), chores.0.lock().threads), (LINK_THREADS_MAX, LINK_THREADS_MAX));
        drop(held);
        for _ in 0..LINK_THREADS_MAX {
            begins.recv_timeout(LONG).expect("the others follow");
        }
        chores.close();
    }
}
