//! `ringhub serve`: configuration to running cores, and what is printed on the way.

pub(crate) mod token;

use crate::cli::ServeArgs;
use crate::config::{Config, Problems};
use crate::engine;
use crate::engine::admin::Token;
use crate::engine::reload::{Reader, Reread};
use crate::native::{BuildError, Server};
use crate::rt;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Exit code of a configuration that is wrong, as of a flag that is.
const MISCONFIGURED: u8 = 2;

/// Serves what `factory` builds at `/mcp`, until SIGTERM or SIGINT. This is all of a program that hosts its own server: parse
/// [`ServeArgs`], hand both over, return the exit code. What is wrong is printed, with its remedy.
///
/// The factory is run on every core, and what it builds stays there: it need not be `Send`.
pub fn serve(args: &ServeArgs, factory: impl Fn() -> Result<Server, BuildError> + Send + Sync + 'static) -> ExitCode {
    match try_serve(args, factory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Config(problems)) => {
            eprint!("ringhub: the configuration is wrong:\n{problems}");
            ExitCode::from(MISCONFIGURED)
        }
        Err(Failure::Server(error)) => {
            eprintln!("ringhub: the server cannot be built: {error}");
            ExitCode::FAILURE
        }
        Err(Failure::Start(error)) => {
            eprintln!("ringhub: {error}");
            ExitCode::FAILURE
        }
    }
}

enum Failure {
    Config(Problems),
    Server(BuildError),
    Start(rt::StartError),
}

fn try_serve(args: &ServeArgs, factory: impl Fn() -> Result<Server, BuildError> + Send + Sync + 'static) -> Result<(), Failure> {
    let config = Config::load(args).map_err(Failure::Config)?;
    if args.print_config {
        print!("{}", config.to_toml());
        return Ok(());
    }
    let mut engine = config.engine().map_err(Failure::Config)?;
    crate::log::start(&config.log).map_err(|problem| Failure::Config(Problems(vec![problem])))?;
    // Once before the cores do, so that what is wrong with it is said in words.
    let own = engine::registered_name(factory().map_err(Failure::Server)?.name());
    check_names(&config, &own).map_err(|problem| Failure::Config(Problems(vec![problem])))?;
    if config.seal_key.is_none() {
        tracing::info!("sealing with a key of this start: sessions and request states end with it (--seal-key FILE keeps them)");
    }
    let mut kept = match config.admin {
        Some(_) => token::Kept::new(&config).map_err(|problem| Failure::Config(Problems(vec![problem])))?,
        None => None,
    };
    engine.admin_token = kept.as_ref().map(|kept| Token::new(&kept.token));
    let (started, running) = (args.clone(), config.clone());
    engine.reader = Some(Reader::new(move || reread(&started, &running, &own)));
    rt::run_with(config.shell(), engine, vec![Arc::new(factory)], |running| {
        let file = kept.as_mut().zip(running.admin()).map(|(kept, admin)| kept.announce(admin.port()));
        let file = file.transpose().unwrap_or_else(|problem| {
            tracing::error!("the admin port cannot be written to, since its token cannot be kept: {problem}");
            None
        });
        print!("{}", announcement(running, file.as_deref()));
        if config.is_exposed() {
            tracing::warn!(
                "ringhub can be reached from other machines and asks nobody who they are: put it behind something that does, or listen on 127.0.0.1"
            );
        }
    })
    .map_err(Failure::Start)
}

/// Reads the configuration again, as it was read at the start.
fn reread(args: &ServeArgs, running: &Config, own: &str) -> Result<Reread, Vec<String>> {
    let config = Config::load(args).map_err(|Problems(problems)| problems)?;
    check_names(&config, own).map_err(|problem| vec![problem])?;
    Ok(config.reread(running))
}

/// Whether the upstreams can be told from the program's own server. Says which servers are bound and not known.
fn check_names(config: &Config, own: &str) -> Result<(), String> {
    if config.upstreams.iter().any(|upstream| upstream.name == own) {
        return Err(format!("upstream `{own}`: the server of this program is called so: rename the upstream"));
    }
    for endpoint in &config.endpoints {
        let is_known = |name: &String| name == own || config.upstreams.iter().any(|upstream| upstream.name == *name);
        for name in endpoint.servers.iter().filter(|name| !is_known(name)) {
            tracing::warn!(path = endpoint.path, server = name, "no such server is configured: it is seen there once it is registered");
        }
    }
    Ok(())
}

/// What is printed when everything listens.
fn announcement(running: &rt::Running, token: Option<&Path>) -> String {
    let mut text = format!("ringhub {}: {}\n", env!("CARGO_PKG_VERSION"), running.description());
    for address in running.addresses() {
        let _ = writeln!(text, "  MCP    http://{}/mcp", reachable(*address));
    }
    if let Some(admin) = running.admin() {
        let _ = writeln!(text, "  admin  http://{}/health/ready", reachable(admin));
    }
    if let Some(token) = token {
        let _ = writeln!(text, "  token  {} (writing to the admin port needs it; `ringhub ctl` finds it)", token.display());
    }
    if let Some(address) = running.addresses().first() {
        let _ = writeln!(text, "Paste into your client's configuration:");
        let _ = writeln!(text, r#"  {{"mcpServers":{{"ringhub":{{"type":"http","url":"http://{}/mcp"}}}}}}"#, reachable(*address));
    }
    text
}

/// An address that a client on this machine can use: the unspecified one is no destination.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        _ => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_shown_as_one_that_can_be_used() {
        let shown = |text: &str| reachable(text.parse().expect("an address")).to_string();
        assert_eq!(shown("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(shown("[::]:80"), "[::1]:80");
        assert_eq!(shown("192.0.2.1:80"), "192.0.2.1:80");
    }
}
