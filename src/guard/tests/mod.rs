//! The guards of several cores in one thread, under virtual time, with lanes that are late and full.

mod breaking;
mod lending;
