//! Requests from the server to the client, legacy era: sampling, elicitation and roots go out on the stream of the call that asks
//! (2025-11-25, client features), and the client posts its responses.

use super::Engine;
use super::call::Caller;
use super::legacy::Asker;
use super::legacy_stream;
use super::out::Out;
use super::session_state::{Ask, AskToken};
use crate::base::fault::code;
use crate::base::ids::{CallId, SessionKey};
use crate::base::time::Now;
use crate::native::host::AskMethod;
use crate::native::questions::NoResult;
use crate::wire::jsonrpc::{self, Id, Response};
use crate::wire::mcp::ClientCapabilities;

/// Sends the question on the call's stream. The handler is told at once when that cannot be done.
#[allow(clippy::too_many_arguments, reason = "a wish, taken apart")]
pub(super) fn ask(
    engine: &mut Engine,
    now: Now,
    asker: Asker,
    call: CallId,
    key: &str,
    method: AskMethod,
    params: &[u8],
    out: &mut Out,
) {
    if let Err(why) = send(engine, now, asker, call, key, method, params, out) {
        answer(engine, call, key, Err(why));
    }
}

#[allow(clippy::too_many_arguments, reason = "a wish, taken apart")]
fn send(
    engine: &mut Engine,
    now: Now,
    asker: Asker,
    call: CallId,
    key: &str,
    method: AskMethod,
    params: &[u8],
    out: &mut Out,
) -> Result<(), NoResult> {
    let pending = engine.legacy.pendings.get_mut(asker.0).ok_or(NoResult::Lost)?;
    let session = engine.legacy.sessions.get_mut(pending.session).ok_or(NoResult::Lost)?;
    if !can(session.capabilities, method) {
        return Err(NoResult::Error(undeclared(method)));
    }
    let token = engine.legacy.tokens.draw();
    if !session.ask(token, Ask { call, key: key.into() }) {
        return Err(NoResult::Lost);
    }
    let mut id = Vec::new();
    token.write(&mut id);
    let mut message = std::mem::take(&mut engine.scratch.message);
    message.clear();
    jsonrpc::request(&mut message, Id::String(&id), method.method(), params);
    let is_sent = legacy_stream::tell(engine, now, asker.0, &message, out);
    engine.scratch.message = message;
    if !is_sent {
        return Err(NoResult::Lost);
    }
    // A person may be asked: the request's own deadline would be too short.
    let until = now.mono.after(engine.config.request_state_ttl);
    engine.calls.postpone(call, until);
    Ok(())
}

/// Whether the client declared what the question needs.
const fn can(capabilities: ClientCapabilities, method: AskMethod) -> bool {
    match method {
        AskMethod::Elicit => capabilities.elicitation_form() || capabilities.elicitation_url(),
        AskMethod::Sample => capabilities.sampling(),
        AskMethod::Roots => capabilities.roots(),
    }
}

