//! Tests of the configuration as a whole.

use super::*;

fn load(args: &ServeArgs, file: &str) -> Result<Config, Problems> {
    Resolver::default().resolve(args, toml::from_str(file).expect("the test's file is TOML"))
}

#[test]
fn defaults_are_loopback() {
    let config = load(&ServeArgs::default(), "").expect("defaults are valid");
    assert_eq!(config.listen, ["127.0.0.1:8080".parse().expect("an address")]);
    assert!(!config.is_exposed());
}

#[test]
fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
    let args = ServeArgs { shards: Some(8), ..ServeArgs::default() };
    let config = load(&args, "shards = 16\nidle_timeout = 1.5\ncpus = \"0,2-3\"\npin = false").expect("valid");
    assert_eq!((config.shards, config.idle_timeout, config.pin), (8, Duration::from_millis(1500), false));
    assert_eq!(config.cpus, Some(vec![0, 2, 3]));
}

#[test]
fn all_problems_are_reported_together() {
    let args = ServeArgs { listen: vec!["nonsense".into()], shards: Some(0), request_timeout: Some(-1.0), ..ServeArgs::default() };
    let Problems(problems) = load(&args, "cpus = \"3-1\"").expect_err("it is wrong");
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("--shards 0: it must be from 1 to 4096")));
}

#[test]
fn names_are_joined_with_one_of_three_characters() {
    let separator = |file: &str| load(&ServeArgs::default(), file).expect("valid").name_separator;
    assert_eq!(separator(""), Separator::Dot);
    assert_eq!(separator("name_separator = \"-\""), Separator::Dash);
    let args = ServeArgs { name_separator: Some(Separator::Underscore), ..ServeArgs::default() };
    let config = load(&args, "name_separator = \".\"").expect("valid");
    assert_eq!(config.engine().expect("keys").name_separator, engine::Separator::Underscore);
    assert!(toml::from_str::<File>("name_separator = \"/\"").is_err());
}

#[test]
fn a_public_url_is_one_that_paths_can_follow() {
    let load = |url: &str| load(&ServeArgs { public_url: Some(url.into()), ..ServeArgs::default() }, "");
    for good in ["https://hub.example", "http://127.0.0.1:8080/", "https://[::1]/team"] {
        assert_eq!(load(good).expect("valid").engine().expect("keys").public_url.as_deref(), Some(good));
    }
    for bad in ["", "hub.example", "https://", "https:///x", "ftp://x", "https://a b", "https://a?b", "https://a/{b}", "https://u@a"] {
        let Problems(problems) = load(bad).expect_err(bad);
        assert!(problems.len() == 1 && problems[0].contains("https://hub.example"), "{problems:?}");
    }
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let error = toml::from_str::<File>("shard = 3").expect_err("there is no such key");
    assert!(error.to_string().contains("unknown field `shard`"), "{error}");
}

#[test]
fn the_printed_configuration_reads_back_as_itself() {
    let args = ServeArgs { cores: Some(2), cpus: Some("0-3".into()), admin: Some("off".into()), ..ServeArgs::default() };
    let printed = load(&args, "").expect("valid").to_toml();
    let again = load(&ServeArgs::default(), &printed).expect("what is printed is valid");
    assert_eq!(again.to_toml(), printed);
}

#[test]
fn another_machine_could_reach_it() {
    let args = ServeArgs { listen: vec!["0.0.0.0:0".into()], ..ServeArgs::default() };
    assert!(load(&args, "").expect("valid").is_exposed());
}
