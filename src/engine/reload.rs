//! Reload: the configuration is read again while the process runs, on a thread for blocking work, and what differs is put in force: which upstreams
//! there are, and which endpoints. What is wrong with it is said, and then nothing is changed.
//!
//! One core does it, the admin port's. Who asks while it is done is answered by the next one, since the file may have been read before it was changed.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::config::{self, EngineConfig};
use super::out::{Effect, Out};
use super::route::OTHERS;
use super::{Engine, hosted};
use crate::base::limits;
use crate::base::time::{Nanos, Now};
use crate::gateway::{Placed, Settings};
use crate::native::Inbox;
use crate::registry::{self, Change, Changed, Configured, Effects, Refusal, Waiter};

/// Set in every [`Waiter`] of this file, with [`OTHERS`]. The number of the change stands below.
const RELOADER: u64 = OTHERS | 1 << 61;
/// Tells those waiters from others.
const WHOSE: u64 = RELOADER | 1 << 62;
/// A change that was refused is tried again after this long.
const AGAIN: Duration = Duration::from_millis(500);

/// What was read, and is sound.
#[derive(Clone, Debug)]
pub struct Reread {
    /// The upstreams that the configuration names.
    pub upstreams: Arc<[Settings]>,
    /// Its endpoints.
    pub endpoints: Vec<config::Endpoint>,
    /// Keys of settings that differ from those in force and cannot change while the process runs.
    pub restart: Vec<String>,
}

/// Reads the configuration again. It may block. What is wrong with it comes back all together.
#[derive(Clone)]
pub struct Reader(Arc<dyn Fn() -> Result<Reread, Vec<String>> + Send + Sync>);

impl Reader {
    /// One that reads like this.
    pub fn new(read: impl Fn() -> Result<Reread, Vec<String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader(..)")
    }
}

/// Names of what was added, of what was changed, and of what was removed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Difference {
    pub added: Vec<Box<str>>,
    pub changed: Vec<Box<str>>,
    pub removed: Vec<Box<str>>,
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// What a reload has done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Report {
    pub upstreams: Difference,
    pub endpoints: Difference,
    /// Keys of settings that are in force after a restart.
    pub restart: Vec<String>,
    /// What the registry refused, and why.
    pub refused: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_silent = true;
        for (kind, Difference { added, changed, removed }) in [("upstreams", &self.upstreams), ("endpoints", &self.endpoints)] {
            for (what, names) in [("added", added), ("changed", changed), ("removed", removed)] {
                if !names.is_empty() {
                    write!(f, "{}{kind} {what}: {}", if is_silent { "" } else { "; " }, names.join(", "))?;
                    is_silent = false;
                }
            }
        }
        if is_silent {
            f.write_str("upstreams and endpoints are as they were")?;
        }
        if !self.restart.is_empty() {
            write!(f, "; in force after a restart: {}", self.restart.join(", "))?;
        }
        self.refused.iter().try_for_each(|refused| write!(f, "; refused: {refused}"))
    }
}

type Read = Result<Reread, Vec<String>>;

/// A change of the registry that belongs to a reload.
#[derive(Debug)]
struct Step {
    change: Change,
    /// When it is tried again.
    due: Option<Nanos>,
}

/// What a core is at.
#[derive(Debug)]
enum Stage {
    Idle,
    /// A thread reads.
    Reading,
    /// The changes are being made; those that were are none.
    Applying {
        steps: Vec<Option<Step>>,
        report: Box<Report>,
    },
}

/// The reloads of one core.
pub(super) struct Reload {
    reader: Option<Reader>,
    /// By which the thread sends what it read.
    read: (mpsc::Sender<Read>, mpsc::Receiver<Read>),
    stage: Stage,
    /// One more is wanted.
    is_wanted: bool,
    /// The endpoints of the configuration that is in force.
    endpoints: Vec<config::Endpoint>,
    /// Requests of the admin port that this one answers, and those for the next.
    waiting: Vec<u64>,
    later: Vec<u64>,
}

