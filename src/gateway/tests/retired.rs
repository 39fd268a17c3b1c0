//! Upstreams that are taken out, or reached in another way: what they have in work ends as it would have, then nothing of them is left.

use super::*;

impl Bench {
    /// The upstream is no more.
    fn take_out(&mut self) {
        let mut roster = Roster::new([settings()]).next_edition();
        roster.remove("u");
        let followed = self.gateway.follow(self.now, &roster);
        assert_eq!(followed.retired, [0]);
        self.take();
    }
}

fn child() -> Settings {
    let command =
        super::super::link::Command { name: "u".into(), program: "p".into(), args: Box::default(), env: Box::default(), cwd: None };
    Settings { dial: Arc::new(Dial::Child(Box::new(command))), ..settings() }
}

#[test]
fn a_call_in_work_ends_well_and_none_is_taken() {
    let mut bench = Bench::new(settings());
    let idle = bench.warm();
    bench.relay(2).expect("it is taken");
    bench.relay(3).expect("it is taken");
    bench.relay(4).expect("it waits");
    let busy = bench.dialled()[0];
    bench.up(busy);
    bench.take_out();
    assert_eq!(bench.relay(5), Err(Failure::Gone));
    assert_eq!(bench.hung(), [], "both links are needed");
    assert_eq!(bench.bytes(idle, &response(ANSWER)), [(2, Told::Answer(200, ANSWER.to_owned()))]);
    // The one that waited takes the link.
    assert_eq!(bench.bytes(idle, &response(ANSWER)), [(4, Told::Answer(200, ANSWER.to_owned()))]);
    assert!(bench.gateway.spent().is_empty());
    assert_eq!(bench.bytes(busy, &response(ANSWER)), [(3, Told::Answer(200, ANSWER.to_owned()))]);
    bench.pass(Duration::from_millis(200));
    let mut hung = bench.hung();
    hung.sort_by_key(|link| link.index);
    assert_eq!(hung, [idle, busy]);
    assert_eq!(bench.gateway.spent(), [0]);
    bench.gateway.forget(0);
    assert_eq!((bench.relay(6), bench.gateway.settings(0).is_none()), (Err(Failure::Gone), true));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.gateway.next_due(), Nanos::NEVER, "nothing is left to be done");
}

#[test]
fn a_session_is_ended_when_its_last_call_is_over() {
    let mut bench = Bench::new(settings());
    bench.relay_as(&forward(1, Method::ToolsCall), Version::V2025_11_25).expect("it is taken");
    let (link, sent) = bench.serve_sessions("s-1").remove(0);
    bench.fed();
    bench.take_out();
    bench.pass(Duration::from_secs(1));
    assert!(bench.fed().is_empty(), "the session is needed");
    let id = super::hostile::id_of(&sent);
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[]}}}}"#);
    assert!(matches!(bench.bytes(link, &response(&answer))[..], [(1, Told::Answer(200, _))]));
    bench.pass(Duration::from_millis(200));
    let ended = bench.fed();
    assert!(ended.len() == 1 && ended[0].1.starts_with("DELETE /mcp ") && ended[0].1.contains("MCP-Session-Id: s-1\r\n"), "{ended:?}");
    let link = ended[0].0;
    bench.event(link, LinkEvent::Drained);
    bench.bytes(link, "HTTP/1.1 204 No Content\r\n\r\n");
    bench.pass(Duration::from_millis(400));
    assert!(bench.fed().is_empty(), "once");
    assert_eq!(bench.gateway.spent(), [0]);
}

#[test]
fn a_process_is_stopped_when_its_last_call_is_over() {
    let mut bench = Bench::new(child());
    bench.relay(1).expect("it is taken");
    let link = bench.dialled()[0];
    bench.up(link);
    let id = super::hostile::id_of(&bench.fed()[0].1);
    bench.take_out();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.hung(), []);
    let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"content\":[],\"resultType\":\"complete\"}}}}\n");
    assert!(matches!(bench.bytes(link, &answer)[..], [(1, Told::Answer(200, _))]));
    bench.pass(Duration::from_millis(200));
    assert_eq!((bench.hung(), bench.gateway.spent()), (vec![link], vec![0]));
}

#[test]
fn what_does_not_end_is_ended() {
    let mut bench = Bench::new(Settings { first_byte_timeout: Duration::from_secs(3600), ..settings() });
    bench.relay_as(&forward(1, Method::ToolsCall), Version::V2025_11_25).expect("it is taken");
    let (link, _) = bench.serve_sessions("s-1").remove(0);
    // Its client is asked, and may take its time.
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let question = r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}"#;
    assert!(matches!(bench.bytes(link, &format!("{head}data: {question}\n\n"))[..], [(1, Told::Asks(_))]));
    bench.take_out();
    assert_eq!(bench.pass(Duration::from_secs(60)), []);
    assert_eq!(bench.pass(Duration::from_secs(6)), failed(1, Failure::Gone));
    assert!(bench.fed().iter().any(|(_, text)| text.starts_with("DELETE ")), "its session is ended");
    // Nobody answers that.
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.gateway.spent(), [0]);
}
