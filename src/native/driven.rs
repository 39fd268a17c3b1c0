//! Tests only: handlers driven step by step, as the engine drives them.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::host::{AskMethod, CallSpec, Effect, Host, List, Notify};
use super::inbox::{Event, Inbox};
use super::outcome::{Finished, Job, Outcome, Started};
use super::questions::NoResult;
use super::{AskError, BlockingContext, Context, Elicited, Empty, Level, Notifier, Sampling, Server, Tool, ToolError, join};
use crate::base::ids::CallId;
use crate::base::time::{Nanos, Now};
use crate::wire::json::Decoder;
use crate::wire::mcp::{ClientCapabilities, Version};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

struct Core {
    host: Rc<Host>,
    wakes: Arc<Wakes>,
    capabilities: ClientCapabilities,
    version: Version,
}

impl Core {
    fn new(version: Version) -> Self {
        let capabilities = ClientCapabilities::SAMPLING | ClientCapabilities::ELICITATION_FORM | ClientCapabilities::ROOTS;
        let host = Host::new(Arc::new(Inbox::new(Box::new(|| {}))), Now { mono: Nanos(0), wall_ms: 0 });
        Self { host, wakes: Arc::default(), capabilities, version }
    }

    fn context(&self, input_responses: Option<&[u8]>, state: Option<&[u8]>) -> Context {
        self.host.context(&CallSpec {
            call: CallId { index: 3, generation: 7 },
            server: 2,
            version: self.version,
            progress_token: Some(b"17"),
            level: Some(Level::Warning),
            capabilities: self.capabilities,
            client_info: None,
            meta: Some(br#"{"traceparent":"00-1"}"#),
            principal: b"p",
            input_responses,
            state,
        })
    }

    fn start(&self, server: &Server, context: &Context) -> Job {
        match server.start_tool("t", None, &mut Decoder::new(), context, &mut Vec::new()) {
            Started::Later(job) => job,
            Started::Done(outcome) => panic!("done at once: {outcome:?}"),
            Started::Blocking(_) | Started::NotFound => panic!("not async"),
        }
    }

    fn poll(&self, job: &mut Job) -> Option<Finished> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        match job.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            Poll::Ready(finished) => Some(finished),
            Poll::Pending => None,
        }
    }

    fn effects(&self) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.host.drain_effects(&mut effects);
        effects
    }

    fn woken(&self) -> usize {
        self.wakes.0.swap(0, Relaxed)
    }
}

fn server<R, F, Fut>(handler: F) -> Server
where
    R: super::IntoToolResult + 'static,
    F: Fn(Empty, Context) -> Fut + 'static,
    Fut: Future<Output = R> + 'static,
{
    Server::builder("driven", "1").tool_async("t", handler).build().expect("valid")
}

