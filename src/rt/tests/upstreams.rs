//! What the script engine does with links: `/link/NUMBER/VERB/AMOUNT` says it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::ids::{ConnId, LinkId};
use crate::base::limits::{LINK_LONG_BYTES, LINK_LONG_PAUSE_US, LINK_PIECE_BYTES_MAX, LINK_TURN_BYTES_MAX};
use crate::base::time::{Nanos, Now};
use crate::engine::{Effect, Out};
use crate::gateway::link::{self, Command, Dial, Down, LinkEvent};
use crate::wire::http1::Request;

/// A napping link is paused after so many bytes, until the next tick.
const NAP_AFTER: usize = 4 << 20;

/// What was seen of one link.
#[derive(Default)]
struct Seen {
    is_up: bool,
    received: Vec<u8>,
    has_ended: bool,
    drained: usize,
    down: Option<Down>,
    is_paused: bool,
    is_hung: bool,
    naps: Option<usize>,
    /// When the turn began in which it was heard last, and how much in that turn.
    turn: (Nanos, usize),
    /// Bytes that came since something was fed.
    answered: usize,
    /// What comes is what was received: no child's output, and nothing decrypted.
    is_plain: bool,
    /// What comes goes to that connection: so many bytes are still to go.
    relay: Option<(ConnId, usize)>,
    choked: usize,
}

#[derive(Default)]
pub(super) struct Upstreams {
    seen: HashMap<LinkId, Seen>,
    /// The generation of each number's last link.
    generations: HashMap<u32, u32>,
}

fn dial_of(text: &str) -> (Dial, Duration) {
    let mut lines = text.lines();
    let mut next = || lines.next().expect("a line");
    let (kind, millis) = (next(), next().parse().expect("a number"));
    let dial = match kind {
        "child" => Dial::Child(Box::new(Command {
            name: "scripted".into(),
            program: next().into(),
            args: lines.map(Into::into).collect(),
            env: Box::new([]),
            cwd: None,
        })),
        kind => Dial::Tcp { host: next().into(), port: next().parse().expect("a port"), tls: kind == "tls" },
    };
    (dial, Duration::from_millis(millis))
}

impl Upstreams {
    /// The answer to the request. None: it comes later.
    pub(super) fn on_request(&mut self, conn: ConnId, request: &Request<'_>, out: &mut Out) -> Option<Vec<u8>> {
        let parts: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let number = parts[1].parse().expect("a number");
        let amount: usize = parts.get(3).and_then(|part| part.parse().ok()).unwrap_or(0);
        let generation = self.generations.entry(number).or_insert(0);
        if parts[2] == "dial" {
            *generation += 1;
        }
        let link = LinkId { index: number, generation: *generation };
        let seen = self.seen.entry(link).or_default();
        match parts[2] {
            "dial" => {
                let (dial, timeout) = dial_of(std::str::from_utf8(request.body).expect("text"));
                seen.is_plain = matches!(dial, Dial::Tcp { tls: false, .. });
                out.effects.push(Effect::Link(link::Effect::Dial { link, dial: Arc::new(dial), timeout }));
            }
            "feed" => {
                seen.answered = 0;
                out.feed(link, |bytes| bytes.extend_from_slice(request.body));
            }
            "fill" => {
                seen.answered = 0;
                out.feed(link, |bytes| bytes.extend((0..amount).map(pattern)));
            }
            "pause" | "go" => {
                seen.is_paused = parts[2] == "pause";
                out.effects.push(Effect::Link(link::Effect::Throttle { link, is_paused: seen.is_paused }));
            }
            "hang" => {
                seen.is_hung = true;
                out.effects.push(Effect::Link(link::Effect::Hang { link }));
            }
            "nap" => seen.naps = Some(0),
            "relay" => {
                seen.relay = Some((conn, amount));
                seen.is_paused = false;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {amount}\r\n\r\n");
                out.effects.push(Effect::Link(link::Effect::Throttle { link, is_paused: false }));
                let start = out.bytes.len();
                out.bytes.extend_from_slice(head.as_bytes());
                out.effects.push(Effect::Write { conn, range: start..out.bytes.len() });
                return None;
            }
            "bytes" => return Some(std::mem::take(&mut seen.received)),
            "seen" => return Some(seen.text().into_bytes()),
            other => panic!("{other}"),
        }
        Some(b"done".to_vec())
    }

