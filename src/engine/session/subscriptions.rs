//! Resources that legacy sessions subscribe to.

use std::rc::Rc;

use super::{Full, Sessions};
use crate::base::ids::SessionKey;
use crate::base::limits::{SUBSCRIPTION_BYTES_MAX, SUBSCRIPTIONS_MAX};

impl Sessions {
    /// Whether [`Self::take_moved`] gives anything.
    #[must_use]
    pub const fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Subscriptions that came and went since this was asked last: the endpoint, the resource, and whether it came.
    pub fn take_moved(&mut self) -> Vec<(u64, Rc<[u8]>, bool)> {
        std::mem::take(&mut self.moved)
    }

    /// Sessions that subscribed to the resource.
    #[must_use]
    pub fn subscribers(&self, uri: &[u8]) -> &[SessionKey] {
        self.subscribers.get(uri).map_or(&[], Vec::as_slice)
    }

    /// Every subscription: what, and whose.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<(Rc<[u8]>, SessionKey)> {
        self.subscribers.iter().flat_map(|(uri, keys)| keys.iter().map(move |&key| (Rc::clone(uri), key))).collect()
    }

    /// Subscribes the session to a resource; again is no error.
    ///
    /// # Errors
    /// When it has as many subscriptions as it may.
    pub fn subscribe(&mut self, key: SessionKey, uri: &[u8]) -> Result<(), Full> {
        let Some(session) = self.get_mut(key) else { return Ok(()) };
        let (count, bytes) = session.subscribed();
        if session.subscribes(uri) {
            return Ok(());
        }
        if count >= SUBSCRIPTIONS_MAX || bytes + uri.len() > SUBSCRIPTION_BYTES_MAX {
            return Err(Full);
        }
        let shared = self.subscribers.get_key_value(uri).map_or_else(|| Rc::from(uri), |(uri, _)| Rc::clone(uri));
        self.subscribers.entry(Rc::clone(&shared)).or_default().push(key);
        if let Some(session) = self.get_mut(key) {
            let endpoint = session.endpoint;
            session.add_subscription(Rc::clone(&shared));
            self.moved.push((endpoint, shared, true));
        }
        Ok(())
    }

    /// Takes a subscription back; one that does not exist is no error.
    pub fn unsubscribe(&mut self, key: SessionKey, uri: &[u8]) {
        let Some(session) = self.get_mut(key) else { return };
        let endpoint = session.endpoint;
        if session.remove_subscription(uri) {
            self.forget_subscriber(uri, key);
            self.moved.push((endpoint, uri.into(), false));
        }
    }

    pub(super) fn forget_subscriber(&mut self, uri: &[u8], key: SessionKey) {
        let Some(keys) = self.subscribers.get_mut(uri) else { return };
        keys.retain(|&other| other != key);
        if keys.is_empty() {
            self.subscribers.remove(uri);
        }
    }
}
