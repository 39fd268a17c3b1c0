//! HTTP/1.1 message syntax (RFC 9112, with the field rules of RFC 9110): for a server, requests in and responses out; for a client of
//! upstreams, [`Ask`] and [`ResponseReader`].
//!
//! [`take`] does all of it for a shell, and is quickest with a head that its connection sent before. [`Framer`] finds where a request ends and refuses everything that another parser could read differently; [`view`] then
//! gives the request as slices of the input; [`response`] and its siblings write answers. Nothing here does I/O or keeps
//! a buffer, and a request is framed and viewed without heap (a chunked body is joined in the caller's buffer).

pub mod accept;
mod ask;
mod chunked;
mod date;
mod field;
mod frame;
mod glance;
mod known;
mod recall;
mod request_line;
mod respond;
mod response;
#[cfg(test)]
mod tests;
mod url;
mod view;

pub use accept::{Media, accepts};
pub use ask::{Ask, AskStart, Unsendable, check_field, check_target};
pub use date::DateCache;
pub use frame::{BodyFrame, Frame, Framed, Framer, HttpLimits};
pub use glance::{Taken, take};
pub use known::Known;
pub use recall::LastHead;
pub use request_line::Method;
pub use respond::{
    CONTINUE, ChunkMark, EVENT_STREAM, Head, JSON, KEEP_ALIVE, begin_chunk, chunk, end_chunk, last_chunk, response, response_head_only,
    stream_head,
};
pub use response::{Broken, Part, ResponseHead, ResponseReader};
pub use url::Url;
pub use view::{HeaderSlots, Headers, Request, view};