impl Reload {
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            reader: config.reader.clone(),
            read: mpsc::channel(),
            stage: Stage::Idle,
            is_wanted: false,
            endpoints: config.endpoints.clone(),
            waiting: Vec::new(),
            later: Vec::new(),
        }
    }

    /// Whether there is anything that could be read again.
    pub const fn is_possible(&self) -> bool {
        self.reader.is_some()
    }

    /// When [`Engine::tick_reload`] is due.
    pub fn next_due(&self) -> Nanos {
        match &self.stage {
            Stage::Applying { steps, .. } => steps.iter().flatten().filter_map(|step| step.due).min().unwrap_or(Nanos::NEVER),
            Stage::Idle | Stage::Reading => Nanos::NEVER,
        }
    }
}

impl Engine {
    /// The configuration is to be read again; `asker` is a request of the admin port that is answered then.
    pub(super) fn reload(&mut self, asker: Option<u64>, out: &mut Out) {
        if self.is_draining {
            return;
        }
        self.reload.later.extend(asker);
        self.reload.is_wanted = true;
        self.begin_reload(out);
    }

    fn begin_reload(&mut self, out: &mut Out) {
        let reload = &mut self.reload;
        if !matches!(reload.stage, Stage::Idle) || !std::mem::take(&mut reload.is_wanted) {
            return;
        }
        reload.waiting = std::mem::take(&mut reload.later);
        let Some(Reader(read)) = reload.reader.clone() else {
            tracing::warn!("there is no configuration that could be read again");
            return;
        };
        reload.stage = Stage::Reading;
        let (sender, inbox): (_, Arc<Inbox>) = (reload.read.0.clone(), Arc::clone(self.host.inbox()));
        out.effects.push(Effect::Blocking(Box::new(move || {
            let read = catch_unwind(AssertUnwindSafe(|| read()));
            let read = read.unwrap_or_else(|_| Err(vec!["reading it panicked: see the log".to_owned()]));
            // Nobody waits for it once the core has ended.
            let _ = sender.send(read);
            inbox.reread();
        })));
    }

    /// The thread has read.
    pub(super) fn on_reread(&mut self, now: Now, out: &mut Out) {
        let Ok(read) = self.reload.read.1.try_recv() else { return };
        let begun = read.and_then(|reread| self.apply_reread(now, reread, out));
        if let Err(problems) = begun {
            problems.iter().for_each(|problem| tracing::error!("the configuration is wrong, and nothing was changed: {problem}"));
            self.end_reload(now, Err(problems), out);
        }
    }

    /// Puts what was read in force. It ends when the registry has made every change and every core follows.
    fn apply_reread(&mut self, now: Now, reread: Reread, out: &mut Out) -> Result<(), Vec<String>> {
        let mut report = Report { restart: reread.restart, ..Report::default() };
        let mut roster = self.rosters.latest().next_edition();
        let is_meant = |name: &str| reread.upstreams.iter().any(|settings| *settings.name == *name);
        for member in self.rosters.latest().members() {
            let name = &member.settings.name;
            if !member.settings.options.is_registered && !is_meant(name) {
                roster.remove(name);
                report.upstreams.removed.push(name.clone());
            }
        }
        for settings in &*reread.upstreams {
            match roster.put(settings.clone()) {
                Placed::Added => report.upstreams.added.push(settings.name.clone()),
                Placed::Altered | Placed::Replaced => report.upstreams.changed.push(settings.name.clone()),
                Placed::Same => {}
            }
        }
        let all = roster.members().len();
        if all > limits::UPSTREAMS_MAX {
            let problem = format!(
                "there are {all} upstreams with those that were registered over the control API, and {} at most are taken: leave some out",
                limits::UPSTREAMS_MAX
            );
            return Err(vec![problem]);
        }
        if !report.upstreams.is_empty() {
            self.set_roster(now, roster, out);
        }
        let steps = self.endpoint_steps(&reread.endpoints, &mut report.endpoints);
        self.reload.endpoints = reread.endpoints;
        let numbers = 0..steps.len();
        let steps = steps.into_iter().map(|change| Some(Step { change, due: None })).collect();
        self.reload.stage = Stage::Applying { steps, report: Box::new(report) };
        for number in numbers {
            self.take_step(now, number, out);
        }
        self.finish_reload(now, out);
        Ok(())
    }

