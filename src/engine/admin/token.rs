//! Who may write: whoever knows the token of this process.

/// The token's digest. Digests of equal length are compared whatever their bytes are, so that the time taken says nothing.
#[derive(Clone)]
pub struct Token(blake3::Hash);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Keeps a token. White space around it does not count.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(blake3::hash(text.trim().as_bytes()))
    }

    /// Whether the Authorization field `Bearer TOKEN` (RFC 6750 section 2.1) presents this token. The comparison of two digests of
    /// blake3 takes constant time.
    pub(super) fn is_presented(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, token)) = authorization.and_then(|field| field.split_at_checked(7)) else { return false };
        scheme.eq_ignore_ascii_case(b"bearer ") && blake3::hash(token.trim_ascii()) == self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_taken() {
        let token = Token::new("s3cret\n");
        for good in ["Bearer s3cret", "bearer  s3cret "] {
            assert!(token.is_presented(Some(good.as_bytes())), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "Basic s3cret", "s3cret"] {
            assert!(!token.is_presented(Some(bad.as_bytes())), "{bad}");
        }
        assert!(!token.is_presented(None));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
