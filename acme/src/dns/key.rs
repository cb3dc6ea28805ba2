//! The key that signs updates, and the file that BIND, Knot and `tsig-keygen` hand it over in.

mod file;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use causeway_daemon::config::Secret;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigVerifier, TSigner};
use serde::{Deserialize, Serialize};

pub use self::file::{FileError, parse};

/// How a key signs. Older ones (MD5, SHA-1) are not taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Algorithm {
    #[default]
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

/// A name, an algorithm and a secret that both sides know.
#[derive(Clone)]
pub struct Key {
    signer: TSigner,
    algorithm: Algorithm,
}

/// Why three parts make no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("`{0}` is not the name of a key")]
    Name(String),
    #[error("the algorithm `{0}` is not taken; make a key with `tsig-keygen -a hmac-sha256 NAME`")]
    Algorithm(String),
    #[error("the secret is not Base64")]
    NotBase64,
    #[error(
        "the secret has {0} bytes, which can be guessed; make a key with `tsig-keygen -a hmac-sha256 NAME`"
    )]
    Short(usize),
}

impl Algorithm {
    /// By the name that BIND gives it.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lower = text.to_ascii_lowercase();
        let known = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];
        let found = known.into_iter().find(|it| it.as_str() == lower.trim_end_matches('.'));
        found.ok_or_else(|| KeyError::Algorithm(text.chars().filter(|c| !c.is_control()).take(40).collect()))
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

impl TryFrom<String> for Algorithm {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::parse(&text)
    }
}

impl From<Algorithm> for String {
    fn from(algorithm: Algorithm) -> Self {
        algorithm.as_str().to_owned()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Key {
    /// `secret` is Base64, as everywhere.
    ///
    /// # Errors
    /// When one of the parts is none.
    pub fn new(name: &str, algorithm: Algorithm, secret: &Secret) -> Result<Self, KeyError> {
        let refuse = || KeyError::Name(name.chars().filter(|c| !c.is_control()).take(255).collect());
        let name =
            Name::from_ascii(name).ok().filter(|name| name.iter().next().is_some()).ok_or_else(refuse)?;
        let bytes = STANDARD.decode(secret.expose()).map_err(|_| KeyError::NotBase64)?;
        if bytes.len() < MIN_SECRET {
            return Err(KeyError::Short(bytes.len()));
        }
        let kind = match algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        let signer = TSigner::new(bytes, kind, name.to_lowercase(), FUDGE_SECONDS)
            .expect("the crate knows these algorithms");
        Ok(Self { signer, algorithm })
    }

    pub fn name(&self) -> &Name {
        self.signer.signer_name()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Signs a message, now in seconds since 1970; what is returned knows the answer's signature.
    pub fn sign(&self, message: &mut Message, now: u64) -> TSigVerifier {
        let signed = message.finalize(&self.signer, now).expect("a message of ours can be written");
        signed.expect("a signature by key has an answer by key")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {})", self.name(), self.algorithm)
    }
}

/// What RFC 8945 §10 recommends, and all servers take.
const FUDGE_SECONDS: u16 = 300;
/// 128 bits.
const MIN_SECRET: usize = 16;
