//! A small seeded generator: the seed is printed, and `RINGHUB_TEST_SEED` sets it, so that a failure can be seen again.

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let given = std::env::var("RINGHUB_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("the system has randomness");
            u64::from_ne_bytes(bytes)
        });
        println!("seed: RINGHUB_TEST_SEED={seed}");
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn byte(&mut self) -> u8 {
        (self.next() >> 32) as u8
    }
}
