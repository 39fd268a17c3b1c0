//! Until `native` has its server: the host side of one, for the engine's own tests.

use crate::native::Context;
use crate::native::outcome::{Cache, Started};
use crate::wire::json::Decoder;

pub type Factory = dyn Fn() -> Server + Send + Sync;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderKind {
    String,
    Integer,
    Boolean,
}
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderParam {
    pub name: String,
    pub path: Vec<String>,
    pub kind: HeaderKind,
}

pub struct Entry {
    pub name: String,
    pub definition: Vec<u8>,
    pub header_params: Vec<HeaderParam>,
    pub run: Box<dyn Fn(Option<&[u8]>, &Context, &mut Vec<u8>) -> Started>,
}
#[derive(Default)]
pub struct Server {
    pub tools: Vec<Entry>,
    pub resources: Vec<Entry>,
    pub list_cache: Cache,
}
impl Server {
    pub(crate) fn start_tool(&self, name: &str, arguments: Option<&[u8]>, _d: &mut Decoder, cx: &Context, out: &mut Vec<u8>) -> Started {
        match self.tools.iter().find(|t| t.name == name) {
            Some(t) => (t.run)(arguments, cx, out),
            None => Started::NotFound,
        }
    }
    pub(crate) fn start_read(&self, uri: &str, cx: &Context, out: &mut Vec<u8>) -> Started {
        match self.resources.iter().find(|t| t.name == uri) {
            Some(t) => (t.run)(None, cx, out),
            None => Started::NotFound,
        }
    }
    pub(crate) fn start_prompt(&self, _n: &str, _a: Option<&[u8]>, _d: &mut Decoder, _cx: &Context, _out: &mut Vec<u8>) -> Started {
        Started::NotFound
    }
    pub(crate) fn write_info(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"name":"test","version":"1"}"#)
    }
    pub(crate) fn write_capabilities_modern(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"tools":{"listChanged":true}}"#)
    }
    pub(crate) fn write_capabilities_legacy(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"tools":{"listChanged":true}}"#)
    }
    pub(crate) fn instructions(&self) -> Option<&str> {
        None
    }
    pub(crate) fn list_cache(&self) -> Cache {
        self.list_cache
    }
    pub(crate) fn header_params(&self, tool: &str) -> &[HeaderParam] {
        self.tools.iter().find(|t| t.name == tool).map_or(&[], |t| &t.header_params)
    }
    pub(crate) fn tool_definitions(&self) -> Vec<&[u8]> {
        self.tools.iter().map(|t| &*t.definition).collect()
    }
    pub(crate) fn prompt_definitions(&self) -> Vec<&[u8]> {
        Vec::new()
    }
    pub(crate) fn resource_definitions(&self) -> Vec<&[u8]> {
        self.resources.iter().map(|t| &*t.definition).collect()
    }
    pub(crate) fn template_definitions(&self) -> Vec<&[u8]> {
        Vec::new()
    }
    pub(crate) fn start_complete(&self, _p: &[u8], _cx: &Context, _out: &mut Vec<u8>) -> Started {
        Started::NotFound
    }
}
