//! Whether a history of one name could have been: an order of its operations, each between its beginning and its end, in which every one
//! gave what it had to give (Wing and Gong, with states that were tried before remembered).

use std::collections::HashSet;

use crate::registry::{Changed, Refusal};

/// An entry as a lookup shows it. What is said of it is one small number: of an endpoint the set of servers bound to it, a bit for each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Entry {
    pub id: u64,
    pub version: u64,
    pub said: u8,
}

/// What a lookup found; none when the entry is absent.
pub type Seen = Option<Entry>;

/// How an entry was to be changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// A new one. It has no version yet that could be named.
    Made(u8),
    /// Said anew, whole.
    Said(u8),
    /// One more server bound to it, which need not change anything.
    Bound(u8),
    /// One server fewer.
    Unbound(u8),
    Removed,
}

/// What was done, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    Read(Seen),
    Change { to: To, if_version: Option<u64>, result: Result<Changed, Refusal> },
}

/// One operation and the moments of its beginning and end. No two moments of a history are the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    pub start: u64,
    pub end: u64,
    pub did: Did,
}

/// What an entry is after this, if it was `state` before; none when it cannot have been.
fn after(state: Seen, did: Did) -> Option<Seen> {
    let (to, if_version, result) = match did {
        Did::Read(seen) => return (seen == state).then_some(state),
        Did::Change { to, if_version, result } => (to, if_version, result),
    };
    let is_met = |entry: Entry| if_version.is_none_or(|wanted| wanted == entry.version);
    let changed = match (result, state) {
        (Err(Refusal::Overloaded | Refusal::NotStored | Refusal::StoreStuck | Refusal::Unknown), _) => return Some(state),
        (Err(refusal), _) => {
            let had_reason = match (refusal, to, state) {
                (Refusal::Taken, To::Made(_), Some(_)) | (Refusal::Full, To::Made(_), None) => true,
                (Refusal::Absent, To::Said(_) | To::Bound(_) | To::Unbound(_) | To::Removed, None) => true,
                (Refusal::Absent, To::Unbound(server), Some(entry)) => is_met(entry) && entry.said & server == 0,
                (Refusal::VersionMismatch { current }, _, Some(entry)) => entry.version == current && !is_met(entry),
                _ => false,
            };
            return had_reason.then_some(state);
        }
        (Ok(changed), _) => changed,
    };
    let is_it = |entry: Entry, step: u64| is_met(entry) && (entry.id, entry.version + step) == (changed.id.number, changed.version);
    let next = |said: u8| Some(Some(Entry { id: changed.id.number, version: changed.version, said }));
    match (to, state) {
        (To::Made(said), None) => next(said),
        (To::Said(said), Some(entry)) if is_it(entry, 1) => next(said),
        (To::Bound(server), Some(entry)) if entry.said & server != 0 => is_it(entry, 0).then_some(state),
        (To::Bound(server), Some(entry)) if is_it(entry, 1) => next(entry.said | server),
        (To::Unbound(server), Some(entry)) if is_it(entry, 1) && entry.said & server != 0 => next(entry.said & !server),
        (To::Removed, Some(entry)) => is_it(entry, 0).then_some(None),
        _ => None,
    }
}

/// Whether there is such an order. At most 128 operations.
pub fn is_linearizable(operations: &[Operation]) -> bool {
    assert!(operations.len() <= 128, "more than a word can mark");
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| operation.start);
    let all = if operations.len() == 128 { u128::MAX } else { (1 << operations.len()) - 1 };
    let (mut tried, mut open) = (HashSet::new(), vec![(0u128, None)]);
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        if !tried.insert((done, state)) {
            continue;
        }
        let left = || operations.iter().enumerate().filter(|(at, _)| done & (1 << at) == 0);
        // What began after another had ended cannot come before it.
        let first_end = left().map(|(_, operation)| operation.end).min().unwrap_or(u64::MAX);
        for (at, operation) in left().take_while(|(_, operation)| operation.start < first_end) {
            if let Some(state) = after(state, operation.did) {
                open.push((done | 1 << at, state));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::NodeId;
    use crate::registry::ServerId;

    fn changed(number: u64, version: u64) -> Changed {
        Changed { id: ServerId { node: NodeId(0), number }, version, updated_ms: 0 }
    }

    fn check(operations: &[(u64, u64, Did)]) -> bool {
        is_linearizable(&operations.iter().map(|&(start, end, did)| Operation { start, end, did }).collect::<Vec<_>>())
    }

    fn did(to: To, result: Result<Changed, Refusal>) -> Did {
        Did::Change { to, if_version: None, result }
    }

    fn read(version: u64, said: u8) -> Did {
        Did::Read(Some(Entry { id: 1, version, said }))
    }

    #[test]
    fn an_old_value_after_the_change_is_found_out_and_during_it_is_not() {
        let (made, said) = (did(To::Made(1), Ok(changed(1, 1))), did(To::Said(2), Ok(changed(1, 2))));
        let (old, new) = (read(1, 1), read(2, 2));
        assert!(check(&[(1, 2, made), (3, 8, said), (4, 5, old), (6, 7, new)]));
        assert!(!check(&[(1, 2, made), (3, 8, said), (4, 5, new), (6, 7, old)]), "the new one was seen");
        assert!(!check(&[(1, 2, made), (3, 4, said), (5, 6, old)]));
        assert!(check(&[(1, 2, made), (3, 6, said), (4, 7, old)]));
        assert!(!check(&[(1, 2, made), (3, 4, Did::Read(None))]));
        assert!(!check(&[(1, 2, made), (3, 4, said), (5, 6, read(2, 1))]), "the new version says what the old one said");
    }

    #[test]
    fn refusals_must_have_had_their_reason() {
        let made = (1, 2, did(To::Made(1), Ok(changed(1, 1))));
        assert!(check(&[made, (3, 4, did(To::Made(1), Err(Refusal::Taken))), (5, 6, did(To::Made(1), Err(Refusal::Overloaded)))]));
        assert!(!check(&[made, (3, 4, did(To::Removed, Err(Refusal::Absent)))]));
        let mismatch = |current| Did::Change { to: To::Said(1), if_version: Some(9), result: Err(Refusal::VersionMismatch { current }) };
        assert!(check(&[made, (3, 4, mismatch(1))]) && !check(&[made, (3, 4, mismatch(2))]));
    }

    #[test]
    fn bindings_are_counted_as_what_they_change() {
        let made = (1, 2, did(To::Made(0b01), Ok(changed(1, 1))));
        let bound = (3, 4, did(To::Bound(0b10), Ok(changed(1, 2))));
        assert!(check(&[made, bound, (5, 6, read(2, 0b11))]) && !check(&[made, bound, (5, 6, read(2, 0b01))]));
        let again = |version| (5, 6, did(To::Bound(0b01), Ok(changed(1, version))));
        assert!(check(&[made, bound, again(2)]) && !check(&[made, bound, again(3)]), "it was bound already");
        let unbound = |result| (5, 6, did(To::Unbound(0b10), result));
        assert!(check(&[made, bound, unbound(Ok(changed(1, 3))), (7, 8, read(3, 0b01))]));
        assert!(check(&[made, unbound(Err(Refusal::Absent))]) && !check(&[made, bound, unbound(Err(Refusal::Absent))]));
        assert!(check(&[made, bound, (5, 6, did(To::Said(0), Ok(changed(1, 3)))), (7, 8, read(3, 0))]));
    }
}
