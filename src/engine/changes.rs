//! What has changed and who is still to be told: within the core, and on the other cores.
//!
//! Changes gather here and merge with their like, so that a server that changes all the time costs its subscribers one message per
//! interval. A frame that found its lane full comes back, merges again and goes out on a later tick: late, never lost.

use std::time::Duration;

use super::out::{Effect, Frame, Lane, Lists, Out};
use crate::base::ids::CoreId;
use crate::base::limits::SUBSCRIPTIONS_MAX;
use crate::base::time::Nanos;

/// Subscribers are told no more often than this.
const INTERVAL: Duration = Duration::from_millis(50);

/// What changed, by native server, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub lists: Vec<(u32, Lists)>,
    pub resources: Vec<(u32, Box<str>)>,
    /// Servers of which so many resources changed that all subscribers of any are told.
    pub all_resources: Vec<u32>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.resources.is_empty() && self.all_resources.is_empty()
    }

    fn add_lists(&mut self, server: u32, lists: Lists) {
        match self.lists.iter_mut().find(|(known, _)| *known == server) {
            Some((_, known)) => *known = known.with(lists),
            None => self.lists.push((server, lists)),
        }
    }

    fn add_resource(&mut self, server: u32, uri: &str) {
        if self.all_resources.contains(&server) || self.resources.iter().any(|(known, other)| *known == server && &**other == uri) {
            return;
        }
        if self.resources.len() < SUBSCRIPTIONS_MAX {
            self.resources.push((server, uri.into()));
        } else {
            self.add_all(server);
        }
    }

    fn add_all(&mut self, server: u32) {
        self.resources.retain(|(known, _)| *known != server);
        if !self.all_resources.contains(&server) {
            self.all_resources.push(server);
        }
    }

    fn add_frame(&mut self, frame: Frame) {
        match frame {
            Frame::Changed { server, lists } => self.add_lists(server, lists),
            Frame::Updated { server, uri } => self.add_resource(server, &uri),
            Frame::AllUpdated { server } => self.add_all(server),
            Frame::Registry(_) | Frame::Admin(_) | Frame::Relay(_) | Frame::Roster(_) | Frame::Guard(_) => {
                debug_assert!(false, "these frames go elsewhere");
            }
        }
    }

    fn frames(&self) -> impl Iterator<Item = Frame> + '_ {
        let lists = self.lists.iter().map(|&(server, lists)| Frame::Changed { server, lists });
        let resources = self.resources.iter().map(|(server, uri)| Frame::Updated { server: *server, uri: uri.clone() });
        let all = self.all_resources.iter().map(|&server| Frame::AllUpdated { server });
        lists.chain(resources).chain(all)
    }
}

/// The changes of one core.
#[derive(Debug)]
pub(super) struct Changes {
    core: CoreId,
    /// What this core's handlers changed; still to be told to everybody.
    own: Batch,
    /// What other cores said; still to be told here.
    heard: Batch,
    /// What other cores could not be told yet.
    owed: Vec<Batch>,
    /// Subscribers are told again from this moment on.
    next: Nanos,
    /// What changed at endpoints is found out again from this moment on.
    next_look: Nanos,
}

impl Changes {
    pub fn new(core: CoreId, cores: u16) -> Self {
        Self {
            core,
            own: Batch::default(),
            heard: Batch::default(),
            owed: vec![Batch::default(); usize::from(cores)],
            next: Nanos(0),
            next_look: Nanos(0),
        }
    }

    /// Lists of a server changed, on this core.
    pub fn changed(&mut self, server: u32, lists: Lists) {
        self.own.add_lists(server, lists);
    }

    /// A resource of a server changed, on this core.
    pub fn updated(&mut self, server: u32, uri: &str) {
        self.own.add_resource(server, uri);
    }

    /// Another core says that something changed.
    pub fn hear(&mut self, frame: Frame) {
        self.heard.add_frame(frame);
    }

    /// A frame found no room.
    pub fn owe(&mut self, to: CoreId, frame: Frame) {
        if let Some(owed) = self.owed.get_mut(to.index()) {
            owed.add_frame(frame);
        }
    }

    /// Sends again what found no room.
    pub fn resend(&mut self, out: &mut Out) {
        for (index, owed) in self.owed.iter_mut().enumerate().filter(|(_, owed)| !owed.is_empty()) {
            let owed = std::mem::take(owed);
            let to = CoreId(u16::try_from(index).unwrap_or(u16::MAX));
            out.effects.extend(owed.frames().map(|frame| Effect::Send { to, lane: Lane::Ask, frame }));
        }
    }

