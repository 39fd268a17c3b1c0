//! Which upstreams there are: they come and go while the process runs.
//!
//! A *roster* is all of them at one moment. Each change makes a new edition, which every core is told of, whole: what one missed does no harm, and
//! what comes twice is known. An upstream whose roster says that it is reached in another way has another number there: the old one is
//! *retired*. It takes no more calls; those in work end as they would have, then its session is ended, its links are closed, its process is
//! stopped, and it is forgotten. One whose other settings changed keeps its number, and all that belongs to it.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::link::Down;
use super::scout::Errand;
use super::slots::Key;
use super::trip::{Trip, Who};
use super::upstream::Settings;
use super::{Gateway, link_id};
use crate::base::ids::LinkId;
use crate::base::time::Nanos;

/// Upstreams that are retired are looked at so often.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// What a request of theirs is given beyond what it may take altogether: it ends itself.
const GRACE: Duration = Duration::from_secs(5);

/// One upstream of a roster.
#[derive(Clone, Debug)]
pub struct Member {
    /// The same on every core. Never given to another one while the process runs.
    pub number: u32,
    /// How it is reached.
    pub settings: Arc<Settings>,
}

/// All upstreams at one moment.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    edition: u64,
    /// The number that is given next.
    next: u32,
    members: Vec<Member>,
}

/// What a new edition changed on this core.
#[derive(Debug, Default)]
pub struct Followed {
    /// Upstreams that are there now. Some take the place of one that was retired.
    pub added: Vec<u32>,
    /// Upstreams that are what they were, with other settings.
    pub altered: Vec<u32>,
    /// Upstreams that take no more calls.
    pub retired: Vec<u32>,
}

/// What became of one upstream in a new edition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placed {
    /// It is new.
    Added,
    /// It was there, as it is.
    Same,
    /// It has other settings.
    Altered,
    /// It is reached in another way, and has another number.
    Replaced,
}

impl Roster {
    /// The first edition.
    #[must_use]
    pub fn new(settings: impl IntoIterator<Item = Settings>) -> Self {
        let mut roster = Self::default();
        for settings in settings {
            roster.put(settings);
        }
        roster
    }

    /// Which edition it is.
    #[must_use]
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// All upstreams.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The upstream of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| *member.settings.name == *name)
    }

    /// The next edition, to be changed before anybody is told of it.
    #[must_use]
    pub fn next_edition(&self) -> Self {
        Self { edition: self.edition + 1, ..self.clone() }
    }

    /// Puts an upstream in, in place of any of the same name.
    pub fn put(&mut self, settings: Settings) -> Placed {
        let settings = Arc::new(settings);
        let Some(member) = self.members.iter_mut().find(|member| member.settings.name == settings.name) else {
            self.members.push(Member { number: self.next, settings });
            self.next += 1;
            return Placed::Added;
        };
        if member.settings == settings {
            return Placed::Same;
        }
        let is_reached_alike = settings.is_reached_like(&member.settings);
        member.settings = settings;
        if is_reached_alike {
            return Placed::Altered;
        }
        member.number = self.next;
        self.next += 1;
        Placed::Replaced
    }

    /// Takes an upstream out. Whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|member| *member.settings.name != *name);
        self.members.len() < before
    }
}

impl Settings {
    /// Whether links, sessions and the process of the other are good for this.
    fn is_reached_like(&self, other: &Self) -> bool {
        self.dial == other.dial
            && self.starts == other.starts
            && self.dialect == other.dialect
            && self.options.is_interactive == other.options.is_interactive
    }
}

impl Gateway {
    /// The edition of the roster that is followed.
    #[must_use]
    pub const fn edition(&self) -> u64 {
        self.edition
    }

    /// The upstreams are these from now on. An edition that is not newer than the one that is followed changes nothing.
    pub fn follow(&mut self, now: Nanos, roster: &Roster) -> Followed {
        let mut followed = Followed::default();
        if roster.edition <= self.edition {
            return followed;
        }
        self.edition = roster.edition;
        for number in self.upstreams.numbers() {
            let tenancy = self.upstreams[number].tenancy;
            let of = tenancy.map_or(number, |tenancy| tenancy.upstream);
            let is_there = roster.members.iter().any(|member| member.number == of);
            if !is_there && self.upstreams[number].retired.is_none() {
                self.retire(now, number);
                match tenancy {
                    Some(tenancy) => self.instances.remove(&tenancy),
                    None => followed.retired.push(number),
                }
            }
        }
        for Member { number, settings } in &roster.members {
            match self.upstreams.get_mut(*number) {
                None => {
                    self.upstreams.add(*number, settings);
                    followed.added.push(*number);
                }
                Some(up) if up.settings == *settings => {}
                Some(_) => {
                    self.alter(now, *number, settings);
                    followed.altered.push(*number);
                }
            }
        }
        followed
    }

    /// Its settings are others, and it is reached as before.
    fn alter(&mut self, now: Nanos, number: u32, settings: &Arc<Settings>) {
        let up = &mut self.upstreams[number];
        up.settings = Arc::clone(settings);
        match &mut up.pipe {
            Some(pipe) => {
                pipe.set_policy(settings.options.restart);
                self.pump_piped(now, number);
            }
            None => self.pump(now, number),
        }
        // Tools that were not shown may be from now on.
        self.stale(now, number);
    }

