//! What protects the server, from flags, file and profile to what the guard and the shell are told.

use std::time::Duration;

use super::{Config, Resolver, duration};
use crate::base::limits;
use crate::cli::Protect;
use crate::guard;
use crate::guard::arrivals::ARRIVALS_RATE_MAX;
use crate::guard::breaker::Threshold;

/// Seconds for which the error rate must be too high unless told otherwise.
const BREAKER_HOLD_S: f64 = 30.0;

impl Config {
    /// What the guard of every core is told.
    #[must_use]
    pub(super) fn guard(&self) -> guard::Config {
        let protect = &self.protect;
        guard::Config {
            connection_rate: protect.connection_rate,
            node_rate: protect.node_rate,
            principal_rate: protect.principal_rate,
            tool_rate: protect.tool_rate,
            pending_max: protect.max_pending,
            principal_pending_max: protect.max_pending_principal,
            sheds_late: protect.late_ms.is_some(),
            breaker: protect.breaker_errors.map(|percent| Threshold {
                per_million: (percent * 10_000.0).round() as u32,
                hold: duration(protect.breaker_hold.unwrap_or(BREAKER_HOLD_S)).unwrap_or_default(),
            }),
        }
    }

    /// Connections that may wait for one of the others to end.
    pub(super) fn accept_queue(&self) -> usize {
        self.protect.accept_queue.unwrap_or(limits::ACCEPT_QUEUE_DEFAULT)
    }
}

impl Resolver {
    /// Checks what protects the server.
    pub(super) fn protect(&mut self, protect: &Protect) {
        let rates = [
            ("accept-rate", protect.accept_rate, ARRIVALS_RATE_MAX),
            ("connection-rate", protect.connection_rate, limits::RATE_MAX),
            ("node-rate", protect.node_rate, limits::RATE_MAX),
            ("principal-rate", protect.principal_rate, limits::RATE_MAX),
            ("tool-rate", protect.tool_rate, limits::RATE_MAX),
        ];
        for (flag, rate, most) in rates {
            if let Some(rate) = rate {
                self.within(flag, rate as usize, 1, most as usize);
            }
        }
        if let Some(queue) = protect.accept_queue {
            self.within("accept-queue", queue, 0, u32::MAX as usize);
        }
        if let Some(pending) = protect.max_pending {
            self.within("max-pending", pending, 1, u32::MAX as usize);
        }
        if let Some(pending) = protect.max_pending_principal {
            self.within("max-pending-principal", pending as usize, 1, u32::MAX as usize);
        }
        if let Some(pending) = protect.max_pending_connection {
            self.within("max-pending-connection", pending as usize, 1, limits::PENDING_PER_CONN_MAX as usize);
        }
        if let Some(late) = protect.late_ms {
            self.within("late-ms", usize::try_from(late).unwrap_or(usize::MAX), 1, 60_000);
        }
        if let Some(bytes) = protect.memory_limit {
            self.within("memory-limit", bytes, limits::MEMORY_BYTES_MIN, usize::MAX);
        }
        if let Some(percent) = protect.breaker_errors
            && !(0.0..100.0).contains(&percent)
        {
            self.problems.push(format!("--breaker-errors {percent}: it must be a percentage, from 0 to less than 100"));
        }
        if let Some(seconds) = protect.breaker_hold {
            let _: Duration = self.timeout("breaker-hold", seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;
    use crate::cli::ServeArgs;

    fn load(args: &ServeArgs, file: &str) -> Result<Config, super::super::Problems> {
        Resolver::default().resolve(args, toml::from_str::<File>(file).expect("the test's file is TOML"))
    }

    #[test]
    fn nothing_is_limited_unless_told_otherwise() {
        let config = load(&ServeArgs::default(), "").expect("valid");
        assert_eq!(config.guard(), guard::Config::default());
        assert_eq!((config.shell().arrivals_max, config.shell().accept_queue), (None, 100));
    }

    #[test]
    fn a_flag_wins_over_the_table() {
        let args =
            ServeArgs { protect: Protect { node_rate: Some(7), breaker_errors: Some(1.0), ..Protect::default() }, ..ServeArgs::default() };
        let config = load(&args, "[protect]\nnode_rate = 8\nconnection_rate = 9\naccept_queue = 0").expect("valid");
        let guard = config.guard();
        assert_eq!((guard.node_rate, guard.connection_rate, config.shell().accept_queue), (Some(7), Some(9), 0));
        assert_eq!(guard.breaker, Some(Threshold { per_million: 10_000, hold: Duration::from_secs(30) }));
        let again = load(&ServeArgs::default(), &config.to_toml()).expect("what is printed is valid");
        assert_eq!(again.protect, config.protect);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let super::super::Problems(problems) =
            load(&ServeArgs::default(), "[protect]\nnode_rate = 0\nbreaker_errors = 100.0\nbreaker_hold = 0.0").expect_err("it is wrong");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(toml::from_str::<File>("[protect]\nnode_rat = 1").is_err());
    }
}
