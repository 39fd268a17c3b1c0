//! SIGTERM under load: every request of which the server read a byte is answered in full, and no connection is reset.

use crate::client::{Client, echo};
use crate::server::{Server, in_both_ring_modes};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const RUNS: usize = 20;
const CLIENTS: usize = 16;

/// What one client saw until the server was gone.
#[derive(Default)]
struct Seen {
    answered: usize,
    /// The last answer on each connection said that the connection closes.
    announced: usize,
    faults: Vec<String>,
}

#[test]
fn nothing_in_flight_is_lost_when_the_server_is_told_to_stop() {
    for run in 0..RUNS {
        let mode = if run % 2 == 0 { "auto" } else { "5.8" };
        let server = Server::start(&["--io-uring", mode, "--cores", "2", "--no-pin", "--drain-timeout", "10"]);
        let address = server.address();
        let answered = AtomicUsize::new(0);
        let stopping = AtomicBool::new(false);
        let seen: Vec<Seen> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|n| {
                    scope.spawn({
                        let (answered, stopping) = (&answered, &stopping);
                        move || load(address, n, answered, stopping)
                    })
                })
                .collect();
            while answered.load(Relaxed) < 500 {
                thread::sleep(Duration::from_millis(1));
            }
            stopping.store(true, Relaxed);
            server.stop();
            clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
        });
        let faults: Vec<_> = seen.iter().flat_map(|seen| &seen.faults).collect();
        assert!(faults.is_empty(), "run {run} ({mode}): {faults:#?}");
        assert!(seen.iter().map(|seen| seen.answered).sum::<usize>() >= 500);
        assert!(seen.iter().any(|seen| seen.announced > 0), "run {run} ({mode}): the last replies say Connection: close");
    }
}

/// Sends requests, one or a few at a time, until the server refuses the connection.
fn load(address: SocketAddr, client: usize, answered: &AtomicUsize, stopping: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let depth = 1 + client % 4;
    loop {
        let mut connection = match Client::try_connect(address) {
            Ok(connection) => connection,
            Err(_) if stopping.load(Relaxed) => return seen,
            Err(error) => {
                seen.faults.push(format!("connect: {error}"));
                return seen;
            }
        };
        loop {
            let burst: String = (0..depth).map(|n| echo(n as u32, "drained?")).collect();
            if connection.try_send(burst).is_err() {
                // Nothing of this burst was read if the server had closed before: a reset shows when reading.
                if let Err(error) = connection.read_to_end() {
                    seen.faults.push(format!("after a refused write: {error}"));
                }
                break;
            }
            match replies(&mut connection, depth, &mut seen, answered) {
                Ending::Goes => {}
                Ending::Closed => break,
            }
        }
    }
}

enum Ending {
    Goes,
    Closed,
}

/// Takes the replies to a burst. The server may close between two of them, never within one.
fn replies(connection: &mut Client, depth: usize, seen: &mut Seen, answered: &AtomicUsize) -> Ending {
    for _ in 0..depth {
        match connection.head() {
            Ok((status, headers)) => {
                let header = |name: &str| headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone());
                let length = header("content-length").and_then(|length| length.parse().ok()).expect("a length");
                match connection.body(length) {
                    Ok(_) if status == 200 => {
                        seen.answered += 1;
                        answered.fetch_add(1, Relaxed);
                    }
                    Ok(body) => seen.faults.push(format!("status {status}: {}", String::from_utf8_lossy(&body))),
                    Err(error) => seen.faults.push(format!("within a reply: {error}")),
                }
                if header("connection").as_deref() == Some("close") {
                    seen.announced += 1;
                    if let Err(error) = connection.read_to_end() {
                        seen.faults.push(format!("after the last reply: {error}"));
                    }
                    return Ending::Closed;
                }
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof && !connection.has_part() => return Ending::Closed,
            Err(error) => {
                seen.faults.push(format!("instead of a reply: {error}"));
                return Ending::Closed;
            }
        }
    }
    Ending::Goes
}

#[test]
fn an_open_listen_ends_with_its_result() {
    in_both_ring_modes(&[], |server| {
        let mut client = Client::connect(server.address());
        client.send(crate::client::modern(5, "subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#));
        let (status, _) = client.head().expect("a head");
        assert_eq!(status, 200);
        let first = client.chunk().expect("a chunk").expect("not the last");
        assert!(String::from_utf8_lossy(&first).contains("notifications/subscriptions/acknowledged"));
        server.terminate();
        let mut rest = Vec::new();
        while let Some(chunk) = client.chunk().expect("the stream ends in order") {
            rest.extend(chunk);
        }
        let rest = String::from_utf8_lossy(&rest).into_owned();
        assert!(rest.contains(r#""id":5"#) && rest.contains("complete"), "{rest}");
        assert!(client.is_closed());
    });
}

#[test]
fn a_request_behind_a_stream_that_ends_is_answered() {
    in_both_ring_modes(&[], |server| {
        let mut client = Client::connect(server.address());
        client.send(crate::client::modern(5, "subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#) + &echo(6, "behind"));
        assert_eq!(client.head().expect("a head").0, 200);
        client.chunk().expect("a chunk").expect("not the last");
        server.terminate();
        while client.chunk().expect("the stream ends in order").is_some() {}
        let behind = client.response();
        assert!(behind.status == 200 && behind.body.contains("behind") && behind.closes(), "{behind:?}");
        assert!(client.is_closed());
    });
}

#[test]
fn a_second_signal_stops_at_once() {
    let server = Server::start(&["--drain-timeout", "60"]);
    let mut client = Client::connect(server.address());
    // A request of which one byte was read would be waited for.
    assert_eq!(client.ask(echo(1, "first")).status, 200);
    client.send("POST /mcp HTTP/1.1\r\n");
    server.terminate();
    server.wait_until_it_says("draining");
    server.terminate();
    server.wait();
}
