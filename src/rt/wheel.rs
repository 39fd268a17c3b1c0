//! Deadlines of connections: a wheel of coarse ticks. Setting one costs a comparison in most cases, since a deadline that moves away is
//! left where it was and looked at again when that moment comes.

use std::time::Duration;

use super::conn::{NEVER, Table};
use crate::base::time::Nanos;

/// Length of a tick, nanoseconds.
pub(crate) const TICK_NS: u64 = 100_000_000;
/// Ticks in one round. What is due later is looked at once a round.
const SLOTS: usize = 512;
const NONE: u32 = u32::MAX;

/// A connection's place in the wheel.
pub(crate) struct Timer {
    previous: u32,
    next: u32,
    /// The tick at which it is looked at; [`NEVER`] when it is not in the wheel.
    at: u32,
}

impl Default for Timer {
    fn default() -> Self {
        Self { previous: NONE, next: NONE, at: NEVER }
    }
}

/// The tick in which a moment lies.
pub(crate) const fn tick_of(moment: Nanos) -> u32 {
    (moment.0 / TICK_NS) as u32
}

/// How many ticks to wait so that at least the given time passes.
pub(crate) fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(u128::from(TICK_NS)) + 1).unwrap_or(NEVER - 1)
}

/// The tick so many ticks from now.
pub(crate) fn tick_after(now: u32, ticks: u32) -> u32 {
    now.saturating_add(ticks).min(NEVER - 1)
}

/// All deadlines of one core.
pub(crate) struct Wheel {
    heads: Box<[u32]>,
    now: u32,
}

impl Wheel {
    pub(crate) fn new(now: u32) -> Self {
        Self { heads: vec![NONE; SLOTS].into_boxed_slice(), now }
    }

    /// Sees to it that the connection is looked at no later than it is due.
    pub(crate) fn watch(&mut self, table: &mut Table, index: u32) {
        let Some(conn) = table.get(index) else { return };
        let due = conn.due();
        if due >= conn.timer.at {
            return;
        }
        self.forget(table, index);
        let at = due.clamp(self.now + 1, self.now + SLOTS as u32 - 1);
        let head = self.heads[at as usize % SLOTS];
        if let Some(conn) = table.get(index) {
            conn.timer = Timer { previous: NONE, next: head, at };
        }
        if let Some(second) = table.get(head) {
            second.timer.previous = index;
        }
        self.heads[at as usize % SLOTS] = index;
    }

    /// Takes a connection out of the wheel.
    pub(crate) fn forget(&mut self, table: &mut Table, index: u32) {
        let Some(conn) = table.get(index) else { return };
        let Timer { previous, next, at } = std::mem::take(&mut conn.timer);
        if at == NEVER {
            return;
        }
        match table.get(previous) {
            Some(conn) => conn.timer.next = next,
            None => self.heads[at as usize % SLOTS] = next,
        }
        if let Some(conn) = table.get(next) {
            conn.timer.previous = previous;
        }
    }

    /// Moves on to `now` and names the connections that are due. The others that came by are put back.
    pub(crate) fn advance(&mut self, table: &mut Table, now: u32, due: &mut Vec<u32>) {
        let from = self.now;
        if now <= from {
            return;
        }
        self.now = now;
        let rounds = (now - from).min(SLOTS as u32);
        for step in 1..=rounds {
            let mut index = std::mem::replace(&mut self.heads[(now - rounds + step) as usize % SLOTS], NONE);
            while let Some(conn) = table.get(index) {
                let next = conn.timer.next;
                let is_due = conn.due() <= now;
                conn.timer = Timer::default();
                if is_due {
                    due.push(index);
                } else {
                    self.watch(table, index);
                }
                index = next;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::conn::Conn;
    use super::*;
    use crate::engine::Role;

    fn table(count: usize) -> Table {
        let mut table = Table::default();
        for _ in 0..count {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket").into();
            table.insert(Conn::new(socket, IpAddr::V4(Ipv4Addr::LOCALHOST), Role::Public, true));
        }
        table
    }

    fn set(wheel: &mut Wheel, table: &mut Table, index: u32, due: u32) {
        table.get(index).expect("a connection").read_due = due;
        wheel.watch(table, index);
    }

    #[test]
    fn each_is_due_in_its_tick_however_far() {
        let mut table = table(6);
        let mut wheel = Wheel::new(10);
        let dues = [11, 12, 12, 600, 5000, 40];
        for (index, due) in dues.into_iter().enumerate() {
            set(&mut wheel, &mut table, index as u32, due);
        }
        let mut seen = Vec::new();
        for now in 11..6000 {
            let mut due = Vec::new();
            wheel.advance(&mut table, now, &mut due);
            seen.extend(due.into_iter().map(|index| (index, now)));
        }
        seen.sort_unstable();
        assert_eq!(seen, [(0, 11), (1, 12), (2, 12), (3, 600), (4, 5000), (5, 40)]);
    }

    #[test]
    fn a_deadline_moves_both_ways_and_a_long_pause_loses_none() {
        let mut table = table(4);
        let mut wheel = Wheel::new(0);
        for index in 0..4 {
            set(&mut wheel, &mut table, index, 100);
        }
        set(&mut wheel, &mut table, 1, 300);
        set(&mut wheel, &mut table, 2, 5);
        wheel.forget(&mut table, 3);
        let mut due = Vec::new();
        wheel.advance(&mut table, 5, &mut due);
        assert_eq!(due, [2]);
        wheel.advance(&mut table, 200, &mut due);
        assert_eq!(due, [2, 0]);
        wheel.advance(&mut table, 100_000, &mut due);
        assert_eq!(due, [2, 0, 1]);
    }

    #[test]
    fn durations_are_never_cut_short() {
        assert_eq!(tick_after(7, ticks(Duration::from_millis(100))), 9);
        assert_eq!(tick_after(7, ticks(Duration::from_millis(101))), 10);
        assert_eq!(tick_after(7, ticks(Duration::MAX)), NEVER - 1);
        assert_eq!(tick_of(Nanos(TICK_NS * 3 + 1)), 3);
    }
}
