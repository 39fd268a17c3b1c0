//! The engine that the cores run: in this room's own tests, one that does what the path of a request says.

#[cfg(not(test))]
pub(crate) use crate::engine::Engine;

#[cfg(test)]
pub(crate) use super::tests::script::Engine;
