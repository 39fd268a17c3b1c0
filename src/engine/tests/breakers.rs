//! The breakers of a node's cores for one upstream: what one core finds out all know.

use std::collections::BTreeSet;
use std::time::Duration;

use super::client::text;
use super::cluster::modern;
use super::upstream::Pair;
use crate::base::ids::{ConnId, LinkId};
use crate::base::limits::{BREAKER_FAILURES_MAX, BREAKER_OPEN_MS_FIRST};
use crate::base::metrics::Counter;
use crate::engine::Eras;
use crate::gateway::Dialect;
use crate::gateway::link::{Down, LinkEvent};

/// Those whose clients call.
const CORES: usize = 3;

fn call() -> Vec<u8> {
    modern("tools/call", Some("echo"), r#""name":"echo","arguments":{"message":"hello"}"#)
}

/// A front whose upstream is there for its scout, and one connection on each of the other cores.
struct Node {
    pair: Pair,
    conns: Vec<ConnId>,
    /// What is not the next call's.
    known: BTreeSet<(usize, LinkId)>,
}

impl Node {
    fn new() -> Self {
        let mut pair = Pair::new(CORES as u16 + 1, Dialect::Auto, Eras::Modern);
        let scout = pair.front.links.keys().next().expect("it listens").0;
        let conns: Vec<_> = (0..=CORES).filter(|core| *core != scout).map(|core| pair.front.connect(core)).collect();
        // Every core knows what there is.
        conns.iter().for_each(|conn| _ = pair.exchange(*conn, &modern("tools/list", None, "")).json());
        let known = pair.front.links.keys().copied().collect();
        Self { pair, conns, known }
    }

    /// Calls from this core. The link that is dialled for it, if it is not refused at once.
    fn begin(&mut self, core: usize) -> Option<(usize, LinkId)> {
        self.pair.front.send(self.conns[core], &call());
        let at = self.pair.front.core_of(self.conns[core]);
        let link = self.pair.front.links.keys().copied().find(|link| link.0 == at && !self.known.contains(link))?;
        self.known.insert(link);
        Some(link)
    }

    fn refuse(&mut self, link: (usize, LinkId)) {
        self.pair.front.on_link(link.0, link.1, LinkEvent::Down(Down::Refused));
        self.pair.front.links.remove(&link);
    }

    fn told(&mut self, core: usize) -> String {
        let answer = self.pair.front.take(self.conns[core]).json();
        answer["error"]["message"].as_str().unwrap_or_else(|| text(&answer)).to_owned()
    }

    /// A call from this core that fails, if it goes out. Whether it does.
    fn fail(&mut self, core: usize) -> bool {
        let link = self.begin(core);
        if let Some(link) = link {
            self.refuse(link);
        }
        let said = if link.is_some() { "cannot be reached: nobody listens at its port" } else { "failed lately; it is tried again soon" };
        assert_eq!(self.told(core), format!("The server u {said}"));
        link.is_some()
    }

    /// One on which core 1 found out that the upstream fails.
    fn opened() -> Self {
        let mut node = Self::new();
        for _ in 0..BREAKER_FAILURES_MAX {
            assert!(node.fail(1));
        }
        node
    }
}

#[test]
fn what_one_core_finds_out_all_know() {
    let mut node = Node::opened();
    for core in 0..CORES {
        assert!(!node.fail(core), "core {core} asks it nothing");
    }
    let opened: u64 = node.pair.front.shared.metrics().iter().map(|core| core.counter(Counter::BreakersOpened)).sum();
    assert_eq!(opened, 1, "it failed once for all");
}

#[test]
fn a_node_tries_once_at_a_time() {
    let mut node = Node::opened();
    node.pair.pass(Duration::from_millis(BREAKER_OPEN_MS_FIRST));
    // Each core's time is over; the first to be asked tries.
    let link = node.begin(2).expect("it tries");
    for core in [0, 1] {
        assert!(!node.fail(core), "core {core} does not try as well");
    }
    // It fails: nobody tries for a while.
    node.refuse(link);
    assert!(node.told(2).contains("nobody listens"));
    for core in 0..CORES {
        assert!(!node.fail(core));
    }
}

#[test]
fn one_that_is_called_off_leaves_its_place_to_the_others() {
    let mut node = Node::opened();
    node.pair.pass(Duration::from_millis(BREAKER_OPEN_MS_FIRST));
    let link = node.begin(2).expect("it tries");
    assert!(!node.fail(0));
    node.pair.front.gone(node.conns[2]);
    node.pair.front.links.remove(&link);
    assert!(node.begin(0).is_some());
}

#[test]
fn one_that_is_well_again_is_so_for_all() {
    let mut node = Node::opened();
    node.pair.pass(Duration::from_millis(BREAKER_OPEN_MS_FIRST));
    // The upstream answers from now on. Two calls that go well close the breaker, wherever they come from.
    for core in [2, 2, 0, 1] {
        let answer = node.pair.exchange(node.conns[core], &call()).json();
        assert_eq!(text(&answer), "hello", "{core} {answer}");
    }
}

#[test]
fn a_lane_that_is_full_delays_what_is_said_and_does_not_lose_it() {
    let mut node = Node::new();
    node.pair.front.lane_frames_max = 0;
    for _ in 0..BREAKER_FAILURES_MAX {
        assert!(node.fail(1));
    }
    assert!(node.fail(0), "core 0 does not know it yet");
    node.pair.front.lane_frames_max = usize::MAX;
    node.pair.pass(Duration::from_millis(200));
    assert!(!node.fail(0) && !node.fail(2));
}
