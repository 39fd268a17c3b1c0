//! Where the peers are, and the programs of this workspace that the tests start.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use crate::support::process;

/// A build from nothing, on a slow machine.
const BUILD_MAX: Duration = Duration::from_secs(1200);

/// The file or directory `part` under `target/peers`.
///
/// # Panics
///
/// If it is not there.
pub fn provisioned(part: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers").join(part);
    assert!(path.exists(), "the peer {part} is missing: run tests/peers/provision");
    path
}

/// A source file of these tests.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// The example server, built from the present sources.
pub fn everything() -> PathBuf {
    built().join("examples/everything")
}

/// The program around the official Rust client, built from the present sources.
pub fn rmcp_client() -> PathBuf {
    built().join("ringhub-test-rmcp")
}

/// The server made with the official Rust SDK that the benches measure, built from the present sources.
pub fn rmcp_server() -> PathBuf {
    built().join("rmcp_server")
}

/// The directory cargo builds into, after a build of all programs: running one test file alone builds no examples and
/// nothing of other packages, and a test of yesterday's server is worse than none. Asking for the whole workspace
/// settles features as `cargo test --workspace` does, so that nothing is built twice.
fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let this = env::current_exe().expect("a test knows its own path");
        let profile = this.parent().and_then(Path::parent).expect("tests are built into PROFILE/deps");
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--workspace", "--bins", "--examples", "--quiet"])
            .arg("--target-dir")
            .arg(profile.parent().expect("PROFILE is in the target directory"))
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        let ended = process::run(cargo, b"", BUILD_MAX);
        assert!(ended.status.success(), "cannot build what is to be tested\n{}", ended.printed());
        profile.to_path_buf()
    })
}
