//! The public half of a tunnel's credential, as people paste it at the edge: it opens nothing and may be read by everybody.
//!
//! It is `cwp1_` and base64url of tunnel, key id and Ed25519 public key (16, 16 and 32 bytes), followed by the first four
//! bytes of their SHA-256, so that a key cut short by copying is told apart from a wrong one.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use uuid::Uuid;

use crate::token::{self, CHECKSUM_BYTES, KeyId, Token, TunnelId, checksum};

/// What an edge has to know of a token to take its connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    pub tunnel: TunnelId,
    pub key_id: KeyId,
    pub key: [u8; 32],
}

/// Why a text is not a public key. Never quotes the text, which may be a secret that was pasted by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    #[error(
        "this is a token, and so a secret: the public key is what `causeway-connector token show FILE` prints, beginning with `{PREFIX}`"
    )]
    Token,
    #[error(
        "this is not a tunnel's public key: it begins with `{PREFIX}`; `causeway-connector token new` prints it"
    )]
    Foreign,
    #[error(
        "the public key is damaged: its checksum does not match; copy the whole line that `causeway-connector token new` printed"
    )]
    Damaged,
}

impl Token {
    /// The half of it that is no secret.
    pub fn public(&self) -> PublicKey {
        PublicKey { tunnel: self.tunnel, key_id: self.key_id, key: self.key.public() }
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    /// White space around it is ignored.
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let is_token = text.starts_with(token::PREFIX);
            return Err(if is_token { PublicKeyError::Token } else { PublicKeyError::Foreign });
        };
        let bytes = BASE64.decode(encoded).map_err(|_| PublicKeyError::Damaged)?;
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(PublicKeyError::Damaged)?;
        let (tunnel, rest) = body.split_first_chunk().ok_or(PublicKeyError::Damaged)?;
        let (key_id, key) = rest.split_first_chunk().ok_or(PublicKeyError::Damaged)?;
        let key = key.try_into().map_err(|_| PublicKeyError::Damaged)?;
        if checksum(body) != *sum {
            return Err(PublicKeyError::Damaged);
        }
        let (tunnel, key_id) = (TunnelId(Uuid::from_bytes(*tunnel)), KeyId(Uuid::from_bytes(*key_id)));
        Ok(Self { tunnel, key_id, key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(68);
        bytes.extend_from_slice(self.tunnel.0.as_bytes());
        bytes.extend_from_slice(self.key_id.0.as_bytes());
        bytes.extend_from_slice(&self.key);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        write!(f, "{PREFIX}{}", BASE64.encode(bytes))
    }
}

const PREFIX: &str = "cwp1_";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Pin;
    use crate::token::TunnelKey;
    use proptest::prelude::*;

    fn token() -> Token {
        Token {
            tunnel: TunnelId::random(),
            key_id: KeyId::random(),
            key: TunnelKey::generate(),
            edges: vec!["edge.example.net:443".to_owned()],
            pin: Pin([7; 32]),
        }
    }

    #[test]
    fn a_public_key_survives_its_text_form_and_holds_no_secret() {
        let token = token();
        let text = token.public().to_string();
        assert_eq!(format!(" {text}\n").parse(), Ok(token.public()));
        assert_eq!(token.public().key, token.key.public());
        assert!(!token.expose().contains(&text[5..40]));
    }

    #[test]
    fn what_is_pasted_in_its_place_is_told_apart_and_not_quoted() {
        let token = token();
        let text = token.public().to_string();
        let read = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(read(&text[..text.len() - 2]), PublicKeyError::Damaged);
        assert_eq!(read("cwp1_"), PublicKeyError::Damaged);
        assert_eq!(read("ssh-ed25519 AAAA"), PublicKeyError::Foreign);
        assert_eq!(read(&token.expose()), PublicKeyError::Token);
        assert!(!PublicKeyError::Token.to_string().contains(&token.expose()[5..20]));
    }

    proptest! {
        #[test]
        fn one_wrong_character_is_noticed(at in 5_usize..96, to in 0_usize..64) {
            let text = token().public().to_string();
            prop_assert_eq!(text.len(), 96);
            let letter = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[to];
            let mut changed = text.clone().into_bytes();
            changed[at] = letter;
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(changed.parse::<PublicKey>().is_ok(), changed == text);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = text.parse::<PublicKey>();
            let _ = format!("cwp1_{text}").parse::<PublicKey>();
        }
    }
}
