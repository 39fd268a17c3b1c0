//! A name within the slot that it leads to: telling names apart then touches no memory but the slot's.

/// Stands for a name that is too long.
const LONG: u8 = u8::MAX;

/// A name of at most `N` bytes, or that it is longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Tag<N> {
    pub(super) fn new(name: &str) -> Self {
        const { assert!(N < LONG as usize, "a length is one byte") };
        let mut bytes = [0; N];
        match bytes.get_mut(..name.len()) {
            Some(room) => {
                room.copy_from_slice(name.as_bytes());
                Self { len: name.len() as u8, bytes }
            }
            None => Self { len: LONG, bytes },
        }
    }

    /// Whether it is this name; `long` gives the whole name of one that is too long.
    #[inline]
    pub(super) fn is<'a>(&self, name: &str, long: impl FnOnce() -> &'a str) -> bool {
        if self.len == LONG {
            return name.len() > N && long() == name;
        }
        self.bytes.get(..usize::from(self.len)).is_some_and(|bytes| bytes == name.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_whatever_their_length() {
        let names: Vec<String> =
            (0..10).map(|len| "abcdefghij"[..len].to_owned()).chain(["abcx".to_owned(), "abcdefx".to_owned()]).collect();
        for own in &names {
            for name in &names {
                assert_eq!(Tag::<5>::new(own).is(name, || own), own == name, "{own} {name}");
            }
        }
    }
}
