//! Arrays of messages (2025-03-26, transports, "Sending Messages to the Server"; JSON-RPC 2.0 section 6): what may be in one,
//! and how its replies are gathered.

use crate::wire::{
    jsonrpc::{Batch, Id, Message},
    mcp::Method,
};

/// What a batch holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Plan {
    /// Responses to what this server asked.
    Responses,
    /// Requests, notifications or both; so many requests.
    Calls {
        /// How many requests, each of which is answered.
        requests: usize,
    },
}

/// Looks at every element before any is acted on. The wire has already refused an empty or too long array.
///
/// # Errors
/// Why the batch is refused as a whole, for a person.
pub fn plan(batch: &Batch<'_>) -> Result<Plan, &'static str> {
    let mut ids: Vec<Id<'_>> = Vec::new();
    let (mut responses, mut others) = (0, 0);
    for element in batch.iter() {
        match element.map_err(|refusal| refusal.why)? {
            Message::Response(_) => responses += 1,
            Message::Notification(_) => others += 1,
            Message::Request(request) => {
                if Method::parse(request.method) == Method::Initialize {
                    return Err("Invalid request: initialize must not be part of a batch");
                }
                if ids.iter().any(|id| id.same(request.id)) {
                    return Err("Invalid request: two requests of the batch have the same id");
                }
                ids.push(request.id);
                others += 1;
            }
        }
    }
    match (responses, others) {
        (0, _) => Ok(Plan::Calls { requests: ids.len() }),
        (_, 0) => Ok(Plan::Responses),
        _ => Err("Invalid request: a batch holds requests and notifications, or responses only"),
    }
}

/// The replies of one batch that have not been sent, in the order in which they came to be.
#[derive(Debug, Default)]
pub struct Gather {
    /// An array that lacks its last bracket; empty before the first reply.
    array: Vec<u8>,
}

impl Gather {
    /// Adds what `write` appends: one reply.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.array.push(if self.array.is_empty() { b'[' } else { b',' });
        write(&mut self.array);
    }

    /// All replies so far as one JSON array; none when there is none. What comes later begins another array.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.array.is_empty() {
            return None;
        }
        self.array.push(b']');
        Some(std::mem::take(&mut self.array))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::jsonrpc::{Body, parse};

    const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    const OTHER_CALL: &str = r#"{"jsonrpc":"2.0","id":"1","method":"tools/list"}"#;
    const NOTE: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    const ANSWER: &str = r#"{"jsonrpc":"2.0","id":"ask-1","result":{}}"#;
    const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":2,"method":"initialize","params":{}}"#;

    fn planned(elements: &[&str]) -> Result<Plan, &'static str> {
        let body = format!("[{}]", elements.join(","));
        match parse(body.as_bytes()) {
            Ok(Body::Batch(batch)) => plan(&batch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_and_notifications_mix_and_responses_stand_alone() {
        assert_eq!(planned(&[CALL, NOTE, OTHER_CALL]), Ok(Plan::Calls { requests: 2 }));
        assert_eq!(planned(&[NOTE]), Ok(Plan::Calls { requests: 0 }));
        assert_eq!(planned(&[ANSWER, ANSWER]), Ok(Plan::Responses));
        assert!(planned(&[ANSWER, CALL]).is_err());
        assert!(planned(&[NOTE, ANSWER]).is_err());
    }

    #[test]
    fn initialize_and_repeated_ids_are_refused() {
        assert!(planned(&[CALL, INITIALIZE]).unwrap_err().contains("initialize"));
        assert!(planned(&[CALL, CALL]).unwrap_err().contains("same id"));
        assert!(planned(&[CALL, "7"]).is_err());
    }

    #[test]
    fn replies_become_one_array() {
        let mut gather = Gather::default();
        assert_eq!(gather.take(), None);
        gather.add(|out| out.extend_from_slice(b"{}"));
        gather.add(|out| out.extend_from_slice(b"1"));
        assert_eq!(gather.take().as_deref(), Some(b"[{},1]".as_slice()));
        assert_eq!(gather.take(), None);
        gather.add(|out| out.extend_from_slice(b"2"));
        assert_eq!(gather.take().as_deref(), Some(b"[2]".as_slice()));
    }
}
