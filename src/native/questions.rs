//! The questions of one call and what came back: the part of `ask` that differs by era (D2 in the crate's architecture notes).
//!
//! Legacy era: a question becomes an effect, and its reply comes while the handler waits. Modern era: the reply is looked up in what
//! the client sent along; a question without one is recorded, the call ends with `input_required`, and the handler runs again.

use std::collections::BTreeMap;
use std::task::Waker;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::host::Question;

/// Why a client gave no result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NoResult {
    /// It answered with a JSON-RPC error object (JSON text).
    Error(Vec<u8>),
    /// It cannot be reached any more, or did not answer in time.
    Lost,
}

/// Where one question stands.
enum Standing {
    Waiting(Vec<Waker>),
    Answered(Box<[u8]>),
    Failed(NoResult),
}

/// All questions of one call by key, and what its handler wants remembered.
#[derive(Default)]
pub(crate) struct Questions {
    /// Whether what the client sent along has been read.
    opened: bool,
    asked: BTreeMap<String, Standing>,
    /// Modern era: replies the client sent with this request, not asked for yet.
    offered: BTreeMap<String, Box<[u8]>>,
    recorded: Vec<Question>,
    remembered: BTreeMap<String, Box<[u8]>>,
}

/// What goes into `requestState`, and comes back out of it.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    #[serde(borrow, rename = "a")]
    answers: BTreeMap<String, &'a RawValue>,
    #[serde(borrow, rename = "r")]
    remembered: BTreeMap<String, &'a RawValue>,
}

/// What a look at a question's standing gives.
pub(crate) enum Look {
    /// Nobody asked it yet in this call.
    New,
    /// The reply is not there yet; the waker has been noted.
    Waiting,
    /// The reply.
    Answered(Box<[u8]>),
    Failed(NoResult),
}

impl Questions {
    pub fn reset(&mut self) {
        // Most calls ask nothing, and clearing an empty tree is not free.
        if !self.opened && self.asked.is_empty() && self.recorded.is_empty() && self.remembered.is_empty() {
            return;
        }
        self.opened = false;
        self.asked.clear();
        self.offered.clear();
        self.recorded.clear();
        self.remembered.clear();
    }

    /// Reads what the client sent along, once. What is malformed counts as not sent.
    pub fn open(&mut self, state: Option<&[u8]>, input_responses: Option<&[u8]>) {
        if std::mem::replace(&mut self.opened, true) {
            return;
        }
        if let Some(sealed) = state.and_then(|state| serde_json::from_slice::<Sealed<'_>>(state).ok()) {
            self.asked = sealed.answers.into_iter().map(|(key, raw)| (key, Standing::Answered(bytes(raw)))).collect();
            self.remembered = sealed.remembered.into_iter().map(|(key, raw)| (key, bytes(raw))).collect();
        }
        if let Some(offered) = input_responses.and_then(|raw| serde_json::from_slice::<BTreeMap<String, &RawValue>>(raw).ok()) {
            self.offered = offered.into_iter().map(|(key, raw)| (key, bytes(raw))).collect();
        }
    }

    pub fn is_open(&self) -> bool {
        self.opened
    }

    pub fn look(&mut self, key: &str, waker: &Waker) -> Look {
        match self.asked.get_mut(key) {
            None => Look::New,
            Some(Standing::Waiting(wakers)) => {
                if !wakers.iter().any(|held| held.will_wake(waker)) {
                    wakers.push(waker.clone());
                }
                Look::Waiting
            }
            Some(Standing::Answered(raw)) => Look::Answered(raw.clone()),
            Some(Standing::Failed(why)) => Look::Failed(why.clone()),
        }
    }

    /// Takes the reply the client sent along for `key`.
    pub fn take_offered(&mut self, key: &str) -> Option<Box<[u8]>> {
        self.offered.remove(key)
    }

    /// Keeps a reply that was found good.
    pub fn settle(&mut self, key: &str, raw: Box<[u8]>) {
        self.asked.insert(key.to_owned(), Standing::Answered(raw));
    }

    /// Notes that a reply to `key` is awaited.
    pub fn wait(&mut self, key: &str, waker: &Waker) {
        self.asked.insert(key.to_owned(), Standing::Waiting(vec![waker.clone()]));
    }

    /// Modern era: puts a question on the list for the client.
    pub fn record(&mut self, question: Question) {
        self.recorded.push(question);
    }

    pub fn take_recorded(&mut self) -> Vec<Question> {
        std::mem::take(&mut self.recorded)
    }

    /// The reply came. Returns who waited for it; a reply nobody waits for changes nothing.
    pub fn reply(&mut self, key: &str, reply: Result<&[u8], NoResult>) -> Vec<Waker> {
        let Some(standing @ Standing::Waiting(_)) = self.asked.get_mut(key) else {
            return Vec::new();
        };
        let settled = match reply {
            Ok(raw) => Standing::Answered(raw.into()),
            Err(why) => Standing::Failed(why),
        };
        match std::mem::replace(standing, settled) {
            Standing::Waiting(wakers) => wakers,
            _ => Vec::new(),
        }
    }

    pub fn remember(&mut self, key: &str, json: Vec<u8>) {
        self.remembered.insert(key.to_owned(), json.into());
    }

    pub fn recall(&self, key: &str) -> Option<&[u8]> {
        self.remembered.get(key).map(|raw| &**raw)
    }

    /// The answers so far and what is to be remembered, as JSON text.
    pub fn to_seal(&self) -> Vec<u8> {
        let answers = self.asked.iter().filter_map(|(key, standing)| match standing {
            Standing::Answered(raw) => Some((key.clone(), raw_value(raw)?)),
            Standing::Waiting(_) | Standing::Failed(_) => None,
        });
        let remembered = self.remembered.iter().filter_map(|(key, raw)| Some((key.clone(), raw_value(raw)?)));
        let sealed = Sealed { answers: answers.collect(), remembered: remembered.collect() };
        serde_json::to_vec(&sealed).expect("maps with text keys and raw values encode")
    }
}

fn bytes(raw: &RawValue) -> Box<[u8]> {
    raw.get().as_bytes().into()
}

fn raw_value(raw: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(raw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_found_again() {
        let mut first = Questions::default();
        first.open(None, Some(br#"{"name":{"action":"accept"},"other":1}"#));
        let raw = first.take_offered("name").expect("it was offered");
        first.settle("name", raw);
        first.remember("step", b"2".to_vec());
        let mut second = Questions::default();
        second.open(Some(&first.to_seal()), None);
        assert!(matches!(second.look("name", Waker::noop()), Look::Answered(raw) if &*raw == br#"{"action":"accept"}"#));
        assert!(matches!(second.look("other", Waker::noop()), Look::New));
        assert_eq!(second.recall("step"), Some(&b"2"[..]));
    }

    #[test]
    fn garbage_sent_along_counts_as_nothing() {
        let mut questions = Questions::default();
        questions.open(Some(b"[1"), Some(b"7"));
        assert!(matches!(questions.look("a", Waker::noop()), Look::New));
        assert!(questions.take_offered("a").is_none());
    }

    #[test]
    fn a_reply_settles_only_what_is_awaited() {
        let mut questions = Questions::default();
        assert!(questions.reply("a", Ok(b"1")).is_empty());
        questions.wait("a", Waker::noop());
        assert_eq!(questions.reply("a", Ok(b"1")).len(), 1);
        assert!(questions.reply("a", Err(NoResult::Lost)).is_empty(), "a second reply is nobody's");
        assert!(matches!(questions.look("a", Waker::noop()), Look::Answered(raw) if &*raw == b"1"));
    }
}
