//! Opaque page tokens: where the next page begins, bound to the request they
//! were made for.
//!
//! A token is base64url without padding of: version (one byte, 1), a
//! fingerprint of the request's other fields (8 bytes), and the position (the
//! rest, its meaning the caller's). The fingerprint catches mistakes, not
//! attacks: whoever may send the request may read every page of it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

const VERSION: u8 = 1;
const FINGERPRINT_LEN: usize = 8;
/// Far above any position in use.
const MAX_TOKEN_LEN: usize = 1024;

/// Why a page token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageTokenError {
    /// Not a token of ours, or one that was changed.
    #[error("page_token is not one that was given out; start again without it")]
    Malformed,
    /// A token made for other fields.
    #[error("page_token belongs to a request with other fields; start again without it")]
    OtherRequest,
}

/// Makes a token for a request with these other fields.
pub fn encode(request: &[&str], position: &[u8]) -> String {
    let mut token = vec![VERSION];
    token.extend_from_slice(&fingerprint(request));
    token.extend_from_slice(position);
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

/// The position in a token, which must have been made for the same fields.
pub fn decode(request: &[&str], token: &str) -> Result<Vec<u8>, PageTokenError> {
    if token.len() > MAX_TOKEN_LEN {
        return Err(PageTokenError::Malformed);
    }
    let token = BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| PageTokenError::Malformed)?;
    let Some((&VERSION, rest)) = token.split_first() else {
        return Err(PageTokenError::Malformed);
    };
    let (made_for, position) = rest
        .split_at_checked(FINGERPRINT_LEN)
        .ok_or(PageTokenError::Malformed)?;
    if made_for != fingerprint(request) {
        return Err(PageTokenError::OtherRequest);
    }
    Ok(position.to_vec())
}

/// FNV-1a over the fields, each closed by a byte that UTF-8 does not have: the
/// same on every machine and in every release.
fn fingerprint(fields: &[&str]) -> [u8; FINGERPRINT_LEN] {
    let bytes = fields
        .iter()
        .flat_map(|field| field.bytes().chain(std::iter::once(0xff)));
    bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
        .to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_gives_its_position_back() {
        let token = encode(&["ListSessions", "user = \"a\""], b"position");
        assert_eq!(
            decode(&["ListSessions", "user = \"a\""], &token).unwrap(),
            b"position"
        );
    }

    #[test]
    fn a_token_is_bound_to_its_request() {
        let token = encode(&["a", "bc"], b"");
        for other in [&["ab", "c"][..], &["a", "bc", ""], &["a"]] {
            assert_eq!(decode(other, &token), Err(PageTokenError::OtherRequest));
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let long = "A".repeat(MAX_TOKEN_LEN + 1);
        let other_version = BASE64_URL_SAFE_NO_PAD.encode([2; 20]);
        for token in ["", "*", "AQ", "AQID", &long, &other_version] {
            assert_eq!(decode(&[], token), Err(PageTokenError::Malformed));
        }
    }
}
