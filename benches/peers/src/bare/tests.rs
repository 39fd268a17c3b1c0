//! The loop over real sockets: pipelining, pieces, slow readers, closings.

use super::*;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

const POST: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}";
const WAIT: Duration = Duration::from_secs(20);

/// A loop on its own thread, which ends with the process.
fn serve(reply: &[u8]) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    let answers = Answers::Same(reply.to_vec());
    std::thread::spawn(move || {
        let server = BareLoop::new(SocketAddr::from(([127, 0, 0, 1], 0)), answers).unwrap();
        tell.send(server.address().unwrap()).unwrap();
        let Err(why) = server.run();
        panic!("the loop ended: {why}");
    });
    told.recv_timeout(WAIT).unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    stream.set_write_timeout(Some(WAIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn expect(stream: &mut TcpStream, want: &[u8]) {
    let mut got = vec![0; want.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == want);
}

fn expect_end(mut stream: TcpStream) {
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn pieces_and_pipelines_are_answered_in_full() {
    let mut stream = connect(serve(b"reply"));
    for piece in POST.chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    expect(&mut stream, b"reply");
    // More than one receive buffer, with requests across the seams.
    stream.write_all(&POST.repeat(500)).unwrap();
    expect(&mut stream, &b"reply".repeat(500));
}

#[test]
fn a_slow_reader_gets_every_byte() {
    let reply: Vec<u8> = (0..400_000_u32).map(|i| (i % 251) as u8).collect();
    let mut stream = connect(serve(&reply));
    stream.write_all(&POST.repeat(20)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    expect(&mut stream, &reply.repeat(20));
    stream.write_all(POST).unwrap();
    expect(&mut stream, &reply);
}

#[test]
fn a_half_closed_peer_is_answered_then_closed() {
    let mut stream = connect(serve(b"reply"));
    stream.write_all(&POST.repeat(3)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect(&mut stream, &b"reply".repeat(3));
    expect_end(stream);
}

#[test]
fn close_and_garbage_end_one_connection_only() {
    let to = serve(b"reply");
    let mut healthy = connect(to);
    let mut closing = connect(to);
    closing.write_all(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    expect(&mut closing, b"reply");
    expect_end(closing);
    let mut garbage = connect(to);
    garbage.write_all(b"\x01\x02\r\n\r\n").unwrap();
    expect_end(garbage);
    healthy.write_all(POST).unwrap();
    expect(&mut healthy, b"reply");
}

#[test]
fn descriptors_come_back() {
    let to = serve(b"reply");
    for round in 0..2_000 {
        let mut stream = connect(to);
        stream.write_all(POST).unwrap();
        // Half of the peers leave without reading, some of them with a reset.
        if round % 2 == 0 {
            expect(&mut stream, b"reply");
        }
    }
    // All are closed by now but the last few; other tests here hold a handful.
    let held = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let until = Instant::now() + WAIT;
    while held() > 200 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(held() <= 200, "{} descriptors held", held());
    let mut stream = connect(to);
    stream.write_all(POST).unwrap();
    expect(&mut stream, b"reply");
}
