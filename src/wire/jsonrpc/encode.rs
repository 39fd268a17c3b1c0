//! Writing messages into a buffer.

use super::Id;
use crate::wire::json::{write_i64, write_str};

/// Begins a response with a result; the result's value is to follow, then [`end`].
pub fn begin_result(out: &mut Vec<u8>, id: Id<'_>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.raw());
    out.extend_from_slice(br#","result":"#);
}

/// Ends what [`begin_result`] or [`begin_error`] began.
pub fn end(out: &mut Vec<u8>) {
    out.push(b'}');
}

/// A response with a result, whose raw value is at hand.
pub fn result(out: &mut Vec<u8>, id: Id<'_>, raw: &[u8]) {
    begin_result(out, id);
    out.extend_from_slice(raw);
    end(out);
}

/// Begins a response with an error; the error object is to follow, then [`end`]. Without an id the member is left out: the MCP schema
/// knows no `null` there.
pub fn begin_error(out: &mut Vec<u8>, id: Option<Id<'_>>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        out.extend_from_slice(br#""id":"#);
        out.extend_from_slice(id.raw());
        out.push(b',');
    }
    out.extend_from_slice(br#""error":"#);
}

/// A response with an error (JSON-RPC 2.0 section 5.1). `data` is raw.
pub fn error(out: &mut Vec<u8>, id: Option<Id<'_>>, code: i32, message: &str, data: Option<&[u8]>) {
    begin_error(out, id);
    out.extend_from_slice(br#"{"code":"#);
    write_i64(out, i64::from(code));
    out.extend_from_slice(br#","message":"#);
    write_str(out, message);
    if let Some(data) = data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
    }
    out.push(b'}');
    end(out);
}

/// A request. `params` is a raw object, or empty for none.
pub fn request(out: &mut Vec<u8>, id: Id<'_>, method: &str, params: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id.raw());
    out.extend_from_slice(br#","method":"#);
    method_and_params(out, method, params);
}

/// A notification. `params` is a raw object, or empty for none.
pub fn notification(out: &mut Vec<u8>, method: &str, params: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    method_and_params(out, method, params);
}

#[inline]
fn method_and_params(out: &mut Vec<u8>, method: &str, params: &[u8]) {
    write_str(out, method);
    if !params.is_empty() {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    out.push(b'}');
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn messages_are_written_whole() {
        let id = Id::String(b"\"a\"");
        assert_eq!(written(|out| result(out, id, b"{}")), r#"{"jsonrpc":"2.0","id":"a","result":{}}"#);
        assert_eq!(
            written(|out| error(out, None, -32700, "no \"JSON\"", None)),
            r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"no \"JSON\""}}"#
        );
        assert_eq!(
            written(|out| error(out, Some(Id::Number(b"7")), -32602, "m", Some(b"[1]"))),
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"m","data":[1]}}"#
        );
        assert_eq!(written(|out| request(out, id, "ping", b"")), r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#);
        assert_eq!(written(|out| notification(out, "a/b", b"{\"c\":1}")), r#"{"jsonrpc":"2.0","method":"a/b","params":{"c":1}}"#);
    }
}
