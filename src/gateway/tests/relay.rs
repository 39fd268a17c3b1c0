//! Requests that are answered.

use super::*;
use crate::base::metrics::Counter;

#[test]
fn a_request_goes_out_as_it_came_and_its_answer_comes_back_as_it_was_given() {
    let mut bench = Bench::new(settings());
    let fields: [(&str, &[u8]); 1] = [("Mcp-Param-Region", b"eu")];
    let params = br#"{"name":"x.t","arguments":{"a":[1, 2]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
    let forward = Forward {
        id: Id::String(b"\"\\u0061\""),
        params,
        renamed: crate::wire::json::get(params, "name"),
        exposed: "x.t",
        fields: &fields,
        ..forward(1, Method::ToolsCall)
    };
    bench.relay_as(&forward, Version::V2026_07_28).expect("it is taken");
    let body = r#"{"jsonrpc":"2.0","id":"\u0061","method":"tools/call","params":{"name":"t","arguments":{"a":[1, 2]},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let head = "POST /mcp HTTP/1.1\r\nHost: u.test\r\nAccept: application/json, text/event-stream\r\nContent-Type: application/json\r\nX-Key: k\r\nMCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: t\r\nMcp-Param-Region: eu\r\n";
    let link = bench.dialled()[0];
    assert_eq!(bench.fed(), [(link, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()))]);
    bench.up(link);
    let answer = r#" {"id":"a","x":1,"jsonrpc":"2.0","result":{"resultType":"task"}}"#;
    let reply = response(answer);
    for at in 0..reply.len() - 1 {
        assert_eq!(bench.bytes(link, &reply[at..=at]), []);
    }
    assert_eq!(bench.bytes(link, &reply[reply.len() - 1..]), [(1, Told::Answer(200, answer.to_owned()))]);
}

#[test]
fn a_link_carries_one_request_after_another() {
    let mut bench = Bench::new(settings());
    let link = bench.warm();
    bench.relay(2).expect("it is taken");
    assert_eq!(bench.dialled(), []);
    assert_eq!(bench.fed()[0].0, link);
    let closing = response(ANSWER).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    assert_eq!(bench.bytes(link, &closing), [(2, Told::Answer(200, ANSWER.to_owned()))]);
    assert_eq!(bench.hung(), [link], "an upstream that wants it closed has it closed");
    bench.relay(3).expect("it is taken");
    assert_eq!(bench.dialled().len(), 1);
}

#[test]
fn idle_links_are_closed_after_a_while() {
    let mut bench = Bench::new(settings());
    let link = bench.warm();
    bench.pass(Duration::from_secs(30));
    assert_eq!(bench.hung(), []);
    bench.pass(Duration::from_secs(31));
    assert_eq!(bench.hung(), [link]);
    assert_eq!(bench.gateway.next_due(), Nanos::NEVER, "nothing is left to look at");
}

#[test]
fn what_is_said_before_the_answer_is_passed_on_at_once() {
    let mut bench = Bench::new(settings());
    let forward = Forward { progress_token: Some(b"5"), ..forward(1, Method::ToolsCall) };
    bench.relay_as(&forward, Version::V2026_07_28).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let progress = r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":5,"progress":1}}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let first = format!("{head}{}", chunk(&format!(": hello\n\ndata: {progress}\n\n")));
    assert_eq!(bench.bytes(link, &first), [(1, Told::Notice(progress.to_owned()))]);
    assert_eq!(bench.bytes(link, &chunk(&format!("event: message\ndata: {ANSWER}\n\n"))), [(1, Told::Answer(200, ANSWER.to_owned()))]);
    bench.relay(2).expect("it is taken");
    assert_ne!(bench.dialled(), [], "the stream is not over");
    assert_eq!(bench.bytes(link, "0\r\n\r\n"), []);
    bench.fed();
    bench.relay(3).expect("it is taken");
    assert_eq!(bench.fed()[0].0, link, "now it is");
}

