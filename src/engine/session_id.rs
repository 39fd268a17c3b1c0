//! Session ids: what they seal, and how a connection remembers the one it named last.

use super::{
    directory::DirectoryKey,
    seal::{Purpose, Sealer, sealed_len},
};
use crate::base::{
    ids::{CoreId, SessionKey},
    limits::SESSION_ID_BYTES_MAX,
};
use crate::guard::Usage;

/// First byte of what a session id seals.
const FORMAT: u8 = 1;
/// What a session id seals: format, boot, home core, session key, directory key.
const PAYLOAD_BYTES: usize = 1 + 8 + 2 + 8 + 8;
const ID_BYTES: usize = sealed_len(PAYLOAD_BYTES);
const _: () = assert!(ID_BYTES <= SESSION_ID_BYTES_MAX, "a conn keeps the whole id");

/// What a session id stands for, once opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    pub home: CoreId,
    pub key: SessionKey,
    pub at: DirectoryKey,
}

impl Ticket {
    /// Appends the id, sealed. `boot` tells this process from earlier ones.
    pub fn write(self, boot: u64, sealer: &mut Sealer, out: &mut Vec<u8>) {
        let mut payload = [0; PAYLOAD_BYTES];
        payload[0] = FORMAT;
        payload[1..9].copy_from_slice(&boot.to_le_bytes());
        payload[9..11].copy_from_slice(&self.home.0.to_le_bytes());
        payload[11..19].copy_from_slice(&self.key.pack().to_le_bytes());
        payload[19..].copy_from_slice(&self.at.0.to_le_bytes());
        sealer.seal(Purpose::SessionId, &payload, b"", out);
    }

    /// Opens an id of this process; none when it is not one.
    pub fn read(boot: u64, sealer: &mut Sealer, text: &[u8]) -> Option<Self> {
        if text.len() != ID_BYTES {
            return None;
        }
        let payload: &[u8; PAYLOAD_BYTES] = sealer.open(Purpose::SessionId, text, b"").ok()?.try_into().ok()?;
        let (format, rest) = payload.split_first()?;
        let (its_boot, rest) = rest.split_first_chunk()?;
        let (home, rest) = rest.split_first_chunk()?;
        let (key, at) = rest.split_first_chunk()?;
        let is_ours = *format == FORMAT && u64::from_le_bytes(*its_boot) == boot;
        is_ours.then_some(Self {
            home: CoreId(u16::from_le_bytes(*home)),
            key: SessionKey::unpack(u64::from_le_bytes(*key)),
            at: DirectoryKey(u64::from_le_bytes(at.try_into().ok()?)),
        })
    }
}

/// The last session id that came over a connection and what it stands for, so that a warm request opens no seal.
#[derive(Debug)]
pub struct ConnMemo {
    id: [u8; SESSION_ID_BYTES_MAX],
    id_bytes: u8,
    home: CoreId,
    key: SessionKey,
    at: DirectoryKey,
    /// What the guard knows of the connection.
    pub(super) usage: Usage,
}

const _: () = assert!(size_of::<ConnMemo>() <= 136, "every connection holds one");

impl Default for ConnMemo {
    fn default() -> Self {
        let key = SessionKey { index: 0, generation: 0 };
        Self { id: [0; SESSION_ID_BYTES_MAX], id_bytes: 0, home: CoreId(0), key, at: DirectoryKey(0), usage: Usage::default() }
    }
}

impl ConnMemo {
    pub(super) fn recall(&self, text: &[u8]) -> Option<Ticket> {
        let known = self.id_bytes != 0 && self.id.get(..usize::from(self.id_bytes)) == Some(text);
        known.then_some(Ticket { home: self.home, key: self.key, at: self.at })
    }

    pub(super) fn remember(&mut self, text: &[u8], ticket: Ticket) {
        let Some(room) = self.id.get_mut(..text.len()) else { return };
        room.copy_from_slice(text);
        // An id is at most SESSION_ID_BYTES_MAX long, which is below 256.
        self.id_bytes = text.len() as u8;
        (self.home, self.key, self.at) = (ticket.home, ticket.key, ticket.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(index: u32) -> Ticket {
        Ticket { home: CoreId(2), key: SessionKey { index, generation: 9 }, at: DirectoryKey(7) }
    }

    #[test]
    fn the_memo_recalls_the_last_id_alone() {
        let mut memo = ConnMemo::default();
        assert_eq!(memo.recall(b""), None);
        memo.remember(b"one", ticket(1));
        assert_eq!(memo.recall(b"one"), Some(ticket(1)));
        assert_eq!(memo.recall(b"on"), None);
        assert_eq!(memo.recall(b"one "), None);
        memo.remember(b"another", ticket(2));
        assert_eq!(memo.recall(b"one"), None);
        assert_eq!(memo.recall(b"another"), Some(ticket(2)));
        memo.remember(&[b'x'; SESSION_ID_BYTES_MAX + 1], ticket(3));
        assert_eq!(memo.recall(b"another"), Some(ticket(2)), "what does not fit is not remembered");
    }
}
