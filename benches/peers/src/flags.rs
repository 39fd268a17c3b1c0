//! Command-line flags of the yardsticks, and the CPU they are pinned to.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where a yardstick listens, where it runs and what it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// `--listen ADDR:PORT`; port 0 takes a free one.
    pub listen: SocketAddr,
    /// `--cpu N`: the one CPU the process runs on; unpinned when absent.
    pub cpu: Option<usize>,
    /// `--reply FILE`: the whole HTTP reply to send for every request.
    pub reply: Option<PathBuf>,
    /// `--replies FOLDER`: the whole HTTP reply to send for each method.
    pub replies: Option<PathBuf>,
    /// `--upstream URL`: where a relay sends what it is asked.
    pub upstream: Option<String>,
    /// `--era legacy|modern`: what a relay speaks to its upstream.
    pub era: Option<String>,
}

impl Flags {
    /// Reads flags of the form `--name value`.
    ///
    /// # Errors
    /// A sentence naming the flag that is unknown, lacks its value or has a
    /// value that cannot be read.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut flags = Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), cpu: None, reply: None, replies: None, upstream: None, era: None };
        let mut args = args.into_iter();
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let wrong = |e: &dyn std::fmt::Display| format!("{name} {value}: {e}");
            match name.as_str() {
                "--listen" => flags.listen = value.parse().map_err(|e| wrong(&e))?,
                "--cpu" => flags.cpu = Some(value.parse().map_err(|e| wrong(&e))?),
                "--reply" => flags.reply = Some(PathBuf::from(&value)),
                "--replies" => flags.replies = Some(PathBuf::from(&value)),
                "--upstream" => flags.upstream = Some(value),
                "--era" if ["legacy", "modern"].contains(&value.as_str()) => flags.era = Some(value),
                _ => return Err(format!("unknown flag {name}")),
            }
        }
        Ok(flags)
    }
}

/// Binds the calling thread, and threads it starts later, to one CPU.
///
/// # Errors
/// When the CPU is out of range or the process is not allowed on it.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: an all-zero cpu_set_t is the empty set, `cpu` is within it, and
    // the kernel only reads the set during the call.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, String> {
        Flags::parse(words.iter().map(|w| (*w).to_owned()))
    }

    #[test]
    fn reads_every_flag() {
        let got = parse(&["--listen", "127.0.0.1:81", "--cpu", "3", "--reply", "r", "--replies", "s", "--upstream", "u", "--era", "modern"]);
        let want = Flags {
            listen: "127.0.0.1:81".parse().unwrap(),
            cpu: Some(3),
            reply: Some(PathBuf::from("r")),
            replies: Some(PathBuf::from("s")),
            upstream: Some("u".to_owned()),
            era: Some("modern".to_owned()),
        };
        assert_eq!(got, Ok(want));
    }

    #[test]
    fn names_the_flag_at_fault() {
        assert_eq!(parse(&["--cpu"]), Err("--cpu needs a value".into()));
        assert!(parse(&["--cpu", "x"]).unwrap_err().starts_with("--cpu x:"));
        assert_eq!(parse(&["--cpus", "1"]), Err("unknown flag --cpus".into()));
    }

    #[test]
    fn refuses_a_cpu_that_cannot_be() {
        assert!(pin(usize::MAX).is_err());
        assert!(pin(libc::CPU_SETSIZE as usize - 1).is_err());
    }
}
