//! Telling a server's subscribers of changes, from any thread.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::host::List;
use super::inbox::{Event, Inbox};

/// Tells the subscribers of a server, whatever core they are on, that its lists or resources changed. May be used from any thread.
///
/// Make one, keep a clone, and give it to the server's builder inside the factory; or take one from [`Context::notifier`](super::Context::notifier).
///
/// ```
/// use ringhub::native::{Notifier, Server};
///
/// let notifier = Notifier::new();
/// let given = notifier.clone();
/// let factory = move || Server::builder("news", "1.0").notifier(&given).build();
/// # factory().unwrap();
/// std::thread::spawn(move || notifier.resource_updated("news://today")).join().unwrap();
/// ```
#[derive(Clone, Default)]
pub struct Notifier {
    targets: Arc<Mutex<Vec<Target>>>,
}

/// A core that hosts the server, and the server's number there.
struct Target {
    inbox: Weak<Inbox>,
    server: u32,
}

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

impl Notifier {
    /// A notifier that no server uses yet: until one does, nobody is told anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The list of tools changed.
    pub fn tools_changed(&self) {
        self.tell(|server| Event::Changed { server, list: List::Tools });
    }

    /// The list of prompts changed.
    pub fn prompts_changed(&self) {
        self.tell(|server| Event::Changed { server, list: List::Prompts });
    }

    /// The list of resources or of resource templates changed.
    pub fn resources_changed(&self) {
        self.tell(|server| Event::Changed { server, list: List::Resources });
    }

    /// The resource at `uri` changed.
    pub fn resource_updated(&self, uri: impl Into<String>) {
        let uri = uri.into();
        self.tell(move |server| Event::Updated { server, uri: uri.clone() });
    }

    pub(super) fn attached(inbox: &Arc<Inbox>, server: u32) -> Self {
        let notifier = Self::new();
        notifier.attach(inbox, server);
        notifier
    }

    pub(super) fn attach(&self, inbox: &Arc<Inbox>, server: u32) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|target| target.inbox.strong_count() > 0);
        targets.push(Target { inbox: Arc::downgrade(inbox), server });
    }

    /// One core is told; the engine there tells the others.
    fn tell(&self, event: impl Fn(u32) -> Event) {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut alive = targets.iter().filter_map(|target| Some((target.inbox.upgrade()?, target.server)));
        let _told = alive.any(|(inbox, server)| inbox.push(event(server)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_living_core_is_told() {
        let notifier = Notifier::new();
        let gone = Arc::new(Inbox::new(Box::new(|| {})));
        notifier.attach(&gone, 1);
        drop(gone);
        let inbox = Arc::new(Inbox::new(Box::new(|| {})));
        notifier.attach(&inbox, 7);
        notifier.clone().tools_changed();
        notifier.resource_updated("a://b");
        let mut events = Vec::new();
        inbox.drain(&mut events);
        assert!(
            matches!(&events[..], [Event::Changed { server: 7, list: List::Tools }, Event::Updated { server: 7, uri }] if uri == "a://b")
        );
    }
}
