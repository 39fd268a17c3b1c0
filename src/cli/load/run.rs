//! `ringhub load`: does it, shows how it goes, and writes what came of it.

use super::{LoadArgs, LoadFlags, LoadRate};
use crate::load::drive::{self, Event, Order};
use crate::load::gather::{Progress, SUSTAINED_P99_US};
use crate::load::profile::{Profile, Shape};
use crate::load::report::Report;
use crate::load::target::Wanted;
use crate::load::verdict::show_us;
use crate::load::{compare, html, process};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Exit code when nothing could be measured.
const NO_REPORT: u8 = 2;
/// Of so many parts of a run a line is printed for each where there is no terminal.
const LINES: f64 = 20.0;

/// Loads a server. Fails when a threshold is broken (1), and when there is nothing to report (2).
#[must_use]
pub fn load(args: &LoadArgs) -> ExitCode {
    let (profile, flags) = args.profile.parts();
    match run(profile, flags) {
        Ok(report) if report.is_kept() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("ringhub: {why}");
            ExitCode::from(NO_REPORT)
        }
    }
}

/// One of the processes that a load is made of: not for people.
#[must_use]
pub fn load_process() -> ExitCode {
    // A Ctrl-C goes to the whole group; the process that drives says when to end.
    let ignored = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register(SIGINT, Arc::clone(&ignored));
    match process::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(profile: Profile, flags: &LoadFlags) -> Result<Report, String> {
    let before = flags.compare.as_deref().map(earlier).transpose()?;
    let order = order(profile, flags)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop)).map_err(|error| error.to_string())?;
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| error.to_string())?;
    }
    let mut show = Show::new(order.seed);
    let result = drive::run(&order, &stop, &mut |event| show.on(event));
    show.end();
    let mut report = result.map_err(|error| error.to_string())?;
    report.verdicts = flags.thresholds().judge(&report);
    println!("{}", report.text());
    if let Some(before) = &before {
        println!("{}", compare::text(before, &report));
    }
    if let Some(path) = &flags.json {
        write(path, &report.json())?;
    }
    if let Some(path) = &flags.html {
        let shape = Shape::of(profile, &order.wishes);
        let marks: Vec<_> = shape.starts().skip(1).map(|(at, phase)| (at, phase.stage.name())).collect();
        write(path, &html::page(&report, before.as_ref(), &marks))?;
    }
    Ok(report)
}

fn earlier(path: &Path) -> Result<Report, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("--compare {}: {error}", path.display()))?;
    Report::parse(&text).map_err(|why| format!("--compare {}: {why}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn order(profile: Profile, flags: &LoadFlags) -> Result<Order, String> {
    let program = std::env::current_exe().map_err(|error| format!("this program cannot be found to start it again: {error}"))?;
    let seed = match flags.seed {
        Some(seed) => seed,
        // Short enough to be typed.
        None => u64::from(getrandom::u32().map_err(|error| error.to_string())?),
    };
    Ok(Order {
        profile,
        wishes: flags.wishes(),
        wanted: Wanted {
            url: flags.url.clone(),
            era: flags.era.into(),
            kinds: flags.kinds(profile),
            tool: flags.tool.clone(),
            arguments: flags.arguments.clone(),
            expect: flags.expect.clone(),
            resource: flags.resource.clone(),
            fields: flags.header.clone(),
        },
        seed,
        timeout_s: flags.timeout,
        pipeline: flags.pipeline,
        is_closed_loop: flags.rate == Some(LoadRate::Max),
        connect_rate: flags.connect_rate,
        sources: flags.source_addresses.clone(),
        processes: flags.processes,
        cpus: cpus(flags)?,
        pids: flags.pid.clone(),
        sustained_p99_us: flags.max_p99.map_or(SUSTAINED_P99_US, |seconds| seconds * 1e6),
        program,
    })
}

/// The CPUs to pin to: those that were named, else the last ones, since servers are commonly given the first.
fn cpus(flags: &LoadFlags) -> Result<Vec<usize>, String> {
    let allowed: Vec<_> = core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    match &flags.cpus {
        Some(cpus) => match cpus.0.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(denied) => Err(format!("--cpus: CPU {denied} is not allowed to this process, which may use {allowed:?}")),
            None => Ok(cpus.0.clone()),
        },
        // With one CPU alone there is nothing to choose.
        None if allowed.len() < 2 => Ok(Vec::new()),
        None => Ok(allowed.into_iter().rev().take(flags.processes.max(1)).collect()),
    }
}

/// How it goes: a line that changes on a terminal, else a line now and then.
struct Show {
    bar: Option<ProgressBar>,
    next_s: f64,
    seed: u64,
}

impl Show {
    fn new(seed: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar:.cyan/dim} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            bar
        });
        Self { bar, next_s: 0.0, seed }
    }

    fn on(&mut self, event: &Event<'_>) {
        match event {
            Event::Opening(known) => {
                self.say(&format!(
                    "{} at {}, {}; seed {}; opening connections",
                    known.server, known.address, known.target.version, self.seed
                ));
            }
            Event::Begun { open, unopened } => self.say(&format!("{open} connections are open, {unopened} could not be; begins")),
            Event::Progress(progress) => self.progress(progress),
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn progress(&mut self, progress: &Progress) {
        let row = &progress.row;
        let line = format!(
            "{:.1} of {:.1} s: {} conns, {:.0}/s offered, {:.0}/s answered, {:.0}/s refused, {} errors, p50 {}, p99 {}",
            progress.at_s,
            progress.seconds,
            row.open,
            row.offered,
            row.answered,
            row.refused,
            progress.errors,
            show_us(row.p50_us),
            show_us(row.p99_us)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position((progress.at_s / progress.seconds * 1000.0).min(1000.0) as u64);
                bar.set_message(line);
            }
            None if progress.at_s >= self.next_s => {
                eprintln!("{line}");
                self.next_s = progress.at_s + progress.seconds / LINES;
            }
            None => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
