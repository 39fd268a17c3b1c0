//! Processes of owners.

use super::*;
use crate::base::ids::SessionKey;
use crate::gateway::Digest;
use crate::gateway::config::Options;
use crate::gateway::link::Command;

const MODERN: Version = Version::V2026_07_28;

fn interactive(processes_max: usize) -> Settings {
    let command = Command { name: "u".into(), program: "p".into(), args: Box::default(), env: Box::default(), cwd: None };
    let options = Options { is_interactive: true, processes_max, ..Options::default() };
    Settings { dial: Arc::new(Dial::Child(Box::new(command))), options, ..settings() }
}

fn of(principal: &str, index: u32) -> Forward<'static> {
    Forward { owner: Owner::Principal(Digest::new(principal.as_bytes())), ..forward(index, Method::ToolsCall) }
}

/// The answer to the request that was written.
fn answer_to(line: &str) -> String {
    let id = crate::wire::json::get(line.trim_end().as_bytes(), "id").expect("an id");
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"content\":[]}}}}\n", String::from_utf8_lossy(id))
}

#[test]
fn a_principal_has_a_process_that_works_on_one_call_at_a_time_and_ends_when_it_is_idle() {
    let mut bench = Bench::new(interactive(2));
    for (principal, index) in [("p", 1), ("p", 2), ("q", 3)] {
        bench.relay_as(&of(principal, index), MODERN).expect("it is taken");
    }
    let links = bench.dialled();
    let [p, q] = links[..] else { panic!("two processes: {links:?}") };
    bench.up(p);
    bench.up(q);
    let fed = bench.fed();
    assert!(fed.len() == 2 && fed[0].0 == p && fed[1].0 == q, "the second call of one waits: {fed:?}");
    assert_eq!(bench.relay_as(&of("r", 4), MODERN), Err(Failure::Processes));
    assert!(matches!(bench.bytes(p, &answer_to(&fed[0].1))[..], [(1, Told::Answer(200, _))]));
    let second = bench.fed();
    assert!(second.len() == 1 && second[0].0 == p, "{second:?}");
    assert!(matches!(bench.bytes(q, &answer_to(&fed[1].1))[..], [(3, Told::Answer(200, _))]));
    // One that is idle gives way.
    bench.effects.clear();
    bench.relay_as(&of("r", 5), MODERN).expect("it is taken");
    let effects = std::mem::take(&mut bench.effects);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Hang { link } if *link == q)), "{effects:?}");
    let r = effects.iter().find_map(|effect| if let Effect::Dial { link, .. } = effect { Some(*link) } else { None }).expect("a process");
    bench.up(r);
    let third = bench.fed();
    assert!(matches!(bench.bytes(r, &answer_to(&third[0].1))[..], [(5, Told::Answer(200, _))]));
    assert!(matches!(bench.bytes(p, &answer_to(&second[0].1))[..], [(2, Told::Answer(200, _))]));
    bench.effects.clear();
    for _ in 0..32 {
        assert_eq!(bench.pass(Duration::from_secs(10)), []);
    }
    assert_eq!(bench.hung().len(), 2);
    assert!(bench.gateway.links.len() == 0 && bench.gateway.trips.len() == 0);
    assert!(bench.gateway.instances.is_empty() && bench.gateway.next_due() == Nanos::NEVER);
}

#[test]
fn a_process_ends_with_its_session_and_what_is_in_work_there_fails() {
    let mut bench = Bench::new(interactive(1));
    let owner = |index| Owner::Session(SessionKey { index, generation: 1 });
    for index in 1..=3 {
        bench.relay_as(&Forward { owner: owner(1), ..forward(index, Method::ToolsCall) }, MODERN).expect("it is taken");
    }
    let links = bench.dialled();
    assert_eq!(links.len(), 1, "a session has one, and several calls in work there");
    bench.up(links[0]);
    assert_eq!(bench.fed().len(), 2);
    let other = Forward { owner: owner(2), ..forward(4, Method::ToolsCall) };
    assert_eq!(bench.relay_as(&other, MODERN), Err(Failure::Processes));
    bench.gateway.end_owner(bench.now, owner(2));
    bench.gateway.end_owner(bench.now, owner(1));
    bench.take();
    let mut failed: Vec<_> = bench.told(None).into_iter().map(|(index, told)| (index, matches!(told, Told::Failed(_)))).collect();
    failed.sort_unstable();
    assert_eq!(failed, [(1, true), (2, true), (3, true)]);
    assert_eq!(bench.hung(), links);
    bench.relay_as(&other, MODERN).expect("there is room again");
}
