//! The token that writing to the admin port needs: made at start unless one is given, and kept where only its owner can read it.
//!
//! `ringhub ctl` finds it by the admin port: a directory of this user's has one file for each port, or a link to where the token is.

use crate::config::Config;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Random bytes of a token that is made here.
const RANDOM_BYTES: usize = 32;
/// Shortest and longest token that is taken, characters.
const CHARS: std::ops::RangeInclusive<usize> = 16..=512;
/// The token's file below the directory that `--state` names.
const STATE_FILE: &str = "admin-token";

/// The token of one start, and where it is kept.
#[derive(Debug)]
pub struct Kept {
    /// The token.
    pub token: String,
    /// Its file; `None` until the port is known.
    file: Option<PathBuf>,
    /// The file or link that [`Self::announce`] made, removed at the end if it is that one still.
    by_port: Option<(PathBuf, Mark)>,
}

impl Kept {
    /// Reads the token, or makes one. None, with a word in the log, when nobody said where it is to be kept and there is no place for it.
    ///
    /// # Errors
    /// What is wrong, with the remedy.
    pub fn new(config: &Config) -> Result<Option<Self>, String> {
        if config.admin_token_file.is_none() && config.state.is_none() {
            let problem = directory_of_ports().err();
            if let Some(problem) = &problem {
                tracing::warn!("nothing can be written to the admin port, since there is no place for its token: {problem}");
            }
            return if problem.is_none() { Ok(Some(Self { token: random()?, file: None, by_port: None })) } else { Ok(None) };
        }
        Self::placed(config).map(Some)
    }

    fn placed(config: &Config) -> Result<Self, String> {
        if let Some(file) = &config.admin_token_file {
            return Ok(Self { token: given(file)?, file: Some(file.clone()), by_port: None });
        }
        match &config.state {
            Some(state) => Self::placed_in(state),
            None => Err("there is no place for the token: give one with --admin-token-file".into()),
        }
    }

    /// The token below the directory that `--state` names. It is made before the directory is locked, and never in place of another one.
    fn placed_in(state: &Path) -> Result<Self, String> {
        let file = state.join(STATE_FILE);
        let wrong = |error: io::Error| format!("--state {}: the token cannot be kept there: {error}", state.display());
        if !file.try_exists().map_err(wrong)? {
            // What is registered can hold secrets, too.
            DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(wrong)?;
            match write(&file, &random()?, Placing::New) {
                // Another process was faster. Which of the two may have the directory is decided later.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(wrong)?,
            }
        }
        let token = private(&file).map_err(|why| format!("--state: {why}; or remove it to have one made"))?;
        Ok(Self { token, file: Some(file), by_port: None })
    }

    /// The port is known: says where the token is, for those who know the port. Gives the token's file.
    pub fn announce(&mut self, port: u16) -> Result<PathBuf, String> {
        self.announce_in(&directory_of_ports()?, port)
    }

    fn announce_in(&mut self, ports: &Path, port: u16) -> Result<PathBuf, String> {
        let by_port = ports.join(file_name(port));
        let made = match &self.file {
            Some(file) => {
                let target = fs::canonicalize(file);
                place(&by_port, Placing::Instead, |aside| symlink(target?, aside))
            }
            None => write(&by_port, &self.token, Placing::Instead),
        };
        match made.and_then(|()| Mark::of(&by_port)) {
            Ok(mark) => self.by_port = Some((by_port.clone(), mark)),
            Err(error) if self.file.is_none() => return Err(format!("{}: {error}; give one with --admin-token-file", by_port.display())),
            // Those who know the file need no link.
            Err(_) => {}
        }
        Ok(self.file.clone().unwrap_or(by_port))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // A process that began before this one ended, at the same port, has put its own there.
        if let Some((by_port, mark)) = &self.by_port
            && Mark::of(by_port).is_ok_and(|found| found == *mark)
        {
            let _ = fs::remove_file(by_port);
        }
    }
}

/// Tells a file or link from any other that is put in its place. The time is there since numbers of files are used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Mark {
    device: u64,
    number: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { device: found.dev(), number: found.ino(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

/// Where the token of the server with this admin port is, should it be this user's.
#[must_use]
pub fn find(port: u16) -> Option<PathBuf> {
    let path = directory_of_ports().ok()?.join(file_name(port));
    path.exists().then_some(path)
}

/// Reads a token from a file.
///
/// # Errors
/// What is wrong, with the remedy.
pub fn read(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    check(&text).map_err(|why| format!("{}: {why}", file.display()))
}

fn given(file: &Path) -> Result<String, String> {
    private(file).map_err(|why| format!("--admin-token-file {why}; make one with `(umask 077; head -c 32 /dev/urandom | base64 > FILE)`"))
}

/// Reads the token of this process. A file that others can read is refused rather than made private: who could read it may know the token.
fn private(file: &Path) -> Result<String, String> {
    let opened = || -> io::Result<(bool, String)> {
        let mut opened = File::open(file)?;
        let (is_private, mut text) = (opened.metadata()?.mode() & 0o077 == 0, String::new());
        opened.read_to_string(&mut text)?;
        Ok((is_private, text))
    };
    let (is_private, text) = opened().map_err(|error| format!("{}: {error}", file.display()))?;
    if !is_private {
        return Err(format!("{}: others can read or write it: `chmod 600 {}` if nobody else knows it", file.display(), file.display()));
    }
    check(&text).map_err(|why| format!("{}: {why}", file.display()))
}

fn check(text: &str) -> Result<String, &'static str> {
    let token = text.trim();
    if !CHARS.contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token is one line of 16 to 512 letters, digits and other visible ASCII characters");
    }
    Ok(token.to_owned())
}

