//! `ringhub ctl`: the control API over the command line, tables for people and JSON for programs.

mod http;
mod table;

use crate::cli::{CtlArgs, CtlCommand, EndpointsCommand, ServerArgs, ServersCommand, SourceArg, StateArg};
use crate::serve::token;
use http::{Place, Request, Response};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::process::ExitCode;

/// Exit code of a command line that makes no sense.
const MISUSED: u8 = 2;
/// Entries that are asked for at once.
const PAGE: usize = 100;

type Columns = &'static [(&'static str, &'static str)];

const SERVERS: Columns = &[
    ("NAME", "/name"),
    ("VERSION", "/version"),
    ("SOFTWARE", "/softwareVersion"),
    ("STATE", "/state"),
    ("SOURCE", "/source"),
    ("TOOLS", "/counts/tools"),
    ("PROMPTS", "/counts/prompts"),
    ("RESOURCES", "/counts/resources"),
    ("TITLE", "/title"),
    ("UPDATED", "/updatedAt"),
];
const ENDPOINTS: Columns = &[("PATH", "/path"), ("VERSION", "/version"), ("SERVERS", "/servers"), ("UPDATED", "/updatedAt")];
const BINDINGS: Columns = &[("ENDPOINT", "/endpoint"), ("SERVER", "/server")];
const SHARDS: Columns = &[
    ("SHARD", "/shard"),
    ("CORE", "/core"),
    ("SERVERS", "/servers"),
    ("ENDPOINTS", "/endpoints"),
    ("READS", "/reads"),
    ("WRITES", "/writes"),
    ("WAIT ns", "/waitNanoseconds"),
    ("HANDLING ns", "/handlingNanoseconds"),
    ("LEVEL", "/level"),
];
const CORES: Columns = &[
    ("CORE", "/core"),
    ("SHARDS", "/shards"),
    ("CONNECTIONS", "/connections"),
    ("SESSIONS", "/sessions"),
    ("CALLS", "/calls"),
    ("LISTENS", "/listens"),
    ("REQUESTS", "/requests"),
    ("NEAR HITS", "/nearHits"),
    ("NEAR MISSES", "/nearMisses"),
];
const SESSIONS: Columns = &[
    ("ID", "/id"),
    ("CORE", "/core"),
    ("PROTOCOL", "/protocolVersion"),
    ("READY", "/isReady"),
    ("IDLE s", "/idleSeconds"),
    ("CLIENT", "/client/name"),
];

/// Why a command failed, in words.
enum Failure {
    /// The command line makes no sense.
    Misused(String),
    /// The server refused, or cannot be reached.
    Refused(String),
}

/// Carries out one command against a running server. What is wrong is printed.
#[must_use]
pub fn ctl(args: &CtlArgs) -> ExitCode {
    let done = Place::parse(&args.admin).map_err(Failure::Misused).and_then(|place| Ctl { args, place }.run());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Misused(why)) => {
            eprintln!("ringhub ctl: {why}");
            ExitCode::from(MISUSED)
        }
        Err(Failure::Refused(why)) => {
            eprintln!("ringhub ctl: {why}");
            ExitCode::FAILURE
        }
    }
}

struct Ctl<'a> {
    args: &'a CtlArgs,
    place: Place,
}

