//! How handlers fail.

use std::any::Any;
use std::fmt;

use serde_json::Value;

use super::ask::AskError;
use super::content::Content;
use super::outcome::{Outcome, RpcError};
use crate::base::fault::code;
use crate::wire::mcp::Era;

/// Why a handler (of a tool, a resource or a prompt) gives no result.
///
/// `?` turns any error into one. What [`ToolError::new`] and `?` make is told to the model: a tool's result has `isError` and the
/// error's text, so that the model can mend its call. [`ToolError::rpc`] and its kin are errors of the protocol instead.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Server, Tool, ToolError};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Parse { number: String }
///
/// let server = Server::builder("demo", "1.0")
///     .tool(Tool::new("parse"), |args: Parse, _cx: &Context| -> Result<String, ToolError> {
///         if args.number.is_empty() {
///             return Err(ToolError::new("give me a number"));
///         }
///         let number: i64 = args.number.parse()?;
///         Ok(format!("{number}"))
///     })
///     .build()?;
/// let reply = Client::new(server).call("parse", serde_json::json!({"number": "x"}))?;
/// assert!(reply.is_error());
/// assert_eq!(reply.text(), "invalid digit found in string");
/// assert_eq!(ToolError::rpc(-32001, "busy").to_string(), "busy");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ToolError(Box<Why>);

enum Why {
    /// Told to the model.
    Reported(Vec<Content>),
    /// Told to the client.
    Rpc(RpcError),
    /// The client lacks a capability: its `ClientCapabilities` as JSON text, and the same in words.
    Missing { required: Vec<u8>, text: String },
}

impl ToolError {
    /// Tells the model what went wrong.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self::with_content(vec![Content::text(text)])
    }

    /// Tells the model what went wrong, with any content.
    #[must_use]
    pub fn with_content(content: Vec<Content>) -> Self {
        Self(Box::new(Why::Reported(content)))
    }

    /// Fails the request with a JSON-RPC error.
    #[must_use]
    pub fn rpc(code: i32, message: impl Into<String>) -> Self {
        Self(Box::new(Why::Rpc(RpcError::new(code, message))))
    }

    /// Fails the request with -32602: its parameters are wrong.
    #[must_use]
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self::rpc(code::INVALID_PARAMS, message)
    }

    /// Fails the request with -32603: the server failed.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::rpc(code::INTERNAL, message)
    }

    /// Gives a JSON-RPC error its `data`. What is told to the model has none.
    #[must_use]
    pub fn data(mut self, data: &Value) -> Self {
        if let Why::Rpc(error) = &mut *self.0 {
            error.data = Some(data.to_string().into_bytes());
        }
        self
    }

    /// The outcome of a request that failed so. `reported` makes one of what is told to the model.
    pub(super) fn into_outcome(self, era: Era, reported: impl FnOnce(Vec<Content>) -> Outcome) -> Outcome {
        match *self.0 {
            Why::Reported(content) => reported(content),
            Why::Rpc(error) => Outcome::Error(error),
            Why::Missing { required, .. } if era == Era::Modern => Outcome::MissingCapability(required),
            Why::Missing { text, .. } => reported(vec![Content::text(text)]),
        }
    }

    /// The outcome of a request whose result has no place for what is told to a model.
    pub(super) fn into_rpc_outcome(self, era: Era) -> Outcome {
        let text = self.to_string();
        self.into_outcome(era, |_| Outcome::Error(RpcError::internal(text)))
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Why::Reported(content) => {
                let texts: Vec<&str> = content.iter().filter_map(Content::as_text).collect();
                f.write_str(&texts.join("\n"))
            }
            Why::Rpc(error) => f.write_str(&error.message),
            Why::Missing { text, .. } => f.write_str(text),
        }
    }
}

impl fmt::Debug for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToolError({:?})", self.to_string())
    }
}

/// `?` on any error. The model is told the error and what it was caused by.
impl<E: std::error::Error + 'static> From<E> for ToolError {
    fn from(error: E) -> Self {
        if let Some(AskError::Undeclared(capability)) = (&error as &dyn Any).downcast_ref::<AskError>() {
            let required = capability.required().as_bytes().to_vec();
            return Self(Box::new(Why::Missing { required, text: error.to_string() }));
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::Capability;
    use super::*;

    fn told(error: ToolError, era: Era) -> Outcome {
        error.into_outcome(era, |content| Outcome::Error(RpcError::new(0, content[0].as_text().unwrap_or("no text"))))
    }

    #[test]
    fn an_undeclared_capability_is_said_as_each_era_says_it() {
        let fail = || -> Result<(), ToolError> { Ok(Err(AskError::Undeclared(Capability::Sampling))?) };
        let error = fail().expect_err("it fails");
        assert_eq!(told(error, Era::Modern), Outcome::MissingCapability(br#"{"sampling":{}}"#.to_vec()));
        let Outcome::Error(error) = told(fail().expect_err("it fails"), Era::Legacy) else { panic!("legacy: told to the model") };
        assert!(error.message.contains("sampling"), "{}", error.message);
    }

    #[test]
    fn causes_are_told() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cannot read the age")
            }
        }
        impl std::error::Error for Outer {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = ToolError::from(Outer("x".parse::<u8>().expect_err("not a number")));
        assert_eq!(error.to_string(), "cannot read the age: invalid digit found in string");
    }

    #[test]
    fn a_protocol_error_keeps_its_data() {
        let error = ToolError::invalid_params("no").data(&serde_json::json!({"field": "a"}));
        let Outcome::Error(error) = told(error, Era::Modern) else { panic!("an error of the protocol") };
        assert_eq!((error.code, error.data.as_deref()), (code::INVALID_PARAMS, Some(&br#"{"field":"a"}"#[..])));
    }
}
