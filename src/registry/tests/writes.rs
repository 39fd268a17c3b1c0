//! Changes one by one: who is told what, what is refused, and what is left of it.

use std::num::NonZeroU64;
use std::time::Duration;

use super::cluster::{Cluster, WAITER, register, spec, unregister, update};
use crate::base::ids::{CoreId, NodeId};
use crate::base::limits;
use crate::registry::{Change, Changed, Config, Effect, Lookup, Record, Refusal, Registry, ServerSpec, Source, State, Waiter};

fn create(path: &str, servers: &[&str]) -> Change {
    Change::Create { path: path.into(), servers: servers.iter().map(|name| (*name).into()).collect() }
}

fn bind(path: &str, server: &str) -> Change {
    Change::Bind { path: path.into(), server: server.into(), if_version: None }
}

/// The servers bound at a path, as its owner has them.
fn bound(cluster: &mut Cluster, path: &str) -> Vec<String> {
    let owner = cluster.owner(path);
    match cluster.registries[owner].endpoint(cluster.now, path, WAITER, &cluster.metrics) {
        Lookup::Here(endpoint) => endpoint.servers.iter().map(ToString::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_core_sees_every_change_once_it_is_acknowledged() {
    let mut cluster = Cluster::new(3, &Config::default());
    for n in 0..40 {
        let (name, from) = (format!("server-{n}"), n % 3);
        for core in 0..3 {
            assert_eq!(cluster.find(core, &name), None);
        }
        let first = cluster.change(from, register(&name)).expect("it is new");
        assert_eq!(first.version, 1);
        for core in 0..3 {
            assert_eq!(cluster.find(core, &name), Some((first.id.number, 1)));
        }
        let second = cluster.change((from + 1) % 3, update(&name, Some(1))).expect("it has that version");
        assert_eq!((second.id, second.version), (first.id, 2));
        let sent = cluster.frames_sent;
        for core in 0..3 {
            assert_eq!(cluster.find(core, &name), Some((first.id.number, 2)));
            assert_eq!(cluster.find(core, &name), Some((first.id.number, 2)));
        }
        assert!(cluster.frames_sent - sent <= 4, "it is asked for once by each core that is not the owner");
    }
}

#[test]
fn a_server_of_the_configuration_is_changed_by_this_process_alone_and_not_kept() {
    let mut cluster = Cluster::new(1, &Config { is_durable: true, ..Config::default() });
    let configured = ServerSpec { is_configured: true, state: State::Offline, ..spec("u") };
    assert!(cluster.registries[0].load_server(cluster.now, configured.clone()));
    assert_eq!(cluster.change(0, update("u", None)), Err(Refusal::NotPermitted));
    assert_eq!(cluster.change(0, unregister("u")), Err(Refusal::NotPermitted));
    let found_out = Change::Update { spec: Box::new(ServerSpec { state: State::Online, ..configured }), if_version: None };
    assert_eq!(cluster.change(0, found_out).expect("without the store").version, 2);
}

#[test]
fn refusals_say_why() {
    let mut cluster = Cluster::new(2, &Config::default());
    cluster.change(0, register("a")).expect("it is new");
    cluster.change(0, create("/mcp/x", &["a"])).expect("it is new");
    let version = NonZeroU64::new;
    let long = "x".repeat(limits::SERVER_NAME_BYTES_MAX + 1);
    let mut native = spec("n");
    native.source = Source::Native(0);
    for core in 0..2 {
        for (change, refusal) in [
            (register("a"), Refusal::Taken),
            (update("b", None), Refusal::Absent),
            (unregister("b"), Refusal::Absent),
            (update("a", Some(2)), Refusal::VersionMismatch { current: 1 }),
            (Change::Unregister { name: "a".into(), if_version: version(9) }, Refusal::VersionMismatch { current: 1 }),
            (Change::Register(Box::new(native.clone())), Refusal::NotPermitted),
            (create("/mcp/x", &[]), Refusal::Taken),
            (bind("/mcp/y", "a"), Refusal::Absent),
            (Change::Unbind { path: "/mcp/x".into(), server: "b".into(), if_version: None }, Refusal::Absent),
            (Change::Delete { path: "/mcp/x".into(), if_version: version(2) }, Refusal::VersionMismatch { current: 1 }),
        ] {
            assert_eq!(cluster.change(core, change.clone()), Err(refusal), "{change:?}");
        }
        for change in [
            register(""),
            register(&long),
            register("a b"),
            create("/other", &[]),
            create("/mcpx", &[]),
            create("/mcp/", &[]),
            create("/mcp/z", &["a", "a"]),
        ] {
            assert!(matches!(cluster.change(core, change.clone()), Err(Refusal::Invalid(_))), "{change:?}");
        }
    }
}

#[test]
fn bindings_keep_their_order_and_need_no_server() {
    let mut cluster = Cluster::new(2, &Config::default());
    assert_eq!(cluster.change(0, create("/mcp", &["b"])).map(|changed| changed.version), Ok(1));
    assert_eq!(cluster.change(1, bind("/mcp", "a")).map(|changed| changed.version), Ok(2));
    assert_eq!(cluster.change(1, bind("/mcp", "a")).map(|changed| changed.version), Ok(2), "it is bound");
    assert_eq!(cluster.change(0, bind("/mcp", "io.example/c")).map(|changed| changed.version), Ok(3));
    assert_eq!(bound(&mut cluster, "/mcp"), ["b", "a", "io.example/c"]);
    let unbind = Change::Unbind { path: "/mcp".into(), server: "a".into(), if_version: NonZeroU64::new(3) };
    assert_eq!(cluster.change(0, unbind).map(|changed| changed.version), Ok(4));
    assert_eq!(bound(&mut cluster, "/mcp"), ["b", "io.example/c"]);
    let rebind = Change::Rebind { path: "/mcp".into(), servers: ["x".into()].into(), if_version: None };
    assert_eq!(cluster.change(0, rebind).map(|changed| changed.version), Ok(5));
    assert_eq!(bound(&mut cluster, "/mcp"), ["x"]);
}

#[test]
fn no_name_has_a_version_twice_and_no_id_is_given_twice() {
    let mut cluster = Cluster::new(2, &Config::default());
    let first = cluster.change(0, register("a")).expect("it is new");
    cluster.change(0, update("a", None)).expect("it is there");
    let gone = cluster.change(1, unregister("a")).expect("it is there");
    assert_eq!((gone.id, gone.version), (first.id, 2));
    let again = cluster.change(1, register("a")).expect("it is new again");
    assert!(again.id != first.id && again.version == 3);
    assert_eq!(cluster.change(0, update("a", Some(1))), Err(Refusal::VersionMismatch { current: 3 }));
}

#[test]
fn holders_and_lookers_are_told_and_others_are_not() {
    let mut cluster = Cluster::new(4, &Config::default());
    let owner = cluster.owner("a");
    let [holder, looker, stranger] = [1, 2, 3].map(|step| (owner + step) % 4);
    cluster.change(owner, register("a")).expect("it is new");
    cluster.find(holder, "a");
    cluster.take_notices();
    cluster.start_change(owner, update("a", None), Waiter(1));
    assert_eq!(cluster.done(Waiter(1)), None, "the holder has not let go");
    // The question of the looker reaches the owner before the holder has let go.
    let Lookup::Ask { to, frame } = cluster.registries[looker].server(cluster.now, "a", WAITER, &cluster.metrics) else {
        panic!("unknown")
    };
    cluster.with(to.index(), |registry, now, _, out| registry.on_frame(now, CoreId(looker as u16), frame, out));
    let reply = cluster.lane(owner, looker, crate::base::ids::Lane::Reply);
    assert!(cluster.deliver(reply));
    let seen = match cluster.registries[looker].server(cluster.now, "a", WAITER, &cluster.metrics) {
        Lookup::Once(server) => server.version,
        other => panic!("{other:?}"),
    };
    assert_eq!(seen, 1, "the old one, not to be kept");
    cluster.settle();
    assert_eq!(cluster.done(Waiter(1)).expect("all let go").map(|changed| changed.version), Ok(2));
    let mut notices = cluster.take_notices();
    notices.sort();
    let mut expected = vec![
        (owner, true, "a".to_owned()),
        (holder, false, "a".to_owned()),
        (holder, true, "a".to_owned()),
        (looker, true, "a".to_owned()),
    ];
    expected.sort();
    assert_eq!(notices, expected, "not {stranger}");
}

#[test]
fn who_does_not_let_go_in_time_or_cannot_be_told_stops_a_change() {
    let config = Config { change_timeout: Duration::from_millis(50), ..Config::default() };
    let mut cluster = Cluster::new(2, &config);
    let owner = cluster.owner("a");
    let other = 1 - owner;
    cluster.change(owner, register("a")).expect("it is new");
    cluster.find(other, "a");
    cluster.start_change(owner, update("a", None), Waiter(1));
    for waiter in 2..2 + limits::CHANGES_QUEUED_MAX as u64 {
        cluster.start_change(owner, update("a", None), Waiter(waiter));
        assert_eq!(cluster.done(Waiter(waiter)), None, "it is queued");
    }
    cluster.start_change(owner, update("a", None), Waiter(99));
    assert_eq!(cluster.done(Waiter(99)), Some(Err(Refusal::Overloaded)), "the queue is full");
    assert!(cluster.registries[owner].next_deadline() <= cluster.now.mono.after(Duration::from_millis(50)));
    cluster.pass(Duration::from_millis(50));
    for waiter in 1..2 + limits::CHANGES_QUEUED_MAX as u64 {
        assert_eq!(cluster.done(Waiter(waiter)), Some(Err(Refusal::Overloaded)));
    }
    cluster.settle();
    assert_eq!(cluster.find(other, "a").map(|seen| seen.1), Some(1), "nothing was changed");
    cluster.lane_frames_max = 0;
    cluster.start_change(owner, update("a", None), Waiter(1));
    assert_eq!(cluster.done(Waiter(1)), Some(Err(Refusal::Overloaded)), "the holder cannot be told");
    cluster.start_change(other, update("a", None), Waiter(1));
    assert_eq!(cluster.done(Waiter(1)), Some(Err(Refusal::Overloaded)), "the owner cannot be asked");
    cluster.lane_frames_max = usize::MAX;
    assert_eq!(cluster.change(other, update("a", None)).map(|changed| changed.version), Ok(2));
}

#[test]
fn queued_changes_are_made_in_the_order_they_came() {
    let mut cluster = Cluster::new(2, &Config::default());
    let owner = cluster.owner("a");
    cluster.change(owner, register("a")).expect("it is new");
    cluster.find(1 - owner, "a");
    let changes = [update("a", Some(1)), unregister("a"), register("a"), update("a", Some(3))];
    for (change, waiter) in changes.into_iter().zip(1..) {
        cluster.start_change(owner, change, Waiter(waiter));
    }
    cluster.settle();
    let versions = [1, 2, 3, 4].map(|waiter| cluster.done(Waiter(waiter)).expect("it is over").map(|changed| changed.version));
    assert_eq!(versions, [Ok(2), Ok(2), Ok(3), Ok(4)]);
}

#[test]
fn a_durable_change_is_made_when_it_is_written_and_never_otherwise() {
    let mut cluster = Cluster::new(2, &Config { is_durable: true, ..Config::default() });
    let owner = cluster.owner("a");
    let persist = |cluster: &mut Cluster, is_written| {
        let at = cluster.told.iter().position(|told| matches!(told.effect, Effect::Persist { .. })).expect("there is something to write");
        let told = cluster.told.remove(at).expect("it was found");
        let Effect::Persist { ticket, record } = told.effect else { unreachable!() };
        cluster.with(told.core, |registry, now, _, out| registry.on_persisted(now, ticket, is_written, out));
        cluster.with(told.core, |registry, now, _, out| registry.on_persisted(now, ticket, is_written, out));
        cluster.settle();
        record
    };
    cluster.start_change(1 - owner, register("a"), WAITER);
    cluster.settle();
    assert_eq!((cluster.done(WAITER), cluster.find(owner, "a")), (None, None), "it is not written yet");
    cluster.pass(Duration::from_mins(1));
    let Record::Server(server) = persist(&mut cluster, true) else { panic!("a server") };
    let first = cluster.done(WAITER).expect("it is written").expect("it is new");
    assert_eq!((server.id, server.version), (first.id, 1));
    cluster.start_change(owner, unregister("a"), WAITER);
    persist(&mut cluster, false);
    assert_eq!(cluster.done(WAITER), Some(Err(Refusal::NotStored)));
    assert_eq!(cluster.find(1 - owner, "a"), Some((first.id.number, 1)));
    cluster.start_change(owner, unregister("a"), WAITER);
    cluster.settle();
    let removed = persist(&mut cluster, true);
    assert_eq!(removed, Record::Removed { kind: crate::registry::Kind::Server, name: "a".into(), id: first.id, version: 1 });
    assert_eq!(cluster.find(1 - owner, "a"), None);

    // After a restart: nothing that was given out is given out again.
    let mut registries: Vec<_> = (0..2).map(|core| Registry::new(&Config::default(), CoreId(core), 2, NodeId(1))).collect();
    let homes = registries.iter_mut().map(|registry| registry.restore(Record::Server(server.clone())));
    assert_eq!(homes.filter(|is_home| *is_home).count(), 1);
    registries.iter_mut().for_each(|registry| _ = registry.restore(removed.clone()));
    let mut restored = Cluster::new(2, &Config::default());
    restored.registries = registries;
    assert_eq!(restored.find(0, "a"), Some((first.id.number, 1)));
    for core in 0..2 {
        let Changed { id, version, .. } = restored.change(core, register(&format!("b{core}"))).expect("it is new");
        assert!(id.number > first.id.number && version > 1);
    }
}

#[test]
fn a_native_server_takes_the_place_of_one_that_was_kept() {
    let mut cluster = Cluster::new(1, &Config::default());
    let kept = |name: &str| {
        let id = crate::registry::ServerId { node: NodeId(1), number: 256 };
        Record::Server(std::sync::Arc::new(crate::registry::Server { id, version: 3, created_ms: 1, updated_ms: 1, spec: spec(name) }))
    };
    let registry = &mut cluster.registries[0];
    assert!(registry.restore(kept("a")) && registry.restore(kept("b")));
    assert!(!registry.load_server(cluster.now, spec("b")), "it was changed while the process ran");
    assert!(registry.load_server(cluster.now, ServerSpec { source: Source::Native(0), ..spec("a") }));
    assert!(registry.restore(kept("c")));
    assert!(registry.load_server(cluster.now, ServerSpec { is_configured: true, ..spec("c") }), "so does one of the configuration");
    let found = registry.server(cluster.now, "a", WAITER, &cluster.metrics);
    let Lookup::Here(server) = found else { panic!("it is at home: {found:?}") };
    assert_eq!((&server.spec.source, server.version), (&Source::Native(0), 4));
    assert_eq!(cluster.find(0, "b").map(|(_, version)| version), Some(3));
}

#[test]
fn notices_that_find_no_room_come_later_and_too_many_become_one() {
    let mut cluster = Cluster::new(2, &Config::default());
    let names: Vec<String> = (0..3 * limits::NOTICES_OWED_MAX).map(|n| format!("s{n}")).filter(|name| cluster.owner(name) == 0).collect();
    for name in &names {
        cluster.change(0, register(name)).expect("it is new");
        cluster.find(1, name);
    }
    assert!(names.len() > limits::NOTICES_OWED_MAX);
    for (count, is_all) in [(10, false), (names.len(), true)] {
        for name in &names[..count] {
            cluster.start_change(0, update(name, None), WAITER);
            while cluster.deliver(1) || cluster.deliver(0) || cluster.deliver(2) {}
            // The invalidation goes through, and then the lane is full.
            let invalidate = cluster.lane(0, 1, crate::base::ids::Lane::Ask);
            cluster.deliver(invalidate);
            cluster.lane_frames_max = 0;
            let acknowledged = cluster.lane(1, 0, crate::base::ids::Lane::Reply);
            cluster.deliver(acknowledged);
            cluster.lane_frames_max = usize::MAX;
            assert!(cluster.done(WAITER).expect("it let go").is_ok());
        }
        cluster.take_notices();
        assert!(cluster.registries[0].next_deadline() <= cluster.now.mono.after(Duration::from_millis(1)));
        cluster.pass(Duration::from_millis(1));
        cluster.settle();
        let notices: Vec<_> = cluster.take_notices().into_iter().filter(|(core, ..)| *core == 1).collect();
        assert_eq!(notices.len(), if is_all { 1 } else { count });
        assert_eq!(notices[0].2 == "*", is_all);
        for name in &names {
            cluster.find(1, name);
        }
    }
}

#[test]
fn questions_in_wait_are_bounded_and_leave_room_for_notices() {
    for (cores, asked_max) in [(2, 960), (32, 480), (64, 240)] {
        let mut cluster = Cluster::new(cores, &Config::default());
        let names: Vec<_> = (0..).map(|n| format!("x{n}")).filter(|name| cluster.owner(name) == 1).take(1100).collect();
        let mut asked = Vec::new();
        for (name, waiter) in names.iter().zip(0..) {
            match cluster.registries[0].server(cluster.now, name, Waiter(waiter), &cluster.metrics) {
                Lookup::Ask { frame, .. } => asked.push(frame),
                Lookup::Full => break,
                other => panic!("nobody is known: {other:?}"),
            }
        }
        assert_eq!(asked.len(), asked_max);
        assert!(asked.len() < limits::lane_frames(usize::from(cores)), "an invalidation still finds room");
        let unsent = asked.pop().expect("there are some");
        cluster.with(0, |registry, _, _, out| registry.on_unsent(CoreId(1), unsent, out));
        assert!(matches!(cluster.told.pop_back(), Some(told) if matches!(told.effect, Effect::Unasked { .. })));
        let again = cluster.registries[0].server(cluster.now, &names[1099], WAITER, &cluster.metrics);
        assert!(matches!(again, Lookup::Ask { .. }));
    }
}
