//! Tier 3 across cores: accurate whatever the spread, tokens never lost or made, the few served beside the many.

use std::collections::VecDeque;

use crate::base::fault::Kind;
use crate::base::ids::{ConnId, CoreId};
use crate::base::time::Nanos;
use crate::guard::breaker::{Counts, Phase, Threshold};
use crate::guard::{Asked, Config, Decision, Frame, Guard, Usage};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

/// A small generator of numbers (splitmix64): the seed says all.
pub(super) struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

pub(super) fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("random numbers");
        u64::from_le_bytes(bytes)
    });
    println!("SEED={seed}");
    seed
}

/// One connection with what it is offered.
struct Conn {
    core: usize,
    usage: Usage,
    /// Nanoseconds from one message to the next, on average.
    gap: u64,
    next: u64,
    /// Its message waits: it offers none meanwhile.
    is_waiting: bool,
    offered: u32,
    admitted: u32,
}

struct Sim {
    random: Random,
    now: u64,
    guards: Vec<Guard>,
    conns: Vec<Conn>,
    /// From core to core, in order, each with the moment of its arrival.
    lanes: Vec<VecDeque<(u64, Frame)>>,
    /// Moments of admission.
    admitted: Vec<u64>,
    counts: Counts,
    /// How many frames a lane holds.
    lane_max: usize,
    phases: Vec<(u64, Phase)>,
}

impl Sim {
    fn new(cores: u16, config: Config, seed: u64) -> Self {
        let guards = (0..cores).map(|core| Guard::new(CoreId(core), cores, config)).collect();
        let lanes = (0..usize::from(cores).pow(2)).map(|_| VecDeque::new()).collect();
        let (random, counts) = (Random(seed), Counts::default());
        let phases = vec![(0, Phase::Closed)];
        Self { random, now: SECOND, guards, conns: Vec::new(), lanes, admitted: Vec::new(), counts, lane_max: 64, phases }
    }

    /// So many more connections on this core, which offer so many messages a second together.
    fn offer(&mut self, core: usize, conns: u64, per_second: u64) {
        for _ in 0..conns {
            let gap = SECOND * conns / per_second.max(1);
            let next = self.now + self.random.below(gap.max(1));
            self.conns.push(Conn { core, usage: Usage::default(), gap, next, is_waiting: false, offered: 0, admitted: 0 });
        }
    }

    fn ask(&mut self, at: usize) -> Decision {
        let index = at as u32;
        let conn = &mut self.conns[at];
        let asked = Asked { conn: ConnId { index, generation: 0 }, principal: b"p", tool: None, messages: 1 };
        let decision = self.guards[conn.core].judge(Nanos(self.now), &asked, &mut conn.usage);
        conn.is_waiting = decision == Decision::Wait;
        if decision == Decision::Admit {
            conn.admitted += 1;
            self.admitted.push(self.now);
            self.counts.messages += 1;
        }
        decision
    }

    /// Runs for so long, in steps of a tenth of a millisecond; says how often the breaker refused.
    fn run(&mut self, nanos: u64, error_each: u64) -> u64 {
        let mut broken = 0;
        let end = self.now + nanos;
        while self.now < end {
            self.now += MS / 10;
            for at in 0..self.conns.len() {
                while self.conns[at].next <= self.now && !self.conns[at].is_waiting {
                    // A gap of half to one and a half times the average.
                    let gap = self.conns[at].gap;
                    self.conns[at].next += gap / 2 + self.random.below(gap.max(1));
                    self.conns[at].offered += 1;
                    match self.ask(at) {
                        Decision::Refuse(Kind::BreakerOpen) => broken += 1,
                        Decision::Admit if error_each > 0 && self.counts.messages.is_multiple_of(error_each) => self.counts.errors += 1,
                        _ => {}
                    }
                }
            }
            self.turn();
        }
        broken
    }

