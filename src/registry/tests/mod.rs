//! The registry as several cores in one thread: by hand, and by chance under every disorder that lanes and cores can be in.

mod cluster;
mod history;
mod lists;
mod loads;
mod schedules;
mod writes;
