#![no_main]

#[path = "../../bodies/http1.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
