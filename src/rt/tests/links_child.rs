//! Links to child processes, on every ring path.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{RINGS, eventually};
use super::links::Rig;
use super::upstreams::pattern;
use crate::base::metrics::Counter;

impl Rig {
    fn start(&mut self, link: u32, script: &str) {
        self.dial(link, "child", 15_000, &["sh", "-c", script]);
    }

    /// Takes what the child has written once it is this long.
    fn wrote(&mut self, link: u32, count: usize) -> String {
        self.until(link, &format!("bytes={count}"));
        String::from_utf8(self.call(link, "bytes", b"")).expect("text")
    }

    /// The number of a process that the child wrote as its first line.
    fn number(&mut self, link: u32) -> i32 {
        let mut line = String::new();
        eventually("it has written a number", || {
            line += std::str::from_utf8(&self.call(link, "bytes", b"")).expect("text");
            line.ends_with('\n')
        });
        line.trim().parse().expect("a number")
    }
}

/// Whether the process runs: one that has ended and is somebody else's to reap does not.
fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// Whether the process is on the list of processes, running or not.
fn is_listed(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn bytes_go_in_and_come_out_and_it_ends_with_its_input() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.start(1, "exec cat");
        rig.call(1, "feed", b"before it runs;");
        assert_eq!(rig.wrote(1, 15), "before it runs;");
        rig.call(1, "feed", b"after");
        assert_eq!(rig.wrote(1, 5), "after");
        rig.until(1, "up drained=2");
        // Far more than a pipe holds, in both directions at once.
        const MANY: usize = 10_000_000;
        rig.call(1, "nap", b"");
        rig.call(1, &format!("fill/{MANY}"), b"");
        rig.until(1, &format!("bytes={MANY} up drained=3"));
        assert!(rig.call(1, "bytes", b"").iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        rig.call(1, "hang", b"");
        rig.until(1, "down=Hung");
        eventually("its place is free again", || rig.running.node.links.taken() == 0);
    }
}

#[test]
fn one_that_is_hung_up_gets_what_it_was_fed_and_time_to_end() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name| folder.path().join(name).to_str().expect("text").to_owned();
        rig.start(1, &format!("trap 'exit 1' TERM; wc -c > {}; mv {} {}", path("a"), path("a"), path("b")));
        rig.until(1, "up");
        rig.call(1, "fill/3000000", b"");
        rig.call(1, "hang", b"");
        rig.until(1, "down=Hung");
        assert_eq!(std::fs::read_to_string(path("b")).expect("it came to its end").trim(), "3000000");
    }
}

#[test]
fn its_end_is_told_after_all_that_it_wrote() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.start(1, "head -c 3000000 /dev/zero; exit 7");
        rig.until(1, "bytes=3000000 up end drained=0 choked=0 down=Exited { code: Some(7) }");
        rig.start(2, "echo $$; kill -9 $$");
        let pid = rig.number(2);
        rig.until(2, "down=Exited { code: None }");
        assert!(!is_listed(pid), "reaped");
        // It has ended while it was paused: nothing is lost.
        rig.start(3, "echo one; sleep 0.1; echo two; exit 3");
        rig.call(3, "pause", b"");
        std::thread::sleep(Duration::from_millis(500));
        assert!(!rig.seen(3).contains("down"));
        rig.call(3, "go", b"");
        rig.until(3, "end drained=0 choked=0 down=Exited { code: Some(3) }");
        assert_eq!(rig.call(3, "bytes", b""), b"one\ntwo\n");
        // It reads nothing and does not end: what is fed is no reason to wait.
        rig.start(4, "exec <&-; sleep 0.3; exit 4");
        rig.until(4, "up");
        std::thread::sleep(Duration::from_millis(100));
        rig.call(4, "feed", b"nobody reads this");
        rig.until(4, "down=Exited { code: Some(4) }");
    }
}

#[test]
fn the_name_of_one_that_takes_its_time_to_end_can_be_given_to_the_next() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.start(1, "trap '' TERM; echo $$; while :; do sleep 1; done");
        let old = rig.number(1);
        rig.call(1, "hang", b"");
        rig.start(1, "echo next; exec cat");
        assert_eq!(rig.wrote(1, 5), "next\n");
        assert!(runs(old), "it has its time");
        rig.call(1, "feed", b"more");
        assert_eq!(rig.wrote(1, 4), "more");
        rig.call(1, "hang", b"");
        rig.until(1, "down=Hung");
        eventually("both places are free again", || rig.running.node.links.taken() == 0);
        assert!(!is_listed(old), "reaped");
    }
}

#[test]
fn one_that_cannot_be_started_says_why() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.dial(1, "child", 5000, &["/no/such/program"]);
        rig.until(1, r#"bytes=0 drained=0 choked=0 down=NotStarted("there is no such program")"#);
        let quota = rig.running.node.links.max() - 3;
        eventually("its place is free again", || rig.running.node.links.taken() == 0);
        assert!(rig.running.node.links.take_many(quota));
        rig.start(2, "exec cat");
        rig.until(2, "down=TooMany");
        rig.running.node.links.give_many(quota);
    }
}

