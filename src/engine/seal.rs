//! Sealing: what leaves the process and must come back unread and unchanged, such as session ids and `requestState`.
//!
//! A sealed text is `base64url(nonce ‖ ciphertext ‖ tag)` of XChaCha20-Poly1305 under a key that is derived for one
//! [`Purpose`]: what was sealed as a cursor never opens as a session id. Processes that were given the same key file open
//! one another's texts; without a file each start draws its own key.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};

/// Length of a sealing key, bytes.
pub const KEY_BYTES: usize = 32;
/// Length of the part of the nonce that differs from sealer to sealer, bytes.
pub const NONCE_PREFIX_BYTES: usize = 16;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
/// What sealing adds to a payload before it is encoded.
const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Characters that `payload` bytes take once sealed.
#[must_use]
pub const fn sealed_len(payload: usize) -> usize {
    let bytes = payload + OVERHEAD_BYTES;
    bytes / 3 * 4 + (bytes % 3 * 4).div_ceil(3)
}

/// What a sealed text is for. Each purpose has its own key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Purpose {
    /// `Mcp-Session-Id` of the legacy eras.
    SessionId,
    /// `requestState` of 2026-07-28.
    RequestState,
    /// `cursor` of a list.
    Cursor,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::SessionId, Self::RequestState, Self::Cursor];

    /// Domain of the key derivation. Part of what is sealed: changing one makes everything sealed before unreadable.
    const fn context(self) -> &'static str {
        match self {
            Self::SessionId => "ringhub 2026 seal v1 session id",
            Self::RequestState => "ringhub 2026 seal v1 request state",
            Self::Cursor => "ringhub 2026 seal v1 cursor",
        }
    }
}

/// The text is not one that these keys sealed for this purpose and these associated data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotOurs;

/// Why a key file was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyFileError {
    /// The line is neither 64 hexadecimal digits nor base64 of 32 bytes. Lines count from 1.
    Line(usize),
    /// More than a current and a previous key.
    TooMany,
    /// No key at all.
    Empty,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}: a key is 32 bytes, written as 64 hexadecimal digits or as base64"),
            Self::TooMany => write!(f, "more than two keys: the first line is the current key, the second the previous one"),
            Self::Empty => write!(f, "no key: write one with `openssl rand -hex 32`"),
        }
    }
}

impl std::error::Error for KeyFileError {}

/// A current key, and the one before it, which still opens what it sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    current: [u8; KEY_BYTES],
    previous: Option<[u8; KEY_BYTES]>,
}

impl fmt::Debug for KeyPair {
    /// Keys never reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("has_previous", &self.previous.is_some()).finish_non_exhaustive()
    }
}

impl KeyPair {
    /// A pair of one key.
    #[must_use]
    pub const fn single(current: [u8; KEY_BYTES]) -> Self {
        Self { current, previous: None }
    }

    /// Draws a key from the system's random source.
    ///
    /// # Errors
    /// When the system has no random source to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key)?;
        Ok(Self::single(key))
    }

    /// Reads a key file: one key a line, the current one first, at most one previous one after it. Blank lines and lines that
    /// begin with `#` are skipped.
    ///
    /// # Errors
    /// What is wrong, by line.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut pair: Option<Self> = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_key(line).ok_or(KeyFileError::Line(index + 1))?;
            match &mut pair {
                None => pair = Some(Self::single(key)),
                Some(pair) if pair.previous.is_none() => pair.previous = Some(key),
                Some(_) => return Err(KeyFileError::TooMany),
            }
        }
        pair.ok_or(KeyFileError::Empty)
    }
}

fn parse_key(line: &str) -> Option<[u8; KEY_BYTES]> {
    if line.len() == KEY_BYTES * 2 && line.bytes().all(|b| b.is_ascii_hexdigit()) {
        let mut key = [0; KEY_BYTES];
        for (byte, pair) in key.iter_mut().zip(line.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        return Some(key);
    }
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| engine.decode(line).ok()?.try_into().ok())
}

/// The process's keys, shared by the sealers of all cores, replaceable while they run.
pub struct SealKeys {
    /// Counts replacements, so that a sealer sees one without taking the lock.
    epoch: AtomicU64,
    pair: Mutex<KeyPair>,
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKeys").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl SealKeys {
    /// Keys that every core's sealer will share.
    #[must_use]
    pub fn new(pair: KeyPair) -> Arc<Self> {
        Arc::new(Self { epoch: AtomicU64::new(0), pair: Mutex::new(pair) })
    }

    /// Puts other keys in place; every sealer uses them from its next use on.
    pub fn replace(&self, pair: KeyPair) {
        *self.pair.lock().unwrap_or_else(PoisonError::into_inner) = pair;
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// A secret that follows from the current key: another one for every `context`, and for every `salt`.
    #[must_use]
    pub fn secret(&self, context: &str, salt: &[u8]) -> [u8; KEY_BYTES] {
        let (_, pair) = self.load();
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&pair.current).update(salt);
        *hasher.finalize().as_bytes()
    }