#[test]
fn a_stream_that_does_not_end_behind_its_answer_is_closed() {
    let mut bench = Bench::new(settings());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let event = format!("data: {ANSWER}\n\n");
    let told = bench.bytes(link, &format!("{head}{:x}\r\n{event}\r\n", event.len()));
    assert_eq!(told, [(1, Told::Answer(200, ANSWER.to_owned()))]);
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.hung(), [link]);
}

#[test]
fn requests_beyond_the_limit_wait_and_those_beyond_the_queue_are_turned_away() {
    let mut bench = Bench::new(settings());
    for index in 1..=4 {
        bench.relay(index).expect("it is taken");
    }
    assert_eq!(bench.relay(5), Err(Failure::Busy));
    let links = bench.dialled();
    assert_eq!((links.len(), bench.fed().len()), (2, 2), "two are in work, two wait");
    bench.up(links[0]);
    assert_eq!(bench.bytes(links[0], &response(ANSWER)), [(1, Told::Answer(200, ANSWER.to_owned()))]);
    assert_eq!(bench.fed().iter().map(|(link, _)| *link).collect::<Vec<_>>(), [links[0]], "the third goes where the first went");
    assert_eq!(bench.event(links[1], LinkEvent::Down(Down::Refused)), failed(2, Failure::Down(Down::Refused)));
    assert_eq!((bench.dialled().len(), bench.fed().len()), (1, 1), "the fourth has a link of its own");
}

#[test]
fn a_request_that_is_called_off_takes_its_link_with_it() {
    let mut bench = Bench::new(settings());
    let trips: Vec<_> = (1..=3).map(|index| bench.relay(index).expect("it is taken")).collect();
    let links = bench.dialled();
    bench.gateway.cancel(bench.now, trips[2]);
    bench.gateway.cancel(bench.now, trips[0]);
    bench.take();
    assert_eq!(bench.hung(), [links[0]]);
    assert_eq!(bench.bytes(links[0], &response(ANSWER)), [], "what comes late is nobody's");
    bench.up(links[1]);
    assert_eq!(bench.bytes(links[1], &response(ANSWER)), [(2, Told::Answer(200, ANSWER.to_owned()))]);
}

#[test]
fn a_slow_client_slows_its_upstream_down() {
    let mut bench = Bench::new(settings());
    let trip = bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let throttled = |bench: &mut Bench| {
        bench.take();
        let throttle = |effect: Effect| if let Effect::Throttle { is_paused, .. } = effect { Some(is_paused) } else { None };
        std::mem::take(&mut bench.effects).into_iter().filter_map(throttle).collect::<Vec<_>>()
    };
    bench.gateway.choke(trip, true);
    bench.gateway.choke(trip, true);
    assert_eq!(throttled(&mut bench), [true]);
    bench.gateway.choke(trip, false);
    assert_eq!(throttled(&mut bench), [false]);
    bench.gateway.choke(trip, true);
    assert_eq!(bench.bytes(link, &response(ANSWER)).len(), 1);
    assert_eq!(throttled(&mut bench), [true, false], "the next request finds it reading");
}

#[test]
fn a_warm_request_allocates_no_more_than_its_entry() {
    let mut bench = Bench::new(settings());
    let link = bench.warm();
    let reply = response(ANSWER);
    let forward = forward(1, Method::ToolsCall);
    let once = |bench: &mut Bench| {
        bench.gateway.relay(bench.now, 0, Version::V2026_07_28, &forward).expect("it is taken");
        bench.gateway.drain(|_, _| ());
        let heard = bench.gateway.on_bytes(bench.now, link, reply.as_bytes()).expect("an answer");
        let What::Answer { message, .. } = heard.what else { panic!("an answer") };
        bench.gateway.recycle(message);
        bench.gateway.drain(|_, _| ());
    };
    (0..8).for_each(|_| once(&mut bench));
    let (allocations, ()) = crate::base::allocations::counted(|| (0..100).for_each(|_| once(&mut bench)));
    assert_eq!(allocations, 0);
    assert_eq!(bench.metrics.counter(Counter::Relayed), 109);
}
