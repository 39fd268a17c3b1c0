//! The file in which desktop clients keep their servers: `{"mcpServers": {NAME: {"command": …} or {"url": …}}}`.
//!
//! Members that only concern such a client are let pass. `${VAR}`, `${VAR:-default}` and `${env:VAR}` stand for variables of the environment, as
//! those clients have it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::upstream::{Text, Upstream};
use crate::engine::registered_name;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "mcpServers")]
    servers: Map<String, Value>,
}

#[derive(Deserialize)]
struct Entry {
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(rename = "type", alias = "transport")]
    kind: Option<String>,
    #[serde(default)]
    disabled: bool,
}

/// Reads the file; adds to `problems` what is wrong with it.
pub fn read(path: &Path, problems: &mut Vec<String>) -> Vec<Upstream> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.push(format!("--mcp-servers {}: {error}", path.display()));
            return Vec::new();
        }
    };
    parse(&text, |name| std::env::var(name).ok(), &mut |problem| problems.push(format!("--mcp-servers {}: {problem}", path.display())))
}

fn parse(text: &str, variable: impl Fn(&str) -> Option<String>, wrong: &mut dyn FnMut(String)) -> Vec<Upstream> {
    let file: File = match serde_json::from_str(text) {
        Ok(file) => file,
        Err(error) => {
            wrong(format!(r#"{error}; write {{"mcpServers": {{NAME: {{"url": …}} or {{"command": …}}}}}}"#));
            return Vec::new();
        }
    };
    let mut upstreams = Vec::new();
    for (name, value) in file.servers {
        match serde_json::from_value::<Entry>(value) {
            Ok(entry) if entry.disabled => {}
            Ok(entry) => upstreams.extend(upstream(&name, entry, &variable).map_err(|why| wrong(format!("`{name}`: {why}")))),
            Err(error) => wrong(format!("`{name}`: {error}")),
        }
    }
    upstreams
}

fn upstream(name: &str, entry: Entry, variable: &impl Fn(&str) -> Option<String>) -> Result<Upstream, String> {
    match entry.kind.as_deref() {
        None | Some("stdio" | "http" | "streamable-http" | "streamableHttp" | "streamable_http") => {}
        Some("sse") => {
            return Err(
                "type sse is the transport of 2024-11-05, which is not spoken here: give the server's Streamable HTTP url and type http"
                    .into(),
            );
        }
        Some(other) => return Err(format!("type {other} is not known: write stdio or http")),
    }
    let expand = |text: String| expand(&text, variable);
    let texts = |map: BTreeMap<String, String>| -> Result<BTreeMap<String, Text>, String> {
        map.into_iter().map(|(name, value)| Ok((name, Text::Plain(expand(value)?)))).collect()
    };
    Ok(Upstream {
        name: registered_name(name),
        url: entry.url.map(expand).transpose()?,
        command: entry.command.map(expand).transpose()?,
        args: entry.args.into_iter().map(|arg| expand(arg).map(Text::Plain)).collect::<Result<_, _>>()?,
        cwd: entry.cwd.map(expand).transpose()?,
        headers: texts(entry.headers)?,
        env: texts(entry.env)?,
        ..Upstream::default()
    })
}

/// Puts variables in their places. What looks like no variable stays as it is.
fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        rest = found;
        let Some(end) = found.find('}') else { break };
        let inner = found[2..end].strip_prefix("env:").unwrap_or(&found[2..end]);
        let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match (is_name, variable(name), default) {
            (false, ..) => out.push_str(&found[..=end]),
            (true, Some(value), _) => out.push_str(&value),
            (true, None, Some(default)) => out.push_str(default),
            (true, None, None) => return Err(format!("there is no {name} in the environment: set it")),
        }
        rest = &found[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Upstream>, Vec<String>) {
        let mut problems = Vec::new();
        let variable = |name: &str| (name == "TOKEN").then(|| "s3cret".to_owned());
        (parse(text, variable, &mut |problem| problems.push(problem)), problems)
    }

    #[test]
    fn a_desktop_clients_file_is_read() {
        let (upstreams, problems) = read(
            r#"{"mcpServers":{
                "files":{"command":"npx","args":["-y","@x/server","${HOME_NONE:-/srv}"],"env":{"A":"${TOKEN}"},"cwd":"/tmp","autoApprove":[]},
                "My Server":{"type":"http","url":"https://h/mcp","headers":{"Authorization":"Bearer ${env:TOKEN}"}},
                "off":{"command":"x","disabled":true}},"other":1}"#,
        );
        assert_eq!(problems, Vec::<String>::new());
        let [files, remote] = &upstreams[..] else { panic!("{upstreams:?}") };
        assert_eq!((files.command.as_deref(), files.cwd.as_deref()), (Some("npx"), Some("/tmp")));
        assert!(files.args.last() == Some(&Text::Plain("/srv".into())) && files.env["A"] == Text::Plain("s3cret".into()));
        assert_eq!((remote.name.as_str(), remote.url.as_deref()), ("My-Server", Some("https://h/mcp")));
        assert_eq!(remote.headers["Authorization"], Text::Plain("Bearer s3cret".into()));
        assert!(!format!("{upstreams:?}").contains("s3cret"));
    }

    #[test]
    fn what_is_wrong_is_said_of_each() {
        let (upstreams, problems) = read(
            r#"{"mcpServers":{"a":{"type":"sse","url":"http://h/sse"},"b":{"command":7},"c":{"url":"http://h/${NONE}"},"d":{"type":"ws","url":"x"}}}"#,
        );
        assert!(upstreams.is_empty() && problems.len() == 4, "{problems:?}");
        for (problem, part) in problems.iter().zip(["Streamable HTTP", "`b`", "no NONE", "ws is not known"]) {
            assert!(problem.contains(part), "{problem}");
        }
        assert!(read("{").1[0].contains("mcpServers"));
        assert!(read(r#"{"servers":{}}"#).1[0].contains("mcpServers"));
    }

    #[test]
    fn only_variables_are_put_in() {
        let expand = |text: &str| expand(text, |name| (name == "A").then(|| "1".to_owned()));
        for (text, expected) in
            [("${A}${env:A}-${B:-}x", "11-x"), ("$A ${ A} ${", "$A ${ A} ${"), ("${A", "${A"), ("a${input:x}b", "a${input:x}b")]
        {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }
}
