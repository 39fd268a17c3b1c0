//! What stands in `tuning/`: its scripts print before they change, and change back; its files and its README say the same.

use clap::Parser;
use ringhub::cli::Cli;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PROFILES: [&str; 4] = ["baseline", "foundation", "capacity", "hundred-k"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn run(script: &str, root: &Path, args: &[&str]) -> Output {
    Command::new(folder().join(script)).arg("--root").arg(root).args(args).output().expect("it starts")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder is made");
    fs::write(path, text).expect("it is written");
}

/// Every file below a folder, and what is in it.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() && !path.is_symlink() {
            files.append(&mut tree(&path));
        } else if path.is_file() {
            files.insert(path.clone(), fs::read_to_string(&path).expect("the file is readable"));
        }
    }
    files
}

/// Names of the settings of the kernel that the files have.
fn settings() -> Vec<String> {
    let text = read("sysctl.d/90-ringhub.conf");
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(name, _)| name.trim().trim_start_matches('-').to_owned()).collect()
}

/// A host as its kernel made it: some settings differ from what any profile wants, one is beyond it, one is not there.
fn host() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for name in settings().iter().filter(|name| *name != "kernel.numa_balancing") {
        let value = match name.as_str() {
            "fs.file-max" => "9223372036854775807",
            "net.ipv4.ip_local_port_range" => "32768\t60999",
            "kernel.io_uring_disabled" => "0",
            _ => "7",
        };
        put(root.path(), &format!("proc/sys/{}", name.replace('.', "/")), &format!("{value}\n"));
    }
    put(root.path(), "etc/security/limits.d/90-ringhub.conf", "# what an operator wrote\n\n");
    root
}

#[test]
fn apply_prints_every_change_with_its_reason_and_makes_none() {
    for profile in PROFILES {
        let root = host();
        let before = tree(root.path());
        let output = run("apply", root.path(), &["--profile", profile]);
        let text = printed(&output);
        assert!(output.status.success(), "{text}");
        assert_eq!(tree(root.path()), before, "{profile} changed something:\n{text}");
        assert!(text.contains(profile) && text.contains("Nothing was changed") && text.contains("--yes"), "{text}");
        let changes = text.lines().filter(|line| line.starts_with("    7 -> ")).count();
        let reasons = text.lines().filter(|line| line.starts_with("    why: ")).count();
        // The settings, and the three files.
        assert!(changes >= 4 && reasons >= changes + 3, "{changes} changes, {reasons} reasons:\n{text}");
        assert!(text.contains(&format!("RINGHUB_PROFILE={profile}")), "{text}");
    }
}