    fn load(&self) -> (u64, KeyPair) {
        let pair = self.pair.lock().unwrap_or_else(PoisonError::into_inner);
        (self.epoch.load(Ordering::Acquire), pair.clone())
    }
}

/// The ciphers derived from one key, by purpose.
struct Ciphers([XChaCha20Poly1305; Purpose::ALL.len()]);

impl Ciphers {
    fn derive(key: &[u8; KEY_BYTES]) -> Self {
        Self(Purpose::ALL.map(|purpose| XChaCha20Poly1305::new(&blake3::derive_key(purpose.context(), key).into())))
    }
}

/// Seals and opens, on one core. Allocates nothing once its scratch is warm.
pub struct Sealer {
    keys: Arc<SealKeys>,
    epoch: u64,
    current: Ciphers,
    previous: Option<Ciphers>,
    /// Drawn once per sealer; with the count below no nonce is ever used twice.
    nonce_prefix: [u8; NONCE_PREFIX_BYTES],
    sealed: u64,
    scratch: Vec<u8>,
    opened: Vec<u8>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("epoch", &self.epoch).field("sealed", &self.sealed).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer for one core. `nonce_prefix` must be random and drawn anew for each sealer: two with the same prefix and key
    /// would repeat nonces.
    #[must_use]
    pub fn new(keys: &Arc<SealKeys>, nonce_prefix: [u8; NONCE_PREFIX_BYTES]) -> Self {
        let (epoch, pair) = keys.load();
        Self {
            keys: Arc::clone(keys),
            epoch,
            current: Ciphers::derive(&pair.current),
            previous: pair.previous.as_ref().map(Ciphers::derive),
            nonce_prefix,
            sealed: 0,
            scratch: Vec::new(),
            opened: Vec::new(),
        }
    }

    /// Appends `payload`, sealed for `purpose` and bound to `aad`, to `out`: [`sealed_len`] visible ASCII characters.
    pub fn seal(&mut self, purpose: Purpose, payload: &[u8], aad: &[u8], out: &mut Vec<u8>) {
        self.refresh();
        let mut nonce = [0; NONCE_BYTES];
        nonce[..NONCE_PREFIX_BYTES].copy_from_slice(&self.nonce_prefix);
        nonce[NONCE_PREFIX_BYTES..].copy_from_slice(&self.sealed.to_le_bytes());
        self.sealed += 1;
        self.scratch.clear();
        self.scratch.extend_from_slice(&nonce);
        self.scratch.extend_from_slice(payload);
        let body = &mut self.scratch[NONCE_BYTES..];
        let tag = self.current.0[purpose as usize]
            .encrypt_inout_detached(&XNonce::from(nonce), aad, body.into())
            .expect("a payload is far below the cipher's limit of 256 GB");
        self.scratch.extend_from_slice(&tag);
        let start = out.len();
        out.resize(start + sealed_len(payload.len()), 0);
        let written = URL_SAFE_NO_PAD.encode_slice(&self.scratch, &mut out[start..]).expect("sealed_len is the encoded length");
        debug_assert_eq!(written, out.len() - start);
    }

    /// Opens what some sealer with one of these keys sealed for `purpose` and `aad`. The payload stays valid until the next use.
    ///
    /// # Errors
    /// [`NotOurs`], whatever the reason: a peer learns nothing from it.
    pub fn open(&mut self, purpose: Purpose, text: &[u8], aad: &[u8]) -> Result<&[u8], NotOurs> {
        self.refresh();
        self.scratch.clear();
        URL_SAFE_NO_PAD.decode_vec(text, &mut self.scratch).map_err(|_| NotOurs)?;
        let (nonce, rest) = self.scratch.split_first_chunk::<NONCE_BYTES>().ok_or(NotOurs)?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(NotOurs)?;
        let (nonce, tag) = (XNonce::from(*nonce), Tag::from(*tag));
        for ciphers in std::iter::once(&self.current).chain(&self.previous) {
            self.opened.clear();
            self.opened.extend_from_slice(body);
            let plain = self.opened.as_mut_slice();
            if ciphers.0[purpose as usize].decrypt_inout_detached(&nonce, aad, plain.into(), &tag).is_ok() {
                return Ok(&self.opened);
            }
        }
        Err(NotOurs)
    }

