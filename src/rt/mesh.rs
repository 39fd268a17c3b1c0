//! Core to core: two lanes for each directed pair, bounded, polled only when their bit says that they hold something.
//!
//! The lanes are `rtrb` rings: a glommio mesh cannot be asked whether it is empty without parking a waker in its reactor.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};

use super::conn::{Fresh, Moved};
use super::wake::{CoreSet, Wake};
use crate::base::ids::CoreId;
use crate::base::limits::{FRAMES_PER_TURN_MAX, lane_frames};
use crate::engine::{Frame, Lane};

/// Of so many frames that are sent in one turn the first are shown to a core that is awake, before the turn is over.
const FRAMES_SHOWN_EACH: usize = 16;

/// What travels in a lane.
pub(crate) enum Parcel {
    /// A message between engines.
    Frame(Frame),
    /// A connection that changes its core.
    Moved(Box<Moved>),
    /// A connection that was just accepted.
    Fresh(Fresh),
}

/// A place in a lane: one line of the processor's cache, so that no more than one comes over for a parcel.
#[repr(align(64))]
struct Place(Parcel);

const _: () = assert!(size_of::<Place>() == 64, "a parcel fits into one line");

struct Pair<T> {
    ask: T,
    reply: T,
}

impl<T> Pair<T> {
    const fn lane(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Ask => &mut self.ask,
            Lane::Reply => &mut self.reply,
        }
    }
}

/// One core's ends of the mesh.
pub(crate) struct Mesh {
    me: usize,
    wakes: Arc<[Wake]>,
    to: Vec<Option<Pair<Producer<Place>>>>,
    from: Vec<Option<Pair<Consumer<Place>>>>,
    /// Cores to which something was pushed this turn.
    touched: CoreSet,
    /// How many since the last were shown.
    unseen: usize,
    /// Cores whose lanes may hold something.
    holding: CoreSet,
}

/// The mesh of all cores, one end for each.
pub(crate) fn build(wakes: &Arc<[Wake]>) -> Vec<Mesh> {
    let cores = wakes.len();
    let slots = lane_frames(cores);
    let mut ends: Vec<Mesh> = (0..cores)
        .map(|me| Mesh {
            me,
            wakes: Arc::clone(wakes),
            to: (0..cores).map(|_| None).collect(),
            from: (0..cores).map(|_| None).collect(),
            touched: CoreSet::default(),
            unseen: 0,
            holding: CoreSet::default(),
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|to| *to != from) {
            let (ask_in, ask_out) = RingBuffer::new(slots);
            let (reply_in, reply_out) = RingBuffer::new(slots);
            ends[from].to[to] = Some(Pair { ask: ask_in, reply: reply_in });
            ends[to].from[from] = Some(Pair { ask: ask_out, reply: reply_out });
        }
    }
    ends
}

impl Mesh {
    /// Pushes a parcel, or hands it back when the lane is full or leads nowhere.
    pub(crate) fn send(&mut self, to: CoreId, lane: Lane, parcel: Parcel) -> Result<(), Parcel> {
        let Some(pair) = self.to.get_mut(to.index()).and_then(Option::as_mut) else { return Err(parcel) };
        pair.lane(lane).push(Place(parcel)).map_err(|rtrb::PushError::Full(Place(parcel))| parcel)?;
        self.touched.insert(to.index());
        self.unseen += 1;
        if self.unseen == FRAMES_SHOWN_EACH {
            // Else a core that has much to say would work while the others wait, and then wait while they work.
            self.unseen = 0;
            self.wakes[to.index()].show(self.me);
        }
        Ok(())
    }

    /// Whether the lane takes at least one more. Only this core pushes, so what is true stays true.
    pub(crate) fn has_room(&mut self, to: CoreId, lane: Lane) -> bool {
        self.to.get_mut(to.index()).and_then(Option::as_mut).is_some_and(|pair| !pair.lane(lane).is_full())
    }

    /// Announces what was pushed. `message` wakes a core through its ring, others are woken by their eventfd. The answer counts the wakes.
    pub(crate) fn announce(&mut self, mut message: impl FnMut(i32)) -> u64 {
        if self.touched.is_empty() {
            return 0;
        }
        self.unseen = 0;
        let mut wakes = 0;
        for to in std::mem::take(&mut self.touched).iter() {
            let wake = &self.wakes[to];
            if wake.publish(self.me) {
                wakes += 1;
                match wake.ring() {
                    Some(ring) => message(ring),
                    None => wake.ring_event(),
                }
            }
        }
        wakes
    }

    /// Learns which lanes hold something. Called once at the beginning of a turn.
    pub(crate) fn look(&mut self) {
        for core in self.wakes[self.me].take_pending().iter() {
            self.holding.insert(core);
        }
    }

