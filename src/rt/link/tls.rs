//! TLS of links: whom it trusts, and one session driven over the bytes that the ring moves.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::base::limits::TLS_SESSIONS_MAX;

/// Whose certificates are believed: those that the host trusts, and those of one file. Read when the first link needs them.
pub(crate) struct Trust {
    ca_file: Option<PathBuf>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    pub(crate) const fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, config: OnceLock::new() }
    }

    /// The settings of every link's TLS. Reads files: not for a core.
    ///
    /// # Errors
    /// Why nobody can be believed. The next call tries again.
    pub(crate) fn load(&self) -> Result<Arc<ClientConfig>, Box<str>> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
        if let Some(path) = &self.ca_file {
            add_file(&mut roots, path).map_err(|why| {
                tracing::error!(file = %path.display(), %why, "certificate authorities of upstreams cannot be read");
                "the file of certificate authorities cannot be used"
            })?;
        }
        if roots.is_empty() {
            let why = native.errors.first().map(|error| format!(": {error}")).unwrap_or_default();
            return Err(format!("this host trusts no certificate authority{why}; install ca-certificates or set SSL_CERT_FILE").into());
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
}

/// What is wrong with a file of certificate authorities, if anything is. Reads it.
pub(crate) fn problem_with_authorities(path: &Path) -> Option<String> {
    add_file(&mut RootCertStore::empty(), path).err()
}

/// Adds the authorities of a file.
fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let before = roots.len();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())? {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == before { Err("there is no certificate in PEM".to_owned()) } else { Ok(()) }
}

/// The same settings with sessions to resume of its own: cores share no lock.
pub(super) fn for_core(shared: &ClientConfig) -> Arc<ClientConfig> {
    let mut config = shared.clone();
    config.resumption = Resumption::in_memory_sessions(TLS_SESSIONS_MAX);
    Arc::new(config)
}

/// One link's session.
pub(super) struct Session {
    connection: ClientConnection,
    has_ended: bool,
}

impl Session {
    /// Begins the handshake with `host`.
    pub(super) fn new(config: Arc<ClientConfig>, host: &str) -> Result<Self, Box<str>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host:?} is not a name that a certificate could have"))?;
        let mut connection = ClientConnection::new(config, name).map_err(|error| error.to_string())?;
        // What waits to be sent is bounded where it is queued.
        connection.set_buffer_limit(None);
        Ok(Self { connection, has_ended: false })
    }

    /// Takes what was received and appends what it says to `plain`.
    ///
    /// # Errors
    /// What is wrong with it. An alert that says so to the other end is then ready to be [drained](Self::drain).
    pub(super) fn take(&mut self, mut wire: &[u8], plain: &mut Vec<u8>) -> Result<(), Box<str>> {
        while !wire.is_empty() && !self.has_ended {
            self.connection.read_tls(&mut wire).map_err(|error| error.to_string())?;
            let state = self.connection.process_new_packets().map_err(|error| error.to_string())?;
            self.has_ended = state.peer_has_closed();
            let mut reader = self.connection.reader();
            // An error says that there is nothing (more) to read.
            while let Ok(chunk) = reader.fill_buf() {
                let length = chunk.len();
                if length == 0 {
                    break;
                }
                plain.extend_from_slice(chunk);
                reader.consume(length);
            }
        }
        Ok(())
    }

    /// Queues what is to be said.
    pub(super) fn feed(&mut self, plain: &[u8]) {
        // Writing to memory without a limit does not fail.
        let _ = self.connection.writer().write_all(plain);
    }

    /// Queues the farewell (RFC 8446 section 6.1).
    pub(super) fn say_farewell(&mut self) {
        self.connection.send_close_notify();
    }

    /// Appends to `wire` everything that is to be sent.
    pub(super) fn drain(&mut self, wire: &mut Vec<u8>) {
        while self.connection.wants_write() && self.connection.write_tls(wire).is_ok_and(|count| count > 0) {}
    }

    /// Whether there is something to send.
    pub(super) fn has_output(&self) -> bool {
        self.connection.wants_write()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the other end has said that it says no more.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_without_authorities_is_refused() {
        let why = |path: PathBuf| {
            // Clients are not told where it is.
            let told = Trust::new(Some(path.clone())).load().map(|_| ()).expect_err("nobody to believe");
            assert_eq!(&*told, "the file of certificate authorities cannot be used");
            problem_with_authorities(&path).expect("something is wrong")
        };
        let absent = why("/no/such/file.pem".into());
        assert!(absent.contains("No such file"), "{absent}");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        assert_eq!(why(file.path().to_owned()), "there is no certificate in PEM");
        file.write_all(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").expect("a write");
        let broken = why(file.path().to_owned());
        assert!(broken.contains("invalid peer certificate"), "{broken}");
    }

    #[test]
    fn a_host_that_no_certificate_could_name_has_no_session() {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let config = for_core(&config);
        for host in ["", "no name", "a..b"] {
            let why = Session::new(Arc::clone(&config), host).map(|_| ()).expect_err("no session");
            assert!(why.contains("not a name that a certificate could have"), "{why}");
        }
        for host in ["localhost", "a.example", "127.0.0.1", "::1"] {
            let mut session = Session::new(Arc::clone(&config), host).map_err(|why| panic!("{why}")).expect("a session");
            let mut wire = Vec::new();
            session.drain(&mut wire);
            assert_eq!((wire[0], session.is_handshaking(), session.has_output()), (22, true, false), "a handshake record");
        }
    }
}
