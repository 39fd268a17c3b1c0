//! What the two kinds of entries have in common, so that lookups and changes are written once.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::change::{Change, Changed, Configured, Kind, Record, Refusal};
use super::entry::{Endpoint, Server, ServerId, Source};
use super::frame::{Answer, Name};
use super::shard::Shard;
use super::table::Table;
use super::{Foreign, Registry};
use crate::base::ids::NodeId;
use crate::base::limits;

/// An entry of a registry.
pub(super) trait Entry: Sized {
    const KIND: Kind;

    fn name(&self) -> &str;
    fn changed(&self) -> Changed;
    fn answer(entry: Option<Arc<Self>>) -> Answer;
    fn from_answer(answer: Answer) -> Option<Arc<Self>>;
    fn name_of(entry: Arc<Self>) -> Name;
    /// The entry after a change, or that it is to go.
    fn after(change: Change, current: Option<&Self>) -> Result<Next<Self>, Refusal>;
    fn record(entry: &Arc<Self>) -> Record;
    fn table(shard: &Shard) -> &Table<Self>;
    fn table_mut(shard: &mut Shard) -> &mut Table<Self>;
    fn foreign(registry: &mut Registry) -> &mut Foreign<Self>;
    /// Gives the entry its identity and its place in time.
    fn stamp(&mut self, id: ServerId, version: u64, created_ms: u64, updated_ms: u64);
    fn created_ms(&self) -> u64;
    /// Whether it is loaded at start though this one was kept.
    fn takes_the_place_of(&self, kept: &Self) -> bool;
}

/// What a change makes of an entry.
pub(super) enum Next<V> {
    /// This in its place; it has no id, version and dates yet.
    Put(V),
    /// It is to go.
    Remove,
    /// It stays as it is.
    Same,
}

/// Stands where an id is to be given.
pub(super) const NO_ID: ServerId = ServerId { node: NodeId(0), number: 0 };

/// The entry, when there is one and it has the version asked for.
fn check<V: Entry>(current: Option<&V>, if_version: Option<NonZeroU64>) -> Result<&V, Refusal> {
    let current = current.ok_or(Refusal::Absent)?;
    let version = current.changed().version;
    if if_version.is_some_and(|wanted| wanted.get() != version) {
        return Err(Refusal::VersionMismatch { current: version });
    }
    Ok(current)
}

/// What a bounded cache knows its values by.
pub(super) trait Named {
    fn name(&self) -> &str;
}

impl<V: Entry> Named for Arc<V> {
    #[inline]
    fn name(&self) -> &str {
        V::name(self)
    }
}

impl Named for Box<str> {
    fn name(&self) -> &str {
        self
    }
}

/// What is the same for both kinds, names aside.
macro_rules! common {
    ($kind:ident, $table:ident, $($name:ident).+) => {
        const KIND: Kind = Kind::$kind;

        #[inline]
        fn name(&self) -> &str {
            &self.$($name).+
        }

        fn changed(&self) -> Changed {
            Changed { id: self.id, version: self.version, updated_ms: self.updated_ms }
        }

        fn answer(entry: Option<Arc<Self>>) -> Answer {
            Answer::$kind(entry)
        }

        fn from_answer(answer: Answer) -> Option<Arc<Self>> {
            if let Answer::$kind(entry) = answer { entry } else { None }
        }

        fn name_of(entry: Arc<Self>) -> Name {
            Name::$kind(entry)
        }

        fn record(entry: &Arc<Self>) -> Record {
            Record::$kind(Arc::clone(entry))
        }

        #[inline]
        fn table(shard: &Shard) -> &Table<Self> {
            &shard.$table
        }

        fn table_mut(shard: &mut Shard) -> &mut Table<Self> {
            &mut shard.$table
        }

        #[inline]
        fn foreign(registry: &mut Registry) -> &mut Foreign<Self> {
            &mut registry.$table
        }

        fn stamp(&mut self, id: ServerId, version: u64, created_ms: u64, updated_ms: u64) {
            (self.id, self.version, self.created_ms, self.updated_ms) = (id, version, created_ms, updated_ms);
        }

        fn created_ms(&self) -> u64 {
            self.created_ms
        }
    };
}

impl Entry for Server {
    common!(Server, servers, spec.name);

