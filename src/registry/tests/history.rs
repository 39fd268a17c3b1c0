//! Whether a history of one name could have been: an order of its operations, each between its beginning and its end, in which every one
//! gave what it had to give (Wing and Gong, with states that were tried before remembered).

use std::collections::HashSet;

use crate::registry::{Changed, Refusal};

/// An entry as far as a lookup shows it: id and version; none when it is absent.
pub type Seen = Option<(u64, u64)>;

/// What was done, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    Read(Seen),
    Register(Result<Changed, Refusal>),
    Update { if_version: Option<u64>, result: Result<Changed, Refusal> },
    Unregister { if_version: Option<u64>, result: Result<Changed, Refusal> },
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
    let is_met = |wanted: Option<u64>| state.is_some_and(|(_, version)| wanted.is_none_or(|wanted| wanted == version));
    match did {
        Did::Read(seen) => (seen == state).then_some(state),
        Did::Register(Ok(changed)) => state.is_none().then_some(Some((changed.id.number, changed.version))),
        Did::Register(Err(Refusal::Taken)) => state.is_some().then_some(state),
        Did::Update { if_version, result: Ok(changed) } => {
            let is_next = state.is_some_and(|(id, version)| (id, version + 1) == (changed.id.number, changed.version));
            (is_met(if_version) && is_next).then_some(Some((changed.id.number, changed.version)))
        }
        Did::Unregister { if_version, result: Ok(changed) } => {
            (is_met(if_version) && state == Some((changed.id.number, changed.version))).then_some(None)
        }
        Did::Update { if_version, result: Err(refusal) } | Did::Unregister { if_version, result: Err(refusal) } => match refusal {
            Refusal::Absent => state.is_none().then_some(state),
            Refusal::VersionMismatch { current } => (state.is_some_and(|(_, version)| version == current)
                && if_version.is_some_and(|wanted| wanted != current))
            .then_some(state),
            Refusal::Overloaded | Refusal::NotStored | Refusal::StoreStuck | Refusal::Unknown => Some(state),
            _ => None,
        },
        Did::Register(Err(Refusal::Overloaded | Refusal::NotStored | Refusal::StoreStuck | Refusal::Unknown)) => Some(state),
        Did::Register(Err(_)) => None,
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

    #[test]
    fn an_old_value_after_the_change_is_found_out_and_during_it_is_not() {
        let register = Did::Register(Ok(changed(1, 1)));
        let update = Did::Update { if_version: None, result: Ok(changed(1, 2)) };
        let (old, new) = (Did::Read(Some((1, 1))), Did::Read(Some((1, 2))));
        assert!(check(&[(1, 2, register), (3, 8, update), (4, 5, old), (6, 7, new)]));
        assert!(!check(&[(1, 2, register), (3, 8, update), (4, 5, new), (6, 7, old)]), "the new one was seen");
        assert!(!check(&[(1, 2, register), (3, 4, update), (5, 6, old)]));
        assert!(check(&[(1, 2, register), (3, 4, update), (3, 6, old)].map(|(start, end, did)| (
            start * 2 + u64::from(did == old),
            end * 2,
            did
        ))));
        assert!(!check(&[(1, 2, register), (3, 4, Did::Read(None))]));
    }

    #[test]
    fn refusals_must_have_had_their_reason() {
        let register = (1, 2, Did::Register(Ok(changed(1, 1))));
        assert!(check(&[register, (3, 4, Did::Register(Err(Refusal::Taken))), (5, 6, Did::Register(Err(Refusal::Overloaded)))]));
        assert!(!check(&[register, (3, 4, Did::Unregister { if_version: None, result: Err(Refusal::Absent) })]));
        let mismatch = |current| Did::Update { if_version: Some(9), result: Err(Refusal::VersionMismatch { current }) };
        assert!(check(&[register, (3, 4, mismatch(1))]) && !check(&[register, (3, 4, mismatch(2))]));
    }
}
