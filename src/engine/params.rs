//! Arguments that clients mirror into `Mcp-Param-*` headers (2026-07-28, transports, "Custom Headers"): header and argument must agree.

use super::ladder::{Fall, mismatch};
use crate::wire::http1::Headers;
use crate::wire::json;
use crate::wire::mcp::{Disagreement, HeaderParam, PARAM_PREFIX as PREFIX, agree};

/// Checks every argument that the tool's schema says is mirrored. Headers that the schema does not know are nobody's business here.
///
/// # Errors
/// The first that disagrees, or whose header came more than once.
pub(super) fn check(params: &[HeaderParam], headers: &Headers<'_>, arguments: Option<&[u8]>) -> Result<(), Fall> {
    params.iter().try_for_each(|param| {
        let header = find(headers, &param.name).map_err(|how| mismatch(&field(param), how))?;
        let argument = argument(arguments, &param.path).map_err(|how| mismatch(&field(param), how))?;
        agree(header, argument).map_err(|how| mismatch(&field(param), how))
    })
}

fn field(param: &HeaderParam) -> String {
    format!("{PREFIX}{}", param.name)
}

/// The value of the one header for this name. Two of them contradict each other even when they agree with the body.
fn find<'a>(headers: &Headers<'a>, name: &str) -> Result<Option<&'a [u8]>, Disagreement> {
    let mut values = headers.iter().filter(|(field, _)| is_field(field, name)).map(|(_, value)| value);
    let first = values.next();
    if values.next().is_some() { Err(Disagreement::Value) } else { Ok(first) }
}

fn is_field(field: &str, name: &str) -> bool {
    field.len() == PREFIX.len() + name.len()
        && field.as_bytes()[..PREFIX.len()].eq_ignore_ascii_case(PREFIX.as_bytes())
        && field.as_bytes()[PREFIX.len()..].eq_ignore_ascii_case(name.as_bytes())
}

/// The raw argument at the end of the path. One that stands there twice agrees with nothing: the handler might see the other one.
fn argument<'a>(arguments: Option<&'a [u8]>, path: &[String]) -> Result<Option<&'a [u8]>, Disagreement> {
    path.iter().try_fold(arguments, |at, name| {
        let mut values = json::members(at.unwrap_or_default()).filter(|(key, _)| json::key_is(key, name)).map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() { Err(Disagreement::Value) } else { Ok(first) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::http1::{Framed, Framer, HeaderSlots, HttpLimits, view};
    use crate::wire::mcp::HeaderKind;

    fn region() -> HeaderParam {
        HeaderParam { name: "Region".into(), path: vec!["where".into(), "region".into()], kind: HeaderKind::String }
    }

    fn checked(fields: &str, arguments: Option<&str>) -> Result<(), Fall> {
        let input = format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let limits = HttpLimits { head_bytes_max: 4096, body_bytes_max: 0 };
        let Framed::Whole(frame) = Framer::default().next(input.as_bytes(), &limits) else { panic!("whole") };
        let (mut slots, mut joined) = (HeaderSlots::new(), Vec::new());
        let request = view(input.as_bytes(), &frame, &mut slots, &mut joined).expect("a request");
        check(&[region()], &request.headers, arguments.map(str::as_bytes))
    }

    #[test]
    fn header_and_argument_must_agree() {
        let west = Some(r#"{"where":{"region":"west"}}"#);
        assert_eq!(checked("mcp-param-region: west\r\n", west), Ok(()));
        assert_eq!(checked("Mcp-Param-Region: =?base64?d2VzdA==?=\r\n", west), Ok(()));
        assert_eq!(checked("", None), Ok(()));
        assert_eq!(checked("", Some(r#"{"where":{"region":null}}"#)), Ok(()));
        assert_eq!(checked("", Some(r#"{"where":["region"]}"#)), Ok(()));
        assert_eq!(checked("Mcp-Param-Other: 1\r\nMcp-Param-Regio: x\r\n", None), Ok(()));
        for (fields, arguments) in [
            ("", west),
            ("Mcp-Param-Region: east\r\n", west),
            ("Mcp-Param-Region: West\r\n", west),
            ("Mcp-Param-Region: west\r\n", None),
            ("Mcp-Param-Region: west\r\nmcp-param-region: west\r\n", west),
            ("Mcp-Param-Region: =?base64?d2VzdA?=\r\n", west),
            ("Mcp-Param-Region: west\r\n", Some(r#"{"where":{"region":"west","region":"east"}}"#)),
            ("Mcp-Param-Region: west\r\n", Some(r#"{"where":{"region":"west"},"wher\u0065":{"region":"east"}}"#)),
        ] {
            let fall = checked(fields, arguments).expect_err(fields);
            assert_eq!(fall.kind.code(), -32020);
            assert!(fall.message.contains("Mcp-Param-Region"), "{}", fall.message);
        }
    }
}
