//! What the cores of a node tell each other of an upstream that all of them reach: see [`Said`]. A process is reached by one core alone.

use super::Gateway;
use super::breaker::Said;
use crate::base::time::Nanos;

impl Gateway {
    /// The other cores are to know something of an upstream.
    pub(super) fn say(&mut self, now: Nanos, upstream: u32, said: Option<Said>) {
        if let Some(said) = said.filter(|_| !self.is_process(upstream)) {
            self.said.push((upstream, said));
            self.look_soon(now, upstream, said);
        }
    }

    /// What the other cores are to know since this was asked last, by upstream and in order.
    pub fn take_said(&mut self) -> Vec<(u32, Said)> {
        std::mem::take(&mut self.said)
    }

    /// Another core has said something of an upstream.
    pub fn hear(&mut self, now: Nanos, upstream: u32, said: Said) {
        if let Some(up) = self.upstreams.get_mut(upstream) {
            up.breaker.hear(now, said);
            self.look_soon(now, upstream, said);
        }
    }

    /// An upstream that fails is looked at by its scout at once, so that everybody knows whether it is there.
    fn look_soon(&mut self, now: Nanos, upstream: u32, said: Said) {
        if said == Said::Opened {
            self.check_soon(now, upstream);
        }
    }
}
