//! The token that writing to the admin port needs: made at start unless one is given, and kept where only its owner can read it.
//!
//! `ringhub ctl` finds it by the admin port: a directory of this user's has one file for each port, or a link to where the token is.

use crate::config::Config;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
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
    /// The file or link that [`Self::announce`] made, removed at the end.
    by_port: Option<PathBuf>,
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
        let Some(state) = &config.state else { return Err("there is no place for the token: give one with --admin-token-file".into()) };
        let file = state.join(STATE_FILE);
        let wrong = |error: io::Error| format!("--state {}: the token cannot be kept there: {error}", state.display());
        let token = match fs::read_to_string(&file) {
            Ok(text) => check(&text).map_err(|why| format!("{}: {why}; remove it to have one made", file.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // What is registered can hold secrets, too.
                DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(wrong)?;
                let token = random()?;
                write(&file, &token).map_err(wrong)?;
                token
            }
            Err(error) => return Err(wrong(error)),
        };
        Ok(Self { token, file: Some(file), by_port: None })
    }

    /// The port is known: says where the token is, for those who know the port. Gives the token's file.
    pub fn announce(&mut self, port: u16) -> Result<PathBuf, String> {
        let by_port = directory_of_ports()?.join(file_name(port));
        let made = match &self.file {
            Some(file) => {
                let target = fs::canonicalize(file);
                fs::remove_file(&by_port).or_else(unless_absent).and_then(|()| symlink(target?, &by_port))
            }
            None => write(&by_port, &self.token),
        };
        match made {
            Ok(()) => self.by_port = Some(by_port.clone()),
            Err(error) if self.file.is_none() => return Err(format!("{}: {error}; give one with --admin-token-file", by_port.display())),
            // Those who know the file need no link.
            Err(_) => {}
        }
        Ok(self.file.clone().unwrap_or(by_port))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(by_port) = &self.by_port {
            let _ = fs::remove_file(by_port);
        }
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
    let token = read(file)
        .map_err(|why| format!("--admin-token-file {why}; make one with `(umask 077; head -c 32 /dev/urandom | base64 > FILE)`"))?;
    if fs::metadata(file).is_ok_and(|metadata| metadata.mode() & 0o077 != 0) {
        return Err(format!("--admin-token-file {}: others can read it: `chmod 600 {}`", file.display(), file.display()));
    }
    Ok(token)
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

/// Writes a file that only its owner can read, in one step: who reads it sees the old token or the new one.
fn write(file: &Path, token: &str) -> io::Result<()> {
    let aside = file.with_extension("new");
    fs::remove_file(&aside).or_else(unless_absent)?;
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    writeln!(made, "{token}")?;
    fs::rename(&aside, file)
}

fn unless_absent(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_for_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("token");
        let token = random().expect("random");
        write(&file, &token).expect("written");
        assert_eq!(read(&file), Ok(token.clone()));
        assert_eq!(fs::metadata(&file).expect("it is there").mode() & 0o777, 0o600);
        assert_eq!(given(&file), Ok(token));
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("changed");
        assert!(given(&file).expect_err("others can read it").contains("chmod 600"));
        write(&file, "short").expect("written");
        assert!(read(&file).is_err());
        assert!(given(&directory.path().join("none")).expect_err("absent").contains("/dev/urandom"));
    }
}
