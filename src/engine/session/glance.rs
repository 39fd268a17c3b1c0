//! What operators see of sessions.

use super::Sessions;
use crate::base::ids::{CoreId, SessionKey};
use crate::base::time::Nanos;

/// One session, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// The core that holds it.
    pub home: CoreId,
    /// Its key there.
    pub key: SessionKey,
    /// The version agreed on.
    pub version: &'static str,
    /// Whether `notifications/initialized` has come.
    pub is_ready: bool,
    /// When it was last used, to within a few seconds.
    pub seen: Nanos,
    /// The client's `clientInfo`, raw.
    pub client: Option<Box<[u8]>>,
}

impl Sessions {
    /// One session.
    #[must_use]
    pub fn glance(&self, key: SessionKey) -> Option<Glance> {
        let session = self.get(key)?;
        Some(Glance {
            home: self.core,
            key,
            version: session.version.as_str(),
            is_ready: session.ready,
            seen: self.slots.get(key.index as usize)?.seen,
            client: session.client_info().map(|info| Box::from(&*info)),
        })
    }

    /// Sessions from this slot on, `limit` at most.
    #[must_use]
    pub fn glances(&self, from: u32, limit: usize) -> Vec<Glance> {
        let slots = self.slots.iter().zip(0..).skip(from as usize).filter(|(slot, _)| slot.session.is_some());
        slots.filter_map(|(slot, index)| self.glance(SessionKey { index, generation: slot.generation })).take(limit).collect()
    }
}
