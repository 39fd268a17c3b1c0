//! How an attempt to store something durably ended.

/// What a durable store says of a change that it was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stored {
    /// It is on the disk.
    Written,
    /// It is not on the disk and will not be.
    NotWritten,
    /// It was being written when the store failed: it may be on the disk or not.
    Unknown,
}
