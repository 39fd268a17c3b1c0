//! `POST /v1/reload`.

use super::Call;
use super::answer::Answer;
use super::control::Want;
use super::problem::Problem;
use crate::base::metrics::Refused;
use crate::base::time::Now;
use crate::engine::Engine;
use crate::engine::out::Out;
use crate::engine::reload::{Difference, Report};
use crate::wire::json::{write_array, write_str};

impl Engine {
    /// The configuration is to be read again.
    pub(super) fn ask_reload(&mut self, call: &Call<'_>, out: &mut Out) -> Result<Option<Answer>, Problem> {
        call.query.only(&[])?;
        if !self.reload.is_possible() {
            let detail = "This program has no configuration that it could read again: only `ringhub serve` and what is built on it do";
            return Err(Problem::new(403, Refused::NotPermitted, detail));
        }
        if self.is_draining {
            return Err(Problem::overloaded());
        }
        let serial = self.admin.wait(call.now, call.conn, &call.terms, Want::Reload);
        self.reload(Some(serial), out);
        Ok(None)
    }

    /// A reload has ended.
    pub(in crate::engine) fn answer_reload(&mut self, now: Now, serial: u64, result: &Result<&Report, Vec<String>>, out: &mut Out) {
        let answer = match result {
            Ok(report) => Ok(Answer::json(200, written(report))),
            Err(problems) => {
                let mut detail = "The configuration is wrong, and nothing was changed:".to_owned();
                problems.iter().for_each(|problem| detail.extend(["\n  - ", problem]));
                Err(Problem::new(422, Refused::Invalid, detail))
            }
        };
        self.complete_admin(now, serial, Some(answer), out);
    }
}

fn written(report: &Report) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, (kind, difference)) in [("upstreams", &report.upstreams), ("endpoints", &report.endpoints)].into_iter().enumerate() {
        body.push(if index == 0 { b'{' } else { b',' });
        write_str(&mut body, kind);
        body.extend_from_slice(b":");
        write_difference(&mut body, difference);
    }
    for (name, texts) in [("restart", &report.restart), ("refused", &report.refused)] {
        body.push(b',');
        write_str(&mut body, name);
        body.push(b':');
        write_array(&mut body, texts, |body, text| write_str(body, text));
    }
    body.push(b'}');
    body
}

fn write_difference(body: &mut Vec<u8>, difference: &Difference) {
    let lists = [("added", &difference.added), ("changed", &difference.changed), ("removed", &difference.removed)];
    for (index, (name, names)) in lists.into_iter().enumerate() {
        body.push(if index == 0 { b'{' } else { b',' });
        write_str(body, name);
        body.push(b':');
        write_array(body, names, |body, name| write_str(body, name));
    }
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done() {
        let difference = Difference { added: vec!["a".into()], ..Difference::default() };
        let report = Report { upstreams: difference, restart: vec!["listen".into()], ..Report::default() };
        let body: serde_json::Value = serde_json::from_slice(&written(&report)).expect("JSON");
        assert_eq!(body["upstreams"]["added"][0], "a");
        assert_eq!(body["endpoints"]["removed"], serde_json::json!([]));
        assert_eq!(body["restart"], serde_json::json!(["listen"]));
        assert_eq!(report.to_string(), "upstreams added: a; in force after a restart: listen");
    }
}
