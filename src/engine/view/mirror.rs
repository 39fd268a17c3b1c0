//! Arguments that a tool of an upstream wants in headers, too (2026-07-28, transports, "Custom Headers"): a client of the legacy era does not send
//! them, so that they are made here; an upstream that sees no headers cannot tell whether they agree, so that this is known here.

use std::sync::Arc;

use super::{Member, Seat};
use crate::native::{HeaderParam, header_params};
use crate::registry::Server;
use crate::wire::json;
use crate::wire::mcp;

/// The word that makes an argument travel in a header, too.
const WORD: &[u8] = b"x-mcp-header";

/// One tool with such arguments.
#[derive(Debug)]
struct Tool {
    /// Its upstream.
    number: u32,
    /// What that calls it.
    name: Box<str>,
    params: Vec<HeaderParam>,
}

/// The tools of an endpoint that have such arguments: few.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Vec<Tool>);

impl Mirrors {
    pub fn of(members: &[Member], servers: &[Option<Arc<Server>>]) -> Self {
        let mut tools = Vec::new();
        for (member, server) in members.iter().zip(servers) {
            let (Seat::Upstream(fronted), Some(server)) = (member.seat, server) else { continue };
            for tool in server.spec.catalog.tools.iter().filter(|tool| memchr::memmem::find(&tool.json, WORD).is_some()) {
                let schema = json::get(&tool.json, "inputSchema").and_then(|raw| serde_json::from_slice(raw).ok());
                let params = schema.and_then(|schema| header_params(&schema).ok()).unwrap_or_default();
                tools.push(Tool { number: fronted.number, name: tool.name.clone(), params });
            }
        }
        Self(tools)
    }

    /// The arguments of this tool that travel in headers, too.
    pub fn params(&self, number: u32, name: &str) -> &[HeaderParam] {
        let tool = self.0.iter().find(|tool| tool.number == number && *tool.name == *name);
        tool.map_or(&[], |tool| &tool.params)
    }

    /// The fields that go with these arguments of this tool.
    pub fn fields(&self, number: u32, name: &str, arguments: Option<&[u8]>) -> Vec<(String, Vec<u8>)> {
        self.params(number, name)
            .iter()
            .filter_map(|param| Some((format!("Mcp-Param-{}", param.name), value(arguments?, &param.path)?)))
            .collect()
    }
}

/// The argument at the end of the path, as a field's value. One that is absent or `null` has none.
fn value(arguments: &[u8], path: &[String]) -> Option<Vec<u8>> {
    let raw = path.iter().try_fold(arguments, |at, name| json::get(at, name))?;
    let text = match raw.first()? {
        b'"' => json::string(raw)?,
        b'{' | b'[' | b'n' => return None,
        _ => std::str::from_utf8(raw).ok()?.into(),
    };
    let mut out = Vec::new();
    mcp::encode(&mut out, &text);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::HeaderKind;

    #[test]
    fn arguments_become_fields() {
        let param = |name: &str, path: &[&str]| HeaderParam {
            name: name.to_owned(),
            path: path.iter().map(ToString::to_string).collect(),
            kind: HeaderKind::String,
        };
        let params =
            vec![param("Region", &["where", "region"]), param("Count", &["count"]), param("Gone", &["gone"]), param("Null", &["null"])];
        let mirrors = Mirrors(vec![Tool { number: 3, name: "t".into(), params }]);
        let arguments = "{\"where\":{\"region\":\"W\u{e9}st\"},\"count\":12,\"null\":null}".as_bytes();
        let fields = mirrors.fields(3, "t", Some(arguments));
        let wanted = [("Mcp-Param-Region".to_owned(), b"=?base64?V8Opc3Q=?=".to_vec()), ("Mcp-Param-Count".to_owned(), b"12".to_vec())];
        assert_eq!(fields, wanted);
        assert!(mirrors.fields(3, "u", Some(arguments)).is_empty() && mirrors.fields(3, "t", None).is_empty());
    }
}