    /// Whether it is time to find out what changed at endpoints: as often as subscribers may be told of it. It is then done.
    pub fn looks(&mut self, now: Nanos) -> bool {
        let is_time = now >= self.next.max(self.next_look);
        if is_time {
            self.next_look = now.after(INTERVAL);
        }
        is_time
    }

    /// What the subscribers of this core are to be told now, if anything; `has_more`: there is something to be told besides. The other cores
    /// are told at the same time.
    pub fn take(&mut self, now: Nanos, has_more: bool, out: &mut Out) -> Option<Batch> {
        if now < self.next || (!has_more && self.own.is_empty() && self.heard.is_empty()) {
            return None;
        }
        self.next = now.after(INTERVAL);
        let own = std::mem::take(&mut self.own);
        for index in (0..self.owed.len()).filter(|&index| index != self.core.index()) {
            let to = CoreId(u16::try_from(index).unwrap_or(u16::MAX));
            out.effects.extend(own.frames().map(|frame| Effect::Send { to, lane: Lane::Ask, frame }));
        }
        let mut batch = std::mem::take(&mut self.heard);
        own.frames().for_each(|frame| batch.add_frame(frame));
        Some(batch)
    }

    /// When there is something to be told; `has_more`: something besides; `is_to_look`: what changed at endpoints is to be found out.
    pub fn next_due(&self, has_more: bool, is_to_look: bool) -> Nanos {
        let tell = if !has_more && self.own.is_empty() && self.heard.is_empty() { Nanos::NEVER } else { self.next };
        if is_to_look { tell.min(self.next.max(self.next_look)) } else { tell }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(out: &Out) -> Vec<String> {
        out.effects.iter().map(|effect| format!("{effect:?}")).collect()
    }

    #[test]
    fn changes_merge_and_go_to_every_other_core_once() {
        let mut changes = Changes::new(CoreId(1), 3);
        let mut out = Out::default();
        changes.changed(0, Lists::TOOLS);
        changes.changed(0, Lists::PROMPTS);
        changes.updated(0, "a:b");
        changes.updated(0, "a:b");
        let batch = changes.take(Nanos(1), false, &mut out).expect("changes");
        assert_eq!(batch.lists, [(0, Lists::TOOLS.with(Lists::PROMPTS))]);
        assert_eq!(batch.resources, [(0, "a:b".into())]);
        assert_eq!(out.effects.len(), 4, "{:?}", sent(&out));
        assert_eq!(changes.take(Nanos(2), false, &mut out), None);
        changes.changed(0, Lists::TOOLS);
        assert_eq!(changes.take(Nanos(2), false, &mut out), None, "not before the interval is over");
        assert_eq!(changes.next_due(false, false), Nanos(1).after(INTERVAL));
        assert!(changes.take(changes.next_due(false, false), false, &mut out).is_some());
    }

    #[test]
    fn what_was_heard_is_told_here_alone() {
        let mut changes = Changes::new(CoreId(0), 4);
        let mut out = Out::default();
        changes.hear(Frame::Changed { server: 2, lists: Lists::TOOLS });
        assert_eq!(changes.take(Nanos(1), false, &mut out).expect("changes").lists, [(2, Lists::TOOLS)]);
        assert!(out.is_empty());
    }

    #[test]
    fn a_frame_that_found_no_room_is_sent_again() {
        let mut changes = Changes::new(CoreId(0), 2);
        let mut out = Out::default();
        changes.owe(CoreId(1), Frame::Changed { server: 0, lists: Lists::TOOLS });
        changes.owe(CoreId(1), Frame::Changed { server: 0, lists: Lists::RESOURCES });
        changes.resend(&mut out);
        assert_eq!(out.effects.len(), 1);
        changes.resend(&mut out);
        assert_eq!(out.effects.len(), 1);
    }

    #[test]
    fn too_many_resources_become_all_of_them() {
        let mut batch = Batch::default();
        (0..=SUBSCRIPTIONS_MAX).for_each(|index| batch.add_resource(7, &format!("r:{index}")));
        assert!(batch.resources.is_empty());
        assert_eq!(batch.all_resources, [7]);
        batch.add_resource(7, "r:again");
        assert!(batch.resources.is_empty());
    }
}
