//! What answers of upstreams hold while they are not complete, and who gives way when memory runs out.

use super::{Failure, Gateway, Key, link_id};
use crate::base::time::Nanos;

/// Who holds the most.
enum Largest {
    Link(Key),
    Pipe(u32),
}

impl Gateway {
    /// Bytes of answers that are not complete.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.held
    }

    /// Bytes of the largest of them.
    #[must_use]
    pub fn largest_held(&self) -> usize {
        self.largest().map_or(0, |(bytes, _)| bytes)
    }

    /// Gives up the largest: its request fails, and a process that wrote it is started anew.
    pub fn relieve(&mut self, now: Nanos) {
        match self.largest() {
            Some((_, Largest::Link(key))) => self.lose(now, link_id(key), Failure::NoRoom, true),
            Some((_, Largest::Pipe(upstream))) => self.lose_pipe(now, upstream, &Failure::NoRoom, true),
            None => {}
        }
    }

    fn largest(&self) -> Option<(usize, Largest)> {
        let links = self.links.iter().map(|(key, link)| (link.body.len() + link.held, Largest::Link(key)));
        let numbers = self.upstreams.numbers().into_iter();
        let pipes = numbers.filter_map(|number| Some((self.upstreams[number].pipe.as_ref()?.held(), Largest::Pipe(number))));
        links.chain(pipes).filter(|(bytes, _)| *bytes > 0).max_by_key(|(bytes, _)| *bytes)
    }
}
