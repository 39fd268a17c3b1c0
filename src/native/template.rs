//! URI templates (RFC 6570, level 1, and `{+name}` of level 2): read once, matched against URIs.

/// Longest URI that is matched, bytes: the work is the product of its length and the number of parts.
const URI_BYTES_MAX: usize = 8 * 1024;

/// A template, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct UriTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Literal(String),
    /// A variable; `reserved`: `{+name}`, whose value may hold any character of a URI.
    Variable {
        name: String,
        reserved: bool,
    },
}

/// The values that a URI gives to a template's variables.
///
/// ```
/// use ringhub::native::{testing::Client, Context, Server, Template, Variables};
///
/// let server = Server::builder("notes", "1.0")
///     .template(Template::new("notes://{year}/{name}", "note"), |at: &Variables, _: &Context| {
///         let year: Option<u16> = at.parse("year");
///         year.map(|year| format!("{} of {year}", at.get("name")))
///     })
///     .build()?;
/// let mut client = Client::new(server);
/// assert_eq!(client.read("notes://2026/a%20b")?.text(), "a b of 2026");
/// assert!(client.read("notes://soon/a").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Variables {
    uri: String,
    values: Vec<(String, String)>,
}

impl Variables {
    /// Of a plain resource: there are none.
    pub(super) fn none(uri: &str) -> Self {
        Self { uri: uri.to_owned(), values: Vec::new() }
    }

    /// The value of a variable; empty when the template has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.values.iter().find(|(named, _)| named == name).map_or("", |(_, value)| value)
    }

    /// The value of a variable, read as a `T`; `None` when it is not one.
    #[must_use]
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name).parse().ok()
    }

    /// The whole URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl UriTemplate {
    /// Reads a template.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find('{') {
            let (literal, after) = rest.split_at(open);
            let close = after.find('}').ok_or("a `{` has no `}`")?;
            if !literal.is_empty() {
                parts.push(Part::Literal(literal.to_owned()));
            } else if matches!(parts.last(), Some(Part::Variable { .. })) {
                return Err("two variables stand next to each other: where one ends cannot be told".to_owned());
            }
            parts.push(variable(&after[1..close], &parts)?);
            rest = &after[close + 1..];
        }
        if rest.contains('}') {
            return Err("a `}` has no `{`".to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if !parts.iter().any(|part| matches!(part, Part::Variable { .. })) {
            return Err("it has no variable: declare a resource instead".to_owned());
        }
        Ok(Self { parts })
    }

    /// The names of its variables, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The values that make the template the URI, if there are any. No value is empty.
    pub fn matches(&self, uri: &str) -> Option<Variables> {
        if uri.len() > URI_BYTES_MAX {
            return None;
        }
        let mut values = Vec::new();
        let mut rest = uri;
        for (index, part) in self.parts.iter().enumerate() {
            match part {
                Part::Literal(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Variable { name, reserved } => {
                    let length = match self.parts.get(index + 1) {
                        Some(Part::Literal(next)) if index + 2 == self.parts.len() => rest.strip_suffix(next.as_str())?.len(),
                        Some(Part::Literal(next)) => rest.char_indices().skip(1).find(|&(at, _)| rest[at..].starts_with(next.as_str()))?.0,
                        _ => rest.len(),
                    };
                    let (value, after) = rest.split_at(length);
                    let fits = |byte: u8| *reserved || !matches!(byte, b'/' | b'?' | b'#');
                    if value.is_empty() || !value.bytes().all(fits) {
                        return None;
                    }
                    values.push((name.clone(), decode(value)?));
                    rest = after;
                }
            }
        }
        rest.is_empty().then(|| Variables { uri: uri.to_owned(), values })
    }
}

fn variable(expression: &str, before: &[Part]) -> Result<Part, String> {
    let (name, reserved) = expression.strip_prefix('+').map_or((expression, false), |name| (name, true));
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')) {
        return Err(format!("`{{{expression}}}` is not an expression of level 1 (`{{name}}`) or `{{+name}}`"));
    }
    let is_taken = before.iter().any(|part| matches!(part, Part::Variable { name: taken, .. } if taken == name));
    if is_taken {
        return Err(format!("the variable `{name}` stands in it twice"));
    }
    Ok(Part::Variable { name: name.to_owned(), reserved })
}

/// Undoes percent-encoding (RFC 3986 section 2.1). None when it is broken, or not UTF-8.
fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(template: &str, uri: &str) -> Option<Vec<String>> {
        let template = UriTemplate::parse(template).expect("a template");
        Some(template.matches(uri)?.values.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn variables_take_what_stands_between_literals() {
        assert_eq!(values("test://template/{id}/data", "test://template/123/data"), Some(vec!["123".to_owned()]));
        assert_eq!(values("a://{x}-{y}", "a://1-2-3"), Some(vec!["1".to_owned(), "2-3".to_owned()]));
        assert_eq!(values("a://{x}.txt", "a://b.txt.txt"), Some(vec!["b.txt".to_owned()]));
        assert_eq!(values("file:///{+path}", "file:///etc/a%2Fb"), Some(vec!["etc/a/b".to_owned()]));
        assert_eq!(values("a://{x}", "a://%C3%A9"), Some(vec!["é".to_owned()]));
    }

    #[test]
    fn what_does_not_fit_does_not_match() {
        for uri in ["a://", "a://b/c", "a://b?c", "a://b#c", "b://x", "a://%", "a://%zz", "a://%ff", "a://é%"] {
            assert_eq!(values("a://{x}", uri), None, "{uri}");
        }
        assert_eq!(values("a://{x}/z", "a:///z"), None);
        assert_eq!(values("a://{x}", &format!("a://{}", "b".repeat(URI_BYTES_MAX))), None);
    }

    #[test]
    fn only_readable_templates_are_taken() {
        for template in ["a://{", "a://}", "a://{}", "a://{x}{y}", "a://{x}/{x}", "a://{?q}", "a://{x*}", "a://plain", "a://{x}}"] {
            assert!(UriTemplate::parse(template).is_err(), "{template}");
        }
        let template = UriTemplate::parse("a://{x}/{+y}!").expect("a template");
        assert_eq!(template.names().collect::<Vec<_>>(), ["x", "y"]);
    }
}