fn random() -> Result<String, String> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| format!("no token can be made: {error}; give one with --admin-token-file"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn file_name(port: u16) -> String {
    format!("admin-{port}.token")
}

/// The directory of this user's that says by port where tokens are. Made if there is none; refused when others could write to it.
fn directory_of_ports() -> Result<PathBuf, String> {
    let own = fs::metadata("/proc/self").map_err(|error| format!("/proc: {error}; mount it"))?.uid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|directory| directory.is_absolute() && directory.is_dir());
    let directory = match runtime {
        Some(runtime) => runtime.join("ringhub"),
        None => std::env::temp_dir().join(format!("ringhub-{own}")),
    };
    let wrong = |why: &str| format!("{}: {why}: remove it, or give a token with --admin-token-file", directory.display());
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrong(&error.to_string())),
        _ => {}
    }
    let found = fs::symlink_metadata(&directory).map_err(|error| wrong(&error.to_string()))?;
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(wrong("it is not a directory that only this user can read"));
    }
    Ok(directory)
}

/// What may stand where a file or link is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Placing {
    /// Whatever it is, it goes.
    Instead,
    /// Nothing: what is there stays.
    New,
}

/// Writes a file that only its owner can read, in one step: who reads it sees the old token or the new one, after a crash, too.
fn write(file: &Path, token: &str, placing: Placing) -> io::Result<()> {
    place(file, placing, |aside| {
        let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(aside)?;
        writeln!(made, "{token}")?;
        made.sync_all()
    })
}

/// Puts at `path` what `make` makes aside. What is aside is this process's alone.
fn place(path: &Path, placing: Placing, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    fs::remove_file(&aside).or_else(unless_absent)?;
    make(&aside)?;
    let placed = match placing {
        Placing::Instead => fs::rename(&aside, path),
        Placing::New => fs::hard_link(&aside, path),
    };
    if placing == Placing::New || placed.is_err() {
        fs::remove_file(&aside)?;
    }
    placed?;
    // The name is in the directory, which must be on the disk as well.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

fn unless_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(file: &Path) -> String {
        fs::read_to_string(file).expect("a file").trim().to_owned()
    }

    fn permit(file: &Path, mode: u32) {
        fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("changed");
    }

    #[test]
    fn a_token_is_kept_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        let token = random().expect("random");
        write(&file, &token, Placing::New).expect("written");
        assert_eq!(read(&file), Ok(token.clone()));
        assert_eq!(fs::metadata(&file).expect("it is there").mode() & 0o777, 0o600);
        assert_eq!(given(&file), Ok(token.clone()));
        permit(&file, 0o644);
        assert!(given(&file).expect_err("others can read it").contains("chmod 600"));
        let again = write(&file, "another-token-of-some-length", Placing::New).expect_err("it is there");
        assert_eq!((again.kind(), token_of(&file)), (io::ErrorKind::AlreadyExists, token));
        write(&file, "short", Placing::Instead).expect("written");
        assert!(read(&file).is_err());
        assert!(given(&directory.path().join("none")).expect_err("absent").contains("/dev/urandom"));
        assert_eq!(fs::read_dir(directory.path()).expect("a list").count(), 1, "nothing is left aside");
    }

    #[test]
    fn the_token_of_a_state_directory_is_made_once_and_refused_when_others_could_have_read_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let kept = || Kept::placed_in(&state).map(|kept| kept.token.clone());
        let token = kept().expect("it is made");
        assert_eq!((kept(), token_of(&state.join(STATE_FILE))), (Ok(token.clone()), token));
        for mode in [0o640, 0o604, 0o620] {
            permit(&state.join(STATE_FILE), mode);
            let why = kept().expect_err("others can read or write it");
            assert!(why.contains("chmod 600") && why.contains("admin-token") && why.contains("--state"), "{why}");
        }
    }

    #[test]
    fn who_ends_removes_only_what_it_put_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let by_port = directory.path().join(file_name(9));
        let kept = |token: &str| {
            let mut kept = Kept { token: token.into(), file: None, by_port: None };
            kept.announce_in(directory.path(), 9).map(|_| kept).expect("it is announced")
        };
        let first = kept("the-token-of-the-first");
        let second = kept("the-token-of-the-second");
        drop(first);
        assert_eq!(token_of(&by_port), "the-token-of-the-second");
        drop(second);
        assert!(!by_port.exists());
        let file = directory.path().join("given");
        write(&file, "a-token-that-was-given", Placing::New).expect("written");
        let linked = || {
            let mut kept = Kept { token: "a-token-that-was-given".into(), file: Some(file.clone()), by_port: None };
            kept.announce_in(directory.path(), 9).map(|_| kept).expect("it is announced")
        };
        let (first, second) = (linked(), linked());
        drop(first);
        assert_eq!(token_of(&by_port), "a-token-that-was-given");
        drop(second);
        assert!(fs::symlink_metadata(&by_port).is_err() && file.exists());
    }
}