    /// The changes that lead from the endpoints in force to these.
    fn endpoint_steps(&self, wanted: &[config::Endpoint], difference: &mut Difference) -> Vec<Change> {
        let natives = hosted::specs(&self.hosted);
        let names = |endpoint: &config::Endpoint| -> Box<[Box<str>]> {
            let own = endpoint.servers.iter().filter_map(|number| natives.get(*number as usize)).map(|spec| spec.name.clone());
            own.chain(endpoint.upstreams.iter().cloned()).collect()
        };
        let mut steps = Vec::new();
        for endpoint in &self.reload.endpoints {
            if wanted.iter().all(|other| other.path != endpoint.path) {
                difference.removed.push(endpoint.path.clone());
                let said = Configured { before: Some(names(endpoint)), servers: None };
                steps.push(Change::Configure { path: endpoint.path.clone(), said: Box::new(said) });
            }
        }
        for endpoint in wanted {
            let before = self.reload.endpoints.iter().find(|other| other.path == endpoint.path).map(names);
            let servers = names(endpoint);
            match &before {
                None => difference.added.push(endpoint.path.clone()),
                Some(before) if *before != servers => difference.changed.push(endpoint.path.clone()),
                Some(_) => continue,
            }
            let said = Configured { before, servers: Some(servers) };
            steps.push(Change::Configure { path: endpoint.path.clone(), said: Box::new(said) });
        }
        steps
    }

    fn take_step(&mut self, now: Now, number: usize, out: &mut Out) {
        let Stage::Applying { steps, .. } = &mut self.reload.stage else { return };
        let Some(Some(step)) = steps.get_mut(number) else { return };
        step.due = None;
        let change = step.change.clone();
        let mut effects = Effects::new();
        self.routes.registry().change(now, change, Waiter(RELOADER | number as u64), &mut effects);
        self.carry_out_registry(effects, now, out);
    }

    /// What the registry says of a change of this file; given back when it is somebody else's.
    pub(super) fn on_step(&mut self, now: Now, effect: registry::Effect, out: &mut Out) -> Option<registry::Effect> {
        match effect {
            registry::Effect::Done { waiter, result } if waiter.0 & WHOSE == RELOADER => {
                self.on_stepped(now, (waiter.0 & !WHOSE) as usize, result, out);
                None
            }
            other => Some(other),
        }
    }

    fn on_stepped(&mut self, now: Now, number: usize, result: Result<Changed, Refusal>, out: &mut Out) {
        let Stage::Applying { steps, report } = &mut self.reload.stage else { return };
        let Some(slot) = steps.get_mut(number) else { return };
        match (result, &mut *slot) {
            (Err(Refusal::Overloaded | Refusal::NotStored | Refusal::StoreStuck), Some(step)) => {
                step.due = Some(now.mono.after(AGAIN));
                return;
            }
            // It was to go, and is not there.
            (Ok(_) | Err(Refusal::Absent), _) | (_, None) => {}
            (Err(refusal), Some(step)) => {
                let problem = format!("endpoint `{}`: {refusal:?}", step.change.name());
                tracing::warn!("the registry refused what the configuration says: {problem}");
                report.refused.push(problem);
            }
        }
        *slot = None;
        self.finish_reload(now, out);
    }

    /// Tries again what was refused, and sees whether all is done.
    pub(super) fn tick_reload(&mut self, now: Now, out: &mut Out) {
        let Stage::Applying { steps, .. } = &self.reload.stage else { return };
        let is_due = |step: &Option<Step>| step.as_ref().and_then(|step| step.due).is_some_and(|due| due <= now.mono);
        let due: Vec<usize> = (0..).zip(steps).filter(|(_, step)| is_due(step)).map(|(number, _)| number).collect();
        for number in due {
            self.take_step(now, number, out);
        }
        self.finish_reload(now, out);
    }

    /// Ends a reload when all of it is done.
    pub(super) fn finish_reload(&mut self, now: Now, out: &mut Out) {
        let Stage::Applying { steps, report } = &mut self.reload.stage else { return };
        if steps.iter().any(Option::is_some) || !self.rosters.is_followed() {
            return;
        }
        let report = std::mem::take(&mut **report);
        tracing::info!("reloaded: {report}");
        self.end_reload(now, Ok(&report), out);
    }

    fn end_reload(&mut self, now: Now, result: Result<&Report, Vec<String>>, out: &mut Out) {
        self.reload.stage = Stage::Idle;
        for serial in std::mem::take(&mut self.reload.waiting) {
            self.answer_reload(now, serial, &result, out);
        }
        self.begin_reload(out);
    }
}
