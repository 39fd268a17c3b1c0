//! Profiles: files of `tuning/profiles` that are part of the program, below the flags, the environment and the file.

use super::File;
use crate::cli::Profile;

/// What a profile says.
pub(super) fn file(profile: Option<Profile>) -> File {
    let text = match profile {
        None => return File::default(),
        Some(Profile::Baseline) => include_str!("../../tuning/profiles/baseline.toml"),
        Some(Profile::Foundation) => include_str!("../../tuning/profiles/foundation.toml"),
        Some(Profile::Capacity) => include_str!("../../tuning/profiles/capacity.toml"),
        Some(Profile::HundredK) => include_str!("../../tuning/profiles/hundred-k.toml"),
    };
    toml::from_str(text).expect("a test reads every profile")
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;
    use crate::cli::{Protect, ServeArgs};
    use crate::config::Resolver;

    fn load(args: &ServeArgs, file: &str) -> crate::config::Config {
        Resolver::default().resolve(args, toml::from_str(file).expect("the test's file is TOML")).expect("valid")
    }

    #[test]
    fn every_profile_is_a_valid_file_of_what_it_may_set() {
        for (profile, connections) in Profile::value_variants().iter().zip([150, 200, 15_000, 100_000]) {
            let said = file(Some(*profile));
            let rest = File { max_connections: None, protect: Protect::default(), ..file(Some(*profile)) };
            assert_eq!(format!("{rest:?}"), format!("{:?}", File::default()), "{profile:?} sets what nobody reads");
            assert_eq!(said.max_connections, Some(connections));
            let config = load(&ServeArgs { profile: Some(*profile), ..ServeArgs::default() }, "");
            assert_eq!((config.max_connections, &config.protect), (said.max_connections, &said.protect));
        }
    }

    #[test]
    fn a_flag_and_the_file_win_over_the_profile() {
        let protect = Protect { node_rate: Some(7), ..Protect::default() };
        let args = ServeArgs { profile: Some(Profile::Baseline), protect, ..ServeArgs::default() };
        let config = load(&args, "max_connections = 9\n[protect]\naccept_rate = 8");
        let protect = &config.protect;
        assert_eq!(
            (config.max_connections, protect.node_rate, protect.accept_rate, protect.connection_rate),
            (Some(9), Some(7), Some(8), Some(500))
        );
    }
}
