//! HTTP/1.1 as it comes over a socket: framing, methods, limits, and what is refused.

use crate::client::{Client, echo, modern, post};
use crate::server::{Server, in_both_ring_modes};

#[test]
fn a_connection_is_kept_and_replies_to_pipelined_requests_come_in_order() {
    in_both_ring_modes(&[], |server| {
        let mut client = Client::connect(server.address());
        for id in 1..=3 {
            let answer = client.ask(echo(id, "one at a time"));
            assert_eq!((answer.status, answer.json()["id"].as_u64()), (200, Some(id.into())));
        }
        let burst: String = (10..74).map(|id| echo(id, &format!("message {id}"))).collect();
        client.send(burst);
        for id in 10..74 {
            let answer = client.response().json();
            assert_eq!(answer["id"], id);
            assert_eq!(answer["result"]["content"][0]["text"], format!("message {id}"));
        }
    });
}

#[test]
fn a_request_split_at_any_byte_gets_the_same_answer() {
    in_both_ring_modes(&[], |server| {
        let request = echo(7, "split me");
        let mut client = Client::connect(server.address());
        let whole = client.ask(&request).without_date();
        for at in 1..request.len() {
            let (first, second) = request.split_at(at);
            client.send(first);
            // The second part goes out on its own, since the first has its segment already (no delay is set).
            assert_eq!(client.ask(second).without_date(), whole, "split at {at}");
        }
    });
}

#[test]
fn a_chunked_body_is_read() {
    let server = Server::start(&[]);
    let plain = echo(1, "chunked");
    let (head, body) = plain.split_once("\r\n\r\n").expect("a head and a body");
    let head: String = head.lines().filter(|line| !line.starts_with("content-length")).map(|line| format!("{line}\r\n")).collect();
    let (one, two) = body.split_at(20);
    let chunked = format!(
        "{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:X};x=y\r\n{two}\r\n0\r\nTrailer: dropped\r\n\r\n",
        one.len(),
        two.len()
    );
    let mut client = Client::connect(server.address());
    let answer = client.ask(chunked);
    assert_eq!(answer.json()["result"]["content"][0]["text"], "chunked");
    assert_eq!(client.ask(echo(2, "still here")).status, 200);
}

#[test]
fn a_client_that_expects_continue_is_told_to() {
    let server = Server::start(&[]);
    let request = echo(1, "continue").replacen("\r\n", "\r\nexpect: 100-continue\r\n", 1);
    let (head, body) = request.split_once("\r\n\r\n").expect("a head and a body");
    let mut client = Client::connect(server.address());
    client.send(format!("{head}\r\n\r\n"));
    assert_eq!(client.response().status, 100);
    assert_eq!(client.ask(body).status, 200);
}

#[test]
fn other_methods_are_answered_properly() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.address());
    let options = client.ask("OPTIONS /mcp HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(options.status, 204);
    assert!(options.header("allow").is_some_and(|allow| allow.contains("POST")), "{options:?}");
    for method in ["PUT", "PATCH", "BREW"] {
        let answer = client.ask(format!("{method} /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"));
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.header("allow").is_some(), "a 405 says what is allowed");
    }
    client.send("HEAD /mcp HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let (status, _) = client.head().expect("a head");
    assert!((400..500).contains(&status), "there is nothing to HEAD: {status}");
    assert_eq!(client.ask(echo(1, "a HEAD has no body, so this is read right")).status, 200);
    assert_eq!(client.ask("GET /nothing HTTP/1.1\r\nhost: localhost\r\n\r\n").status, 404);
}

