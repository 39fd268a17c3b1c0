//! Requests for input in the modern era (2026-07-28, basic, "Multi Round-Trip Requests"): a result that asks instead of answering, and
//! the sealed `requestState` that the client brings back with its answers.
//!
//! The state is bound to who asked for what: to the principal, the endpoint, the method, what was named and its arguments. It lives for a while, and
//! counts its rounds.

use super::Engine;
use super::call::Ending;
use super::principal::Principal;
use super::seal::{Purpose, Sealer, sealed_len};
use crate::base::limits::{ASK_ROUNDS_MAX, REQUEST_STATE_BYTES_MAX};
use crate::base::time::Now;
use crate::native::Context;
use crate::native::outcome::{Outcome, RpcError};
use crate::wire::json;
use crate::wire::jsonrpc::Request;

/// What stands before the server's own state: expiry in milliseconds since the Unix epoch, and the round.
const PREFIX_BYTES: usize = 8 + 4;

/// What a `requestState` is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding {
    digest: [u8; 32],
    round: u32,
}

impl Binding {
    /// For this request of this principal to the endpoint of this path, in its first round.
    pub fn new(path: &str, principal: &Principal, request: &Request<'_>) -> Self {
        let params = &request.params;
        let mut hasher = blake3::Hasher::new();
        let parts = [Some(path.as_bytes()), Some(request.method.as_bytes()), params.name, params.uri, params.arguments];
        for part in std::iter::once(Some(principal.as_bytes())).chain(parts) {
            // Lengths first: no two lists of parts run together alike.
            let part = part.map_or(&b""[..], |part| part);
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self { digest: *hasher.finalize().as_bytes(), round: 0 }
    }

    /// Rounds so far.
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// Opens what the client brought back, and counts its round. The server's own state follows. None when it is not ours, is of another
    /// request or principal, or is too old.
    pub fn open(&mut self, sealer: &mut Sealer, now: Now, raw: &[u8]) -> Option<Vec<u8>> {
        let text = json::string(raw)?;
        if text.len() > REQUEST_STATE_BYTES_MAX {
            return None;
        }
        let payload = sealer.open(Purpose::RequestState, text.as_bytes(), &self.digest).ok()?;
        let (expiry_ms, rest) = payload.split_first_chunk::<8>()?;
        let (round, state) = rest.split_first_chunk::<4>()?;
        if u64::from_le_bytes(*expiry_ms) < now.wall_ms {
            return None;
        }
        self.round = u32::from_le_bytes(*round);
        Some(state.to_vec())
    }
}

impl Engine {
    /// When the handler has asked something in its last turn: writes the members of the result that asks the client, and says how the
    /// call ends.
    pub(super) fn take_questions(&mut self, now: Now, context: &Context, binding: &Binding) -> Option<Ending> {
        let questions = context.questions();
        if questions.is_empty() {
            return None;
        }
        if binding.round >= ASK_ROUNDS_MAX {
            return Some(failed("The server asked for input too many times"));
        }
        let state = context.state_to_seal();
        if sealed_len(PREFIX_BYTES + state.len()) > REQUEST_STATE_BYTES_MAX {
            return Some(failed("The state of the request has become too large"));
        }
        let out = &mut self.scratch.members;
        out.clear();
        out.extend_from_slice(br#""inputRequests":{"#);
        for (index, question) in questions.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            json::write_str(out, &question.key);
            out.extend_from_slice(br#":{"method":"#);
            json::write_str(out, question.method.method());
            out.extend_from_slice(br#","params":"#);
            out.extend_from_slice(&question.params);
            out.push(b'}');
        }
        out.extend_from_slice(br#"},"requestState":"#);
        let mut members = std::mem::take(out);
        self.seal_state(now, binding, &state, &mut members);
        self.scratch.members = members;
        Some(Ending::InputRequired)
    }

    /// Appends a `requestState` that the client may bring back in the next round: a JSON string.
    pub(super) fn seal_state(&mut self, now: Now, binding: &Binding, state: &[u8], out: &mut Vec<u8>) {
        let ttl_ms = u64::try_from(self.config.request_state_ttl.as_millis()).unwrap_or(u64::MAX);
        let mut payload = Vec::with_capacity(PREFIX_BYTES + state.len());
        payload.extend_from_slice(&now.wall_ms.saturating_add(ttl_ms).to_le_bytes());
        payload.extend_from_slice(&(binding.round + 1).to_le_bytes());
        payload.extend_from_slice(state);
        out.push(b'"');
        self.sealer.seal(Purpose::RequestState, &payload, &binding.digest, out);
        out.push(b'"');
    }
}

fn failed(why: &str) -> Ending {
    Ending::Outcome(Outcome::Error(RpcError::internal(why)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Nanos;
    use crate::engine::seal::{KeyPair, SealKeys};
    use crate::wire::jsonrpc::{Body, Message, parse};

    fn binding(principal: &Principal, arguments: &str) -> Binding {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#);
        let Ok(Body::One(Message::Request(request))) = parse(body.as_bytes()) else { panic!("a request") };
        Binding::new("/mcp", principal, &request)
    }

    fn sealed(sealer: &mut Sealer, binding: &Binding, expiry_ms: u64) -> Vec<u8> {
        let mut payload = expiry_ms.to_le_bytes().to_vec();
        payload.extend_from_slice(&3_u32.to_le_bytes());
        payload.extend_from_slice(b"state");
        let mut out = vec![b'"'];
        sealer.seal(Purpose::RequestState, &payload, &binding.digest, &mut out);
        out.push(b'"');
        out
    }

    #[test]
    fn a_state_opens_for_the_same_request_of_the_same_principal_in_time() {
        let mut sealer = Sealer::new(&SealKeys::new(KeyPair::single([5; 32])), [1; 16]);
        let (alice, bob) =
            (Principal::of(Some(b"Bearer a"), [127, 0, 0, 1].into()), Principal::of(Some(b"Bearer b"), [127, 0, 0, 1].into()));
        let now = Now { mono: Nanos(0), wall_ms: 1000 };
        let text = sealed(&mut sealer, &binding(&alice, "{\"x\":1}"), 1500);
        let mut same = binding(&alice, "{\"x\":1}");
        assert_eq!(same.open(&mut sealer, now, &text).as_deref(), Some(&b"state"[..]));
        assert_eq!(same.round, 3);
        assert_eq!(binding(&bob, "{\"x\":1}").open(&mut sealer, now, &text), None, "another principal");
        assert_eq!(binding(&alice, "{\"x\":2}").open(&mut sealer, now, &text), None, "other arguments");
        assert_eq!(same.open(&mut sealer, Now { wall_ms: 1501, ..now }, &text), None, "too late");
        assert_eq!(same.open(&mut sealer, now, b"\"x\""), None);
        assert_eq!(same.open(&mut sealer, now, b"7"), None);
    }
}