    fn turn(&mut self) {
        let cores = self.guards.len();
        for lane in 0..self.lanes.len() {
            while self.lanes[lane].front().is_some_and(|(at, _)| *at <= self.now) {
                let Some((_, frame)) = self.lanes[lane].pop_front() else { break };
                self.guards[lane % cores].on_frame(Nanos(self.now), CoreId((lane / cores) as u16), frame);
            }
        }
        for core in 0..cores {
            let (now, counts) = (Nanos(self.now), self.counts);
            if now >= self.guards[core].next_due() {
                self.guards[core].on_tick(now, || counts);
            }
            for (to, frame) in self.guards[core].take_frames().collect::<Vec<_>>() {
                let lane = &mut self.lanes[core * cores + to.index()];
                if lane.len() >= self.lane_max {
                    self.guards[core].on_unsent(now, to, frame);
                    continue;
                }
                // In order within a lane, whatever the others do.
                let late = self.now + self.random.below(MS / 2);
                let at = lane.back().map_or(late, |(at, _)| late.max(*at));
                lane.push_back((at, frame));
            }
            for conn in self.guards[core].take_resumed().collect::<Vec<_>>() {
                assert_ne!(self.ask(conn.index as usize), Decision::Wait, "once is enough");
            }
        }
        let phase = self.guards[0].phase();
        if self.phases.last().is_none_or(|(_, last)| *last != phase) {
            self.phases.push((self.now, phase));
        }
        self.check_tokens();
    }

    /// Every token is in one place.
    fn check_tokens(&self) {
        let Some(limit) = self.guards[0].config.node_rate else { return };
        let bank = self.guards[0].bank.as_ref().expect("core 0 has it").free();
        let leaves: u32 = self.guards.iter().map(|guard| guard.leaf.as_ref().expect("every core has one").held()).sum();
        let unsent = self.guards.iter().flat_map(|guard| &guard.frames).map(|(_, frame)| frame);
        let under_way = self.lanes.iter().flatten().map(|(_, frame)| frame).chain(unsent).map(|frame| match frame {
            Frame::Ask(ask) => ask.back,
            Frame::Grant(grant) => grant.tokens,
            Frame::Breaker(_) => 0,
        });
        assert_eq!(bank + leaves + under_way.sum::<u32>(), limit, "at {}", self.now);
    }

    /// Fewest and most admissions of any second from `from` on, examined in steps of 10 ms.
    fn extremes(&self, from: u64) -> (usize, usize) {
        let counts = (0..).map(|step| from + step * 10 * MS).take_while(|begin| begin + SECOND <= self.now).map(|begin| {
            let before = |moment: u64| self.admitted.partition_point(|at| *at < moment);
            before(begin + SECOND) - before(begin)
        });
        counts.fold((usize::MAX, 0), |(least, most), count| (least.min(count), most.max(count)))
    }
}

fn node_rate(limit: u32) -> Config {
    Config { node_rate: Some(limit), ..Config::default() }
}

/// Connections and messages per second of each core, for an offer of so many.
fn spreads(cores: usize, offered: u64) -> Vec<Vec<(u64, u64)>> {
    let one = |at: usize| (0..cores).map(|core| if core == at { (16, offered) } else { (0, 0) }).collect();
    let rest = (cores as u64 - 1).max(1);
    let mut spreads = vec![vec![(4, offered / cores as u64); cores], one(0), one(cores - 1)];
    if cores > 1 {
        // Nine tenths on the last core, and each core half as much as the one before it.
        spreads.push((0..cores).map(|core| if core + 1 == cores { (9, offered * 9 / 10) } else { (1, offered / 10 / rest) }).collect());
        spreads.push((0..cores).map(|core| (2, offered >> (core + 1).min(cores - 1))).collect());
    }
    spreads
}