/// The error that a client without the method would answer.
fn undeclared(method: AskMethod) -> Vec<u8> {
    format!(r#"{{"code":{},"message":"The client did not declare the capability that {} needs"}}"#, code::METHOD_NOT_FOUND, method.method())
        .into_bytes()
}

/// A posted response. One that answers nothing that was asked in this session is dropped.
pub(super) fn on_response(engine: &mut Engine, now: Now, key: SessionKey, response: &Response<'_>) {
    let Some(id) = response.id else { return };
    let Some(session) = engine.legacy.sessions.get_mut(key) else { return };
    let Some(ask) = session.answered(id.raw()) else { return };
    let until = now.mono.after(engine.config.request_timeout);
    engine.calls.postpone(ask.call, until);
    let reply = match (response.result, response.error) {
        (Some(result), _) => Ok(result),
        (None, Some(error)) => Err(NoResult::Error(error.to_vec())),
        (None, None) => Err(NoResult::Lost),
    };
    answer(engine, ask.call, &ask.key, reply);
}

/// Hands the reply to the handler that waits for it.
fn answer(engine: &mut Engine, call: CallId, key: &str, reply: Result<&[u8], NoResult>) {
    let Some(work) = engine.calls.get(call).filter(|work| matches!(work.caller, Caller::Legacy(_))) else { return };
    let context = work.context.clone();
    context.answer(key, reply);
}

/// Tells the client that questions of a call that has ended need no answer any more.
pub(super) fn withdraw(engine: &mut Engine, now: Now, asker: Asker, questions: &[AskToken], out: &mut Out) {
    for token in questions {
        let mut params = br#"{"requestId":"#.to_vec();
        token.write(&mut params);
        params.extend_from_slice(br#","reason":"The request that needed it has ended"}"#);
        legacy_stream::notify(engine, now, asker, "notifications/cancelled", &params, out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use crate::engine::testing::config;
    use crate::engine::testing_legacy::{Client, call, cluster, cluster_with, text};

    fn posted(id: &Value, result: &Value) -> String {
        json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
    }

    #[test]
    fn a_question_goes_out_on_the_call_s_stream_and_its_answer_comes_by_post() {
        for (tool, method, result, said) in [
            ("elicit", "elicitation/create", json!({"action": "accept", "content": {"name": "Ada"}}), "Ada"),
            ("sample", "sampling/createMessage", json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "A rose"}}), "A rose"),
            ("roots", "roots/list", json!({"roots": [{"uri": "file:///a"}]}), "1"),
        ] {
            let mut cluster = cluster(1);
            let client = Client::open(&mut cluster, "2025-11-25");
            let (conn, asked) = client.post_aside(&mut cluster, &call("1", tool));
            let question = asked.events().pop().expect("a question");
            assert_eq!(question["method"], method);
            let answer = client.post(&mut cluster, &posted(&question["id"], &result));
            assert_eq!((answer.status, answer.body.as_str()), (202, ""));
            let reply = cluster.take(conn);
            assert!(text(&reply.events()[0]).contains(said), "{}", reply.body);
            assert!(!reply.is_open && !cluster.is_pending(conn));
        }
    }

    #[test]
    fn an_error_is_an_answer_too() {
        let mut cluster = cluster(1);
        let client = Client::open(&mut cluster, "2025-06-18");
        let (conn, asked) = client.post_aside(&mut cluster, &call("1", "elicit"));
        let question = asked.events().pop().expect("a question");
        let error = json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": -1, "message": "no such user"}});
        assert_eq!(client.post(&mut cluster, &error.to_string()).status, 202);
        let reply = cluster.take(conn).events().pop().expect("a reply");
        assert_eq!(reply["result"]["isError"], true);
        assert!(text(&reply).contains("no such user"), "{reply}");
    }

    #[test]
    fn another_session_s_answer_is_ignored() {
        let mut cluster = cluster(1);
        let client = Client::open(&mut cluster, "2025-11-25");
        let other = Client::open(&mut cluster, "2025-11-25");
        let (conn, asked) = client.post_aside(&mut cluster, &call("1", "roots"));
        let question = asked.events().pop().expect("a question");
        let answer = posted(&question["id"], &json!({"roots": []}));
        assert_eq!(other.post(&mut cluster, &answer).status, 202);
        assert!(cluster.is_pending(conn));
        client.post(&mut cluster, &answer);
        assert!(!cluster.is_pending(conn));
        assert_eq!(client.post(&mut cluster, &answer).status, 202, "a second answer is nobody's");
    }

    #[test]
    fn a_client_without_the_capability_is_not_asked() {
        let mut cluster = cluster(1);
        for (version, capabilities) in [("2025-11-25", "{}"), ("2025-03-26", r#"{"elicitation":{}}"#)] {
            let client = Client::open_with(&mut cluster, 0, version, capabilities);
            let answer = client.post(&mut cluster, &call("1", "elicit"));
            assert!(answer.body.contains("elicitation") && !answer.body.contains("elicitation/create"), "{}", answer.body);
            assert!(!cluster.is_pending(client.conn));
        }
    }

    #[test]
    fn a_question_outlives_the_deadline_of_its_request_and_not_its_own() {
        let mut config = config();
        config.request_timeout = Duration::from_secs(5);
        config.request_state_ttl = Duration::from_secs(60);
        let mut cluster = cluster_with(1, &config);
        let client = Client::open(&mut cluster, "2025-11-25");
        let (conn, _) = client.post_aside(&mut cluster, &call("1", "roots"));
        cluster.pass(Duration::from_secs(30));
        assert!(cluster.is_pending(conn));
        cluster.pass(Duration::from_secs(60));
        assert!(!cluster.is_pending(conn));
        let rest = cluster.take(conn).events();
        let withdrawn = rest.iter().find(|event| event["method"] == "notifications/cancelled").expect("the question is withdrawn");
        assert!(withdrawn["params"]["requestId"].as_str().unwrap().starts_with("ask-"));
        assert_eq!(rest.last().unwrap()["error"]["code"], -32603);
    }
}
