//! The program: parse, run, exit code.

use clap::Parser;
use ringhub::cli::{Cli, Command};
use ringhub::native::builtin;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => ringhub::serve(&args, builtin::server),
        Command::Check(args) => ringhub::check(&args),
        Command::Ctl(args) => ringhub::ctl(&args),
        Command::Load(args) => ringhub::cli::load::load(&args),
        Command::LoadProcess => ringhub::cli::load::load_process(),
    }
}
