//! Tier 4 under virtual time and errors that come and go at random: every change of its phase is a legal one, at a legal moment.

use std::time::Duration;

use super::lending::{Random, seed};
use crate::base::limits::{NODE_BREAKER_OPEN_MS_FIRST, NODE_BREAKER_OPEN_MS_MAX, NODE_BREAKER_PROBES};
use crate::base::time::Nanos;
use crate::guard::breaker::{Breaker, Counts, Phase, SAMPLE_EACH, Threshold};

const THRESHOLD: Threshold = Threshold { per_million: 10_000, hold: Duration::from_secs(30) };

/// One sample as it was: its moment, and the messages and errors since the one before.
type Sample = (Nanos, u64, u64);

fn sum(samples: &[Sample]) -> (u64, u64) {
    samples.iter().fold((0, 0), |(messages, errors), sample| (messages + sample.1, errors + sample.2))
}

/// Whether more than the threshold were errors.
fn is_wrong((messages, errors): (u64, u64)) -> bool {
    errors * 100 > messages
}

#[test]
fn errors_that_come_and_go_move_it_legally() {
    let mut random = Random(seed());
    let mut seen = [0; 4];
    for _ in 0..200 {
        let mut breaker = Breaker::new(THRESHOLD);
        let (mut now, mut total) = (Nanos(0), Counts::default());
        let (mut phase, mut since, mut open_ms) = (Phase::Closed, Nanos(0), NODE_BREAKER_OPEN_MS_FIRST);
        let mut samples: Vec<Sample> = Vec::new();
        let (mut left, mut per_sample, mut percent) = (0, 0, 0);
        for _ in 0..2400 {
            if left == 0 {
                (left, per_sample) = (1 + random.below(300), 50 + random.below(500));
                percent = [0, 0, 2, 100][random.below(4) as usize];
            }
            left -= 1;
            now = now.after(SAMPLE_EACH);
            let messages = match phase {
                Phase::Closed => per_sample,
                Phase::Open => 0,
                Phase::Probing => (per_sample / 40).min(u64::from(NODE_BREAKER_PROBES)),
            };
            let errors = (messages * percent).div_ceil(100);
            (total.messages, total.errors) = (total.messages + messages, total.errors + errors);
            samples.push((now, messages, errors));
            let Some(next) = breaker.on_sample(now, total) else { continue };
            let for_ms = now.since(since).as_millis() as u64;
            let during: Vec<_> = samples.iter().filter(|(at, ..)| *at > since).copied().collect();
            match (phase, next) {
                (Phase::Closed, Phase::Open) => {
                    seen[0] += 1;
                    // In every five seconds of the last thirty there were too many.
                    let held: Vec<_> = during.iter().filter(|(at, ..)| now.since(*at) < THRESHOLD.hold).copied().collect();
                    assert!(now.since(since) >= THRESHOLD.hold && held.len() >= 120, "{for_ms} ms");
                    for window in held.windows(20) {
                        assert!(is_wrong(sum(window)), "{window:?}");
                    }
                }
                (Phase::Open, Phase::Probing) => {
                    seen[1] += 1;
                    assert!((open_ms..=open_ms + 250).contains(&for_ms), "{for_ms} of {open_ms} ms");
                    open_ms = (2 * open_ms).min(NODE_BREAKER_OPEN_MS_MAX);
                }
                (Phase::Probing, Phase::Open) => {
                    seen[2] += 1;
                    assert!(is_wrong(sum(&during)), "{during:?}");
                }
                (Phase::Probing, Phase::Closed) => {
                    seen[3] += 1;
                    let probed = sum(&during);
                    assert!(!is_wrong(probed) && probed.0 >= u64::from(NODE_BREAKER_PROBES), "{probed:?}");
                    open_ms = NODE_BREAKER_OPEN_MS_FIRST;
                }
                illegal => panic!("{illegal:?}"),
            }
            (phase, since) = (next, now);
        }
        // Whatever was: once all is well for long enough, it closes.
        for _ in 0..400 {
            now = now.after(SAMPLE_EACH);
            total.messages += if breaker.phase() == Phase::Open { 0 } else { 10 };
            breaker.on_sample(now, total);
        }
        assert_eq!(breaker.phase(), Phase::Closed);
    }
    assert!(seen.iter().all(|count| *count > 10), "every kind of change was seen: {seen:?}");
}
