//! The admin listener: health and metrics.

use std::fmt::Write as _;

use super::dispatch::terms;
use super::out::Out;
use super::reply::{self, Terms};
use super::{Engine, Inbound, Shared, Verdict};
use crate::base::fault::{Kind, Side};
use crate::base::metrics::{Counter, Gauge};
use crate::base::time::Now;
use crate::wire::http1::Method;

const TEXT: &str = "text/plain; charset=utf-8";
/// The Prometheus text format, version 0.0.4.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Engine {
    /// A request to the admin listener. Browsers have no business here.
    pub(super) fn on_admin(&mut self, now: Now, inbound: &Inbound<'_>, reply: &mut Vec<u8>, _: &mut Out) -> Verdict {
        let request = inbound.request;
        let terms = Terms { origin: None, ..terms(request, self.is_draining) };
        let (status, content_type, body) = match request.path {
            _ if !matches!(request.method, Method::Get | Method::Head) => return self.refuse_admin_method(now, &terms, reply),
            "/health/live" => (200, TEXT, "live\n".to_owned()),
            "/health/ready" if self.shared.is_ready() && !self.is_draining => (200, TEXT, "ready\n".to_owned()),
            "/health/ready" => (503, TEXT, "not ready\n".to_owned()),
            "/metrics" => (200, METRICS, metrics(self.shared)),
            _ => return self.refuse_kind(now, &terms, Kind::NoSuchPath, reply),
        };
        let date = self.date_at(now);
        reply::plain(reply, &terms, &date, status, Some(content_type), &[("Cache-Control", b"no-store")], body.as_bytes());
        Verdict::Answered { close: terms.close }
    }

    fn refuse_admin_method(&mut self, now: Now, terms: &Terms<'_>, reply: &mut Vec<u8>) -> Verdict {
        let date = self.date_at(now);
        self.metrics.fault(Kind::MethodNotAllowed);
        let fault = reply::RpcFault::default();
        reply::fault(reply, &mut self.scratch.body, terms, &date, Kind::MethodNotAllowed, &[("Allow", b"GET, HEAD")], &fault);
        Verdict::Answered { close: terms.close }
    }
}

/// Every counter of every core in the Prometheus text format.
fn metrics(shared: &Shared) -> String {
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
        let text = metrics(&shared);
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
