//! The fuzz target's body on sequences drawn here, seeded, so that every run of the tests takes part in the search.

/// The fuzz target's body, built as the fuzz crate builds it.
#[allow(clippy::all, clippy::pedantic, dead_code, unused_imports)]
mod body {
    extern crate self as ringhub;
    include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/bodies/engine.rs"));
}

#[test]
fn events_in_any_order() {
    let mut seed: u64 = 0x5EED_0001;
    for _ in 0..300 {
        let mut input = Vec::with_capacity(1024);
        for _ in 0..1024 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            input.push((seed >> 56) as u8);
        }
        body::run(&input);
    }
}