impl Ctl<'_> {
    fn run(&self) -> Result<(), Failure> {
        match &self.args.command {
            CtlCommand::Servers(command) => self.servers(command),
            CtlCommand::Endpoints(command) => self.endpoints(command),
            CtlCommand::Bind(bind) => {
                let body = json!({"endpoint": bind.endpoint, "server": bind.server});
                self.write("POST", "/v1/bindings", bind.if_version, Some(&body), &format!("{} is bound to {}", bind.server, bind.endpoint))
            }
            CtlCommand::Unbind(bind) => {
                let target = format!("/v1/bindings/{}/{}", encoded(&bind.endpoint), encoded(&bind.server));
                self.write("DELETE", &target, bind.if_version, None, &format!("{} is unbound from {}", bind.server, bind.endpoint))
            }
            CtlCommand::Bindings(which) => {
                self.list("/v1/bindings", &[("endpoint", which.endpoint.as_deref()), ("server", which.server.as_deref())], BINDINGS)
            }
            CtlCommand::Shards => self.list("/v1/shards", &[], SHARDS),
            CtlCommand::Cores => self.list("/v1/cores", &[], CORES),
            CtlCommand::Sessions => self.list("/v1/sessions", &[], SESSIONS),
            CtlCommand::EndSession { id } => {
                self.write("DELETE", &format!("/v1/sessions/{}", encoded(id)), None, None, &format!("session {id} has ended"))
            }
            CtlCommand::Changes => self.changes(),
            CtlCommand::Reload => self.reload(),
        }
    }

    fn servers(&self, command: &ServersCommand) -> Result<(), Failure> {
        let one = |name: &str| format!("/v1/servers/{}", encoded(name));
        match command {
            ServersCommand::List { search, source, state } => {
                let source = source.map(|source| if source == SourceArg::Native { "native" } else { "upstream" });
                let filters = [("search", search.as_deref()), ("source", source), ("state", state.map(state_word))];
                self.list("/v1/servers", &filters, SERVERS)
            }
            ServersCommand::Get { name } => self.get(&one(name)),
            ServersCommand::Add { name, said } => {
                let mut members = file_members(said)?;
                members.insert("name".into(), json!(name));
                lay_over(&mut members, said)?;
                if !["url", "command", "target"].iter().any(|word| members.contains_key(*word)) {
                    return Err(Failure::Misused(
                        "a server needs --url or --command, so that it is fronted; or --target, so that it is listed only".into(),
                    ));
                }
                self.write("POST", "/v1/servers", None, Some(&members.into()), &format!("{name} is registered"))
            }
            ServersCommand::Update { name, said, if_version } => {
                let target = one(name);
                let Value::Object(mut members) = self.json("GET", &target)? else {
                    return Err(Failure::Refused("the server's entry is no object".into()));
                };
                // What was read is what is altered: not what somebody else has made of it meanwhile.
                let version = if_version.or_else(|| members.get("version").and_then(Value::as_u64));
                members.extend(file_members(said)?);
                lay_over(&mut members, said)?;
                self.write("PUT", &target, version, Some(&members.into()), &format!("{name} is updated"))
            }
            ServersCommand::Remove { name, if_version } => {
                self.write("DELETE", &one(name), *if_version, None, &format!("{name} is removed"))
            }
        }
    }

    fn endpoints(&self, command: &EndpointsCommand) -> Result<(), Failure> {
        let one = |path: &str| format!("/v1/endpoints/{}", encoded(path));
        match command {
            EndpointsCommand::List { search, server } => {
                self.list("/v1/endpoints", &[("search", search.as_deref()), ("server", server.as_deref())], ENDPOINTS)
            }
            EndpointsCommand::Get { path } => self.get(&one(path)),
            EndpointsCommand::Add { path, servers } => {
                let body = json!({"path": path, "servers": servers});
                self.write("POST", "/v1/endpoints", None, Some(&body), &format!("{path} is created"))
            }
            EndpointsCommand::Update { path, servers, if_version } => {
                self.write("PUT", &one(path), *if_version, Some(&json!({"servers": servers})), &format!("{path} is updated"))
            }
            EndpointsCommand::Remove { path, if_version } => {
                self.write("DELETE", &one(path), *if_version, None, &format!("{path} is removed"))
            }
        }
    }

    /// Prints all entries of a list.
    fn list(&self, path: &str, filters: &[(&str, Option<&str>)], columns: Columns) -> Result<(), Failure> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        let is_paged = !matches!(path, "/v1/shards" | "/v1/cores");
        loop {
            let mut target = path.to_owned();
            let mut add = |name: &str, value: &str| {
                let separator = if target.contains('?') { '&' } else { '?' };
                let _ = write!(target, "{separator}{name}={}", encoded(value));
            };
            if is_paged {
                add("limit", &PAGE.to_string());
            }
            filters.iter().filter_map(|(name, value)| Some((name, (*value)?))).for_each(|(name, value)| add(name, value));
            if let Some(cursor) = &cursor {
                add("cursor", cursor);
            }
            let mut page = self.json("GET", &target)?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        if self.args.json {
            return print(&format!("{}\n", json!({"items": items})));
        }
        let lines = table::lines(columns, &items);
        print(&lines.iter().fold(String::new(), |text, line| text + line + "\n"))
    }

    fn get(&self, target: &str) -> Result<(), Failure> {
        let entry = self.json("GET", target)?;
        let text = if self.args.json { entry.to_string() } else { format!("{entry:#}") };
        print(&format!("{text}\n"))
    }

    fn write(&self, method: &str, target: &str, if_version: Option<u64>, body: Option<&Value>, said: &str) -> Result<(), Failure> {
        let token = self.token()?;
        let body = body.map(Value::to_string);
        let request = Request { method, target, token: Some(&token), if_version, body: body.as_deref() };
        let answer = self.take(self.send(&request)?)?;
        match serde_json::from_str::<Value>(&answer) {
            Ok(answer) if self.args.json => print(&format!("{answer}\n")),
            Ok(answer) => {
                print(&format!("{said}{}\n", answer["version"].as_u64().map(|version| format!(" (version {version})")).unwrap_or_default()))
            }
            Err(_) if self.args.json => Ok(()),
            Err(_) => print(&format!("{said}\n")),
        }
    }

    /// Has the server read its configuration again, and prints what that changed.
    fn reload(&self) -> Result<(), Failure> {
        let token = self.token()?;
        let request = Request { method: "POST", target: "/v1/reload", token: Some(&token), ..Request::default() };
        let answer = self.take(self.send(&request)?)?;
        match serde_json::from_str::<Value>(&answer) {
            Ok(report) if !self.args.json => print(&reloaded(&report)),
            _ => print(&format!("{answer}\n")),
        }
    }

    /// Prints the stream of changes as it comes.
    fn changes(&self) -> Result<(), Failure> {
        let token = self.readable_token();
        let request = Request { method: "GET", target: "/v1/changes", token: token.as_deref(), ..Request::default() };
        let mut response = self.send(&request)?;
        if response.status != 200 {
            return self.take(response).map(|_| ());
        }
        let lost = |error| Failure::Refused(format!("the stream broke off: {error}"));
        response.wait_forever().map_err(lost)?;
        let mut text = String::new();
        while let Some(chunk) = response.chunk().map_err(lost)? {
            text.push_str(&String::from_utf8_lossy(&chunk));
            while let Some((line, rest)) = text.split_once('\n') {
                if let Some(data) = line.strip_prefix("data: ") {
                    print(&format!("{}\n", if self.args.json { data.to_owned() } else { told(data) }))?;
                }
                text = rest.to_owned();
            }
        }
        Ok(())
    }

    fn json(&self, method: &str, target: &str) -> Result<Value, Failure> {
        let token = self.readable_token();
        let answer = self.take(self.send(&Request { method, target, token: token.as_deref(), ..Request::default() })?)?;
        serde_json::from_str(&answer)
            .map_err(|error| Failure::Refused(format!("{}: the answer is not what a ringhub says: {error}", self.args.admin)))
    }

    fn send(&self, request: &Request<'_>) -> Result<Response, Failure> {
        http::send(&self.place, request).map_err(|error| {
            let why = format!(
                "{} cannot be reached: {error}; is `ringhub serve` running there? --admin names another admin port",
                self.args.admin
            );
            Failure::Refused(why)
        })
    }

    /// The body of a good answer; what a bad one says.
    fn take(&self, response: Response) -> Result<String, Failure> {
        let (status, retry_after) = (response.status, response.field("retry-after").map(str::to_owned));
        let body = response.body().map_err(|error| Failure::Refused(format!("{}: the answer broke off: {error}", self.args.admin)))?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let problem = serde_json::from_str::<Value>(&body).ok();
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str()).map(str::to_owned);
        let mut why = detail.unwrap_or_else(|| format!("{} answered {status}: is it the admin port of a ringhub?", self.args.admin));
        if let Some(seconds) = retry_after {
            let _ = write!(why, " ({seconds} s)");
        }
        Err(Failure::Refused(why))
    }

    /// The token, should one be found; reading from this host needs none.
    fn readable_token(&self) -> Option<String> {
        self.token().ok()
    }

    fn token(&self) -> Result<String, Failure> {
        // What was written for a port of this machine is told to nobody elsewhere.
        let of_port = || if self.place.is_this_machine() { token::find(self.place.port) } else { None };
        let file = self.args.token_file.clone().or_else(of_port);
        let Some(file) = file else {
            let why = format!(
                "no token is known for port {} there: name its file, which `ringhub serve` says at its start, with --token-file",
                self.place.port
            );
            return Err(Failure::Misused(why));
        };
        token::read(&file).map_err(|why| Failure::Misused(format!("the token cannot be read: {why}")))
    }
}