#[test]
fn one_that_ignores_every_word_is_killed_with_all_its_kin() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        // It closes nothing, ignores SIGTERM, and so does what it has started; the endless output is read while it is asked to end.
        rig.start(1, "trap '' TERM; sh -c 'echo $$; exec sleep 600' & while :; do echo; sleep 0.05; done");
        let mut text = String::new();
        eventually("it has written a number", || {
            text += std::str::from_utf8(&rig.call(1, "bytes", b"")).expect("text");
            text.trim().parse::<i32>().is_ok()
        });
        let grandchild: i32 = text.trim().parse().expect("a number");
        assert!(runs(grandchild));
        let start = Instant::now();
        rig.call(1, "hang", b"");
        rig.until(1, "down=Hung");
        assert!(start.elapsed() >= Duration::from_secs(4), "it had its time: {:?}", start.elapsed());
        eventually("the grandchild is dead", || !runs(grandchild));
    }
}

#[test]
fn what_it_leaves_behind_does_not_keep_its_end_from_being_told() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        // The grandchild holds the pipes open.
        rig.start(1, "sleep 600 & echo $!; exit 5");
        let grandchild = rig.number(1);
        rig.until(1, "down=Exited { code: Some(5) }");
        eventually("the grandchild is dead", || !runs(grandchild));
    }
}

#[test]
fn hanging_up_early_leaves_nothing() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        for link in 0..20 {
            rig.start(link, "echo $$; exec cat");
            if link % 2 == 0 {
                rig.call(link, "feed", b"x");
            }
            rig.call(link, "hang", b"");
        }
        for link in 0..20 {
            rig.until(link, "down=Hung");
        }
        eventually("every place is free again", || rig.running.node.links.taken() == 0);
    }
}

/// Processes that this one has started, that have ended and that are not reaped. Each leads a group; orphans that have become this
/// process's own do not.
fn zombies() -> usize {
    let me = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc").expect("a list").filter_map(|entry| {
        let name = entry.expect("an entry").file_name().into_string().ok()?;
        name.parse::<u32>().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        Some((stat, name))
    });
    stats.filter(|(stat, pid)| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(&format!("Z {me} {pid} ")))).count()
}

#[test]
fn two_hundred_leave_no_descriptor_and_no_zombie() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        let open = || std::fs::read_dir("/proc/self/fd").expect("a list").count();
        let before = open();
        for round in 0..200 {
            let link = round % 10;
            if round >= 10 {
                rig.until(link, "down");
            }
            rig.start(link, if round % 2 == 0 { "echo x >&2; exit 0" } else { "exec cat" });
            if round % 2 == 1 {
                rig.until(link, "up");
                rig.call(link, "hang", b"");
            }
        }
        for link in 0..10 {
            rig.until(link, "down");
        }
        eventually("every place is free again", || rig.running.node.links.taken() == 0);
        // Other tests of this process open descriptors and end processes at the same time.
        eventually("descriptors are back", || open() <= before + 200);
        eventually("no zombie is left", || zombies() == 0);
    }
}

#[test]
fn the_end_of_the_core_is_the_end_of_its_children() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.start(1, "echo $$; exec cat");
        rig.start(2, "trap '' TERM; echo $$; while :; do sleep 1; done");
        rig.start(3, "sleep 600 & echo $!; wait");
        let pids = [rig.number(1), rig.number(2), rig.number(3)];
        rig.dial(4, "child", 10_000, &["sleep", "600"]);
        let start = Instant::now();
        rig.running.stop();
        rig.running.join();
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert!(!is_listed(pids[0]) && !is_listed(pids[1]), "reaped");
        eventually("the grandchild is dead", || !runs(pids[2]));
    }
}

#[test]
fn orphans_that_become_ours_are_reaped() {
    // SAFETY: plain system call. Other tests' orphans become this process's, too: they must not mind.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        rig.start(1, "sleep 600 & echo $!; exit 5");
        let grandchild = rig.number(1);
        rig.until(1, "down=Exited { code: Some(5) }");
        eventually("the grandchild is reaped", || !is_listed(grandchild));
    }
}

/// Not a test by itself: what `a_process_that_is_killed_takes_its_children_with_it` runs in a process of its own.
#[test]
#[ignore = "another test runs it"]
fn starts_a_child_and_waits_to_be_killed() {
    let mut rig = Rig::new(crate::rt::RingChoice::Auto);
    // It ignores the end of its input.
    rig.start(1, "echo $$; exec sleep 600");
    println!("child={}", rig.number(1));
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_process_that_is_killed_takes_its_children_with_it() {
    let mut parent = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture", "rt::tests::links_child::starts_a_child_and_waits_to_be_killed"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("a process");
    let lines = BufReader::new(parent.stdout.take().expect("a pipe")).lines();
    let child = lines.map_while(Result::ok).find_map(|line| line.split_once("child=")?.1.trim().parse().ok()).expect("a number");
    assert!(runs(child));
    parent.kill().expect("a signal");
    parent.wait().expect("its end");
    eventually("the child is dead", || !runs(child));
}

#[test]
fn what_it_writes_to_standard_error_is_read_to_the_end_and_a_flood_is_not_logged() {
    for ring in RINGS {
        let mut rig = Rig::new(ring);
        // More than a pipe holds: it would stand still if nobody read.
        rig.start(1, "head -c 1000000 /dev/zero | tr '\\0' '\\n' | sed s/^/line/ >&2; echo done; exec cat");
        assert_eq!(rig.wrote(1, 5), "done\n");
        let dropped = || rig.running.metrics()[0].counter(Counter::ChildLinesDropped);
        eventually("they are counted", || dropped() > 900_000);
        assert!(dropped() < 1_000_000, "some are logged");
    }
}