fn text(finished: Finished) -> String {
    let json = [&b"{"[..], &finished.members, b"}"].concat();
    let value: Value = serde_json::from_slice(&json).expect("JSON");
    value["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

#[derive(Deserialize, JsonSchema)]
struct Name {
    #[schemars(length(min = 2))]
    name: String,
}

fn asking() -> Server {
    server(|_, cx: Context| async move {
        let (name, roots) = join((cx.elicit::<Name>("name", "Who?"), cx.roots("roots"))).await;
        let line = cx.sample("line", Sampling::new(9).user("a line")).await?.text();
        let name = name?.accepted().map_or("nobody".to_owned(), |name| name.name);
        Ok::<_, ToolError>(format!("{name} {} {line}", roots?.len()))
    })
}

const LINE: &[u8] = br#"{"role":"assistant","model":"m","content":{"type":"text","text":"x"}}"#;

#[test]
fn legacy_questions_are_effects_and_their_answers_wake_the_handler() {
    let core = Core::new(Version::V2025_11_25);
    let (server, context) = (asking(), core.context(None, None));
    let mut job = core.start(&server, &context);
    assert!(core.poll(&mut job).is_none());
    let effects = core.effects();
    let [Effect::Ask { key, method: AskMethod::Elicit, params, call }, Effect::Ask { key: second, method: AskMethod::Roots, .. }] =
        &effects[..]
    else {
        panic!("two questions at once: {effects:?}");
    };
    assert_eq!((key.as_str(), second.as_str(), *call), ("name", "roots", context.call()));
    let params: Value = serde_json::from_slice(params).expect("JSON");
    assert_eq!((&params["mode"], &params["requestedSchema"]["properties"]["name"]["minLength"]), (&json!("form"), &json!(2)));
    assert!(context.questions().is_empty(), "nothing is recorded in the legacy era");
    assert!(core.poll(&mut job).is_none() && core.effects().is_empty(), "nothing is asked twice");
    context.answer("name", Ok(br#"{"action":"accept","content":{"name":"Ada"}}"#));
    context.answer("roots", Ok(br#"{"roots":[]}"#));
    context.answer("nobody asked this", Ok(b"{}"));
    assert_eq!(core.woken(), 2);
    assert!(core.poll(&mut job).is_none());
    assert!(matches!(&core.effects()[..], [Effect::Ask { method: AskMethod::Sample, .. }]));
    context.answer("line", Ok(LINE));
    assert_eq!(text(core.poll(&mut job).expect("done")), "Ada 0 x");
}

#[test]
fn modern_questions_are_recorded_and_the_handler_runs_again() {
    let core = Core::new(Version::V2026_07_28);
    let server = asking();
    let first = core.context(None, None);
    let mut job = core.start(&server, &first);
    assert!(core.poll(&mut job).is_none());
    let asked: Vec<_> = first.questions().into_iter().map(|question| question.key).collect();
    assert_eq!(asked, ["name", "roots"]);
    assert!(core.effects().is_empty() && !first.is_retry());
    let state = first.state_to_seal();
    drop((job, first));
    // One answer is too short, one is missing, one was not asked for: what is not good is asked again.
    let responses = br#"{"name":{"action":"accept","content":{"name":"A"}},"roots":{"roots":[{"uri":"file:///a"}]},"x":1}"#;
    let second = core.context(Some(responses), Some(&state));
    let mut job = core.start(&server, &second);
    assert!(core.poll(&mut job).is_none() && second.is_retry());
    let asked: Vec<_> = second.questions().into_iter().map(|question| question.key).collect();
    assert_eq!(asked, ["name"]);
    let state = second.state_to_seal();
    let third = core.context(Some(br#"{"name":{"action":"decline"}}"#), Some(&state));
    let mut job = core.start(&server, &third);
    assert!(core.poll(&mut job).is_none());
    let questions = third.questions();
    assert_eq!((questions.len(), questions[0].method), (1, AskMethod::Sample));
    let fourth = core.context(Some(&[b"{\"line\":", LINE, b"}"].concat()), Some(&third.state_to_seal()));
    let mut job = core.start(&server, &fourth);
    assert_eq!(text(core.poll(&mut job).expect("done")), "nobody 1 x");
}

#[test]
fn what_goes_wrong_with_a_question_is_told_apart() {
    let core = Core::new(Version::V2025_11_25);
    let server = server(|_, cx: Context| async move {
        let answers =
            join((cx.roots("a"), cx.roots("b"), cx.roots("c"), cx.elicit_url("d", super::UrlElicitation::new("m", "u", "i")))).await;
        let told = |answer: Result<Vec<super::Root>, AskError>| format!("{:?}", answer.expect_err("none is answered"));
        let needs = match answers.3 {
            Err(AskError::Undeclared(capability)) => capability.required(),
            _ => "nothing",
        };
        format!("{}|{}|{}|{needs}", told(answers.0), told(answers.1), told(answers.2))
    });
    let context = core.context(None, None);
    let mut job = core.start(&server, &context);
    assert!(core.poll(&mut job).is_none());
    context.answer("a", Err(NoResult::Error(br#"{"code":-1,"message":"no"}"#.to_vec())));
    context.answer("b", Err(NoResult::Lost));
    context.answer("c", Ok(b"{}"));
    let told = text(core.poll(&mut job).expect("done"));
    assert!(told.starts_with(r#"Refused { code: -1, message: "no" }|Lost|Malformed("#), "{told}");
    assert!(told.ends_with(r#"|{"elicitation":{"url":{}}}"#), "{told}");
}

#[test]
fn an_undeclared_capability_ends_the_call_before_anything_is_asked() {
    let mut core = Core::new(Version::V2026_07_28);
    core.capabilities = ClientCapabilities::NONE;
    let server = server(|_, cx: Context| async move { Ok::<_, ToolError>(cx.sample("s", Sampling::new(1)).await?.text()) });
    let context = core.context(None, None);
    let finished = core.poll(&mut core.start(&server, &context)).expect("it does not wait");
    assert_eq!(finished.outcome, Outcome::MissingCapability(br#"{"sampling":{}}"#.to_vec()));
    assert!(context.questions().is_empty() && finished.members.is_empty());
}

#[test]
fn what_is_remembered_comes_back() {
    let core = Core::new(Version::V2026_07_28);
    let server = server(|_, cx: Context| async move {
        let before: Option<u32> = cx.recall("count");
        cx.remember("count", &before.map_or(1, |count| count + 1))?;
        let elicited = cx.elicit::<Name>("name", "Who?").await?;
        Ok::<_, ToolError>(format!("{before:?} {}", matches!(elicited, Elicited::Cancelled)))
    });
    let first = core.context(None, None);
    assert!(core.poll(&mut core.start(&server, &first)).is_none());
    let second = core.context(Some(br#"{"name":{"action":"cancel"}}"#), Some(&first.state_to_seal()));
    assert_eq!(text(core.poll(&mut core.start(&server, &second)).expect("done")), "Some(1) true");
}

#[test]
fn notifications_are_gated_and_ordered() {
    let core = Core::new(Version::V2025_06_18);
    let server = server(|_, cx: Context| async move {
        for value in [1.0, 1.0, 0.5, f64::NAN, 2.0] {
            cx.progress(value, None, None);
        }
        cx.log(Level::Notice, None, "too low");
        cx.log(Level::Error, Some("l"), json!({"a": 1}));
        cx.notify().prompts_changed();
        cx.notify().resource_updated("a://b");
        cx.close_stream(Duration::from_secs(1));
        cx.meta::<String>("traceparent").unwrap_or_default()
    });
    let context = core.context(None, None);
    assert_eq!(text(core.poll(&mut core.start(&server, &context)).expect("done")), "00-1");
    let call = context.call();
    let notify = |method, params: &str| Effect::Notify { call, method, params: params.as_bytes().to_vec() };
    let effects = core.effects();
    assert_eq!(
        effects,
        [
            notify(Notify::Progress, r#"{"progressToken":17,"progress":1.0}"#),
            notify(Notify::Progress, r#"{"progressToken":17,"progress":2.0}"#),
            notify(Notify::Message, r#"{"level":"error","logger":"l","data":{"a":1}}"#),
            Effect::Changed { server: 2, list: List::Prompts },
            Effect::Updated { server: 2, uri: "a://b".to_owned() },
        ],
        "2025-06-18 knows no polling"
    );
}

#[test]
fn sleepers_wake_when_their_time_has_come() {
    let core = Core::new(Version::V2026_07_28);
    let server = server(|_, cx: Context| async move {
        cx.sleep(Duration::from_nanos(50)).await;
        "woke"
    });
    let context = core.context(None, None);
    let mut job = core.start(&server, &context);
    assert!(core.poll(&mut job).is_none());
    assert_eq!(core.host.next_timer(), Nanos(50));
    core.host.fire_timers(Nanos(49));
    assert_eq!(core.woken(), 0);
    core.host.set_now(Now { mono: Nanos(50), wall_ms: 0 });
    core.host.fire_timers(Nanos(50));
    assert_eq!(core.woken(), 1);
    assert_eq!(text(core.poll(&mut job).expect("done")), "woke");
    let mut dropped = core.start(&server, &context);
    assert!(core.poll(&mut dropped).is_none());
    drop(dropped);
    assert_eq!(core.host.next_timer(), Nanos::NEVER, "a dropped sleeper leaves no timer");
}

#[test]
fn cancelling_wakes_who_waits_for_it_and_tells_the_blocking_pool() {
    let core = Core::new(Version::V2026_07_28);
    let server = Server::builder("driven", "1")
        .tool_async("t", |_: Empty, cx: Context| async move {
            cx.cancelled().await;
            "cancelled"
        })
        .tool_blocking(Tool::new("b"), |_: Empty, cx: &BlockingContext| {
            cx.progress(1.0, Some(2.0), Some("m"));
            cx.progress(1.0, None, None);
            cx.log(Level::Debug, None, "too low");
            cx.is_cancelled().to_string()
        })
        .build()
        .expect("valid");
    let context = core.context(None, None);
    let mut job = core.start(&server, &context);
    assert!(core.poll(&mut job).is_none() && !context.is_cancelled());
    let Started::Blocking(work) = server.start_tool("b", None, &mut Decoder::new(), &context, &mut Vec::new()) else {
        panic!("it is blocking");
    };
    context.cancel();
    assert_eq!(core.woken(), 1);
    assert_eq!(text(core.poll(&mut job).expect("done")), "cancelled");
    assert_eq!(text(std::thread::spawn(work).join().expect("it ends")), "true");
    let mut events = Vec::new();
    core.host.inbox().drain(&mut events);
    let [Event::Notify { method: Notify::Progress, params, .. }] = &events[..] else { panic!("one event") };
    assert_eq!(params, br#"{"progressToken":17,"progress":1.0,"total":2.0,"message":"m"}"#);
}

#[test]
fn a_state_is_reused_clean_and_a_panic_leaves_nothing_borrowed() {
    let core = Core::new(Version::V2026_07_28);
    let server = server(|_, cx: Context| async move {
        cx.progress(5.0, None, None);
        cx.remember("k", &1)?;
        let _asked = cx.roots("r").await;
        Ok::<_, ToolError>("")
    });
    let first = core.context(None, None);
    let mut job = core.start(&server, &first);
    assert!(core.poll(&mut job).is_none());
    first.cancel();
    drop((job, first));
    let second = core.context(None, None);
    assert!(!second.is_cancelled() && second.questions().is_empty() && second.recall::<u8>("k").is_none() && !second.is_retry());
    let panicking = Server::builder("driven", "1")
        .tool("t", |_: Empty, cx: &Context| -> &'static str {
            cx.progress(9.0, None, None);
            panic!("on purpose")
        })
        .build()
        .expect("valid");
    let run = std::panic::AssertUnwindSafe(|| panicking.start_tool("t", None, &mut Decoder::new(), &second, &mut Vec::new()));
    assert!(std::panic::catch_unwind(run).is_err());
    second.progress(10.0, None, None);
    assert_eq!(core.effects().len(), 3, "one of the first call, two of the second");
}

#[test]
fn a_notifier_reaches_the_server_it_was_given_to() {
    let core = Core::new(Version::V2026_07_28);
    let notifier = Notifier::new();
    let server = Server::builder("driven", "1").notifier(&notifier).build().expect("valid");
    server.attach(&core.host, 5);
    std::thread::spawn(move || notifier.tools_changed()).join().expect("it ends");
    core.context(None, None).notifier().resource_updated("a://b");
    let mut events = Vec::new();
    core.host.inbox().drain(&mut events);
    assert!(matches!(events[..], [Event::Changed { server: 5, list: List::Tools }, Event::Updated { server: 2, .. }]));
}
