//! What only the cores themselves know: shards, cores, sessions. Every core is asked for its part; the answer is written when all are there.

use super::answer::Answer;
use super::control::Want;
use super::pages::{end_page, limit};
use super::problem::Problem;
use super::route::Route;
use super::target::Query;
use super::{Call, Frame};
use crate::base::ids::{CoreId, SessionKey};
use crate::base::metrics::{Counter, Gauge, Refused};
use crate::base::time::Now;
use crate::engine::legacy;
use crate::engine::out::{self, Effect, Lane, Out};
use crate::engine::session::Glance;
use crate::engine::{Engine, Shared};
use crate::registry::{Level, OwnerTable, ShardStats};
use crate::wire::json::{write_array, write_bool, write_str, write_u64};

/// What a core is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// The figures of its shards.
    Shards,
    /// Its sessions from this slot on, so many at most.
    Sessions {
        /// The first slot.
        from: u32,
        /// How many.
        limit: usize,
    },
    /// One session.
    Session(SessionKey),
    /// The end of one session.
    End(SessionKey),
}

/// What a core replies.
#[derive(Debug)]
pub enum Part {
    /// The figures of its shards.
    Shards(Vec<ShardStats>),
    /// Sessions of it.
    Sessions(Vec<Glance>),
    /// Whether there was such a session, which has ended now.
    Ended(bool),
}

/// What is being gathered.
#[derive(Debug)]
pub(super) struct Gather {
    want: Wanted,
    /// Cores that have not replied.
    missing: u16,
    shards: Vec<ShardStats>,
    sessions: Vec<Glance>,
    ended: bool,
}

#[derive(Debug)]
enum Wanted {
    Shards,
    Shard(u16),
    Sessions { limit: usize },
    Session(Box<str>),
    End(Box<str>),
}

impl Gather {
    fn new(want: Wanted) -> Self {
        Self { want, missing: 0, shards: Vec::new(), sessions: Vec::new(), ended: false }
    }

    fn add(&mut self, part: Part) {
        match part {
            Part::Shards(shards) => self.shards.extend(shards),
            Part::Sessions(sessions) => self.sessions.extend(sessions),
            Part::Ended(ended) => self.ended |= ended,
        }
    }

    fn answer(&mut self, now: Now, owners: &OwnerTable) -> Result<Answer, Problem> {
        let mut body = Vec::new();
        match &self.want {
            Wanted::Shards => {
                self.shards.sort_unstable_by_key(|stats| stats.shard.0);
                page(&mut body, &self.shards, None, |body, stats| write_shard(body, stats, owners));
            }
            Wanted::Shard(number) => match self.shards.iter().find(|stats| stats.shard.0 == *number) {
                Some(stats) => write_shard(&mut body, stats, owners),
                None => return Err(Problem::absent("shard", &number.to_string())),
            },
            Wanted::Sessions { limit } => {
                self.sessions.sort_unstable_by_key(|glance| (glance.home.0, glance.key.index));
                let has_more = self.sessions.len() > *limit;
                self.sessions.truncate(*limit);
                let last = self.sessions.last().filter(|_| has_more).map(|glance| format!("{}.{}", glance.home, glance.key.index));
                page(&mut body, &self.sessions, last.as_deref(), |body, glance| write_session(body, glance, now));
            }
            Wanted::Session(id) => match self.sessions.first() {
                Some(glance) => write_session(&mut body, glance, now),
                None => return Err(Problem::absent("session", id)),
            },
            Wanted::End(_) if self.ended => return Ok(Answer::no_content()),
            Wanted::End(id) => return Err(Problem::absent("session", id)),
        }
        Ok(Answer::json(200, body))
    }
}