    /// The connection whose response is complete by that, if any.
    pub(super) fn on_link(&mut self, now: Now, link: LinkId, event: LinkEvent<'_>, out: &mut Out) -> Option<ConnId> {
        let seen = self.seen.get_mut(&link).expect("a link that was dialled");
        assert!(seen.down.is_none(), "nothing comes after the end: {event:?}");
        assert!(!seen.is_hung || matches!(event, LinkEvent::Down(_)), "after hanging up only the end is told: {event:?}");
        assert_eq!(seen.is_up, !matches!(event, LinkEvent::Up) && seen.is_up, "up once");
        match event {
            LinkEvent::Up => seen.is_up = true,
            LinkEvent::Bytes(bytes) => {
                assert!(seen.is_up && !seen.has_ended && !seen.is_paused && !bytes.is_empty());
                if seen.turn.0 != now.mono {
                    let is_step = seen.is_plain && seen.answered >= LINK_LONG_BYTES && seen.turn.1 >= LINK_TURN_BYTES_MAX;
                    let pause = now.mono.since(seen.turn.0);
                    assert!(!is_step || pause >= Duration::from_micros(LINK_LONG_PAUSE_US), "a long answer leaves room: {pause:?}");
                    seen.turn = (now.mono, 0);
                }
                seen.turn.1 += bytes.len();
                seen.answered += bytes.len();
                assert!(seen.turn.1 <= LINK_TURN_BYTES_MAX + 2 * LINK_PIECE_BYTES_MAX, "its share of a turn: {}", seen.turn.1);
                if let Some((conn, left)) = &mut seen.relay {
                    let (conn, start) = (*conn, out.bytes.len());
                    out.bytes.extend_from_slice(bytes);
                    out.effects.push(Effect::Write { conn, range: start..out.bytes.len() });
                    *left -= bytes.len();
                    if *left == 0 {
                        out.effects.push(Effect::End { conn, close: false });
                        return Some(conn);
                    }
                    return None;
                }
                seen.received.extend_from_slice(bytes);
                if let Some(since) = &mut seen.naps {
                    *since += bytes.len();
                    if *since > NAP_AFTER {
                        *since = 0;
                        seen.is_paused = true;
                        out.effects.push(Effect::Link(link::Effect::Throttle { link, is_paused: true }));
                    }
                }
            }
            LinkEvent::End => {
                assert!(seen.is_up && !seen.has_ended && !seen.is_paused);
                seen.has_ended = true;
            }
            LinkEvent::Drained => seen.drained += 1,
            LinkEvent::Down(why) => seen.down = Some(why),
        }
        None
    }

    pub(super) fn on_choked(&mut self, conn: ConnId, is_choked: bool, out: &mut Out) {
        let relayed = |seen: &Seen| seen.relay.is_some_and(|(to, _)| to == conn);
        let Some((link, seen)) = self.seen.iter_mut().find(|(_, seen)| relayed(seen)) else { return };
        assert_ne!(seen.is_paused, is_choked, "told in turns");
        seen.choked += usize::from(is_choked);
        seen.is_paused = is_choked;
        out.effects.push(Effect::Link(link::Effect::Throttle { link: *link, is_paused: is_choked }));
    }

    pub(super) fn on_tick(&mut self, out: &mut Out) {
        for (link, seen) in self.seen.iter_mut().filter(|(_, seen)| seen.naps.is_some() && seen.is_paused) {
            seen.is_paused = false;
            out.effects.push(Effect::Link(link::Effect::Throttle { link: *link, is_paused: false }));
        }
    }
}

impl Seen {
    fn text(&self) -> String {
        let down = self.down.as_ref().map_or_else(String::new, |down| format!(" down={down:?}"));
        let (up, end) = (if self.is_up { " up" } else { "" }, if self.has_ended { " end" } else { "" });
        format!("bytes={}{up}{end} drained={} choked={}{down}", self.received.len(), self.drained, self.choked)
    }
}

/// The byte at a place of a long message: of a period that no buffer has.
pub(super) fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}
