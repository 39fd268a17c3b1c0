//! The process-wide directory of legacy sessions: one small entry each, written by the session's home core, readable by
//! every core, so that a dead session id is answered where it arrives.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};

use sharded_slab::{Config, Slab};

use crate::base::ids::{CoreId, SessionKey};

/// How the slab lays its keys out: enough pages for thirty million sessions per core, the bits that are left for generations.
struct Layout;

impl Config for Layout {
    const MAX_PAGES: usize = 20;
    const INITIAL_PAGE_SIZE: usize = 32;
}

/// Where a session stands in the directory, with the slab's own generation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct DirectoryKey(pub u64);

/// How far a session has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// `initialize` was answered; `notifications/initialized` has not come.
    Opening = 0,
    /// In use.
    Ready = 1,
    /// Terminated or expired.
    Ended = 2,
}

/// What any core can know of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Glimpse {
    /// The core that holds the session.
    pub home: CoreId,
    /// How far it has come.
    pub state: State,
    /// When it was last used, to within [`SEEN_STEP_S`], in seconds of the process's monotonic clock.
    pub seen_s: u32,
}

/// How much later a use must be than the last one written down, seconds.
pub const SEEN_STEP_S: u32 = 16;

/// One session. With the slab's two words a slot is 32 bytes.
struct Entry {
    key: SessionKey,
    seen_s: AtomicU32,
    home: CoreId,
    state: AtomicU8,
}

const _: () = assert!(size_of::<Entry>() == 16, "a slot of the directory is 32 bytes: this and the slab's two words");

/// All legacy sessions of the process. Entries are inserted and removed by home cores; its pages stay allocated, so it is
/// bounded by the number of sessions that may be open at once.
pub struct SessionDirectory {
    slab: Slab<Entry, Layout>,
    open: AtomicUsize,
    sessions_max: usize,
}

impl std::fmt::Debug for SessionDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionDirectory").field("open", &self.len()).field("sessions_max", &self.sessions_max).finish_non_exhaustive()
    }
}

impl SessionDirectory {
    /// A directory for at most `sessions_max` sessions over all cores.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self { slab: Slab::new_with_config::<Layout>(), open: AtomicUsize::new(0), sessions_max }
    }

    /// Sessions in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Whether no session is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters a session; none when the directory is full. To be called on the home core's own thread, as is [`Self::close`]:
    /// the slab then needs no lock.
    #[must_use]
    pub fn open(&self, home: CoreId, key: SessionKey, seen_s: u32) -> Option<DirectoryKey> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.sessions_max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let entry = Entry { key, home, seen_s: AtomicU32::new(seen_s), state: AtomicU8::new(State::Opening as u8) };
        let at = self.slab.insert(entry);
        if at.is_none() {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        at.map(|at| DirectoryKey(at as u64))
    }

    /// What is known of the session `key`; none when it has ended. No hop, no lock.
    #[must_use]
    pub fn look(&self, at: DirectoryKey, key: SessionKey) -> Option<Glimpse> {
        let entry = self.slab.get(usize::try_from(at.0).ok()?)?;
        if entry.key != key {
            return None;
        }
        let state = match entry.state.load(Ordering::Acquire) {
            0 => State::Opening,
            1 => State::Ready,
            _ => return None,
        };
        Some(Glimpse { home: entry.home, state, seen_s: entry.seen_s.load(Ordering::Relaxed) })
    }

    /// The home core says that the client has sent `notifications/initialized`.
    pub fn set_ready(&self, at: DirectoryKey) {
        if let Some(entry) = self.slab.get(at.0 as usize) {
            entry.state.store(State::Ready as u8, Ordering::Release);
        }
    }

    /// The home core says when the session was last used.
    pub fn set_seen(&self, at: DirectoryKey, seen_s: u32) {
        if let Some(entry) = self.slab.get(at.0 as usize) {
            entry.seen_s.store(seen_s, Ordering::Relaxed);
        }
    }

    /// The home core ends the session: from now on no core finds it.
    pub fn close(&self, at: DirectoryKey) {
        if let Some(entry) = self.slab.get(at.0 as usize) {
            // A reader that holds the entry at this moment keeps its slot alive; it must see that the session is gone.
            entry.state.store(State::Ended as u8, Ordering::Release);
        }
        if self.slab.remove(at.0 as usize) {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: CoreId = CoreId(3);

    fn key(index: u32) -> SessionKey {
        SessionKey { index, generation: 1 }
    }

    #[test]
    fn a_session_is_seen_until_it_is_closed() {
        let directory = SessionDirectory::new(10);
        let at = directory.open(HOME, key(5), 40).unwrap();
        assert_eq!(directory.look(at, key(5)), Some(Glimpse { home: HOME, state: State::Opening, seen_s: 40 }));
        directory.set_ready(at);
        directory.set_seen(at, 60);
        assert_eq!(directory.look(at, key(5)), Some(Glimpse { home: HOME, state: State::Ready, seen_s: 60 }));
        assert_eq!(directory.look(at, key(6)), None, "another session's entry");
        directory.close(at);
        assert_eq!(directory.look(at, key(5)), None);
        directory.close(at);
        assert!(directory.is_empty(), "closing twice counts once");
    }

    #[test]
    fn a_reused_slot_does_not_answer_for_its_former_tenant() {
        let directory = SessionDirectory::new(10);
        let first = directory.open(HOME, key(1), 0).unwrap();
        directory.close(first);
        let mut later = Vec::new();
        for index in 2..10 {
            later.push(directory.open(HOME, key(index), 0).unwrap());
        }
        assert_eq!(directory.look(first, key(1)), None);
        assert!(later.iter().all(|&at| at != first));
    }

    #[test]
    fn it_is_bounded() {
        let directory = SessionDirectory::new(2);
        let first = directory.open(HOME, key(1), 0).unwrap();
        directory.open(HOME, key(2), 0).unwrap();
        assert_eq!(directory.open(HOME, key(3), 0), None);
        assert_eq!(directory.len(), 2);
        directory.close(first);
        assert!(directory.open(HOME, key(3), 0).is_some());
    }

    #[test]
    fn every_core_reads_what_the_home_core_writes() {
        let directory = SessionDirectory::new(1000);
        let keys: Vec<_> = (0..100).map(|index| directory.open(HOME, key(index), 0).unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for (index, &at) in keys.iter().enumerate() {
                        assert_eq!(directory.look(at, key(index as u32)).map(|glimpse| glimpse.home), Some(HOME));
                    }
                });
            }
        });
        keys.into_iter().for_each(|at| directory.close(at));
        assert!(directory.is_empty());
    }
}