#[test]
fn every_second_sees_nearly_the_limit_and_never_more_whatever_the_spread() {
    let seed = seed();
    let mut wrong = Vec::new();
    for cores in [1, 2, 8] {
        for (limit, times) in [(100, 2), (100, 10), (1000, 2)] {
            for spread in spreads(usize::from(cores), u64::from(limit) * times) {
                let mut sim = Sim::new(cores, node_rate(limit), seed);
                for (core, (conns, offered)) in spread.iter().enumerate().filter(|(_, (conns, _))| *conns > 0) {
                    sim.offer(core, *conns, *offered);
                }
                let begin = sim.now;
                sim.run(4 * SECOND, 0);
                let (_, most) = sim.extremes(begin);
                let (least, _) = sim.extremes(begin + 2 * SECOND);
                let what = format!("{cores} cores, {limit} a second, {spread:?}: {least} to {most}");
                if most > limit as usize || least * 100 < limit as usize * 95 {
                    wrong.push(what);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_spread_that_changes_is_followed() {
    let seed = seed();
    let mut sim = Sim::new(4, node_rate(1000), seed);
    for core in [0, 3, 1] {
        sim.conns.iter_mut().for_each(|conn| conn.next = u64::MAX);
        sim.offer(core, 8, 3000);
        let begin = sim.now;
        sim.run(4 * SECOND, 0);
        let (least, most) = sim.extremes(begin + 2 * SECOND);
        assert!(least >= 950 && most <= 1000, "core {core}: {least} to {most}");
    }
}

#[test]
fn what_fits_the_limit_is_not_refused_on_any_core() {
    let seed = seed();
    for cores in [1, 2, 8] {
        let mut sim = Sim::new(cores, node_rate(1000), seed);
        sim.offer(0, 4, 300);
        sim.offer(usize::from(cores) - 1, 4, 450);
        sim.run(5 * SECOND, 0);
        let (offered, admitted) =
            sim.conns.iter().fold((0, 0), |(offered, admitted), conn| (offered + conn.offered, admitted + conn.admitted));
        assert!(admitted + 8 >= offered, "{cores} cores: {admitted} of {offered}");
    }
}

#[test]
fn connections_that_send_little_are_served_beside_those_that_flood() {
    let seed = seed();
    for cores in [1, 2, 8] {
        let mut sim = Sim::new(cores, node_rate(1000), seed);
        // Floods on every core but one, and four that send five a second each.
        for core in 0..usize::from(cores) {
            sim.offer(core, 4, 20);
            if core > 0 || cores == 1 {
                sim.offer(core, 2, 4000);
            }
        }
        sim.run(2 * SECOND, 0);
        sim.conns.iter_mut().for_each(|conn| (conn.offered, conn.admitted) = (0, 0));
        sim.run(5 * SECOND, 0);
        for conn in sim.conns.iter().filter(|conn| conn.gap > SECOND / 10) {
            assert!(conn.admitted * 10 >= conn.offered * 8, "{cores} cores: {} of {} on core {}", conn.admitted, conn.offered, conn.core);
        }
    }
}

#[test]
fn lanes_that_are_full_lose_no_token() {
    let seed = seed();
    let mut sim = Sim::new(4, node_rate(500), seed);
    sim.lane_max = 1;
    (0..4).for_each(|core| sim.offer(core, 3, 500));
    sim.run(6 * SECOND, 0);
    let (least, most) = sim.extremes(4 * SECOND);
    assert!(least > 350 && most <= 500, "{least} to {most}");
}

#[test]
fn the_breaker_opens_on_every_core_probes_and_closes() {
    let seed = seed();
    let breaker = Some(Threshold { per_million: 10_000, hold: std::time::Duration::from_secs(3) });
    let mut sim = Sim::new(3, Config { breaker, ..Config::default() }, seed);
    (0..3).for_each(|core| sim.offer(core, 2, 100));
    assert_eq!(sim.run(5 * SECOND, 200), 0, "one in two hundred is not too many");
    assert!(sim.run(12 * SECOND, 10) > 0);
    assert!(sim.run(30 * SECOND, 0) > 0);
    assert_eq!(sim.run(2 * SECOND, 0), 0, "it is closed");
    assert!(sim.guards.iter().all(|guard| guard.phase() == Phase::Closed));
    for pair in sim.phases.windows(2) {
        let legal =
            [(Phase::Closed, Phase::Open), (Phase::Open, Phase::Probing), (Phase::Probing, Phase::Open), (Phase::Probing, Phase::Closed)];
        assert!(legal.contains(&(pair[0].1, pair[1].1)), "{:?}", sim.phases);
    }
    assert!(sim.phases.len() >= 4, "{:?}", sim.phases);
}
