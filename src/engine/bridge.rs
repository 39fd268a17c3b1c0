//! Upstreams that ask, for clients of the legacy era. Of one in the modern era every question of a result that asks becomes a request to the client on
//! the stream of its call, and when all are answered the request goes to the upstream again (2026-07-28, basic, "Multi Round-Trip
//! Requests"; 2025-11-25, client features). What one in the legacy era asks on the stream of a call is asked on the stream of the client's.

use super::call::{Caller, Ending};
use super::out::Out;
use super::park::Question;
use super::{Engine, hop, server_request};
use crate::base::ids::CallId;
use crate::base::limits::{ASK_ROUNDS_MAX, ASKS_PER_SESSION_MAX, BODY_BYTES_DEFAULT};
use crate::base::time::Now;
use crate::gateway::Failure;
use crate::native::host::AskMethod;
use crate::native::questions::NoResult;
use crate::wire::json::{self, write_str};
use crate::wire::jsonrpc::{self, Body, Message};

/// What an upstream asked, and what was answered so far.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Counts from 1.
    number: u32,
    /// By the upstream's name for each question.
    answers: Vec<(Box<str>, Option<Vec<u8>>)>,
    /// `requestState`, raw.
    state: Option<Vec<u8>>,
}

/// What of a result that asks is needed.
struct Asked {
    questions: Vec<(Box<str>, AskMethod, Vec<u8>)>,
    state: Option<Vec<u8>>,
}

/// What a client can be asked for.
fn method_of(name: &str) -> Option<AskMethod> {
    Some(match name {
        "elicitation/create" => AskMethod::Elicit,
        "sampling/createMessage" => AskMethod::Sample,
        "roots/list" => AskMethod::Roots,
        _ => return None,
    })
}

/// Reads the questions of a response; none when it asks what cannot be asked.
fn read(response: &[u8]) -> Option<Asked> {
    let Ok(Body::One(Message::Response(response))) = jsonrpc::parse(response) else { return None };
    let result = response.result?;
    let mut questions: Vec<(Box<str>, _, _)> = Vec::new();
    for (key, question) in json::members(json::get(result, "inputRequests").unwrap_or_default()) {
        let method = method_of(&json::get(question, "method").and_then(json::string)?)?;
        let params = json::get(question, "params").filter(|raw| raw.starts_with(b"{")).unwrap_or(b"{}");
        let key: Box<str> = json::string(key)?.into();
        // Of two questions of one name, one would never be answered.
        if questions.iter().any(|(asked, ..)| *asked == key) {
            return None;
        }
        questions.push((key, method, params.to_vec()));
        if questions.len() > ASKS_PER_SESSION_MAX {
            return None;
        }
    }
    Some(Asked { questions, state: json::get(result, "requestState").map(<[u8]>::to_vec) })
}

impl Round {
    /// The members of the parameters that bring the answers.
    fn members(&self) -> Vec<u8> {
        let mut out = br#""inputResponses":{"#.to_vec();
        for (at, (key, answer)) in self.answers.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_str(&mut out, key);
            out.push(b':');
            out.extend_from_slice(answer.as_deref().unwrap_or(b"{}"));
        }
        out.push(b'}');
        if let Some(state) = &self.state {
            out.extend_from_slice(br#","requestState":"#);
            out.extend_from_slice(state);
        }
        out
    }

    fn is_complete(&self) -> bool {
        self.answers.iter().all(|(_, answer)| answer.is_some())
    }

    fn bytes(&self) -> usize {
        self.answers.iter().map(|(_, answer)| answer.as_ref().map_or(0, Vec::len)).sum()
    }
}