#[test]
fn apply_makes_what_it_printed_and_undoes_it() {
    let root = host();
    let before = tree(root.path());
    let now = |name: &str| fs::read_to_string(root.path().join("proc/sys").join(name)).expect("it is there").trim().to_owned();
    let output = run("apply", root.path(), &["--profile", "hundred-k", "--yes"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(now("net/core/somaxconn"), "65535");
    assert_eq!(now("net/ipv4/ip_local_port_range"), "10240 65535");
    assert_eq!(now("fs/file-max"), "9223372036854775807", "it was more than what is wanted");
    let kept = fs::read_to_string(root.path().join("etc/sysctl.d/90-ringhub.conf")).expect("it is written");
    assert!(kept.contains("\nnet.core.somaxconn = 65535\n") && kept.contains("\nfs.file-max = 9223372036854775807\n"), "{kept}");
    let unit = fs::read_to_string(root.path().join("etc/systemd/system/ringhub.service")).expect("it is written");
    assert!(unit.contains("\nLimitNOFILE=262144\n") && !unit.contains("# profiles:"), "{unit}");

    let again = run("apply", root.path(), &["--profile", "hundred-k", "--yes"]);
    assert!(printed(&again).contains("Nothing is to be changed"), "{}", printed(&again));

    // What is undone is both, back to what was before the first.
    let less = run("apply", root.path(), &["--profile", "baseline", "--yes"]);
    assert!(less.status.success(), "{}", printed(&less));
    assert_eq!(now("net/core/somaxconn"), "65535", "it is never lowered");
    let shown = run("apply", root.path(), &["--undo"]);
    assert!(printed(&shown).contains("65535 -> 7") && printed(&shown).contains("Nothing was changed"), "{}", printed(&shown));
    assert_eq!(now("net/core/somaxconn"), "65535");
    let undone = run("apply", root.path(), &["--undo", "--yes"]);
    assert!(undone.status.success(), "{}", printed(&undone));
    assert_eq!(tree(root.path()), before);
}

#[test]
fn what_cannot_be_done_is_said_with_the_remedy() {
    let root = host();
    for (script, args, remedy) in [
        ("apply", &["--profile", "huge"][..], "hundred-k"),
        ("apply", &["--only", "kernel"], "limits"),
        ("apply", &["--profile"], "--help"),
        ("apply", &["--force"], "--help"),
        ("apply", &["--undo", "--yes"], "--state"),
        ("cpus", &["--network", "many"], "--network many"),
        ("cpus", &[], "/sys"),
    ] {
        let output = run(script, root.path(), args);
        let text = printed(&output);
        assert!(!output.status.success() && text.contains(remedy), "{script} {args:?}: {text}");
    }
    // A setting that this kernel does not let go of: the others are changed, and it is named.
    let refused = root.path().join("proc/sys/net/core/somaxconn");
    fs::remove_file(&refused).expect("it was there");
    std::os::unix::fs::symlink("/proc/version", &refused).expect("a link");
    let output = run("apply", root.path(), &["--yes"]);
    let text = printed(&output);
    assert!(!output.status.success() && text.contains("NOT changed: /proc/sys/net/core/somaxconn") && text.contains("--undo"), "{text}");
    assert!(text.contains("\nchanged: /etc/sysctl.d/90-ringhub.conf"), "{text}");
}

#[test]
fn only_root_changes_the_host() {
    // SAFETY: it reads no memory.
    if unsafe { libc::geteuid() } == 0 {
        // Whoever may change this host must not do so from a test.
        return;
    }
    let output = Command::new(folder().join("apply")).args(["--profile", "hundred-k", "--yes"]).output().expect("it starts");
    assert!(!output.status.success() && printed(&output).contains("sudo"), "{}", printed(&output));
}

/// Eight CPUs, two to each core of the processor, and an interface with three interrupts, one of them unused.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a folder");
    put(root.path(), "sys/devices/system/cpu/online", "0-7\n");
    for cpu in 0..8 {
        let topology = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
        put(root.path(), &topology, &format!("{},{}\n", cpu % 4, cpu % 4 + 4));
    }
    put(root.path(), "sys/devices/system/node/node0/cpulist", "0-7\n");
    for interrupt in [40, 41, 42] {
        put(root.path(), &format!("sys/devices/pci0/msi_irqs/{interrupt}"), "msix\n");
        put(root.path(), &format!("proc/irq/{interrupt}/smp_affinity_list"), "0-7\n");
    }
    put(root.path(), "sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,000000ff\n");
    put(root.path(), "sys/class/net/lo/queues/rx-0/rps_cpus", "0\n");
    std::os::unix::fs::symlink(root.path().join("sys/devices/pci0"), root.path().join("sys/class/net/eth0/device")).expect("a link");
    let interrupts = "  40:  5  PCI-MSIX-0000:00:03.0   0-edge   eth0-rx-0\n  41:  5  PCI-MSIX-0000:00:03.0   1-edge   eth0-tx-0\n";
    put(root.path(), "proc/interrupts", interrupts);
    root
}

#[test]
fn cpus_prints_the_layout_and_moves_interrupts_only_when_told() {
    let root = machine();
    let before = tree(root.path());
    let output = run("cpus", root.path(), &[]);
    let text = printed(&output);
    assert!(output.status.success(), "{text}");
    // One CPU in eight is wanted, and with it goes the one that shares its core of the processor.
    assert!(text.contains("serve --cpus 1-3,5-7") && text.contains("CPUs of the network: 0,4"), "{text}");
    assert!(text.contains("eth0-rx-0") && text.contains("0-7 -> 0") && text.contains("Nothing was changed"), "{text}");
    assert!(!text.contains("interrupt 42"), "it is not in use: {text}");
    assert_eq!(tree(root.path()), before);

    let affinity = |n: u32| fs::read_to_string(root.path().join(format!("proc/irq/{n}/smp_affinity_list"))).expect("it is there");
    let output = run("cpus", root.path(), &["--yes"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!((affinity(40), affinity(41), affinity(42)), ("0\n".to_owned(), "4\n".to_owned(), "0-7\n".to_owned()));
    let output = run("cpus", root.path(), &["--undo", "--yes"]);
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(tree(root.path()), before);
    assert!(!root.path().join("run/ringhub-cpus").exists(), "what is undone is forgotten");

    let all = run("cpus", root.path(), &["--network", "8"]);
    assert!(!all.status.success() && printed(&all).contains("leaves no CPU"), "{}", printed(&all));
}

/// The cells of the README's row about something, if it has one.
fn row<'a>(readme: &'a str, about: &str) -> Option<Vec<&'a str>> {
    let start = format!("| `{about}` |");
    let line = readme.lines().find(|line| line.starts_with(&start))?;
    Some(line.trim_matches('|').split('|').map(str::trim).collect())
}

#[test]
fn every_knob_has_its_reason_and_its_effect_in_the_readme() {
    let readme = read("README.md");
    let limits = read("limits.d/90-ringhub.conf");
    let mut knobs = settings();
    assert!(knobs.len() > 10, "{knobs:?}");
    let limit = |line: &str| line.split_whitespace().nth(2).map(str::to_owned);
    knobs.extend(limits.lines().filter(|line| !line.starts_with('#')).filter_map(limit));
    let missing: Vec<_> = knobs
        .iter()
        .filter(|knob| !row(&readme, knob).is_some_and(|cells| cells.len() >= 4 && cells.iter().all(|cell| !cell.is_empty())))
        .collect();
    assert!(missing.is_empty(), "tuning/README.md has no row with value, reason and effect of {missing:?}");

    let unit = read("ringhub.service");
    let keys = unit.lines().map(|line| line.trim_start_matches('#')).filter_map(|line| line.split_once('='));
    let keys = keys.filter(|(key, _)| key.starts_with(|c: char| c.is_uppercase()) && key.chars().all(char::is_alphanumeric));
    let missing: Vec<_> = keys.map(|(key, _)| key).filter(|key| !readme.contains(&format!("`{key}="))).collect();
    assert!(missing.is_empty(), "tuning/README.md says nothing of {missing:?}");
}

#[test]
fn every_flag_of_the_original_is_mapped() {
    let readme = read("README.md");
    for flag in ["+S", "+K", "+A", "+P", "+Q", "+T", "+hms", "+e", "+sbt", "+zdbbl", "ERL_MAX_PORTS"] {
        let found = readme.lines().find(|line| line.starts_with(&format!("| `{flag}")));
        assert!(found.is_some_and(|line| line.split('|').filter(|cell| !cell.trim().is_empty()).count() == 3), "{flag}: {found:?}");
    }
}

#[test]
fn the_unit_starts_ringhub_with_flags_that_it_knows() {
    let unit = read("ringhub.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("it starts something");
    if let Err(error) = Cli::try_parse_from(start.split_whitespace()) {
        panic!("{start}: {error}");
    }
    // What the unit and the limits of a login promise is enough for each profile's connections, on eight cores.
    for (profile, connections) in PROFILES.iter().zip([150, 200, 15_000, 100_000]) {
        for (file, start) in [("ringhub.service", "LimitNOFILE="), ("limits.d/90-ringhub.conf", "ringhub hard nofile ")] {
            let text = read(file);
            let lines: Vec<_> = text.lines().collect();
            let at = lines.iter().position(|line| line.starts_with(start)).expect("it has a limit");
            let said = lines[at - 1].strip_prefix("# profiles: ").expect("it has a value for each profile");
            let value = said.split('|').find_map(|part| part.trim().strip_prefix(profile)).expect("and for this one");
            let files: usize = value.trim().parse().expect("a number");
            assert!((files - files / 4).saturating_sub(64 + 12 * 8) >= connections, "{file}: {files} files for {connections} connections");
        }
    }
}
