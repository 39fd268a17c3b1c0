//! The counters of all cores, for Prometheus.

use std::fmt::Write as _;

use crate::base::fault::{Kind, Side};
use crate::base::metrics::{Counter, Gauge, Refused};
use crate::engine::Shared;

/// The Prometheus text format, version 0.0.4.
pub(super) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every counter of every core in the Prometheus text format.
pub(super) fn metrics(shared: &Shared) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for &counter in Counter::ALL {
        describe(&mut text, counter.label(), counter.help(), "counter");
        for (core, metrics) in shared.metrics().iter().enumerate() {
            sample(&mut text, counter.label(), core, metrics.counter(counter));
        }
    }
    for &gauge in Gauge::ALL {
        describe(&mut text, gauge.label(), gauge.help(), "gauge");
        for (core, metrics) in shared.metrics().iter().enumerate() {
            sample(&mut text, gauge.label(), core, metrics.gauge(gauge));
        }
    }
    faults(&mut text, shared);
    refusals(&mut text, shared);
    text
}

fn describe(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP ringhub_{name} {help}.\n# TYPE ringhub_{name} {kind}");
}

fn sample(text: &mut String, name: &str, core: usize, value: u64) {
    let _ = writeln!(text, "ringhub_{name}{{core=\"{core}\"}} {value}");
}

/// Faults by kind and side. Kinds that share a label (one per era) are one series; those that never came are left out.
fn faults(text: &mut String, shared: &Shared) {
    describe(text, "faults_total", "Faults answered to peers, by kind and by the side that caused them", "counter");
    for (core, metrics) in shared.metrics().iter().enumerate() {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            let is_same = |other: &&Kind| other.label() == kind.label() && other.side() == kind.side();
            if Kind::ALL.iter().take(index).any(|other| is_same(&other)) {
                continue;
            }
            let count: u64 = Kind::ALL.iter().filter(is_same).map(|&kind| metrics.faults(kind)).sum();
            if count > 0 {
                let (label, side) = (kind.label(), side(kind.side()));
                let _ = writeln!(text, "ringhub_faults_total{{core=\"{core}\",kind=\"{label}\",side=\"{side}\"}} {count}");
            }
        }
    }
}

/// What the admin port refused besides faults; what never came is left out.
fn refusals(text: &mut String, shared: &Shared) {
    describe(
        text,
        "admin_refusals_total",
        "Requests that the admin port refused for another reason than a fault, by the code of its answer",
        "counter",
    );
    for (core, metrics) in shared.metrics().iter().enumerate() {
        for &refused in Refused::ALL {
            let (label, count) = (refused.label(), metrics.refusals(refused));
            if count > 0 {
                let _ = writeln!(text, "ringhub_admin_refusals_total{{core=\"{core}\",code=\"{label}\"}} {count}");
            }
        }
    }
}

const fn side(side: Side) -> &'static str {
    match side {
        Side::Downstream => "downstream",
        Side::Internal => "internal",
        Side::Upstream => "upstream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;

    #[test]
    fn every_core_and_counter_is_there_and_kinds_of_one_label_are_one_series() {
        let shared = Shared::new(NodeId(0), 2, 1, [0; 16]);
        shared.metrics()[1].add(Counter::Requests, 7);
        shared.metrics()[0].fault(Kind::UnknownMethod);
        shared.metrics()[0].fault(Kind::UnknownMethodLegacy);
        shared.metrics()[1].refused(Refused::Taken);
        let text = metrics(&shared);
        assert!(text.contains("ringhub_admin_refusals_total{core=\"1\",code=\"taken\"} 1\n"));
        assert!(text.contains("# HELP ringhub_http_requests_total HTTP requests taken.\n# TYPE ringhub_http_requests_total counter\n"));
        assert!(text.contains("ringhub_http_requests_total{core=\"0\"} 0\nringhub_http_requests_total{core=\"1\"} 7\n"));
        assert!(text.contains("# TYPE ringhub_connections gauge\n"));
        assert!(text.contains("ringhub_faults_total{core=\"0\",kind=\"unknown_method\",side=\"downstream\"} 2\n"));
        assert!(
            text.lines().all(|line| line.starts_with('#') || line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<u64>().is_ok()))
        );
        let mut series: Vec<&str> = text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all, "no series stands there twice");
    }
}