impl Engine {
    /// The upstream of a call asks its client something.
    pub(super) fn bridge(&mut self, now: Now, id: CallId, response: &[u8], out: &mut Out) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let (Caller::Legacy(asker), Some(round)) = (call.caller, call.round_mut()) else { return };
        let number = round.as_ref().map_or(0, |round| round.number) + 1;
        let asked = read(response).filter(|asked| number <= ASK_ROUNDS_MAX && !(asked.questions.is_empty() && asked.state.is_none()));
        let Some(asked) = asked else { return self.fail_relay(now, id, Failure::Asks, out) };
        let answers = asked.questions.iter().map(|(key, ..)| (key.clone(), None)).collect();
        *round = Some(Box::new(Round { number, answers, state: asked.state }));
        if asked.questions.is_empty() {
            return self.resume_relay(now, id, out);
        }
        for (key, method, params) in asked.questions {
            // One that cannot be asked has ended the call.
            if self.calls.get(id).is_none() {
                return;
            }
            server_request::ask(self, now, asker, id, &key, method, &params, out);
        }
    }

    /// An upstream of the legacy era asks the client of a call something.
    pub(super) fn on_question(&mut self, now: Now, id: CallId, question: &str, method: &str, params: &[u8], out: &mut Out) {
        let Some(call) = self.calls.get(id) else { return };
        let caller = call.caller;
        let unknown = br#"{"code":-32601,"message":"Clients cannot be asked for that"}"#;
        match (caller, method_of(method)) {
            (Caller::Legacy(asker), Some(method)) => server_request::ask(self, now, asker, id, question, method, params, out),
            (Caller::Modern(conn), Some(method)) => {
                self.park(now, id, conn, Question { id: question.into(), method, params: params.into() }, out);
            }
            (Caller::Parked, Some(method)) => self.park_more(id, Question { id: question.into(), method, params: params.into() }),
            _ => self.answer_upstream(now, id, question, Err(unknown), out),
        }
    }

    /// The client has answered a question of an upstream, or did not.
    pub(super) fn on_upstream_answer(&mut self, now: Now, id: CallId, key: &str, reply: Result<&[u8], NoResult>, out: &mut Out) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let round = call.round_mut().and_then(Option::as_mut).filter(|round| round.answers.iter().any(|(asked, _)| **asked == *key));
        let Some(round) = round else {
            // An upstream of the legacy era waits for it.
            let lost = br#"{"code":-32603,"message":"The client did not answer"}"#;
            let reply = reply.map_err(|why| match why {
                NoResult::Error(error) => error,
                NoResult::Lost => lost.to_vec(),
            });
            return self.answer_upstream(now, id, key, reply.as_ref().map(|result| *result).map_err(|error| &**error), out);
        };
        let Ok(answer) = reply else { return self.fail_relay(now, id, Failure::Unanswered, out) };
        if round.bytes() + answer.len() > BODY_BYTES_DEFAULT {
            return self.fail_relay(now, id, Failure::Unanswered, out);
        }
        if let Some((_, place)) = round.answers.iter_mut().find(|(asked, _)| **asked == *key) {
            *place = Some(answer.to_vec());
        }
        if round.is_complete() {
            self.resume_relay(now, id, out);
        }
    }

    /// The request goes to its upstream again.
    fn resume_relay(&mut self, now: Now, id: CallId, out: &mut Out) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let (trip, core) = (call.trip(), call.elsewhere());
        let Some(round) = call.round_mut().and_then(Option::as_mut) else { return };
        let members = round.members();
        round.answers.clear();
        round.state = None;
        match (trip, core) {
            (Some(trip), _) => self.gateway.resume(now.mono, trip, &members),
            (None, Some(core)) => Self::send_hop(core, Box::new(hop::Frame::Resume(id, members)), out),
            (None, None) => {}
        }
    }

    fn fail_relay(&mut self, now: Now, id: CallId, failure: Failure, out: &mut Out) {
        let Some(call) = self.calls.get(id) else { return };
        let Some(upstream) = call.upstream() else { return };
        if let Some(trip) = call.trip() {
            self.gateway.cancel(now.mono, trip);
        }
        if let Some(core) = call.elsewhere() {
            Self::send_hop(core, Box::new(hop::Frame::Cancel(id)), out);
        }
        self.conclude(now, id, Ending::Failed { upstream, failure }, &[], out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_answers_written() {
        let response = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"a\u0062":{"method":"roots/list"},"c":{"method":"elicitation/create","params":{"message":"m"}}},"requestState":"s"}}"#;
        let asked = read(response.as_bytes()).expect("questions");
        let wanted = [("ab".into(), AskMethod::Roots, b"{}".to_vec()), ("c".into(), AskMethod::Elicit, br#"{"message":"m"}"#.to_vec())];
        assert_eq!(asked.questions, wanted);
        let mut round =
            Round { number: 1, answers: vec![("ab".into(), Some(br#"{"roots":[]}"#.to_vec())), ("c".into(), None)], state: asked.state };
        assert!(!round.is_complete());
        round.answers[1].1 = Some(b"{\"action\":\"decline\"}".to_vec());
        assert!(round.is_complete());
        assert_eq!(round.members(), br#""inputResponses":{"ab":{"roots":[]},"c":{"action":"decline"}},"requestState":"s""#);
        assert!(read(response.replace("roots/list", "tools/list").as_bytes()).is_none());
        assert!(read(response.replace(r#""c":"#, r#""ab":"#).as_bytes()).is_none(), "two of one name");
    }
}
