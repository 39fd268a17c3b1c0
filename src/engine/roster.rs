//! Upstreams that come and go: one core says which there are, and all follow, itself among them.
//!
//! What is said is the whole roster, so that an edition that found a lane full is followed by the newest one, and one that comes twice changes
//! nothing. That core hears from each which edition it follows.

use std::sync::Arc;

use super::Engine;
use super::admin::HOME;
use super::config::EngineConfig;
use super::hosted::{self, Hosted};
use super::out::{self, Effect, Lane, Out};
use super::upstream::Upstream;
use crate::base::ids::CoreId;
use crate::base::limits;
use crate::base::time::Now;
use crate::gateway::link::Dial;
use crate::gateway::{Roster, Settings};
use crate::registry::{Record, Server};

/// What crosses.
#[derive(Debug)]
pub enum Frame {
    /// The upstreams are these.
    Follow(Arc<Roster>),
    /// This edition is followed.
    Followed(u64),
}

/// The upstreams from the start: those of the configuration, and those that were registered in an earlier run and kept.
pub(super) fn first(core: CoreId, config: &EngineConfig, hosted: &[Hosted]) -> Roster {
    let mut roster = Roster::new(config.upstreams.iter().cloned());
    let natives = hosted::specs(hosted);
    let kept = config.kept.iter().filter_map(|record| if let Record::Server(server) = record { Some(server) } else { None });
    for server in kept.filter(|server| natives.iter().all(|spec| spec.name != server.spec.name)) {
        if roster.find(&server.spec.name).is_some() {
            continue;
        }
        let refused = match settings_of(server) {
            None => continue,
            Some(Err(problems)) => problems.join("; "),
            Some(Ok(settings)) if is_process(&settings) && !config.stdio_api => "it is a command: --allow-stdio-api is missing".to_owned(),
            Some(Ok(_)) if roster.members().len() >= limits::UPSTREAMS_MAX => "there are as many upstreams as may be".to_owned(),
            Some(Ok(settings)) => {
                roster.put(settings);
                continue;
            }
        };
        if core == HOME {
            tracing::warn!(server = &*server.spec.name, "a server that was registered is listed and not fronted: {refused}");
        }
    }
    roster
}

/// How a server that was registered is reached, if it is to be.
fn settings_of(server: &Server) -> Option<Result<Settings, Vec<String>>> {
    let front = server.spec.front.as_deref()?;
    Some(Upstream::of_front(&server.spec.name, front).and_then(|upstream| upstream.register()))
}

/// Whether a process is started for it.
pub(super) fn is_process(settings: &Settings) -> bool {
    matches!(*settings.dial, Dial::Child(_))
}

/// Which upstreams there are, as far as this core goes.
#[derive(Debug)]
pub(super) struct Rosters {
    /// The newest. On every core but one it is the one that was heard of.
    latest: Arc<Roster>,
    /// By core, on the one that makes them: the edition that it follows.
    followed: Box<[u64]>,
    /// Cores that are still to be told.
    untold: Vec<CoreId>,
    /// What is still to be said of the edition that is followed.
    receipt: Option<u64>,
}

impl Rosters {
    pub fn new(latest: Arc<Roster>, cores: u16) -> Self {
        Self { followed: vec![latest.edition(); usize::from(cores)].into(), latest, untold: Vec::new(), receipt: None }
    }

    /// The newest roster.
    pub const fn latest(&self) -> &Arc<Roster> {
        &self.latest
    }

    /// Whether every core follows the newest roster.
    pub fn is_followed(&self) -> bool {
        self.followed.iter().all(|edition| *edition >= self.latest.edition())
    }
}

fn send(to: CoreId, frame: Frame, out: &mut Out) {
    let lane = if matches!(frame, Frame::Followed(_)) { Lane::Reply } else { Lane::Ask };
    out.effects.push(Effect::Send { to, lane, frame: out::Frame::Roster(Box::new(frame)) });
}

impl Engine {
    /// The upstreams are these from now on, on every core.
    pub(super) fn set_roster(&mut self, now: Now, roster: Roster, out: &mut Out) {
        debug_assert_eq!(self.core, HOME, "one core says which there are");
        let roster = Arc::new(roster);
        self.rosters.latest = Arc::clone(&roster);
        self.rosters.untold = (0..self.rosters.followed.len() as u16).map(CoreId).filter(|core| *core != self.core).collect();
        self.tell_roster(out);
        self.follow(now, &roster, out);
        self.rosters.followed[self.core.index()] = roster.edition();
    }

    /// Tells those that are still to be told.
    pub(super) fn tell_roster(&mut self, out: &mut Out) {
        for to in std::mem::take(&mut self.rosters.untold) {
            send(to, Frame::Follow(Arc::clone(&self.rosters.latest)), out);
        }
        if let Some(edition) = self.rosters.receipt.take() {
            send(HOME, Frame::Followed(edition), out);
        }
    }

    /// Another core tells.
    pub(super) fn on_roster(&mut self, now: Now, from: CoreId, frame: Frame, out: &mut Out) {
        match frame {
            Frame::Follow(roster) => {
                self.follow(now, &roster, out);
                send(from, Frame::Followed(roster.edition()), out);
                if roster.edition() > self.rosters.latest.edition() {
                    self.rosters.latest = roster;
                }
            }
            Frame::Followed(edition) => {
                let followed = &mut self.rosters.followed[from.index()];
                *followed = edition.max(*followed);
                self.finish_reload(now, out);
            }
        }
    }

    /// A frame found no room.
    pub(super) fn on_roster_unsent(&mut self, to: CoreId, frame: &Frame) {
        match frame {
            Frame::Follow(_) if !self.rosters.untold.contains(&to) => self.rosters.untold.push(to),
            Frame::Follow(_) => {}
            Frame::Followed(edition) => self.rosters.receipt = Some((*edition).max(self.rosters.receipt.unwrap_or_default())),
        }
    }

    fn follow(&mut self, now: Now, roster: &Roster, out: &mut Out) {
        let followed = self.gateway.follow(now.mono, roster);
        for &number in &followed.retired {
            let Some(settings) = self.gateway.settings(number) else { continue };
            if roster.find(&settings.name).is_none() {
                let name = settings.name.clone();
                self.publish_end(now, &name, out);
            }
        }
        for &number in followed.added.iter().chain(&followed.altered) {
            let Some(settings) = self.gateway.settings(number) else { continue };
            if !self.routes.registry().is_at_home(&settings.name) {
                continue;
            }
            if followed.added.contains(&number) {
                self.gateway.watch(now.mono, number);
            }
            self.publish_altered(now, number, out);
        }
        self.take_early(now, out);
    }

    /// Lets go of upstreams that nobody uses any more.
    pub(super) fn forget_upstreams(&mut self) {
        for upstream in self.gateway.spent() {
            if !self.calls.has_upstream(upstream) {
                self.gateway.forget(upstream);
            }
        }
    }
}
