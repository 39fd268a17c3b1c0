//! One binary for all behaviours that are seen from outside: the real server over real sockets, a file per behaviour.

mod tidy;
