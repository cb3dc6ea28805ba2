//! Names and secrets of a tunnel, and the token that carries them to a connector.
//!
//! A token is `cwt1_` and base64url of JSON (tunnel, key id, Ed25519 seed, the edges' addresses, the edges' pin),
//! followed by the first four bytes of its SHA-256, so that a token cut short by copying is told apart from a wrong one.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use crate::identity::Pin;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random one.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(text).map(Self)
            }
        }
    };
}

id!(/// Names a tunnel for its whole life, also when it is renamed.
    TunnelId);
id!(/// Names one key of a tunnel: while a token is being rotated a tunnel has two.
    KeyId);
id!(/// Names one run of a connector process.
    ConnectorId);

/// A tunnel's Ed25519 key pair: the connector's half of the credential.
#[derive(Clone)]
pub struct TunnelKey(Zeroizing<[u8; 32]>);

impl TunnelKey {
    /// A new one from the system's randomness.
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *seed).expect("the system has randomness");
        Self(seed)
    }

    /// What the edge stores.
    pub fn public(&self) -> [u8; 32] {
        self.pair().public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    pub(crate) fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&*self.0).expect("any 32 bytes are an Ed25519 seed")
    }
}

impl fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelKey(***)")
    }
}

/// Everything that a connector needs to run a tunnel. `Debug` and `Display` mask the secret.
#[derive(Clone)]
pub struct Token {
    pub tunnel: TunnelId,
    pub key_id: KeyId,
    pub key: TunnelKey,
    /// `host:port` of each edge.
    pub edges: Vec<String>,
    pub pin: Pin,
}

#[derive(Serialize, Deserialize)]
struct Body {
    t: TunnelId,
    k: KeyId,
    s: String,
    e: Vec<String>,
    p: String,
}

/// Why a text is not a token. Never quotes the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "this is not a Causeway token: it must begin with `{PREFIX}` (a cloudflared token cannot be used: make one with `causeway-edge tunnel create`)"
    )]
    Foreign,
    #[error(
        "the token is damaged: its checksum does not match; copy the whole line that `causeway-edge tunnel create` printed"
    )]
    Damaged,
    #[error("the token is whole but {0}; make a new one with `causeway-edge tunnel rotate`")]
    Invalid(&'static str),
}

impl Token {
    /// Reads the text form; white space around it is ignored.
    ///
    /// # Errors
    /// When it is another program's token, was cut or mistyped, or names no edge.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Foreign)?;
        let bytes = Zeroizing::new(BASE64.decode(encoded).map_err(|_| TokenError::Damaged)?);
        let (json, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenError::Damaged)?;
        if checksum(json) != *sum {
            return Err(TokenError::Damaged);
        }
        let mut body: Body = serde_json::from_slice(json)
            .map_err(|_| TokenError::Invalid("its content is of another version"))?;
        let seed = Zeroizing::new(BASE64.decode(&body.s).unwrap_or_default());
        body.s.zeroize();
        let seed =
            seed.as_slice().try_into().map_err(|_| TokenError::Invalid("its key is not 32 bytes long"))?;
        let pin = Pin::from_str(&body.p).map_err(|_| TokenError::Invalid("its pin is not 32 bytes long"))?;
        if body.e.is_empty() {
            return Err(TokenError::Invalid("it names no edge"));
        }
        Ok(Self { tunnel: body.t, key_id: body.k, key: TunnelKey(Zeroizing::new(seed)), edges: body.e, pin })
    }

    /// The text form with the secret in it: shown once, by the command that made it.
    pub fn expose(&self) -> Zeroizing<String> {
        let body = Body {
            t: self.tunnel,
            k: self.key_id,
            s: BASE64.encode(*self.key.0),
            e: self.edges.clone(),
            p: self.pin.to_string(),
        };
        let mut bytes = Zeroizing::new(serde_json::to_vec(&body).expect("plain data serialises"));
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        Zeroizing::new(format!("{PREFIX}{}", BASE64.encode(&*bytes)))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token of tunnel {} (key {}, secret masked)", self.tunnel, self.key_id)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    *digest(&SHA256, bytes).as_ref().first_chunk().expect("a SHA-256 has 32 bytes")
}

pub(crate) const PREFIX: &str = "cwt1_";
pub(crate) const CHECKSUM_BYTES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_token_survives_its_text_form() {
        let token = token();
        let text = token.expose();
        let read = Token::parse(&format!("  {}\n", *text)).unwrap();
        assert_eq!(read.key.public(), token.key.public());
        assert_eq!(
            (read.tunnel, read.key_id, read.edges, read.pin),
            (token.tunnel, token.key_id, token.edges, token.pin)
        );
    }

    #[test]
    fn a_token_cut_short_is_told_apart_from_a_foreign_one() {
        let text = token().expose();
        assert_eq!(Token::parse(&text[..text.len() - 3]).unwrap_err(), TokenError::Damaged);
        assert_eq!(Token::parse("eyJhIjoiYWNjb3VudCJ9").unwrap_err(), TokenError::Foreign);
        assert_eq!(Token::parse("").unwrap_err(), TokenError::Foreign);
    }

    #[test]
    fn the_secret_is_never_shown_by_accident() {
        let token = token();
        let secret = BASE64.encode(*token.key.0);
        for shown in [format!("{token}"), format!("{token:?}"), format!("{:?}", token.key)] {
            assert!(!shown.contains(&secret) && !shown.contains(&token.expose()[10..40]));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Token::parse(&text);
            let _ = Token::parse(&format!("cwt1_{text}"));
        }
    }
}
