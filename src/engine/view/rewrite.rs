//! Names put in the place of others in JSON that is otherwise passed on byte for byte.

use crate::wire::json;

/// `outer` with other bytes in the place of `part`, a slice of it.
pub(super) fn splice(outer: &[u8], part: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(outer.len() - part.len() + with.len());
    write_spliced(&mut out, outer, part, with);
    out
}

/// Appends that.
pub(super) fn write_spliced(out: &mut Vec<u8>, outer: &[u8], part: &[u8], with: &[u8]) {
    let start = place(outer, part);
    out.extend_from_slice(&outer[..start]);
    out.extend_from_slice(with);
    out.extend_from_slice(&outer[start + part.len()..]);
}

/// The members of the result of a read, with another name in the place of this URI.
pub(in crate::engine) fn rename_contents(members: &[u8], uri: &str, name: &str) -> Vec<u8> {
    let object = [b"{", members, b"}"].concat();
    let mut out = Vec::with_capacity(object.len() + name.len());
    let mut copied = 1;
    for element in json::elements(json::get(&object, "contents").unwrap_or_default()) {
        let Some(raw) = json::get(element, "uri").filter(|raw| json::string(raw).is_some_and(|named| named == uri)) else { continue };
        let at = place(&object, raw);
        out.extend_from_slice(&object[copied..at]);
        json::write_str(&mut out, name);
        copied = at + raw.len();
    }
    out.extend_from_slice(&object[copied..object.len() - 1]);
    out
}

/// Where in `outer` its slice `part` begins.
pub(super) fn place(outer: &[u8], part: &[u8]) -> usize {
    let at = (part.as_ptr() as usize).wrapping_sub(outer.as_ptr() as usize);
    assert!(at <= outer.len() && part.len() <= outer.len() - at, "a part is a slice of the whole");
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_named_as_the_caller_names_it() {
        let members = br#""contents":[{"uri":"a:1","text":"a:1"},{"text":"\"","uri":"a:2"},{"uri":"\u0061:1"}],"x":[1]"#;
        let told = rename_contents(members, "a:1", "s+a:1");
        let wanted = r#""contents":[{"uri":"s+a:1","text":"a:1"},{"text":"\"","uri":"a:2"},{"uri":"s+a:1"}],"x":[1]"#;
        assert_eq!(String::from_utf8_lossy(&told), wanted);
        assert_eq!(rename_contents(b"", "a", "b"), b"");
    }

    #[test]
    fn a_part_is_put_in_the_place_of_another() {
        let outer = br#"{"name":"x","y":1}"#;
        let part = json::get(outer, "name").expect("a member");
        assert_eq!(splice(outer, part, b"\"long\""), br#"{"name":"long","y":1}"#);
    }
}
