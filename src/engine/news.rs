//! What is told to those who listen at the endpoints of this core: which lists changed and which resources.

use std::rc::Rc;

use hashbrown::{HashMap, HashSet};

use super::changes::Batch;
use super::out::{Lists, Out};
use super::view::View;
use super::{Engine, legacy};
use crate::base::time::Now;

/// What is new at one endpoint.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub lists: Lists,
    /// Resources that changed, as clients call them.
    pub updated: HashSet<String>,
    /// So many changed that every subscriber of any is told.
    pub are_all_updated: bool,
}

/// What is new, by the number of the endpoint.
#[derive(Debug, Default)]
pub(super) struct News {
    at: HashMap<u64, Place>,
}

impl News {
    /// Of what changed at endpoints, and of what native servers say of themselves, wherever they are bound.
    pub fn new<'a>(endpoints: &[(u64, Lists)], batch: &Batch, views: impl Iterator<Item = &'a Rc<View>>) -> Self {
        let mut news = Self::default();
        for &(endpoint, lists) in endpoints {
            let at = news.at.entry(endpoint).or_default();
            at.lists = at.lists.with(lists);
        }
        if !batch.is_empty() {
            views.for_each(|view| news.add(batch, view));
        }
        news
    }

    fn add(&mut self, batch: &Batch, view: &View) {
        let endpoint = view.endpoint.id.number;
        for (_, lists) in batch.lists.iter().filter(|(server, _)| view.has_native(*server)) {
            let at = self.at.entry(endpoint).or_default();
            at.lists = at.lists.with(*lists);
        }
        for (server, uri) in batch.resources.iter().filter(|(server, _)| view.has_native(*server)) {
            self.at.entry(endpoint).or_default().updated.insert(view.exposed_uri(*server, uri).into_owned());
        }
        if batch.all_resources.iter().any(|server| view.has_native(*server)) {
            self.at.entry(endpoint).or_default().are_all_updated = true;
        }
    }

    /// Takes what changed of servers behind, by endpoint.
    pub fn add_updated(&mut self, updated: HashMap<u64, HashSet<String>>) {
        for (endpoint, uris) in updated {
            self.at.entry(endpoint).or_default().updated.extend(uris);
        }
    }

    /// What is new at this endpoint.
    pub fn at(&self, endpoint: u64) -> Option<&Place> {
        self.at.get(&endpoint)
    }
}

impl Engine {
    /// Tells subscribers of both eras, and the other cores, what changed; ends the streams of endpoints that are no more.
    pub(super) fn tell_changes(&mut self, now: Now, out: &mut Out) {
        if self.routes.has_gone() {
            self.end_gone(now, out);
        }
        if self.routes.has_changes() && self.changes.looks(now.mono) {
            let mut subscribed = self.subscribed();
            if self.routes.is_all_in_question() {
                // Which endpoints are gone was not told one by one.
                subscribed.extend(self.legacy.sessions.endpoints());
            }
            let around = super::route::Around { now, hosted: &self.hosted, metrics: self.metrics };
            self.routes.look_at_changes(&subscribed, around, out);
            // An endpoint that turned out to be no more is told of now.
            if self.routes.has_gone() {
                self.end_gone(now, out);
            }
        }
        let has_more = self.routes.has_told() || self.watches.has_updated();
        let Some(batch) = self.changes.take(now.mono, has_more, out) else { return };
        let endpoints = self.routes.take_told();
        let subscribed = if batch.is_empty() { HashSet::new() } else { self.subscribed() };
        let views = self.routes.views().iter().filter(|view| subscribed.contains(&view.endpoint.id.number));
        let mut news = News::new(&endpoints, &batch, views);
        news.add_updated(self.watches.take_updated());
        self.tell_listens(now, &news, out);
        legacy::on_news(self, now, &news, out);
    }

    /// Numbers of the endpoints that anyone on this core listens to.
    pub(super) fn subscribed(&self) -> HashSet<u64> {
        let listening = self.legacy.sessions.listening().map(|(_, endpoint)| endpoint);
        self.listens.endpoints().chain(listening).chain(self.watches.endpoints()).collect()
    }

    /// Lets go of views that nobody needs.
    pub(super) fn evict_views(&mut self) {
        let (listens, sessions, watches) = (&self.listens, &self.legacy.sessions, &self.watches);
        let listening = sessions.listening().map(|(_, endpoint)| endpoint);
        self.routes.evict(|| listens.endpoints().chain(listening).chain(watches.endpoints()).collect());
    }

    fn end_gone(&mut self, now: Now, out: &mut Out) {
        let gone = self.routes.take_gone();
        self.end_listens(now, Some(&gone), out);
        legacy::on_endpoints_gone(self, now, &gone, out);
    }
}
