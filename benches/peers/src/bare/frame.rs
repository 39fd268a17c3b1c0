//! Where one HTTP/1.1 request ends: head by httparse, body by Content-Length.

use std::mem::MaybeUninit;

/// Most header lines read in one request.
const HEADERS_MAX: usize = 32;
/// Longest request head and body together, in bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// What stands at the front of the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Front {
    /// No whole request yet.
    Partial,
    /// A whole request of `len` bytes, the first `head` of which are its head; `close` if it asks to close afterwards.
    Request { len: usize, head: usize, close: bool },
    /// Nothing this server can frame: the connection is given up.
    Unframed,
}

/// Frames the first request of `bytes` (RFC 9112 section 6; chunked bodies,
/// which no load generator here sends, are not framed).
pub fn front(bytes: &[u8]) -> Front {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut []);
    let head = match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => return Front::Partial,
        _ => return Front::Unframed,
    };
    let mut body = 0;
    let mut close = false;
    for header in request.headers.iter() {
        // The length of a name tells the three of interest apart from nearly
        // all others before any byte is compared.
        match header.name.len() {
            14 if header.name.eq_ignore_ascii_case("content-length") => match decimal(header.value) {
                Some(n) => body = n,
                None => return Front::Unframed,
            },
            10 if header.name.eq_ignore_ascii_case("connection") => {
                close = header.value.eq_ignore_ascii_case(b"close");
            }
            17 if header.name.eq_ignore_ascii_case("transfer-encoding") => return Front::Unframed,
            _ => {}
        }
    }
    let len = head + body;
    if len > REQUEST_BYTES_MAX {
        Front::Unframed
    } else if len > bytes.len() {
        Front::Partial
    } else {
        Front::Request { len, head, close }
    }
}

/// A Content-Length of at most seven digits, so that no sum can overflow.
fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 7 {
        return None;
    }
    digits.iter().try_fold(0, |n, d| d.is_ascii_digit().then(|| n * 10 + usize::from(d - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 5\r\n\r\nhello";

    #[test]
    fn a_request_is_whole_only_with_its_last_byte() {
        for cut in 0..POST.len() {
            assert_eq!(front(&POST[..cut]), Front::Partial, "cut at {cut}");
        }
        let whole = Front::Request { len: POST.len(), head: POST.len() - 5, close: false };
        assert_eq!(front(POST), whole);
        assert_eq!(front(&[POST, POST].concat()), whole);
    }

    #[test]
    fn a_request_without_a_length_has_no_body() {
        let get = b"GET / HTTP/1.1\r\nConnection: Close\r\n\r\nX";
        assert_eq!(front(get), Front::Request { len: get.len() - 1, head: get.len() - 1, close: true });
    }

    #[test]
    fn what_cannot_be_framed_is_given_up() {
        for head in [
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "\u{1}\u{2}\r\n\r\n",
        ] {
            assert_eq!(front(head.as_bytes()), Front::Unframed, "{head:?}");
        }
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'a'; REQUEST_BYTES_MAX]].concat();
        assert_eq!(front(&endless), Front::Unframed);
    }
}