fn state_word(state: StateArg) -> &'static str {
    if state == StateArg::Online { "online" } else { "offline" }
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    crate::engine::admin::encode(&mut out, text);
    out
}

/// The members that a file says.
fn file_members(said: &ServerArgs) -> Result<Map<String, Value>, Failure> {
    let Some(file) = &said.file else { return Ok(Map::new()) };
    let wrong = |why: String| Failure::Misused(format!("--file {}: {why}", file.display()));
    let mut text = String::new();
    let read = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| wrong(error.to_string()))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(wrong("it must be a JSON object".into())),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Flags win over the file.
fn lay_over(members: &mut Map<String, Value>, said: &ServerArgs) -> Result<(), Failure> {
    if said.url.is_some() || said.command.is_some() {
        // It is reached in another way from now on.
        ["url", "command", "args", "target"].iter().for_each(|word| _ = members.remove(*word));
    }
    if let Some(url) = &said.url {
        members.insert("url".to_owned(), json!(url));
    }
    if let Some(command) = &said.command {
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let words =
            words.ok_or_else(|| Failure::Misused(format!("--command {command}: it names no program, or its quotes do not match")))?;
        members.insert("command".to_owned(), json!(words[0]));
        members.insert("args".to_owned(), json!(words[1..]));
    }
    let texts =
        [("target", &said.target), ("title", &said.title), ("description", &said.description), ("softwareVersion", &said.software_version)];
    members.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), json!(text.as_ref()?)))));
    members.extend(said.state.map(|state| ("state".to_owned(), json!(state_word(state)))));
    Ok(())
}