    /// Takes new keys over if they were replaced since the last use.
    fn refresh(&mut self) {
        if self.keys.epoch.load(Ordering::Acquire) == self.epoch {
            return;
        }
        let (epoch, pair) = self.keys.load();
        self.epoch = epoch;
        self.current = Ciphers::derive(&pair.current);
        self.previous = pair.previous.as_ref().map(Ciphers::derive);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: [u8; KEY_BYTES] = [7; KEY_BYTES];
    const NEW: [u8; KEY_BYTES] = [9; KEY_BYTES];

    fn sealer(pair: KeyPair, prefix: u8) -> Sealer {
        Sealer::new(&SealKeys::new(pair), [prefix; NONCE_PREFIX_BYTES])
    }

    fn sealed(sealer: &mut Sealer, purpose: Purpose, payload: &[u8], aad: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(purpose, payload, aad, &mut out);
        out
    }

    #[test]
    fn what_one_process_seals_another_with_the_same_key_opens() {
        let (mut one, mut other) = (sealer(KeyPair::single(OLD), 1), sealer(KeyPair::single(OLD), 2));
        for len in [0, 1, 2, 3, 27, 1000] {
            let payload = vec![0xA5; len];
            let text = sealed(&mut one, Purpose::RequestState, &payload, b"who");
            assert_eq!(text.len(), sealed_len(len));
            assert!(text.iter().all(u8::is_ascii_graphic));
            assert_eq!(other.open(Purpose::RequestState, &text, b"who"), Ok(payload.as_slice()));
        }
    }

    #[test]
    fn a_text_opens_for_its_purpose_and_its_data_alone() {
        let mut sealer = sealer(KeyPair::single(OLD), 1);
        let text = sealed(&mut sealer, Purpose::Cursor, b"17", b"alice");
        assert_eq!(sealer.open(Purpose::RequestState, &text, b"alice"), Err(NotOurs));
        assert_eq!(sealer.open(Purpose::Cursor, &text, b"bob"), Err(NotOurs));
        assert_eq!(sealer.open(Purpose::Cursor, &text, b"alice"), Ok(b"17".as_slice()));
    }

    #[test]
    fn any_change_of_any_character_is_noticed() {
        let mut sealer = sealer(KeyPair::single(OLD), 1);
        let text = sealed(&mut sealer, Purpose::SessionId, &[1; 27], b"");
        for at in 0..text.len() {
            let mut bad = text.clone();
            bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sealer.open(Purpose::SessionId, &bad, b""), Err(NotOurs), "at {at}");
            assert_eq!(sealer.open(Purpose::SessionId, &text[..at], b""), Err(NotOurs), "cut at {at}");
        }
        assert_eq!(sealer.open(Purpose::SessionId, b"\xff\x00 not base64", b""), Err(NotOurs));
    }

    #[test]
    fn the_same_payload_never_seals_alike() {
        let mut sealer = sealer(KeyPair::single(OLD), 1);
        let one = sealed(&mut sealer, Purpose::SessionId, b"x", b"");
        assert_ne!(one, sealed(&mut sealer, Purpose::SessionId, b"x", b""));
    }

    #[test]
    fn a_replaced_key_opens_while_it_is_the_previous_one() {
        let keys = SealKeys::new(KeyPair::single(OLD));
        let mut sealer = Sealer::new(&keys, [1; NONCE_PREFIX_BYTES]);
        let text = sealed(&mut sealer, Purpose::RequestState, b"state", b"");
        keys.replace(KeyPair { current: NEW, previous: Some(OLD) });
        assert_eq!(sealer.open(Purpose::RequestState, &text, b""), Ok(b"state".as_slice()));
        let newer = sealed(&mut sealer, Purpose::RequestState, b"state", b"");
        keys.replace(KeyPair::single(NEW));
        assert_eq!(sealer.open(Purpose::RequestState, &text, b""), Err(NotOurs));
        assert_eq!(sealer.open(Purpose::RequestState, &newer, b""), Ok(b"state".as_slice()));
    }

    #[test]
    fn a_key_file_may_be_hexadecimal_or_base64() {
        let hex = "09".repeat(KEY_BYTES);
        let base64 = STANDARD.encode(OLD);
        let pair = KeyPair::parse(&format!("# ours\n\n{hex}\n  {base64}\n")).unwrap();
        assert_eq!(pair, KeyPair { current: NEW, previous: Some(OLD) });
        assert_eq!(KeyPair::parse(&URL_SAFE_NO_PAD.encode(NEW)), Ok(KeyPair::single(NEW)));
        assert_eq!(KeyPair::parse("# nothing\n"), Err(KeyFileError::Empty));
        assert_eq!(KeyPair::parse(&format!("{hex}\nshort")), Err(KeyFileError::Line(2)));
        assert_eq!(KeyPair::parse(&format!("{hex}\n{hex}\n{hex}")), Err(KeyFileError::TooMany));
        assert!(!format!("{:?}", KeyPair::single(NEW)).contains('9'), "keys stay out of logs");
    }

    #[test]
    fn secrets_differ_by_context_salt_and_key() {
        let (old, new) = (SealKeys::new(KeyPair::single(OLD)), SealKeys::new(KeyPair::single(NEW)));
        let secret = old.secret("a", b"1");
        assert_eq!(secret, old.secret("a", b"1"));
        for other in [old.secret("b", b"1"), old.secret("a", b"2"), new.secret("a", b"1")] {
            assert_ne!(secret, other);
        }
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(KeyPair::random().unwrap(), KeyPair::random().unwrap());
    }
}
