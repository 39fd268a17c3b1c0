//! `bare_loop --listen ADDR --cpu N --reply FILE`: the limit ringhub is held against.

use ringhub_bench_peers::bare::BareLoop;
use ringhub_bench_peers::flags::{Flags, pin};
use std::convert::Infallible;

fn main() {
    let Err(why) = serve();
    eprintln!("bare_loop: {why}");
    std::process::exit(1);
}

fn serve() -> Result<Infallible, String> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    let file = flags.reply.ok_or("--reply FILE is needed: the HTTP reply to send")?;
    let reply = std::fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    if let Some(cpu) = flags.cpu {
        pin(cpu).map_err(|e| format!("--cpu {cpu}: {e}"))?;
    }
    let server = BareLoop::new(flags.listen, reply).map_err(|e| e.to_string())?;
    println!("http://{}/mcp", server.address().map_err(|e| e.to_string())?);
    server.run().map_err(|e| e.to_string())
}
