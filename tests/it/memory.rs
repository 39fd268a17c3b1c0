//! The ceiling of what buffers hold: who gives way, and who does not notice.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::admission::{faults, metric};
use crate::client::{Client, echo, modern};
use crate::gateway::request;
use crate::server::{Server, until};

const LIMIT: u64 = 8 << 20;

/// A server with one tool, whose answer of 3.5 MB stops short of its end.
fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| _ = thread::spawn(|| serve(stream))));
    address
}

fn serve(mut stream: TcpStream) {
    let caching = r#""resultType":"complete","ttlMs":0,"cacheScope":"private""#;
    while let Some(body) = request(&mut stream) {
        let message: Value = serde_json::from_str(&body).unwrap_or_default();
        let result = match message["method"].as_str() {
            Some("server/discover") => format!(r#"{{"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}},{caching}}}"#),
            Some("tools/list") => format!(r#"{{"tools":[{{"name":"endless","inputSchema":{{"type":"object"}}}}],{caching}}}"#),
            _ => {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000000\r\n\r\n";
                let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b' '; 3_500_000]));
                if sent.is_err() {
                    return;
                }
                continue;
            }
        };
        let body = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, message["id"]);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn answers_of_upstreams_count_and_the_largest_give_way() {
    let upstream = format!("endless=http://{}/mcp", endless());
    for cores in ["1", "2"] {
        let limit = LIMIT.to_string();
        let server = Server::start(&["--upstream", &upstream, "--memory-limit", &limit, "--cores", cores, "--no-pin", "--log", "error"]);
        let call = modern(1, "tools/call", r#""name":"endless.endless","arguments":{}"#);
        let mut waiting: Vec<_> = (0..6).map(|_| Client::connect(server.address())).collect();
        until("its tool is there", || Client::connect(server.address()).ask(modern(1, "tools/list", "")).body.contains("endless.endless"));
        waiting.iter_mut().for_each(|client| client.send(&call));
        until("some answers have given way", || metric(&server, "memory_relieved_total") >= 3);
        assert!(faults(&server, "upstream_busy") >= 1);
        until("the rest fits", || (1..=LIMIT).contains(&metric(&server, "buffered_bytes")));
        for id in 0..20 {
            let answer = Client::connect(server.address()).ask(modern(id, "tools/list", ""));
            assert!(answer.status == 200 && answer.body.contains("endless.endless"), "{answer:?}");
        }
        let mut refused = 0;
        for client in &mut waiting {
            client.set_read_timeout(Duration::from_millis(300));
            if let Ok(answer) = client.try_response() {
                assert!(answer.body.contains("no memory left"), "{answer:?}");
                refused += 1;
            }
        }
        assert!((3..6).contains(&refused), "{refused} of six");
        drop(waiting);
        until("it is all given back", || metric(&server, "buffered_bytes") < LIMIT / 4);
        server.stop();
    }
}

#[test]
fn a_buffer_of_one_core_gives_way_to_what_another_core_needs() {
    let limit = LIMIT.to_string();
    let server = Server::start(&["--memory-limit", &limit, "--cores", "2", "--no-pin", "--max-body-bytes", "8388608"]);
    let head = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 8000000\r\n\r\n";
    // Connections go to the core with fewest: the large ones are on both. Each is filled in turn, so that the ceiling is reached slowly.
    let mut large: Vec<_> = (0..4).map(|_| Client::connect(server.address())).collect();
    large.iter_mut().for_each(|client| client.send(head));
    let part = "x".repeat(100_000);
    for _ in 0..60 {
        large.iter_mut().for_each(|client| _ = client.try_send(&part));
        assert!(metric(&server, "buffered_bytes") <= LIMIT, "never more");
    }
    until("some have given way", || metric(&server, "memory_relieved_total") >= 2);
    let refused = large.iter_mut().filter_map(|client| {
        client.set_read_timeout(Duration::from_millis(300));
        client.try_response().ok()
    });
    assert!(refused.filter(|answer| answer.status == 503 && answer.body.contains("memory")).count() <= 4);
    for id in 0..20 {
        assert_eq!(Client::connect(server.address()).ask(echo(id, "small")).status, 200);
    }
}
