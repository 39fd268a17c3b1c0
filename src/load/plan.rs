//! When what is sent, on which connection: a sequence of steps in virtual time, the same for the same seed.
//!
//! A message has its planned time before anything is known of the answers to those before it. That is what makes the loop open: an answer that
//! is late delays no later request's planned time, and latency, which is measured from there, shows how long somebody would have waited.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::profile::Shape;

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is opened.
    Open,
    /// It sends its next message.
    Send,
    /// It is closed.
    Close,
}

/// One connection of a process.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Messages of a connection that is open all the time, when this one opened: and its share of one message, so that no two send at once.
    base: f64,
    sent: u64,
    closes_ns: u64,
    next: Step,
}

/// The steps of one process's connections, in order.
#[derive(Debug)]
pub struct Plan {
    shape: Shape,
    lines: Vec<Line>,
    /// Each connection's next step.
    due: BinaryHeap<Reverse<(u64, u32)>>,
}

/// Nanoseconds of a second.
const NS: f64 = 1e9;

impl Plan {
    /// The steps of process `process` of `processes`: its connections are each `processes`th one, from `process` on. Those that are there
    /// from the beginning have no step of opening: see [`Self::initial`]. Without `sends` nothing is ever sent.
    #[must_use]
    pub fn new(shape: Shape, process: usize, processes: usize, seed: u64, sends: bool) -> Self {
        let all = shape.connections();
        let order = shuffled(all, seed);
        let mut plan = Self { shape, lines: Vec::new(), due: BinaryHeap::new() };
        for number in (process..all).step_by(processes.max(1)) {
            let opens = plan.shape.opens_at(number).unwrap_or_default();
            let share = (f64::from(order[number]) + 0.5) / all as f64;
            let line = Line {
                base: if sends { plan.shape.sent_by(opens) + share } else { f64::INFINITY },
                sent: 0,
                closes_ns: ns(plan.shape.closes_at(number)),
                next: Step::Open,
            };
            let at = plan.lines.len() as u32;
            plan.lines.push(line);
            if opens > 0.0 {
                plan.due.push(Reverse((ns(opens), at)));
            } else {
                let first = plan.advance(at);
                plan.due.push(Reverse((first, at)));
            }
        }
        plan
    }

    /// How many connections this process has in all.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.lines.len()
    }

    /// Those of its connections that are there when the run begins, in the order in which they are opened.
    pub fn initial(&self) -> impl Iterator<Item = u32> {
        (0..self.lines.len() as u32).filter(|at| self.lines[*at as usize].next != Step::Open)
    }

    /// When the next step is, nanoseconds from the beginning; `None` when there is none any more.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// The next step that is due: when it was to be, which connection, what.
    pub fn take(&mut self, now_ns: u64) -> Option<(u64, u32, Step)> {
        let Reverse((at_ns, number)) = *self.due.peek().filter(|Reverse((at, _))| *at <= now_ns)?;
        let step = self.lines[number as usize].next;
        if step == Step::Close {
            self.due.pop();
            return Some((at_ns, number, step));
        }
        let next = self.advance(number);
        // In place: a pop and a push would sift twice.
        if let Some(mut top) = self.due.peek_mut() {
            *top = Reverse((next, number));
        }
        Some((at_ns, number, step))
    }

    /// Decides a connection's next step, and when it is.
    fn advance(&mut self, number: u32) -> u64 {
        let line = &mut self.lines[number as usize];
        let sends_at = self.shape.sent_at(line.base + line.sent as f64).map(ns);
        match sends_at.filter(|at| *at < line.closes_ns) {
            Some(at) => {
                line.sent += 1;
                line.next = Step::Send;
                at
            }
            None => {
                line.next = Step::Close;
                line.closes_ns
            }
        }
    }
}

fn ns(seconds: f64) -> u64 {
    (seconds * NS).round() as u64
}

/// The numbers below `count` in an order that depends on the seed alone.
fn shuffled(count: usize, seed: u64) -> Vec<u32> {
    let mut numbers: Vec<_> = (0..count as u32).collect();
    let mut random = Random::new(seed);
    for last in (1..count).rev() {
        numbers.swap(last, random.below(last as u64 + 1) as usize);
    }
    numbers
}