    /// Takes a batch from every lane of one kind that holds something.
    pub(crate) fn take(&mut self, lane: Lane, into: &mut Vec<(CoreId, Parcel)>) {
        if self.holding.is_empty() {
            return;
        }
        for core in self.holding.iter() {
            let Some(pair) = self.from[core].as_mut() else { continue };
            let consumer = pair.lane(lane);
            for _ in 0..FRAMES_PER_TURN_MAX {
                let Ok(Place(parcel)) = consumer.pop() else { break };
                if let Parcel::Frame(Frame::Registry(frame)) = &parcel {
                    frame.prefetch();
                }
                into.push((CoreId(core as u16), parcel));
            }
        }
    }

    /// Forgets the lanes that are empty. Called once, after both kinds were taken. What is pushed after this look sets its bit again.
    pub(crate) fn settle(&mut self) {
        if self.holding.is_empty() {
            return;
        }
        let mut still = CoreSet::default();
        for core in self.holding.iter() {
            if let Some(pair) = self.from[core].as_mut()
                && !(pair.ask.is_empty() && pair.reply.is_empty())
            {
                still.insert(core);
            }
        }
        self.holding = still;
    }

    /// Whether a lane holds more than the last batch took.
    pub(crate) fn has_more(&self) -> bool {
        !self.holding.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Lists;

    fn ends(cores: usize) -> Vec<Mesh> {
        build(&(0..cores).map(|_| Wake::new().expect("an eventfd")).collect())
    }

    fn frame(server: u32) -> Parcel {
        Parcel::Frame(Frame::Changed { server, lists: Lists::NONE })
    }

    fn server(parcel: &Parcel) -> u32 {
        match parcel {
            Parcel::Frame(Frame::Changed { server, .. }) => *server,
            _ => panic!("another parcel"),
        }
    }

    #[test]
    fn batches_in_order_and_a_full_lane_hands_back() {
        let mut ends = ends(3);
        let mut sent = 0;
        let refused = loop {
            match ends[0].send(CoreId(2), Lane::Ask, frame(sent)) {
                Ok(()) => sent += 1,
                Err(parcel) => break parcel,
            }
        };
        assert_eq!(server(&refused), sent);
        assert_eq!(sent as usize, lane_frames(3));
        assert_eq!(ends[0].announce(|_| ()), 0, "core 2 is awake");
        let mut taken = Vec::new();
        let mut turns = 0;
        ends[2].look();
        while ends[2].has_more() {
            let before = taken.len();
            ends[2].take(Lane::Ask, &mut taken);
            ends[2].settle();
            assert!(taken.len() - before <= FRAMES_PER_TURN_MAX);
            turns += 1;
        }
        assert_eq!(turns, lane_frames(3).div_ceil(FRAMES_PER_TURN_MAX));
        assert!(taken.iter().enumerate().all(|(at, (from, parcel))| from.0 == 0 && server(parcel) as usize == at));
    }

    #[test]
    fn lanes_are_apart_and_none_leads_home() {
        let mut ends = ends(2);
        assert!(ends[0].send(CoreId(0), Lane::Ask, frame(0)).is_err());
        assert!(ends[0].send(CoreId(9), Lane::Ask, frame(0)).is_err());
        assert!(ends[0].send(CoreId(1), Lane::Ask, frame(1)).is_ok());
        assert!(ends[0].send(CoreId(1), Lane::Reply, frame(2)).is_ok());
        ends[0].announce(|_| ());
        let mut taken = Vec::new();
        ends[1].look();
        ends[1].take(Lane::Reply, &mut taken);
        assert_eq!(taken.iter().map(|(_, p)| server(p)).collect::<Vec<_>>(), [2]);
        ends[1].settle();
        assert!(ends[1].has_more());
        ends[1].take(Lane::Ask, &mut taken);
        ends[1].settle();
        assert!(!ends[1].has_more());
    }

    #[test]
    fn ten_million_idle_looks_leave_nothing_behind() {
        let mut ends = ends(2);
        let mut taken = Vec::new();
        for _ in 0..10_000_000 {
            ends[1].look();
            ends[1].take(Lane::Reply, &mut taken);
            ends[1].take(Lane::Ask, &mut taken);
            ends[1].settle();
        }
        assert!(taken.is_empty());
        assert!(ends[0].send(CoreId(1), Lane::Ask, frame(5)).is_ok());
        ends[0].announce(|_| ());
        ends[1].look();
        ends[1].take(Lane::Ask, &mut taken);
        assert_eq!(taken.len(), 1);
    }
}
