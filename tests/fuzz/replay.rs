//! The fuzz corpora, replayed by `cargo test`: each target's seeds, and every input that once broke it.

use std::fs;
use std::path::Path;

#[path = "bodies/engine.rs"]
mod engine;
#[path = "bodies/http1.rs"]
mod http1;
#[path = "bodies/jsonrpc.rs"]
mod jsonrpc;
#[path = "bodies/recall.rs"]
mod recall;
#[path = "bodies/response.rs"]
mod response;
#[path = "bodies/sse.rs"]
mod sse;

#[test]
fn engine_corpus() {
    replay("engine", engine::run);
}

#[test]
fn http1_corpus() {
    replay("http1", http1::run);
}

#[test]
fn jsonrpc_corpus() {
    replay("jsonrpc", jsonrpc::run);
}

#[test]
fn recall_corpus() {
    replay("recall", recall::run);
}

#[test]
fn response_corpus() {
    replay("response", response::run);
}

#[test]
fn sse_corpus() {
    replay("sse", sse::run);
}

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder's entry").path();
        println!("{}", path.display());
        run(&fs::read(&path).expect("a corpus file"));
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
