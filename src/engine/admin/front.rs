//! Servers that are registered to be fronted: when the registry has taken them, the cores are told to reach them.

use super::answer::Answer;
use super::problem::Problem;
use super::{Call, WAITER};
use crate::base::limits::UPSTREAMS_MAX;
use crate::base::metrics::Refused;
use crate::base::time::Now;
use crate::engine::Engine;
use crate::engine::out::Out;
use crate::engine::roster::is_process;
use crate::gateway::config::Target;
use crate::gateway::{Placed, Settings};
use crate::registry::{Catalog, Change, Changed, Refusal, ServerSpec, Source, State};

/// What becomes of an upstream when a change has been made.
#[derive(Debug)]
pub(super) enum Front {
    /// It is reached like this.
    Some(Box<Settings>),
    /// The server of this name is not fronted.
    None(Box<str>),
}

impl Engine {
    /// Whether what a server is registered with can be fronted, and may be: a command is a program that would run here.
    pub(super) fn check_server(&self, (mut spec, settings): (ServerSpec, Option<Box<Settings>>)) -> Result<(ServerSpec, Front), Problem> {
        let not_allowed = |what: &str| {
            let detail = format!(
                "`{what}` is a command, and this server does not let its control API start programs: restart `ringhub serve` with \
                 --allow-stdio-api, or name the server in its configuration (--upstream)"
            );
            Problem::new(403, Refused::NotPermitted, detail)
        };
        let Some(settings) = settings else {
            let Source::Upstream(target) = &spec.source else { return Err(Problem::overloaded()) };
            match Target::parse(target) {
                Ok(target) if target.is_stdio() && !self.config.stdio_api => return Err(not_allowed("target")),
                Ok(_) => {}
                Err(why) => return Err(Problem::new(422, Refused::Invalid, format!("`target`: {why}"))),
            }
            let front = Front::None(spec.name.clone());
            return Ok((spec, front));
        };
        if is_process(&settings) && !self.config.stdio_api {
            return Err(not_allowed("command"));
        }
        let roster = self.rosters.latest();
        let coming = self.admin.fronts.values().filter(|front| matches!(front, Front::Some(_))).count();
        if roster.find(&spec.name).is_none() && roster.members().len() + coming >= UPSTREAMS_MAX {
            let detail = format!("This node fronts {UPSTREAMS_MAX} servers, and no more are taken: remove some");
            return Err(Problem::new(507, Refused::Full, detail));
        }
        // These are found out.
        (spec.state, spec.catalog) = (State::Offline, Catalog::default());
        Ok((spec, Front::Some(settings)))
    }

    /// Asks for the change of a server; what it means for the upstreams follows when it has been made.
    pub(super) fn ask_server(
        &mut self,
        call: &Call<'_>,
        change: Change,
        front: Front,
        (status, location): (u16, Option<String>),
        out: &mut Out,
    ) -> Result<Option<Answer>, Problem> {
        // The change may be made before this returns.
        let serial = (self.admin.serial + 1) | WAITER;
        self.admin.fronts.insert(serial, front);
        self.ask_change(call, change, status, location, out)
    }

    /// The registry has made a change, or refused to; whether or not anybody waits for that still.
    pub(super) fn settle_front(&mut self, now: Now, serial: u64, result: &Result<Changed, Refusal>, out: &mut Out) {
        let Some(front) = self.admin.fronts.remove(&serial).filter(|_| result.is_ok()) else { return };
        let mut roster = self.rosters.latest().next_edition();
        let name = match &front {
            Front::Some(settings) => &settings.name,
            Front::None(name) => name,
        };
        if roster.find(name).is_some_and(|member| !member.settings.options.is_registered) {
            return;
        }
        let is_changed = match front {
            Front::Some(settings) => roster.put(*settings) != Placed::Same,
            Front::None(name) => roster.remove(&name),
        };
        if is_changed {
            self.set_roster(now, roster, out);
        }
    }
}