/// What a reload did, for people: a line for each.
fn reloaded(report: &Value) -> String {
    let names = |list: &Value| {
        let names: Vec<_> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        names.join(", ")
    };
    let mut text = String::new();
    for kind in ["upstreams", "endpoints"] {
        for what in ["added", "changed", "removed"] {
            let names = names(&report[kind][what]);
            if !names.is_empty() {
                let _ = writeln!(text, "{kind} {what}: {names}");
            }
        }
    }
    if text.is_empty() {
        text.push_str("upstreams and endpoints are as they were\n");
    }
    for (what, list) in [("in force after a restart", &report["restart"]), ("refused", &report["refused"])] {
        let names = names(list);
        if !names.is_empty() {
            let _ = writeln!(text, "{what}: {names}");
        }
    }
    text
}

/// One change for people.
fn told(data: &str) -> String {
    let change: Value = serde_json::from_str(data).unwrap_or_default();
    match (change["kind"].as_str(), change["name"].as_str()) {
        (Some(kind), Some(name)) => format!("{kind} {name} changed"),
        _ => "anything may have changed: list again".to_owned(),
    }
}

/// Prints; a reader that has gone away wants no more.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::Refused(error.to_string())),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(br#"{"title":"old","tools":[]}"#).expect("written");
        let said = ServerArgs {
            title: Some("new".into()),
            state: Some(StateArg::Online),
            file: Some(file.path().into()),
            ..ServerArgs::default()
        };
        let Ok(mut members) = file_members(&said) else { panic!("it is JSON") };
        assert!(lay_over(&mut members, &said).is_ok());
        assert_eq!(Value::from(members), json!({"title": "new", "tools": [], "state": "online"}));
        let said = ServerArgs { command: Some("npx -y 'a b'".into()), ..ServerArgs::default() };
        let mut members = json!({"url": "http://h/", "target": "http://h/"}).as_object().cloned().unwrap_or_default();
        assert!(lay_over(&mut members, &said).is_ok());
        assert_eq!(Value::from(members), json!({"command": "npx", "args": ["-y", "a b"]}));
        assert_eq!(told(r#"{"kind":"server","name":"a"}"#), "server a changed");
        let report = json!({"upstreams": {"added": ["a", "b"]}, "endpoints": {}, "restart": ["cores"], "refused": []});
        assert_eq!(reloaded(&report), "upstreams added: a, b\nin force after a restart: cores\n");
        assert_eq!(reloaded(&json!({})), "upstreams and endpoints are as they were\n");
        assert_eq!(encoded("io.example/weather"), "io.example%2Fweather");
    }
}