#[test]
fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let server = Server::start(&[]);
    let body = "{}";
    let cases = [
        ("both lengths", format!("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{body}")),
        ("two lengths", format!("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n{body}")),
        ("a list of lengths", format!("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: 2, 2\r\n\r\n{body}")),
        ("a signed length", format!("POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: +2\r\n\r\n{body}")),
        ("a bad chunk size", "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n".into()),
        ("a chunk longer than its size", "POST /mcp HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n".into()),
        ("obs-fold", "GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n".into()),
        ("a bare LF", "GET /mcp HTTP/1.1\nhost: a\n\n\r\n\r\n".into()),
        ("a bare CR", "GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\rz\r\n\r\n".into()),
        ("NUL", "GET /mcp HTTP/1.1\r\nhost: a\r\nx: y\0z\r\n\r\n".into()),
        ("a space before the colon", "GET /mcp HTTP/1.1\r\nhost : a\r\n\r\n".into()),
        ("no host", "GET /mcp HTTP/1.1\r\nx: y\r\n\r\n".into()),
        ("two hosts", "GET /mcp HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".into()),
    ];
    for (what, bytes) in cases {
        let mut client = Client::connect(server.address());
        let answer = client.ask(bytes);
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert!(answer.closes(), "{what}");
        assert!(client.is_closed(), "{what}");
    }
}

#[test]
fn what_is_too_long_is_refused_by_its_name() {
    let server = Server::start(&["--max-body-bytes", "2000"]);
    let long_field = format!("GET /mcp HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let many_fields = format!("GET /mcp HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(200));
    let long_target = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(10_000));
    let long_body = post(&[], &" ".repeat(2001));
    for (bytes, status) in [(long_field, 431), (many_fields, 431), (long_target, 414), (long_body, 413)] {
        let mut client = Client::connect(server.address());
        let answer = client.ask(bytes);
        assert_eq!((answer.status, answer.closes()), (status, true), "{answer:?}");
        assert!(client.is_closed(), "{status}");
    }
    let mut client = Client::connect(server.address());
    assert_eq!(client.ask(echo(1, "healthy clients are unaffected")).status, 200);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    in_both_ring_modes(&[], |server| {
        let mut client = Client::connect(server.address());
        client.send(echo(1, "half closed"));
        client.finish();
        assert_eq!(client.response().json()["result"]["content"][0]["text"], "half closed");
        assert!(client.is_closed());
    });
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.address());
    let answer = client.ask(echo(1, "old").replacen("HTTP/1.1", "HTTP/1.0", 1));
    assert_eq!(answer.status, 200);
    assert!(client.is_closed());
}

#[test]
fn ipv6_is_served() {
    let server = Server::start(&["--listen", "[::1]:0"]);
    assert!(server.address().is_ipv6());
    assert_eq!(Client::connect(server.address()).ask(echo(1, "six")).status, 200);
}

#[test]
fn a_foreign_origin_or_host_is_refused() {
    let server = Server::start(&["--allowed-origin", "https://app.example", "--allowed-host", "hub.example"]);
    let ask = |from: &str, to: &str| Client::connect(server.address()).ask(echo(1, "x").replacen(from, to, 1)).status;
    assert_eq!(ask("host: localhost", "host: evil.example"), 403);
    assert_eq!(ask("host: localhost", "host: hub.example"), 200);
    assert_eq!(ask("host: localhost", "host: localhost\r\norigin: https://evil.example"), 403);
    assert_eq!(ask("host: localhost", "host: localhost\r\norigin: https://app.example"), 200);
    assert_eq!(ask("host: localhost", "host: localhost\r\norigin: http://localhost:3000"), 200);
}

#[test]
fn health_and_metrics_are_on_the_admin_port() {
    let server = Server::start(&[]);
    assert_eq!(Client::connect(server.address()).ask(echo(1, "counted")).status, 200);
    let mut admin = Client::connect(server.admin());
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(admin.ask(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).status, 200, "{path}");
    }
    let metrics = admin.ask("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert!(metrics.header("content-type").is_some_and(|value| value.starts_with("text/plain")), "{metrics:?}");
    let calls: f64 = metrics.body.lines().filter(|line| line.starts_with("ringhub_tool_calls_total{")).map(last_number).sum();
    assert!((calls - 1.0).abs() < f64::EPSILON, "{}", metrics.body);
    assert_eq!(admin.ask(modern(1, "tools/list", "")).status, 404, "the admin port does not serve MCP");
}

fn last_number(line: &str) -> f64 {
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a sample ends with a number")
}
