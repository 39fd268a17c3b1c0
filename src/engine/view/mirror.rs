//! Arguments that a tool of an upstream wants in headers, too (2026-07-28, transports, "Custom Headers"): a client of the legacy era does not send
//! them, so that they are made here; an upstream that sees no headers cannot tell whether they agree, so that this is known here.

use hashbrown::{Equivalent, HashMap};

use crate::wire::mcp::{HeaderParam, header_params_of};

/// A tool: its upstream, and what that calls it.
type Tool = (u32, Box<str>);

/// The same, borrowed.
#[derive(PartialEq, Eq, Hash)]
struct Named<'a>(u32, &'a str);

impl Equivalent<Tool> for Named<'_> {
    fn equivalent(&self, (number, name): &Tool) -> bool {
        self.0 == *number && *self.1 == **name
    }
}

/// The tools of an endpoint that have such arguments: few, unless an upstream has its say.
#[derive(Debug, Default)]
pub(super) struct Mirrors(HashMap<Tool, Vec<HeaderParam>>);

impl Mirrors {
    /// Takes note of a tool, if it has such arguments.
    pub fn add(&mut self, number: u32, name: &str, definition: &[u8]) {
        let params = header_params_of(definition);
        if !params.is_empty() {
            self.0.insert((number, name.into()), params);
        }
    }

    /// The arguments of this tool that travel in headers, too.
    pub fn params(&self, number: u32, name: &str) -> &[HeaderParam] {
        if self.0.is_empty() {
            return &[];
        }
        self.0.get(&Named(number, name)).map_or(&[], Vec::as_slice)
    }

    /// The fields that go with these arguments of this tool.
    pub fn fields(&self, number: u32, name: &str, arguments: Option<&[u8]>) -> Vec<(String, Vec<u8>)> {
        self.params(number, name).iter().filter_map(|param| param.field(arguments?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mcp::HeaderKind;

    #[test]
    fn arguments_become_fields() {
        let param = |name: &str, path: &[&str]| HeaderParam {
            name: name.to_owned(),
            path: path.iter().map(ToString::to_string).collect(),
            kind: HeaderKind::String,
        };
        let params =
            vec![param("Region", &["where", "region"]), param("Count", &["count"]), param("Gone", &["gone"]), param("Null", &["null"])];
        let mirrors = Mirrors([((3, "t".into()), params)].into_iter().collect());
        let arguments = "{\"where\":{\"region\":\"W\u{e9}st\"},\"count\":12,\"null\":null}".as_bytes();
        let fields = mirrors.fields(3, "t", Some(arguments));
        let wanted = [("Mcp-Param-Region".to_owned(), b"=?base64?V8Opc3Q=?=".to_vec()), ("Mcp-Param-Count".to_owned(), b"12".to_vec())];
        assert_eq!(fields, wanted);
        assert!(mirrors.fields(3, "u", Some(arguments)).is_empty() && mirrors.fields(3, "t", None).is_empty());
    }

    #[test]
    fn a_tool_is_found_by_its_upstream_and_its_name() {
        let mut mirrors = Mirrors::default();
        let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
        mirrors.add(1, "t", format!(r#"{{"name":"t","inputSchema":{schema}}}"#).as_bytes());
        mirrors.add(2, "plain", br#"{"name":"plain","inputSchema":{"type":"object"}}"#);
        mirrors.add(2, "broken", br#"{"name":"broken","inputSchema":"x-mcp-header"}"#);
        assert_eq!(mirrors.params(1, "t").len(), 1);
        assert_eq!(mirrors.fields(1, "t", Some(br#"{"region":"eu"}"#)), [("Mcp-Param-Region".to_owned(), b"eu".to_vec())]);
        for (number, name) in [(2, "t"), (1, "u"), (2, "plain"), (2, "broken")] {
            assert!(mirrors.params(number, name).is_empty(), "{number} {name}");
        }
    }
}