/// A page with these items; the next one begins after `next`.
fn page<T>(body: &mut Vec<u8>, items: impl IntoIterator<Item = T>, next: Option<&str>, write: impl Fn(&mut Vec<u8>, T)) {
    body.extend_from_slice(br#"{"items":"#);
    write_array(body, items, write);
    end_page(body, next);
}

fn write_numbers(body: &mut Vec<u8>, numbers: &[(&str, u64)]) {
    for (index, (name, number)) in numbers.iter().enumerate() {
        body.push(if index == 0 { b'{' } else { b',' });
        write_str(body, name);
        body.push(b':');
        write_u64(body, *number);
    }
}

fn write_shard(body: &mut Vec<u8>, stats: &ShardStats, owners: &OwnerTable) {
    let numbers = [
        ("shard", stats.shard.0.into()),
        ("core", owners.owner(stats.shard).0.into()),
        ("servers", stats.servers as u64),
        ("endpoints", stats.endpoints as u64),
        ("reads", stats.reads),
        ("writes", stats.writes),
        ("waitNanoseconds", stats.wait_ns),
        ("handlingNanoseconds", stats.handling_ns),
    ];
    write_numbers(body, &numbers);
    body.extend_from_slice(match stats.level {
        Level::Calm => br#","level":"calm"}"#,
        Level::Warn => br#","level":"warn"}"#,
        Level::Alarm => br#","level":"alarm"}"#,
    });
}

/// The id of a session as the control API has it. It is not the one that the client presents, which is a secret of its own.
fn session_id(glance: &Glance) -> String {
    format!("{}.{}.{}", glance.home, glance.key.index, glance.key.generation)
}

fn read_session_id(text: &str, cores: usize) -> Option<(CoreId, SessionKey)> {
    let mut parts = text.split('.').map(|part| part.parse::<u32>().ok().filter(|number| number.to_string() == part));
    let (core, index, generation) = (parts.next()??, parts.next()??, parts.next()??);
    let core = u16::try_from(core).ok().filter(|core| usize::from(*core) < cores)?;
    parts.next().is_none().then_some((CoreId(core), SessionKey { index, generation }))
}

fn write_session(body: &mut Vec<u8>, glance: &Glance, now: Now) {
    body.extend_from_slice(br#"{"id":"#);
    write_str(body, &session_id(glance));
    body.extend_from_slice(br#","core":"#);
    write_u64(body, glance.home.0.into());
    body.extend_from_slice(br#","protocolVersion":"#);
    write_str(body, glance.version);
    body.extend_from_slice(br#","isReady":"#);
    write_bool(body, glance.is_ready);
    body.extend_from_slice(br#","idleSeconds":"#);
    write_u64(body, now.mono.since(glance.seen).as_secs());
    if let Some(client) = &glance.client {
        body.extend_from_slice(br#","client":"#);
        body.extend_from_slice(client);
    }
    body.push(b'}');
}

fn write_core(body: &mut Vec<u8>, core: usize, shared: &Shared, owners: &OwnerTable) {
    let metrics = &shared.metrics()[core];
    let numbers = [
        ("core", core as u64),
        ("shards", owners.iter().filter(|(_, owner)| owner.index() == core).count() as u64),
        ("connections", metrics.gauge(Gauge::Conns)),
        ("sessions", metrics.gauge(Gauge::Sessions)),
        ("calls", metrics.gauge(Gauge::Calls)),
        ("listens", metrics.gauge(Gauge::Listens)),
        ("requests", metrics.counter(Counter::Requests)),
        ("messages", metrics.counter(Counter::Messages)),
        ("nearHits", metrics.counter(Counter::NearHits)),
        ("nearMisses", metrics.counter(Counter::NearMisses)),
        ("framesSent", metrics.counter(Counter::FramesSent)),
        ("lanesFull", metrics.counter(Counter::LaneFull)),
        ("slowTurns", metrics.counter(Counter::SlowTurns)),
    ];
    write_numbers(body, &numbers);
    body.push(b'}');
}

/// A number as a path has it.
fn number(text: &str) -> Option<u16> {
    text.parse::<u16>().ok().filter(|number| number.to_string() == text)
}

impl Engine {
    /// A request about shards, cores or sessions.
    pub(super) fn gather(&mut self, call: &Call<'_>, route: &Route<'_>, is_end: bool, out: &mut Out) -> Result<Option<Answer>, Problem> {
        if !matches!(route, Route::Sessions) {
            call.query.only(&[])?;
        }
        let cores = self.shared.metrics().len();
        match *route {
            Route::Cores => {
                let mut body = Vec::new();
                let owners = self.routes.registry().placement().owners();
                page(&mut body, 0..cores, None, |body, core| write_core(body, core, self.shared, owners));
                Ok(Some(Answer::json(200, body)))
            }
            Route::Core(text) => {
                let core = number(text).map(usize::from).filter(|core| *core < cores).ok_or_else(|| Problem::absent("core", text))?;
                let mut body = Vec::new();
                write_core(&mut body, core, self.shared, self.routes.registry().placement().owners());
                Ok(Some(Answer::json(200, body)))
            }
            Route::Shards => self.ask_all(call, Gather::new(Wanted::Shards), 0..cores, |_| Ask::Shards, out),
            Route::Shard(text) => {
                let owners = self.routes.registry().placement().owners();
                let found = number(text).and_then(|number| owners.iter().find(|(shard, _)| shard.0 == number));
                let (shard, owner) = found.ok_or_else(|| Problem::absent("shard", text))?;
                self.ask_all(call, Gather::new(Wanted::Shard(shard.0)), owner.index()..owner.index() + 1, |_| Ask::Shards, out)
            }
            Route::Sessions => {
                let (first, from, limit) = sessions_query(&call.query, cores)?;
                // One more, to know whether there are more.
                let ask = |core: usize| Ask::Sessions { from: if core == first { from } else { 0 }, limit: limit + 1 };
                self.ask_all(call, Gather::new(Wanted::Sessions { limit }), first..cores, ask, out)
            }
            Route::Session(id) => {
                let (core, key) = read_session_id(id, cores).ok_or_else(|| Problem::absent("session", id))?;
                let (want, ask) =
                    if is_end { (Wanted::End(id.into()), Ask::End(key)) } else { (Wanted::Session(id.into()), Ask::Session(key)) };
                self.ask_all(call, Gather::new(want), core.index()..core.index() + 1, |_| ask, out)
            }
            _ => Err(Problem::no_such_path()),
        }
    }

    fn ask_all(
        &mut self,
        call: &Call<'_>,
        mut gather: Gather,
        cores: std::ops::Range<usize>,
        ask: impl Fn(usize) -> Ask,
        out: &mut Out,
    ) -> Result<Option<Answer>, Problem> {
        let here = self.core.index();
        let others = cores.clone().filter(move |core| *core != here);
        gather.missing = others.clone().count() as u16;
        if cores.contains(&here) {
            let part = self.part(call.now, &ask(here), out);
            gather.add(part);
        }
        if gather.missing == 0 {
            return gather.answer(call.now, self.routes.registry().placement().owners()).map(Some);
        }
        let serial = self.admin.wait(call.now, call.conn, &call.terms, Want::Gather(gather));
        for core in others {
            let frame = out::Frame::Admin(Box::new(Frame::Ask { serial, ask: ask(core) }));
            out.effects.push(Effect::Send { to: CoreId(core as u16), lane: Lane::Ask, frame });
        }
        Ok(None)
    }

    /// This core's part.
    pub(super) fn part(&mut self, now: Now, ask: &Ask, out: &mut Out) -> Part {
        match *ask {
            Ask::Shards => Part::Shards(self.routes.registry().shards(now)),
            Ask::Sessions { from, limit } => Part::Sessions(self.legacy.sessions.glances(from, limit)),
            Ask::Session(key) => Part::Sessions(self.legacy.sessions.glance(key).into_iter().collect()),
            Ask::End(key) => Part::Ended(legacy::end_session(self, now, key, out)),
        }
    }

    /// Another core has replied.
    pub(super) fn gathered(&mut self, now: Now, serial: u64, part: Part, out: &mut Out) {
        let Some(Want::Gather(gather)) = self.admin.pending.get_mut(&serial).map(|pending| &mut pending.want) else { return };
        gather.add(part);
        gather.missing = gather.missing.saturating_sub(1);
        if gather.missing == 0 {
            let answer = gather.answer(now, self.routes.registry().placement().owners());
            self.complete_admin(now, serial, Some(answer), out);
        }
    }
}

/// The first core, its first slot, and how many sessions.
fn sessions_query(query: &Query<'_>, cores: usize) -> Result<(usize, u32, usize), Problem> {
    query.only(&["cursor", "limit"])?;
    let after = query.cursor()?;
    let limit = limit(query)?;
    let Some(after) = after else { return Ok((0, 0, limit)) };
    let found = after.split_once('.').and_then(|(core, slot)| Some((core.parse::<usize>().ok()?, slot.parse::<u32>().ok()?)));
    match found.filter(|(core, _)| *core < cores) {
        Some((core, slot)) => Ok((core, slot.saturating_add(1), limit)),
        None => {
            Err(Problem::new(400, Refused::BadRequest, "the cursor is none that was given here: leave it out to begin with the first page"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_in_one_way_only() {
        let key = SessionKey { index: 17, generation: 3 };
        assert_eq!(read_session_id("1.17.3", 2), Some((CoreId(1), key)));
        for bad in ["2.17.3", "1.17", "1.17.3.4", "1.+17.3", "01.17.3", "", "a.b.c", "1.4294967296.0"] {
            assert_eq!(read_session_id(bad, 2), None, "{bad}");
        }
        assert_eq!((number("7"), number("07"), number("-1"), number("65536")), (Some(7), None, None, None));
    }

    #[test]
    fn a_cursor_leads_behind_the_last_session() {
        let text = format!("cursor={}&limit=2", super::super::target::cursor_after("1.9"));
        let query = Query::parse(Some(&text)).expect("well encoded");
        assert_eq!(sessions_query(&query, 2).expect("sound"), (1, 10, 2));
        assert!(sessions_query(&query, 1).is_err());
    }
}
