//! `bare_loop --listen ADDR --cpu N (--reply FILE | --replies FOLDER)`: the limit ringhub is held against.

use ringhub_bench_peers::bare::BareLoop;
use ringhub_bench_peers::bare::answers::Answers;
use ringhub_bench_peers::flags::{Flags, pin};
use std::convert::Infallible;
use std::io;
use std::path::Path;

fn main() {
    let Err(why) = serve();
    eprintln!("bare_loop: {why}");
    std::process::exit(1);
}

fn serve() -> Result<Infallible, String> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    let wrong = |path: &Path, e: io::Error| format!("{}: {e}", path.display());
    let answers = match (flags.reply, flags.replies) {
        (Some(file), None) => Answers::Same(std::fs::read(&file).map_err(|e| wrong(&file, e))?),
        (None, Some(folder)) => Answers::read(&folder).map_err(|e| wrong(&folder, e))?,
        _ => return Err("one is needed: --reply FILE, the HTTP reply to send, or --replies FOLDER, those of each method".to_owned()),
    };
    if let Some(cpu) = flags.cpu {
        pin(cpu).map_err(|e| format!("--cpu {cpu}: {e}"))?;
    }
    let server = BareLoop::new(flags.listen, answers).map_err(|e| e.to_string())?;
    println!("http://{}/mcp", server.address().map_err(|e| e.to_string())?);
    server.run().map_err(|e| e.to_string())
}