    fn after(change: Change, current: Option<&Self>) -> Result<Next<Self>, Refusal> {
        let is_native = current.is_some_and(|server| matches!(server.spec.source, Source::Native(_)));
        let is_configured = current.is_some_and(|server| server.spec.is_configured);
        match change {
            Change::Register(_) if current.is_some() => Err(Refusal::Taken),
            Change::Register(spec) => Ok(Next::Put(Self { id: NO_ID, version: 0, created_ms: 0, updated_ms: 0, spec: *spec })),
            Change::Update { spec, if_version } => {
                check(current, if_version)?;
                // What it found out of an upstream that is configured, this process says itself.
                if is_native || (is_configured && !spec.is_configured) {
                    return Err(Refusal::NotPermitted);
                }
                let mut spec = *spec;
                // What was found out of it stays, until more is.
                if let Some(server) = current.filter(|server| spec.front.is_some() && server.spec.front.is_some()) {
                    (spec.state, spec.fronted) = (server.spec.state, server.spec.fronted);
                    spec.catalog = server.spec.catalog.clone();
                }
                Ok(Next::Put(Self { id: NO_ID, version: 0, created_ms: 0, updated_ms: 0, spec }))
            }
            Change::Report { mut spec, version } => {
                let server = check(current, NonZeroU64::new(version))?;
                if server.spec.front.is_none() {
                    return Err(Refusal::NotPermitted);
                }
                spec.front.clone_from(&server.spec.front);
                Ok(Next::Put(Self { id: NO_ID, version: 0, created_ms: 0, updated_ms: 0, spec: *spec }))
            }
            Change::Withdraw { .. } if current.is_none() => Err(Refusal::Absent),
            Change::Withdraw { .. } => Ok(if is_configured && !is_native { Next::Remove } else { Next::Same }),
            Change::Unregister { if_version, .. } => {
                check(current, if_version)?;
                if is_native || is_configured { Err(Refusal::NotPermitted) } else { Ok(Next::Remove) }
            }
            _ => Err(Refusal::Invalid("a change of an endpoint")),
        }
    }

    /// A native server is what the program says it is, an upstream of the configuration what that says.
    fn takes_the_place_of(&self, kept: &Self) -> bool {
        let is_native = |server: &Self| matches!(server.spec.source, Source::Native(_));
        (is_native(self) || self.spec.is_configured) && !is_native(kept) && !kept.spec.is_configured
    }
}

/// An endpoint of which the configuration says something else than before.
fn configured(path: Box<str>, Configured { before, servers }: Configured, current: Option<&Endpoint>) -> Next<Endpoint> {
    let put =
        |servers, is_configured| Next::Put(Endpoint { path, id: NO_ID, version: 0, servers, created_ms: 0, updated_ms: 0, is_configured });
    let Some(current) = current else { return servers.map_or(Next::Same, |servers| put(servers, true)) };
    let before = before.unwrap_or_default();
    let is_as_it_was = current.servers == before;
    match servers {
        None if is_as_it_was => Next::Remove,
        Some(servers) if servers == current.servers => Next::Same,
        // Once it was changed otherwise it is kept, and a change of the configuration with it.
        Some(servers) if is_as_it_was => put(servers, current.is_configured),
        // Somebody has changed it while the process ran.
        servers => {
            let servers = servers.unwrap_or_default();
            let kept = current.servers.iter().filter(|name| servers.contains(name) || !before.contains(name));
            let new = servers.iter().filter(|name| !before.contains(name) && !current.servers.contains(name));
            let merged: Box<[Box<str>]> = kept.chain(new).take(limits::SERVERS_PER_ENDPOINT_MAX).cloned().collect();
            if merged == current.servers { Next::Same } else { put(merged, false) }
        }
    }
}

impl Entry for Endpoint {
    common!(Endpoint, endpoints, path);

    fn after(change: Change, current: Option<&Self>) -> Result<Next<Self>, Refusal> {
        let bound =
            |path, servers| Next::Put(Self { path, id: NO_ID, version: 0, servers, created_ms: 0, updated_ms: 0, is_configured: false });
        match change {
            Change::Create { .. } if current.is_some() => Err(Refusal::Taken),
            Change::Create { path, servers } => Ok(bound(path, servers)),
            Change::Delete { if_version, .. } => check(current, if_version).map(|_| Next::Remove),
            Change::Bind { path, server, if_version } => {
                let servers = &check(current, if_version)?.servers;
                if servers.contains(&server) {
                    return Ok(Next::Same);
                }
                if servers.len() >= limits::SERVERS_PER_ENDPOINT_MAX {
                    return Err(Refusal::Invalid("too many servers at one endpoint"));
                }
                Ok(bound(path, servers.iter().cloned().chain([server]).collect()))
            }
            Change::Unbind { path, server, if_version } => {
                let servers = &check(current, if_version)?.servers;
                if !servers.contains(&server) {
                    return Err(Refusal::Absent);
                }
                Ok(bound(path, servers.iter().filter(|name| **name != server).cloned().collect()))
            }
            Change::Rebind { path, servers, if_version } => check(current, if_version).map(|_| bound(path, servers)),
            Change::Configure { path, said } => Ok(configured(path, *said, current)),
            _ => Err(Refusal::Invalid("a change of a server")),
        }
    }

    /// What was bound while the process ran stays so.
    fn takes_the_place_of(&self, _kept: &Self) -> bool {
        false
    }
}