    fn retire(&mut self, now: Nanos, number: u32) {
        let until = now.after(self.upstreams[number].settings.total_timeout).after(GRACE);
        self.upstreams.retire(number, until);
        self.upstreams[number].scout = None;
        self.end_sessions_of(number);
        let is_scouting = |trip: &Trip| {
            trip.upstream == number && matches!(trip.who, Who::Own(Errand::Discover | Errand::Page(..) | Errand::Listen(_) | Errand::Check))
        };
        for key in self.trips_that(is_scouting) {
            self.drop_trip(now, key);
        }
        self.wind_up(now, number);
        self.expect(now.after(LOOK));
    }

    fn trips_that(&self, is_meant: impl Fn(&Trip) -> bool) -> Vec<Key> {
        self.trips.iter().filter(|(_, trip)| is_meant(trip)).map(|(key, _)| key).collect()
    }

    /// Ends what nobody needs any more of upstreams that are retired.
    pub(super) fn wind_up_retired(&mut self, now: Nanos) {
        for number in self.upstreams.retired() {
            self.wind_up(now, number);
        }
    }

    fn wind_up(&mut self, now: Nanos, number: u32) {
        let up = &self.upstreams[number];
        let is_late = up.retired.is_some_and(|until| until <= now);
        let is_over = up.retired.is_some_and(|until| until.after(GRACE) <= now);
        if self.trips.iter().any(|(_, trip)| trip.upstream == number && matches!(trip.who, Who::Call(..))) {
            if !is_late {
                return;
            }
            for key in self.trips_that(|trip| trip.upstream == number) {
                self.fail(now, key, Failure::Gone);
            }
        }
        if self.upstreams[number].pipe.is_some() {
            if self.upstreams[number].pipe.as_ref().is_some_and(super::pipe::Pipe::is_there) {
                self.lose_pipe(now, number, &Failure::Down(Down::Hung), true);
            }
            return;
        }
        self.end_shared(number);
        self.end_sessions_of(number);
        self.tell_ends(now, number);
        let idle: Vec<LinkId> = self.upstreams[number].idle.clone();
        for link in idle {
            self.hang(now, link);
        }
        // What is left is the end of its session, which nobody answers.
        if is_over {
            let links: Vec<LinkId> = self.links.iter().filter(|(_, link)| link.leads_to(number)).map(|(key, _)| link_id(key)).collect();
            for link in links {
                self.lose(now, link, Failure::Gone, true);
            }
        }
    }

    /// Upstreams that are retired and have nothing left on this core. Whoever knows of no call of theirs elsewhere has them
    /// [forgotten](Self::forget).
    #[must_use]
    pub fn spent(&self) -> Vec<u32> {
        let mut spent = self.upstreams.retired();
        spent.retain(|number| {
            self.upstreams[*number].links == 0
                && !self.has_sessions(*number)
                && !self.trips.iter().any(|(_, trip)| trip.upstream == *number)
        });
        spent
    }

    /// Nobody needs this upstream any more, which is one of [`Self::spent`].
    pub fn forget(&mut self, upstream: u32) {
        self.upstreams.forget(upstream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::link::Dial;

    fn settings(name: &str) -> Settings {
        Settings { name: name.into(), ..super::super::tests::settings() }
    }

    #[test]
    fn numbers_are_given_once() {
        let mut roster = Roster::new([settings("a"), settings("b")]);
        assert_eq!(roster.put(settings("a")), Placed::Same);
        let lenient = Settings { total_timeout: Duration::from_secs(1), ..settings("a") };
        assert_eq!(roster.put(lenient), Placed::Altered);
        assert_eq!(roster.find("a").map(|member| member.number), Some(0));
        let dial = Arc::new(Dial::Tcp { host: "elsewhere".into(), port: 80, tls: false });
        assert_eq!(roster.put(Settings { dial, ..settings("a") }), Placed::Replaced);
        assert!(roster.remove("b") && !roster.remove("b"));
        assert_eq!(roster.put(settings("b")), Placed::Added);
        let numbers: Vec<u32> = roster.members().iter().map(|member| member.number).collect();
        assert_eq!(numbers, [2, 3]);
        assert_eq!((roster.edition(), roster.next_edition().edition()), (0, 1));
    }

    #[test]
    fn an_edition_is_followed_once() {
        let metrics = Box::leak(Box::default());
        let first = Roster::new([settings("a")]);
        let mut gateway = Gateway::new(&first, 1, metrics);
        let mut next = first.next_edition();
        next.remove("a");
        next.put(settings("b"));
        let followed = gateway.follow(Nanos(1), &next);
        assert_eq!((followed.added, followed.retired), (vec![1], vec![0]));
        for old in [&next, &first] {
            let followed = gateway.follow(Nanos(2), old);
            assert!(followed.added.is_empty() && followed.retired.is_empty() && followed.altered.is_empty());
        }
        assert_eq!((gateway.current(0), gateway.current(1), gateway.spent()), (None, Some(1), vec![0]));
        gateway.forget(0);
        let mut again = next.next_edition();
        again.put(settings("a"));
        gateway.follow(Nanos(3), &again);
        assert_eq!(gateway.current(0), Some(2), "what still names it finds the one that took its place");
    }
}