/// Numbers that look random and follow from a seed (SplitMix64).
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence for this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `bound`, each as likely as any other but for less than one part in 2^32 as long as `bound` fits 32 bits.
    pub const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::{Profile, Wishes};
    use super::*;

    const PLAIN: Wishes = Wishes { rate: None, connections: None, seconds: None, time_scale: 1.0 };

    fn steps(plan: &mut Plan) -> Vec<(u64, u32, Step)> {
        std::iter::from_fn(|| plan.take(u64::MAX)).collect()
    }

    #[test]
    fn messages_are_spread_evenly_over_time_and_connections() {
        let shape = Shape::of(Profile::Baseline, &Wishes { seconds: Some(3.0), ..PLAIN });
        let mut plan = Plan::new(shape, 0, 1, 7, true);
        assert_eq!(plan.initial().count(), 25);
        let sends: Vec<_> = steps(&mut plan).into_iter().filter(|step| step.2 == Step::Send).collect();
        assert_eq!(sends.len(), 7500);
        for pair in sends.windows(2) {
            let apart = pair[1].0 - pair[0].0;
            assert!((399_990..=400_010).contains(&apart), "{pair:?}");
        }
        for connection in 0..25 {
            assert_eq!(sends.iter().filter(|send| send.1 == connection).count(), 300);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        let shape = Shape::of(Profile::Flood, &Wishes { time_scale: 0.01, ..PLAIN });
        let of = |seed| steps(&mut Plan::new(shape.clone(), 0, 1, seed, true));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn processes_share_the_plan_of_one() {
        let shape = Shape::of(Profile::Flood, &Wishes { time_scale: 0.01, ..PLAIN });
        let whole = steps(&mut Plan::new(shape.clone(), 0, 1, 3, true));
        let mut parts: Vec<_> = (0..3)
            .flat_map(|part| {
                steps(&mut Plan::new(shape.clone(), part, 3, 3, true))
                    .into_iter()
                    .map(move |(at, number, step)| (at, number * 3 + part as u32, step))
            })
            .collect();
        parts.sort_unstable_by_key(|step| (step.0, step.1));
        let mut whole_sorted = whole;
        whole_sorted.sort_unstable_by_key(|step| (step.0, step.1));
        assert_eq!(parts, whole_sorted);
    }

    #[test]
    fn a_flood_rises_stays_and_recedes() {
        let shape = Shape::of(Profile::Flood, &Wishes { time_scale: 0.05, ..PLAIN });
        let mut plan = Plan::new(shape, 0, 1, 1, true);
        let (mut open, mut most, mut before) = (plan.initial().count(), 0, 0);
        let mut of_second = vec![0_u32; 30];
        while let Some((at, _, step)) = plan.take(u64::MAX) {
            assert!(at >= before);
            before = at;
            match step {
                Step::Open => open += 1,
                Step::Close => open -= 1,
                Step::Send => of_second[(at / 1_000_000_000) as usize] += 1,
            }
            most = most.max(open);
            if at < 14_900_000_000 && at > 100_000_000 {
                let expected = at as f64 / 1e9 * 500.0 / 15.0;
                assert!((open as f64 - expected).abs() < 1.5, "{open} at {at}");
            }
        }
        assert_eq!((most, open), (500, 0));
        assert!(of_second[16..23].iter().all(|count| *count == 25_000), "{of_second:?}");
        assert!(of_second[25..29].iter().all(|count| *count == 250), "{of_second:?}");
    }

    #[test]
    fn a_ramp_grows_linearly() {
        let shape = Shape::of(Profile::Ramp, &Wishes { rate: Some(10_000.0), seconds: Some(10.0), ..PLAIN });
        let sends: Vec<_> = steps(&mut Plan::new(shape, 0, 1, 1, true)).into_iter().filter(|step| step.2 == Step::Send).collect();
        let within = |from: u64, to: u64| sends.iter().filter(|send| (from..to).contains(&(send.0 / 1_000_000_000))).count() as f64;
        assert!((within(0, 10) / 50_500.0 - 1.0).abs() < 0.01, "{}", within(0, 10));
        assert!((within(9, 10) / 9_505.0 - 1.0).abs() < 0.02, "{}", within(9, 10));
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let shape = Shape::of(Profile::Mixed, &PLAIN);
        let mut plan = Plan::new(shape, 0, 1, 1, true);
        let first = plan.next_ns().expect("there is one");
        assert_eq!(plan.take(first - 1), None);
        assert!(plan.take(first).is_some());
        assert!(Plan::new(Shape::of(Profile::Mixed, &PLAIN), 0, 1, 1, false).take(59_999_999_999).is_none());
    }
}
