//! What is refused of messages: by whom, with which words, and who does not notice.

use crate::admission::faults;
use crate::client::{Client, Response, echo, initialize, post};
use crate::server::{Server, in_both_ring_modes, until};

/// Whether this is a refusal by a tier, of the message with this id.
fn is_refusal(answer: &Response, status: u16, label: &str, tier: Option<u32>, id: u32) -> bool {
    let json = answer.json();
    answer.status == status
        && answer.header("retry-after") == Some("1")
        && !answer.closes()
        && json["id"] == id
        && json["error"]["code"] == -32000
        && json["error"]["data"]["refused"] == label
        && json["error"]["data"]["tier"].as_u64() == tier.map(u64::from)
}

/// Sends so many messages at once; says how many were served. All others must have been refused so.
fn flood(client: &mut Client, messages: u32, status: u16, label: &str, tier: Option<u32>) -> u32 {
    let mut sender = client.try_clone().expect("a descriptor");
    let all: String = (0..messages).map(|id| echo(id, "flood")).collect();
    // Answers are read meanwhile: else neither side would take anything in the end.
    let sending = std::thread::spawn(move || sender.send(all));
    let mut served = 0;
    for id in 0..messages {
        let answer = client.response();
        if answer.status == 200 {
            assert!(answer.json()["id"] == id && answer.body.contains("flood"), "{answer:?}");
            served += 1;
        } else {
            assert!(is_refusal(&answer, status, label, tier, id), "{answer:?}");
        }
    }
    sending.join().expect("all was sent");
    served
}

#[test]
fn a_connection_beyond_its_rate_is_told_so_and_the_others_are_served() {
    in_both_ring_modes(&["--connection-rate", "50"], |server| {
        let mut quiet = Client::connect(server.address());
        let mut loud = Client::connect(server.address());
        let served = flood(&mut loud, 2000, 429, "connection_rate", Some(2));
        assert!((50..2000).contains(&served), "{served}");
        assert_eq!(faults(server, "connection_rate"), u64::from(2000 - served));
        for id in 0..20 {
            assert_eq!(quiet.ask(echo(id, "quiet")).status, 200);
        }
        until("the loud one is served again", || Client::connect(server.address()).ask(echo(1, "new")).status == 200);
    });
}

#[test]
fn the_node_beyond_its_rate_says_so_and_a_quiet_connection_is_served() {
    in_both_ring_modes(&["--node-rate", "200", "--cores", "2", "--no-pin"], |server| {
        let address = server.address();
        let mut quiet = Client::connect(address);
        let loud = std::thread::spawn(move || flood(&mut Client::connect(address), 20_000, 503, "node_rate", Some(3)));
        let mut answers = Vec::new();
        while !loud.is_finished() {
            let id = answers.len() as u32;
            let answer = quiet.ask(echo(id, "quiet"));
            assert!(answer.status == 200 || is_refusal(&answer, 503, "node_rate", Some(3), id), "{answer:?}");
            answers.push(answer.status);
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let served = loud.join().expect("every answer was as it should be");
        assert!((100..20_000).contains(&served), "{served}");
        assert!(answers.contains(&200), "{answers:?}");
        until("the node is at ease", || Client::connect(address).ask(echo(1, "later")).status == 200);
    });
}

#[test]
fn a_principal_and_a_tool_have_limits_of_their_own() {
    let server = Server::start(&["--principal-rate", "20", "--cores", "1"]);
    let with_token = |id: u32, token: &str| echo(id, "mine").replacen("host:", &format!("authorization: Bearer {token}\r\nhost:"), 1);
    let mut client = Client::connect(server.address());
    client.send((0..500).map(|id| with_token(id, "one")).collect::<String>());
    let answers: Vec<_> = (0..500).map(|_| client.response()).collect();
    assert!((0..).zip(&answers).all(|(id, answer)| answer.status == 200 || is_refusal(answer, 429, "principal_rate", None, id)));
    assert!(answers.iter().any(|answer| answer.status == 429));
    assert_eq!(client.ask(with_token(1, "two")).status, 200, "another caller over the same connection");
    server.stop();
    let server = Server::start(&["--tool-rate", "20", "--cores", "1"]);
    let mut client = Client::connect(server.address());
    let served = flood(&mut client, 500, 503, "tool_rate", None);
    assert!((20..500).contains(&served), "{served}");
    let add = crate::client::modern(1, "tools/call", r#""name":"add","arguments":{"a":1,"b":2}"#);
    assert_eq!(client.ask(add).status, 200, "another tool");
}

#[test]
fn a_session_is_told_so_too_and_goes_on() {
    let server = Server::start(&["--connection-rate", "20"]);
    let mut client = Client::connect(server.address());
    let opened = client.ask(initialize("2025-11-25"));
    let session = opened.header("mcp-session-id").expect("a session").to_owned();
    let fields = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-11-25")];
    let ping = |id: u32| post(&fields, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
    client.send((0..500).map(ping).collect::<String>());
    let answers: Vec<_> = (0..500).map(|_| client.response()).collect();
    assert!((0..).zip(&answers).all(|(id, answer)| answer.status == 200 || is_refusal(answer, 429, "connection_rate", Some(2), id)));
    assert!(answers.iter().any(|answer| answer.status == 429));
    assert_eq!(Client::connect(server.address()).ask(ping(9)).status, 200, "the session lives");
}
