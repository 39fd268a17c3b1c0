//! Upstreams and endpoints as the file has them.

use serde::{Deserialize, Serialize};

pub use crate::engine::upstream::{Text, Upstream};

/// One `[[endpoint]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Its path: `/mcp`, or `/mcp/` and a name.
    pub path: String,
    /// Names of the servers that its clients see, in this order.
    pub servers: Vec<String>,
}

/// The file of certificate authorities, which is read to see whether it can be.
pub fn authorities(file: Option<std::path::PathBuf>, problems: &mut Vec<String>) -> Option<std::path::PathBuf> {
    if let Some((path, why)) = file.as_ref().and_then(|path| Some((path, crate::rt::problem_with_authorities(path)?))) {
        problems.push(format!("--upstream-ca {}: {why}: give a file of certificates in PEM", path.display()));
    }
    file
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Problems, Resolver};
    use crate::cli::ServeArgs;
    use crate::gateway::Dialect;
    use crate::gateway::config::{Naming, RestartPolicy};
    use crate::gateway::link::Dial;
    use std::time::Duration;

    fn load(flags: &[&str], file: &str) -> Result<Config, Problems> {
        let args = ServeArgs { upstream: flags.iter().map(|flag| (*flag).to_owned()).collect(), ..ServeArgs::default() };
        Resolver::default().resolve(&args, toml::from_str(file).expect("the test's file is TOML"))
    }

    fn problems(flags: &[&str], file: &str) -> Vec<String> {
        load(flags, file).map(|config| config.to_toml()).expect_err("it is wrong").0
    }

    #[test]
    fn flags_and_tables_name_upstreams_at_mcp() {
        let config = load(
            &["remote=https://mcp.example/a?b=c", "local=stdio:npx -y '@x/files' --token=hush /srv"],
            "[[upstream]]\nname = \"old\"\nurl = \"http://[::1]:3001/mcp\"\nera = \"legacy\"\nallow = [\"read*\"]\ndeny = [\"read_all\"]\nretries = false\nrequired = true\n\
             total_timeout = 1.5\nheaders = { Authorization = \"Bearer hush\" }",
        )
        .expect("valid");
        let engine = config.engine().expect("keys");
        assert_eq!(engine.endpoints.len(), 1);
        assert_eq!((&*engine.endpoints[0].path, &*engine.endpoints[0].servers), ("/mcp", &[0][..]));
        assert_eq!(engine.endpoints[0].upstreams.iter().map(|name| &**name).collect::<Vec<_>>(), ["old", "remote", "local"]);
        let [old, remote, local] = &engine.upstreams[..] else { panic!("{:?}", engine.upstreams) };
        assert_eq!(*old.dial, Dial::Tcp { host: "[::1]".into(), port: 3001, tls: false });
        assert_eq!((old.dialect, old.retries, old.total_timeout), (Dialect::Legacy, false, Duration::from_millis(1500)));
        assert!(old.options.is_required && old.options.tools.admits("read_me") && !old.options.tools.admits("read_all"));
        assert_eq!(*remote.dial, Dial::Tcp { host: "mcp.example".into(), port: 443, tls: true });
        assert_eq!((&*remote.url, &*local.url), ("https://mcp.example/a?<hidden>", "stdio:npx -y @x/files '--token=<hidden>' /srv"));
        let Dial::Child(command) = &*local.dial else { panic!("{:?}", local.dial) };
        assert_eq!((&*command.program, command.args.len(), &*command.args[2]), ("npx", 4, "--token=hush"));
        for shown in [config.to_toml(), format!("{config:?}"), format!("{engine:?}")] {
            assert!(!shown.contains("hush"), "{shown}");
        }
    }

    #[test]
    fn what_is_printed_reads_back_unless_it_had_secrets() {
        let file = "[[upstream]]\nname = \"a\"\ncommand = \"npx\"\nargs = [\"-y\", \"x\"]\nrestart = \"on-failure\"\nstart = \"lazy\"\nreap_after = 2.5\nnames = \"plain\"\n\
                    [[endpoint]]\npath = \"/mcp/a\"\nservers = [\"a\"]";
        let printed = load(&[], file).expect("valid").to_toml();
        assert_eq!(load(&[], &printed).expect("valid").to_toml(), printed);
        let engine = load(&[], &printed).expect("valid").engine().expect("keys");
        assert_eq!(engine.endpoints.iter().map(|endpoint| &*endpoint.path).collect::<Vec<_>>(), ["/mcp", "/mcp/a"]);
        assert_eq!((engine.upstreams[0].options.restart, engine.upstreams[0].options.is_lazy), (RestartPolicy::OnFailure, true));
        assert_eq!(
            (engine.upstreams[0].options.naming, engine.upstreams[0].options.reap_after),
            (Naming::Plain, Duration::from_millis(2500))
        );
        let secret =
            load(&[], "[[upstream]]\nname = \"a\"\nurl = \"https://h/?k=1\"\nheaders = { X-Key = \"hush\" }").expect("valid").to_toml();
        let again = problems(&[], &secret);
        assert!(again.len() == 2 && again.iter().all(|problem| problem.starts_with("upstream `a`: ")), "{again:?}");
    }

    #[test]
    fn a_secret_may_be_elsewhere() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "Bearer from-file\n").expect("written");
        let path = file.path().display();
        let text = format!(
            "[[upstream]]\nname = \"a\"\ncommand = \"x\"\nargs = [{{ file = \"{path}\" }}]\nenv = {{ P = {{ env = \"PATH\" }}, F = {{ file = \"{path}\" }} }}"
        );
        let config = load(&[], &text).expect("valid");
        let Dial::Child(command) = &*config.fronted[0].dial else { panic!("a command") };
        assert_eq!((&*command.args[0], &*command.env[0].1), ("Bearer from-file", "Bearer from-file"));
        assert_eq!(&*command.env[1].1, std::env::var("PATH").expect("a path"));
        assert!(config.to_toml().contains("env = \"PATH\"") && !config.to_toml().contains("from-file"));
        assert_eq!(&*config.fronted[0].url, "stdio:x '<hidden>'");
        let gone = problems(
            &[],
            "[[upstream]]\nname = \"a\"\nurl = \"http://h/\"\nheaders = { X = { env = \"RINGHUB_TEST_NONE\" }, Y = { file = \"/none\" } }",
        );
        assert!(gone.len() == 2 && gone[0].contains("RINGHUB_TEST_NONE") && gone[1].contains("/none"), "{gone:?}");
    }

    #[test]
    fn an_endpoint_may_take_the_place_of_the_usual_one() {
        let file = "[[endpoint]]\npath = \"/mcp\"\nservers = [\"b\", \"a\"]";
        let engine = load(&["a=http://h/", "b=http://h/"], file).expect("valid").engine().expect("keys");
        assert_eq!(engine.endpoints.len(), 1);
        assert!(engine.endpoints[0].servers.is_empty());
        assert_eq!(engine.endpoints[0].upstreams.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn everything_that_is_wrong_is_said_together() {
        let file = r#"
            [[upstream]]
            name = "both"
            url = "http://h/"
            command = "x"
            [[upstream]]
            name = "none"
            [[upstream]]
            name = "a b"
            url = "http://h/#f"
            connect_timeout = 0.0
            [[upstream]]
            name = "c"
            url = "http://h/"
            args = ["x"]
            interactive = true
            max_in_flight = 0
            headers = { Host = "x", Mcp-Session-Id = "x", "a b" = "x", X = "a\nb", y = "1", Y = "2" }
            [[upstream]]
            name = "d"
            command = "x"
            max_processes = 0
            env = { "a=b" = "1" }
            headers = { Authorization = "x" }
            [[endpoint]]
            path = "/other"
            servers = ["a", "a", "b c"]
        "#;
        let found = problems(&["none=http://h/", "e=ftp://h/", "f"], file);
        for part in [
            "`both`: it has both",
            "`none`: it has neither",
            "`a b`: name: ",
            "`a b`: url: ",
            "`c`: args: ",
            "`c`: interactive: ",
            "`c`: max_in_flight: 0 must",
            "`c`: headers: Host: ",
            "`c`: headers: Mcp-Session-Id: ",
            "`c`: headers: a b: ",
            "`c`: headers: X: ",
            "`c`: headers: y: it is there twice",
            "`d`: env: a=b: ",
            "`d`: max_processes: 0 must",
            "`d`: headers: ",
            "endpoint `/other`: an endpoint's path",
            "endpoint `/other`: servers: `a` is there twice",
            "endpoint `/other`: servers: `b c`: ",
            "two upstreams are called `none`",
            "--upstream e: ",
            "--upstream f: write NAME=",
        ] {
            assert!(found.iter().any(|problem| problem.contains(part)), "{part}: {found:#?}");
        }
        assert!(toml::from_str::<super::super::File>("[[upstream]]\nnmae = \"x\"").is_err_and(|error| error.to_string().contains("nmae")));
    }
}
