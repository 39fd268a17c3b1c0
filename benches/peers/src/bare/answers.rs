//! What is sent for a request: always the same, or what was recorded for its method, with the request's id.

use std::io;
use std::path::Path;

/// The id in recorded replies, for which that of the request is put; requests have as many digits.
const RECORDED_ID: &[u8] = b"1000000000";
const ID_MEMBER: &[u8] = b"\"id\":";
const METHOD_MEMBER: &[u8] = b"\"method\":\"";

/// The replies.
#[derive(Debug)]
pub enum Answers {
    /// These bytes, whatever is asked.
    Same(Vec<u8>),
    /// One for each method.
    Recorded(Vec<Recorded>),
}

/// What is replied to one method.
#[derive(Debug)]
pub struct Recorded {
    method: Vec<u8>,
    reply: Vec<u8>,
    /// Where the id is; notifications are replied to without one.
    id_at: Option<usize>,
}

impl Recorded {
    /// Where `reply` holds the id 1000000000, that of the request will stand.
    #[must_use]
    pub fn new(method: &str, reply: Vec<u8>) -> Self {
        let id_at = find(&reply, &[ID_MEMBER, RECORDED_ID].concat()).map(|at| at + ID_MEMBER.len());
        Self { method: method.as_bytes().to_vec(), reply, id_at }
    }
}

impl Answers {
    /// Reads a folder with a file for each method, a dot in its name for each slash of the method.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut all = Vec::new();
        for file in std::fs::read_dir(folder)? {
            let path = file?.path();
            let method = path.file_name().unwrap_or_default().to_string_lossy().replace('.', "/");
            all.push(Recorded::new(&method, std::fs::read(&path)?));
        }
        Ok(Self::Recorded(all))
    }

    /// Appends the reply to a message. False when there is none, or the message's id has not as many digits as the recorded one.
    pub fn write(&self, message: &[u8], out: &mut Vec<u8>) -> bool {
        let all = match self {
            Self::Same(reply) => {
                out.extend_from_slice(reply);
                return true;
            }
            Self::Recorded(all) => all,
        };
        let method = method(message);
        let Some(found) = all.iter().find(|recorded| Some(recorded.method.as_slice()) == method) else { return false };
        let from = out.len();
        out.extend_from_slice(&found.reply);
        let Some(id_at) = found.id_at else { return true };
        let Some(id) = id(message) else {
            out.truncate(from);
            return false;
        };
        out[from + id_at..][..id.len()].copy_from_slice(id);
        true
    }
}

/// What a message asks for.
fn method(message: &[u8]) -> Option<&[u8]> {
    let name = &message[find(message, METHOD_MEMBER)? + METHOD_MEMBER.len()..];
    name.iter().position(|byte| *byte == b'"').map(|end| &name[..end])
}

/// The digits of its id, if they are as many as the recorded one has.
fn id(message: &[u8]) -> Option<&[u8]> {
    let from = find(message, ID_MEMBER)? + ID_MEMBER.len();
    let (digits, rest) = message[from..].split_at_checked(RECORDED_ID.len())?;
    let is_whole = digits.iter().all(u8::is_ascii_digit) && !rest.first().is_some_and(u8::is_ascii_digit);
    is_whole.then_some(digits)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers() -> Answers {
        let of = |method, reply: &str| Recorded::new(method, reply.as_bytes().to_vec());
        let call = of("tools/call", "{\"id\":1000000000,c");
        Answers::Recorded(vec![of("ping", "{\"id\":1000000000,p"), call, of("notifications/initialized", "202")])
    }

    #[test]
    fn each_method_has_its_reply_with_the_requests_id() {
        let mut out = Vec::new();
        for message in [
            r#"{"id":1000000007,"method":"tools/call"}"#,
            r#"{"method":"notifications/initialized"}"#,
            r#"{"method":"ping","id":1234567890}"#,
        ] {
            assert!(answers().write(message.as_bytes(), &mut out), "{message}");
        }
        assert_eq!(out, b"{\"id\":1000000007,c202{\"id\":1234567890,p");
    }

    #[test]
    fn what_was_not_recorded_is_not_answered() {
        for message in [
            r#"{"id":1000000007,"method":"pong"}"#,
            r#"{"id":7,"method":"ping"}"#,
            r#"{"id":10000000070,"method":"ping"}"#,
            r#"{"method":"ping"}"#,
            "{}",
            "",
        ] {
            let mut out = Vec::new();
            assert!(!answers().write(message.as_bytes(), &mut out) && out.is_empty(), "{message}");
        }
    }
}
