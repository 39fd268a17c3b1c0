//! Links over TLS, on every ring path, against a server with a certificate authority of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::client::{RINGS, config, eventually};
use super::links::{Rig, listener, read, settled};
use super::upstreams::pattern;
use crate::rt::{Config, RingChoice};

/// An authority, in a file as an operator would give it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(params.self_signed(&key).expect("a certificate").pem().as_bytes()).expect("a write");
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A server whose certificate is of this authority.
    fn server(&self, name: &str, year: i32) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a configuration");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn rig(&self, ring: RingChoice) -> Rig {
        Rig::of(Config { ca_file: Some(self.file.path().to_owned()), ..config(ring, 1) })
    }
}

type Stream = StreamOwned<ServerConnection, TcpStream>;

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Stream {
    let stream = listener.accept().expect("a connection").0;
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).expect("a session"), stream)
}

impl Rig {
    fn dial_tls(&mut self, link: u32, host: &str, address: SocketAddr) {
        self.dial(link, "tls", 15_000, &[host, &address.port().to_string()]);
    }
}

#[test]
fn bytes_go_both_ways_and_both_sides_say_farewell() {
    const MANY: usize = 5_000_000;
    let authority = Authority::new("ours");
    let config = authority.server("127.0.0.1", 2100);
    for ring in RINGS {
        let mut rig = authority.rig(ring);
        let (listener, address) = listener();
        rig.dial_tls(1, "127.0.0.1", address);
        let mut stream = rig.greet(|| accept(&listener, &config));
        assert_eq!(stream.conn.alpn_protocol(), Some(b"http/1.1".as_slice()));
        // Much, with pauses, in both directions.
        rig.call(1, "nap", b"");
        rig.call(1, &format!("fill/{MANY}"), b"");
        let thread = std::thread::spawn(move || {
            let received = read(&mut stream, MANY);
            stream.write_all(&received).expect("a write");
            stream.flush().expect("a write");
            stream
        });
        rig.until(1, &format!("bytes={MANY} up drained=2"));
        assert!(rig.call(1, "bytes", b"").iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        let mut stream = thread.join().expect("the server");
        stream.conn.send_close_notify();
        stream.flush().expect("a write");
        rig.until(1, "up end drained=2");
        rig.call(1, "feed", b"still");
        assert_eq!(read(&mut stream, 5), b"still");
        rig.until(1, "drained=3");
        rig.call(1, "hang", b"");
        rig.until(1, "down=Hung");
        assert_eq!(stream.read(&mut [0; 1]).expect("a farewell"), 0);
        eventually("its place is free again", || rig.running.node.links.taken() == 0);
    }
}

#[test]
fn the_next_link_resumes_the_session() {
    let authority = Authority::new("ours");
    let config = authority.server("localhost", 2100);
    for ring in RINGS {
        let mut rig = authority.rig(ring);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            rig.dial_tls(1, "localhost", address);
            rig.call(1, "feed", b"x");
            let mut stream = accept(&listener, &config);
            assert_eq!(read(&mut stream, 1), b"x");
            assert_eq!(stream.conn.handshake_kind(), Some(expected));
            stream.write_all(b"y").expect("a write");
            rig.until(1, "bytes=1");
            rig.call(1, "hang", b"");
            rig.until(1, "down=Hung");
        }
    }
}

#[test]
fn a_certificate_that_cannot_be_believed_is_told_in_words() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let cases = [
        (stranger.server("127.0.0.1", 2100), "invalid peer certificate: UnknownIssuer"),
        (authority.server("example.com", 2100), "certificate not valid for name \\\"127.0.0.1\\\""),
        (authority.server("127.0.0.1", 2020), "certificate expired"),
    ];
    for ring in RINGS {
        let mut rig = authority.rig(ring);
        for (link, (config, text)) in (1..).zip(&cases) {
            let (listener, address) = listener();
            rig.dial_tls(link, "127.0.0.1", address);
            let mut stream = accept(&listener, config);
            // The server is told, too.
            let error = stream.read(&mut [0; 1]).expect_err("an alert");
            assert!(error.to_string().contains("received fatal alert"), "{error}");
            let seen = rig.until(link, "down");
            assert!(seen.contains("down=Tls(") && seen.contains(text) && !seen.contains("up"), "{seen}");
        }
    }
}

#[test]
fn what_is_not_tls_or_is_cut_off_is_told() {
    let authority = Authority::new("ours");
    let config = authority.server("127.0.0.1", 2100);
    for ring in RINGS {
        let mut rig = authority.rig(ring);
        let (listener, address) = listener();
        rig.dial_tls(1, "127.0.0.1", address);
        let mut plain = listener.accept().expect("a connection").0;
        plain.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("a write");
        let seen = rig.until(1, "down");
        assert!(seen.contains("down=Tls(\"received corrupt message"), "{seen}");
        rig.dial_tls(2, "127.0.0.1", address);
        drop(listener.accept().expect("a connection"));
        let seen = rig.until(2, "down");
        // A close with unread input is a reset.
        assert!(seen.contains("during the handshake") || seen.contains("down=Reset"), "{seen}");
        rig.dial(3, "tls", 300, &["127.0.0.1", &address.port().to_string()]);
        let _silent = listener.accept().expect("a connection").0;
        rig.until(3, "down=TimedOut");
        // Without a farewell nobody knows whether that was all.
        rig.dial_tls(4, "127.0.0.1", address);
        let mut stream = accept(&listener, &config);
        stream.write_all(b"half of").expect("a write");
        drop(stream);
        rig.until(4, "bytes=7 up drained=0 choked=0 down=Reset");
        rig.dial_tls(5, "no name", address);
        let seen = rig.until(5, "down");
        assert!(seen.contains("down=NameUnknown") || seen.contains("not a name that a certificate could have"), "{seen}");
    }
}

#[test]
fn a_session_that_is_paused_keeps_its_place() {
    const MANY: usize = 30_000_000;
    let authority = Authority::new("ours");
    let config = authority.server("127.0.0.1", 2100);
    for ring in RINGS {
        let mut rig = authority.rig(ring);
        let (listener, address) = listener();
        let all: Vec<u8> = (0..MANY).map(pattern).collect();
        rig.dial_tls(1, "127.0.0.1", address);
        // The handshake is not held up by that.
        rig.call(1, "pause", b"");
        let mut stream = accept(&listener, &config);
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let thread = std::thread::spawn(move || {
            for part in all.chunks(65_536) {
                stream.write_all(part).expect("a write");
                counted.fetch_add(part.len(), Ordering::Relaxed);
            }
            stream.conn.send_close_notify();
            stream.flush().expect("a write");
            match stream.read(&mut [0; 1]) {
                Ok(count) => assert_eq!(count, 0),
                Err(error) => assert!([ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()), "{error}"),
            }
        });
        rig.until(1, "up");
        assert!(settled(&sent) < 2 * MANY / 3, "the source is held up: {sent:?}");
        assert!(rig.seen(1).starts_with("bytes=0 up drained=0"));
        rig.call(1, "nap", b"");
        rig.call(1, "go", b"");
        rig.until(1, &format!("bytes={MANY} up end"));
        assert!(rig.call(1, "bytes", b"").iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        rig.call(1, "hang", b"");
        thread.join().expect("the server");
    }
}
