//! Upstreams that turn out to be not as they were known: what they did not take goes again.

use super::*;
use crate::gateway::Doubt;

const OLD: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2025-11-25","2025-06-18","1999-01-01"],"requested":"2026-07-28"}}}"#;
const STALE: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32020,"message":"Header mismatch"}}"#;
const PARAMS: &[u8] = br#"{"name":"t","arguments":{"region":"eu","zone":3},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"progressToken":"p","traceparent":"00"}}"#;
const TOOLS: &str = r#"{"name":"other","inputSchema":{"type":"object"}},{"name":"t","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"zone":{"type":"integer","x-mcp-header":"Zone"}}}}"#;

fn called(index: u32) -> Forward<'static> {
    Forward { params: PARAMS, progress_token: Some(b"\"p\""), ..forward(index, Method::ToolsCall) }
}

/// The id of the message in a request.
fn id(request: &str) -> String {
    let body = request.split("\r\n\r\n").nth(1).expect("a body");
    serde_json::from_str::<serde_json::Value>(body).expect("JSON")["id"].to_string()
}

/// Answers an `initialize` that went over this link, and lets the request that waits for the session go.
fn open_session(bench: &mut Bench, link: LinkId) {
    let initialize = bench.fed().pop().expect("a handshake").1;
    assert!(initialize.contains(r#""method":"initialize""#), "{initialize}");
    let result = r#"{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"u","version":"1"}}"#;
    assert_eq!(bench.bytes(link, &response(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(&initialize)))), []);
    assert!(bench.fed().pop().expect("it is told").1.contains("notifications/initialized"));
    assert_eq!(bench.bytes(link, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"), []);
}

#[test]
fn a_call_goes_again_in_the_version_that_its_upstream_names() {
    let mut bench = Bench::new(settings());
    bench.relay_as(&called(1), Version::V2026_07_28).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    bench.fed();
    assert_eq!(bench.bytes(link, &status("400 Bad Request", OLD)), []);
    let dialled = bench.dialled();
    let link = dialled.first().copied().unwrap_or(link);
    bench.up(link);
    assert_eq!(bench.gateway.take_doubts(), [(0, Doubt::Version)]);
    open_session(&mut bench, link);
    let [(_, again)] = &bench.fed()[..] else { panic!("one request") };
    let params = r#""params":{"name":"t","arguments":{"region":"eu","zone":3},"_meta":{"traceparent":"00","progressToken":"#;
    assert!(again.contains("MCP-Protocol-Version: 2025-06-18\r\n") && again.contains(params) && !again.contains("Mcp-Method"), "{again}");
    let progress =
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{},"progress":1}}}}"#, id(again));
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"content":[]}}}}"#, id(again));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let event = format!("data: {progress}\n\ndata: {answer}\n\n");
    let told = bench.bytes(link, &format!("{head}{:x}\r\n{event}\r\n0\r\n\r\n", event.len()));
    let [(1, Told::Notice(notice)), (1, Told::Answer(200, answer))] = &told[..] else { panic!("an answer: {told:?}") };
    assert!(notice.contains(r#""progressToken":"p""#), "{notice}");
    assert!(answer.starts_with(r#"{"jsonrpc":"2.0","id":1,"#) && answer.contains(r#""resultType":"complete""#), "{answer}");
    // Later ones go so at once, until the registry knows it; then it is as that says.
    bench.relay_as(&called(2), Version::V2026_07_28).expect("it is taken");
    let later = bench.fed().pop().expect("a request").1;
    assert!(later.contains("MCP-Protocol-Version: 2025-06-18\r\n"), "{later}");
    bench.relay_as(&called(3), Version::V2025_11_25).expect("it is taken");
    assert!(bench.fed().pop().expect("a request").1.contains("MCP-Protocol-Version: 2025-06-18\r\n"));
    assert!(bench.gateway.upstreams[0].turned.is_none());
}

#[test]
fn a_call_of_a_session_that_is_refused_goes_again_without_one() {
    let mut bench = Bench::new(settings());
    bench.relay_as(&called(1), Version::V2025_11_25).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let initialize = bench.fed().pop().expect("a handshake").1;
    let refused =
        OLD.replace(r#""2025-11-25","2025-06-18""#, r#""2026-07-28""#).replace(r#""id":1"#, &format!(r#""id":{}"#, id(&initialize)));
    assert_eq!(bench.bytes(link, &status("400 Bad Request", &refused)), []);
    for link in bench.dialled() {
        bench.up(link);
    }
    let (link, again) = bench.fed().pop().expect("it goes again");
    for part in ["Mcp-Method: tools/call\r\n", "Mcp-Name: t\r\n", r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#] {
        assert!(again.contains(part), "{again}");
    }
    let answer = ANSWER.replace(r#""id":1"#, &format!(r#""id":{}"#, id(&again)));
    assert_eq!(bench.bytes(link, &response(&answer)), [(1, Told::Answer(200, ANSWER.to_owned()))]);
    assert_eq!(bench.gateway.take_doubts(), [(0, Doubt::Version)]);
}

#[test]
fn what_is_refused_again_fails_and_so_does_what_no_version_fits() {
    let none = OLD.replace(r#""2025-11-25","2025-06-18","#, "");
    let configured = Settings { dialect: Dialect::Modern, ..settings() };
    for (settings, error) in [(settings(), &*none), (configured, OLD)] {
        let mut bench = Bench::new(settings);
        bench.relay_as(&called(1), Version::V2026_07_28).expect("it is taken");
        let link = bench.dialled()[0];
        bench.up(link);
        assert_eq!(bench.bytes(link, &status("400 Bad Request", error)), failed(1, Failure::Version));
    }
    // One that refuses the version that it names.
    let mut bench = Bench::new(settings());
    bench.relay_as(&called(1), Version::V2026_07_28).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let named = OLD.replace("2025-11-25", "2026-07-28").replace(r#""2025-06-18","#, "");
    assert_eq!(bench.bytes(link, &status("400 Bad Request", &named)), []);
    for link in bench.dialled() {
        bench.up(link);
    }
    let fed = bench.fed();
    let (link, again) = fed.last().expect("it goes again");
    assert_eq!((fed.len(), id(again)), (2, "1".to_owned()));
    assert_eq!(bench.bytes(*link, &status("400 Bad Request", &named)), failed(1, Failure::Version));
    assert!(Failure::Version.to_string().contains("`era`") && !Failure::Version.is_its_fault());
}

#[test]
fn a_later_round_is_not_begun_again_in_another_era() {
    let mut bench = Bench::new(settings());
    let forward = Forward { params: br#"{"name":"t","requestState":"s","inputResponses":{}}"#, ..forward(1, Method::ToolsCall) };
    bench.relay_as(&forward, Version::V2026_07_28).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.bytes(link, &status("400 Bad Request", OLD)), failed(1, Failure::Version));
}

/// Two calls that are refused because of their header fields: the link of the list that is asked for, once, and what was asked.
fn refused(bench: &mut Bench) -> (LinkId, String) {
    for index in [1, 2] {
        let forward = Forward { fields: &[("mcp-param-region", b"us"), ("Mcp-Param-Own", b"x")], ..called(index) };
        bench.relay_as(&forward, Version::V2026_07_28).expect("it is taken");
    }
    let links = bench.dialled();
    bench.fed();
    for link in links {
        bench.up(link);
        assert_eq!(bench.bytes(link, &status("400 Bad Request", STALE)), []);
    }
    let dialled = bench.dialled();
    dialled.into_iter().for_each(|link| bench.up(link));
    let lists: Vec<_> = bench.fed().into_iter().filter(|(_, request)| request.contains("tools/list")).collect();
    let [(link, list)] = &lists[..] else { panic!("one list: {lists:?}") };
    (*link, list.clone())
}

fn list(request: &str, tools: &str, next: &str) -> String {
    response(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"tools":[{tools}]{next},"resultType":"complete"}}}}"#, id(request)))
}

#[test]
fn a_call_goes_again_with_the_fields_that_its_tool_wants_now() {
    let mut bench = Bench::new(settings());
    let (link, page) = refused(&mut bench);
    assert_eq!(bench.gateway.take_doubts(), [(0, Doubt::Tools), (0, Doubt::Tools)]);
    assert_eq!(bench.bytes(link, &list(&page, "", r#","nextCursor":"more""#)), []);
    for link in bench.dialled() {
        bench.up(link);
    }
    let (link, page) = bench.fed().pop().expect("the next page");
    assert!(page.contains(r#""cursor":"more""#), "{page}");
    assert_eq!(bench.bytes(link, &list(&page, TOOLS, "")), []);
    for link in bench.dialled() {
        bench.up(link);
    }
    let fed = bench.fed();
    assert_eq!(fed.len(), 2, "each once: {fed:?}");
    for (_, again) in &fed {
        assert!(again.contains("Mcp-Param-Own: x\r\nMcp-Param-Region: eu\r\nMcp-Param-Zone: 3\r\nContent-Length: "), "{again}");
        assert!(!again.contains("region: us") && again.contains(r#""arguments":{"region":"eu","zone":3}"#), "{again}");
    }
    // Once more is the upstream's to explain.
    let told: Vec<_> = fed
        .iter()
        .enumerate()
        .flat_map(|(at, (link, _))| bench.bytes(*link, &if at == 0 { response(ANSWER) } else { status("400 Bad Request", STALE) }))
        .collect();
    assert!(told.iter().any(|(_, told)| *told == Told::Answer(200, ANSWER.to_owned())), "{told:?}");
    assert!(told.iter().any(|(_, told)| *told == Told::Failed(Failure::Headers)), "{told:?}");
    assert!(Failure::Headers.to_string().contains("x-mcp-header") && !Failure::Headers.is_its_fault());
}

#[test]
fn a_list_that_changes_nothing_or_does_not_come_helps_nobody() {
    for tools in ["", r#"{"name":"t","inputSchema":{"type":"object"}}"#] {
        let mut bench = Bench::new(settings());
        let (link, page) = refused(&mut bench);
        let mut told = bench.bytes(link, &list(&page, tools, ""));
        told.sort_by_key(|(index, _)| *index);
        assert_eq!(told, [(1, Told::Failed(Failure::Headers)), (2, Told::Failed(Failure::Headers))], "{tools}");
    }
    let mut bench = Bench::new(settings());
    let (link, _) = refused(&mut bench);
    assert_eq!(bench.bytes(link, &status("503 Service Unavailable", "")).len(), 2);
    // Who does not wait any more is not told.
    let mut bench = Bench::new(settings());
    let (link, page) = refused(&mut bench);
    let calls = bench.gateway.trips.iter().filter(|(_, trip)| trip.method == Method::ToolsCall);
    let calls: Vec<_> = calls.map(|(key, _)| TripId(key.0, key.1)).collect();
    calls.into_iter().for_each(|call| bench.gateway.cancel(bench.now, call));
    assert_eq!(bench.bytes(link, &list(&page, TOOLS, "")), []);
    assert!(bench.fed().is_empty());
}

#[test]
fn a_client_whose_own_fields_contradict_its_arguments_is_told_so() {
    let mut bench = Bench::new(settings());
    bench.relay_as(&Forward { agrees: false, ..called(1) }, Version::V2026_07_28).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    assert_eq!(bench.bytes(link, &status("400 Bad Request", STALE)), [(1, Told::Answer(400, STALE.to_owned()))]);
}
