//! Clients that do anything at any time. Nothing may panic, and nothing may be left behind.

use std::time::Duration;

use super::client::{Client, call, cluster, event_ids, request};
use super::cluster::{Cluster, post};
use crate::base::ids::ConnId;

const TOOLS: [&str; 10] = ["ask_late", "echo", "talk", "slow", "steps", "reconnect", "elicit", "change", "block", "nope"];
const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// A small generator of numbers (xorshift64*), so that a seed says all about a run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

struct World {
    dice: Dice,
    cluster: Cluster,
    clients: Vec<Client>,
    conns: Vec<ConnId>,
    event_ids: Vec<String>,
    asked: Vec<serde_json::Value>,
}

impl World {
    fn step(&mut self) {
        let which = self.dice.roll(self.clients.len());
        match self.dice.roll(12) {
            0 | 1 => self.call(which),
            2 => {
                let batch = format!("[{},{}]", self.random_call(), self.random_call());
                self.send(which, &batch);
            }
            3 => self.get(which),
            4 => {
                let id = self.dice.roll(20);
                self.send(which, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
            }
            5 => self.answer(which),
            6 => self.lose(),
            7 => self.cluster.pass(Duration::from_millis(300)),
            8 => self.cluster.run_blocking(),
            9 => {
                let method = ["resources/subscribe", "resources/unsubscribe", "ping", "tools/list"][self.dice.roll(4)];
                self.send(which, &request("7", method, r#"{"uri":"test://a"}"#));
            }
            10 if self.dice.roll(4) == 0 => self.restart(which),
            _ => self.look(),
        }
    }

    fn random_call(&mut self) -> String {
        let id = self.dice.roll(20).to_string();
        call(&id, TOOLS[self.dice.roll(TOOLS.len())])
    }

    fn call(&mut self, which: usize) {
        let body = self.random_call();
        self.send(which, &body);
    }

    /// Over any core: the connection finds its session.
    fn send(&mut self, which: usize, body: &str) {
        let core = self.dice.roll(self.cluster.engines.len());
        let conn = self.cluster.connect(core);
        let headers = self.clients[which].headers();
        self.cluster.send(conn, &post(&headers, body));
        self.conns.push(conn);
    }

    fn get(&mut self, which: usize) {
        let last = match self.dice.roll(3) {
            0 => None,
            _ if self.event_ids.is_empty() => Some("0-1".to_owned()),
            _ => Some(self.event_ids[self.dice.roll(self.event_ids.len())].clone()),
        };
        let (conn, response) = self.clients[which].get(&mut self.cluster, last.as_deref());
        self.event_ids.extend(event_ids(&response));
        self.conns.push(conn);
    }

    fn answer(&mut self, which: usize) {
        let Some(id) = self.asked.pop() else { return };
        let body = serde_json::json!({"jsonrpc": "2.0", "id": id, "result": {"action": "decline"}});
        self.send(which, &body.to_string());
    }

    fn lose(&mut self) {
        if self.conns.is_empty() {
            return;
        }
        let conn = self.conns.swap_remove(self.dice.roll(self.conns.len()));
        if self.cluster.is_open(conn) {
            if self.dice.roll(2) == 0 {
                self.cluster.half_close(conn);
            }
            self.cluster.gone(conn);
        }
    }

    fn restart(&mut self, which: usize) {
        self.clients[which].delete(&mut self.cluster);
        let (core, version) = (self.dice.roll(self.cluster.engines.len()), VERSIONS[self.dice.roll(4)]);
        self.clients[which] = Client::open_with(&mut self.cluster, core, version, r#"{"elicitation":{}}"#);
    }

    /// Reads what came, as a client that comes back later would.
    fn look(&mut self) {
        for &conn in &self.conns {
            let text = self.cluster.take_raw(conn);
            self.event_ids.extend(text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned));
            let messages = text.lines().filter_map(|line| line.strip_prefix("data: "));
            let asked = messages.filter(|data| data.contains("elicitation/create"));
            self.asked.extend(asked.filter_map(|data| serde_json::from_str::<serde_json::Value>(data).ok()).map(|ask| ask["id"].clone()));
        }
    }

    /// How many event ids were heard.
    fn end(mut self) -> usize {
        for client in std::mem::take(&mut self.clients) {
            client.delete(&mut self.cluster);
        }
        self.cluster.run_blocking();
        self.cluster.pass(Duration::from_secs(5));
        assert!(self.conns.iter().all(|&conn| !self.cluster.is_pending(conn) || !self.cluster.is_open(conn)), "somebody waits for ever");
        assert!(self.cluster.shared.sessions().is_empty());
        for engine in &self.cluster.engines {
            assert!(engine.is_idle() && engine.legacy.pendings.is_empty() && engine.legacy.sessions.holds_nothing());
            assert_eq!(engine.legacy.gets, 0);
        }
        self.event_ids.len()
    }
}

#[test]
fn disorder_leaves_nothing_behind() {
    let mut heard = 0;
    for seed in 1..=40 {
        println!("seed {seed}");
        let mut cluster = cluster(2);
        let clients = (0..4).map(|index| Client::open_with(&mut cluster, index % 2, VERSIONS[index], r#"{"elicitation":{}}"#)).collect();
        let dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut world = World { dice, cluster, clients, conns: Vec::new(), event_ids: Vec::new(), asked: Vec::new() };
        for _ in 0..300 {
            world.step();
        }
        heard += world.end();
    }
    assert!(heard > 1000, "the clients hardly did anything: {heard}");
}
