//! Threads for handlers that block.
//!
//! One queue under one lock: what runs here takes milliseconds, and nothing on the request path of other requests touches it. Its length
//! is bounded by the calls that the engines have in work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

/// Where cores leave what blocks.
#[derive(Clone, Default)]
pub(crate) struct Jobs(Arc<Shared>);

impl Jobs {
    /// Queues a job. After the pool has closed it is dropped.
    pub(crate) fn push(&self, job: Job) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.closed {
            queue.jobs.push_back(job);
            drop(queue);
            self.0.filled.notify_one();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.closed {
                return None;
            }
            match queue.jobs.pop_front() {
                Some(job) => return Some(job),
                None => queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The threads.
pub(crate) struct Pool {
    jobs: Jobs,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(crate) fn start(threads: usize) -> std::io::Result<Self> {
        let jobs = Jobs::default();
        let threads = (0..threads.max(1))
            .map(|number| {
                let jobs = jobs.clone();
                std::thread::Builder::new().name(format!("ringhub-block-{number}")).spawn(move || {
                    while let Some(job) = jobs.next() {
                        // The engine catches a handler's panic itself; what reaches this must not cost the thread.
                        if catch_unwind(AssertUnwindSafe(job)).is_err() {
                            tracing::error!("a blocking job panicked");
                        }
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { jobs, threads })
    }

    pub(crate) fn jobs(&self) -> Jobs {
        self.jobs.clone()
    }

    /// Drops what has not begun and waits for what has, at most `longest`. A thread that still runs then is left to the process's end.
    pub(crate) fn close(mut self, longest: Duration) {
        {
            let mut queue = self.jobs.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.closed = true;
            queue.jobs.clear();
        }
        self.jobs.0.filled.notify_all();
        let until = Instant::now() + longest;
        for thread in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn jobs_run_beside_each_other_and_a_panic_costs_no_thread() {
        let pool = Pool::start(2).expect("threads");
        let (sender, receiver) = mpsc::channel();
        pool.jobs().push(Box::new(|| panic!("expected by this test")));
        pool.jobs().push(Box::new(|| panic!("expected by this test")));
        let barrier = Arc::new(std::sync::Barrier::new(2));
        for _ in 0..2 {
            let (sender, barrier) = (sender.clone(), Arc::clone(&barrier));
            pool.jobs().push(Box::new(move || {
                barrier.wait();
                sender.send(()).expect("the test waits");
            }));
        }
        for _ in 0..2 {
            receiver.recv_timeout(Duration::from_secs(10)).expect("both run at once");
        }
        let jobs = pool.jobs();
        pool.close(Duration::from_secs(5));
        jobs.push(Box::new(move || sender.send(()).expect("never run")));
        assert!(receiver.try_recv().is_err());
    }
}
