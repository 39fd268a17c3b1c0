//! Style that matters, as a test: the floors, the size of files, and calls that must not be made where they are made.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

/// Floors from the ground up. A room may use lower floors only, and never another room of its own floor.
const FLOORS: &[&[&str]] = &[
    &["base"],
    &["wire"],
    &["registry", "native", "gateway", "guard", "health", "cluster"],
    &["engine"],
    &["rt", "sim", "load"],
    &["cli", "config", "check", "ctl", "log", "serve", "main", "lib"],
];

/// `(what, why, folders or files where it may stand)`, looked for in the code below src, unit tests and comments aside.
const BANNED: &[(&str, &str, &[&str])] = &[
    ("todo!(", "finish it", &[]),
    ("unimplemented!(", "finish it", &[]),
    ("dbg!(", "it is for debugging", &[]),
    ("println!(", "only the command line prints", &["check.rs", "cli/load", "ctl", "serve"]),
    ("Instant::now(", "time is handed in: see base::time", &["rt", "load", "native/testing.rs"]),
    ("SystemTime::now(", "time is handed in: see base::time", &["rt", "load"]),
    ("thread::sleep(", "no thread of ours sleeps", &["rt/blocking.rs", "load"]),
    ("glommio", "only the shell knows it", &["rt", "lib.rs"]),
    ("io_uring::", "only the shell knows it", &["rt"]),
    ("libc::", "only the shell knows it, and the load, which has a loop of its own", &["rt", "load/process.rs"]),
    ("Arc<Mutex", "cores share nothing: talk by messages", &["native/notifier.rs"]),
    ("Rc<Mutex", "one core needs no lock", &[]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "runs") {
                rust_files(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn files_below(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut files);
    }
    assert!(!files.is_empty());
    files
}

/// Path below src, with forward slashes.
fn place(path: &Path) -> String {
    path.strip_prefix(root().join("src")).expect("it is below src").to_string_lossy().into_owned()
}

/// Name of the room a file below src belongs to.
fn room(path: &Path) -> String {
    let place = place(path);
    place.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// The code of a file: without comments, and without the unit tests at its foot.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("the file is readable");
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// Rooms that a piece of code names by path, such as `crate::wire::json` or `use crate::{base::ids, wire}`.
fn rooms_used(code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(identifier(rest));
            continue;
        };
        let mut depth = 0;
        let mut fresh = true;
        for (index, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => fresh = true,
                character if fresh && character.is_alphabetic() => {
                    rooms.push(identifier(&group[index..]));
                    fresh = false;
                }
                _ => {}
            }
        }
    }
    rooms
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn a_room_uses_lower_floors_only() {
    let mut wrong = Vec::new();
    for path in files_below(&["src"]) {
        let own = room(&path);
        if own == "lib" || own == "main" {
            continue;
        }
        let own_floor = floor(&own).unwrap_or_else(|| panic!("{own} stands on no floor: add it to FLOORS"));
        for used in rooms_used(&code(&path)) {
            let Some(used_floor) = floor(&used) else { continue };
            let top = FLOORS.len() - 1;
            if used != own && (used_floor > own_floor || (used_floor == own_floor && own_floor != top)) {
                wrong.push(format!("{} uses {used}", place(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_outgrows_its_reader() {
    let long: Vec<_> = files_below(&["src", "benches", "tests"])
        .into_iter()
        .map(|path| (fs::read_to_string(&path).expect("the file is readable").lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "split these by job: {long:#?}");
}

#[test]
fn nothing_banned_is_called() {
    let mut wrong = Vec::new();
    for path in files_below(&["src"]) {
        let (place, code) = (place(&path), code(&path));
        if place.contains("/tests/") || place.ends_with("/tests.rs") {
            continue;
        }
        for (what, why, allowed) in BANNED {
            let may = allowed.iter().any(|prefix| place == *prefix || place.starts_with(&format!("{prefix}/")));
            if !may && code.contains(what) {
                wrong.push(format!("{place}: {what} ({why})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<_> = files_below(&["src", "tests/it", "tests/peers", "tests/everything"])
        .into_iter()
        .filter(|path| !fs::read_to_string(path).expect("the file is readable").starts_with("//!"))
        .collect();
    assert!(silent.is_empty(), "these lack a //! head: {silent:#?}");
}

#[test]
fn the_wire_floor_denies_what_a_peer_could_make_panic() {
    let head = fs::read_to_string(root().join("src/wire/mod.rs")).expect("the file is readable");
    for lint in ["unwrap_used", "expect_used", "indexing_slicing", "panic"] {
        assert!(head.contains(&format!("clippy::{lint}")), "{lint}");
    }
}

#[test]
fn rooms_are_read_from_groups_and_paths() {
    assert_eq!(rooms_used("use crate::{base::{ids, time}, wire};\nlet x = crate::rt::run();"), ["base", "wire", "rt"]);
}
