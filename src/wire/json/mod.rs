//! JSON (RFC 8259) over untouched bytes: a validating scanner, writers, and a decoder for typed values.
//!
//! The scanner is the one judge of what JSON is here. It is strict (no byte order mark, no trailing comma, no control character in a
//! string, UTF-8 throughout), does not recurse, needs no heap and refuses nesting beyond [`JSON_DEPTH_MAX`].
//! Values are handed on as slices of the message ("raw"), so that what is relayed stays byte for byte what came.
//!
//! Two things are syntactically fine by RFC 8259 and yet have no value in Rust, and both are settled here:
//! - an escape that names half of a surrogate pair: [`string`] and [`unescape`] read it as U+FFFD; [`Decoder`] refuses it where a
//!   string is wanted;
//! - a number too large for its type: kept raw; [`Decoder`] refuses it where the type cannot hold it.
//!
//! [`JSON_DEPTH_MAX`]: crate::base::limits::JSON_DEPTH_MAX

#[cfg(test)]
mod corpus;
mod decode;
mod scan;
mod text;
mod walk;
mod write;

pub use decode::{DecodeError, Decoder};
pub use scan::{Malformed, validate};
pub(in crate::wire) use scan::{Scanner, utf8};
pub(in crate::wire) use text::plain_key;
pub use text::{key_is, same_string, string, unescape};
pub use walk::{Elements, Members, elements, get, members};
pub use write::{write_array, write_bool, write_f64, write_i64, write_str, write_u64};
