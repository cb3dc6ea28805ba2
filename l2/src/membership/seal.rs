//! Seals what travels between speakers: AES-256-GCM under a key derived from the shared secret for each process.
//!
//! ```text
//! version 1 | salt of the sender's process (16) | counter (8) | ciphertext and tag
//! key = HKDF-SHA-256(SHA-256(secret), salt), nonce = counter
//! ```
//! Each process has its own salt and counts up, so no nonce repeats under a key. A datagram is taken once: the
//! receiver remembers the newest counters of each salt.

use std::collections::HashMap;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, hkdf,
    rand::fill,
};

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + SALT_BYTES + 8;
const TAG_BYTES: usize = 16;
/// What sealing adds.
pub(crate) const OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;
/// Processes whose keys are kept. More than speakers in any cluster; beyond it the oldest unused ones are dropped.
const MOST_SENDERS: usize = 1024;
/// How far a datagram may come late.
const WINDOW: u64 = 64;

/// A datagram that is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error("not sealed by a speaker of this version")]
    Foreign,
    #[error("sealed with another key: the speakers do not have the same secret")]
    Key,
    #[error("seen before")]
    Replay,
}

/// Seals and opens for one process.
pub(crate) struct Seal {
    secret: hkdf::Prk,
    salt: [u8; SALT_BYTES],
    key: LessSafeKey,
    counter: u64,
    senders: HashMap<[u8; SALT_BYTES], Sender>,
    uses: u64,
}

struct Sender {
    key: LessSafeKey,
    newest: u64,
    /// Bit n: `newest - n` was seen.
    seen: u64,
    used: u64,
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("senders", &self.senders.len()).finish_non_exhaustive()
    }
}

impl Seal {
    /// # Panics
    /// When the operating system has no random numbers.
    pub(crate) fn new(secret: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, secret);
        let secret = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, digest.as_ref());
        let mut salt = [0; SALT_BYTES];
        fill(&mut salt).expect("the operating system has random numbers");
        let key = derive(&secret, &salt);
        Self { secret, salt, key, counter: 0, senders: HashMap::new(), uses: 0 }
    }

    pub(crate) fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        self.counter += 1;
        let mut out = Vec::with_capacity(data.len() + OVERHEAD_BYTES);
        out.push(VERSION);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.counter.to_be_bytes());
        out.extend_from_slice(data);
        let (head, body) = out.split_at_mut(HEAD_BYTES);
        let tag = self.key.seal_in_place_separate_tag(nonce(self.counter), Aad::from(&*head), body);
        out.extend_from_slice(tag.expect("a datagram is shorter than the cipher's limit").as_ref());
        out
    }

    /// Opens in place; the result is a part of `datagram`.
    ///
    /// # Errors
    /// Whatever was not sealed with the same secret, or comes twice.
    pub(crate) fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a [u8], Broken> {
        if datagram.len() < OVERHEAD_BYTES || datagram[0] != VERSION {
            return Err(Broken::Foreign);
        }
        let (head, body) = datagram.split_at_mut(HEAD_BYTES);
        let salt: [u8; SALT_BYTES] = head[1..=SALT_BYTES].try_into().expect("16 bytes");
        let counter = u64::from_be_bytes(head[1 + SALT_BYTES..].try_into().expect("8 bytes"));
        self.uses += 1;
        let (secret, uses) = (&self.secret, self.uses);
        let fresh = || Sender { key: derive(secret, &salt), newest: 0, seen: 0, used: uses };
        // A stranger without the secret must not push out the known ones: it is stored only when it opens.
        let known = self.senders.get_mut(&salt);
        let is_new = known.is_none();
        let mut stranger = None;
        let sender = known.unwrap_or_else(|| stranger.insert(fresh()));
        let plain =
            sender.key.open_in_place(nonce(counter), Aad::from(&*head), body).map_err(|_| Broken::Key)?;
        sender.accept(counter)?;
        sender.used = uses;
        if let Some(sender) = stranger.filter(|_| is_new) {
            self.remember(salt, sender);
        }
        Ok(plain)
    }

    fn remember(&mut self, salt: [u8; SALT_BYTES], sender: Sender) {
        if self.senders.len() >= MOST_SENDERS
            && let Some(oldest) =
                self.senders.iter().min_by_key(|(_, sender)| sender.used).map(|(salt, _)| *salt)
        {
            self.senders.remove(&oldest);
        }
        self.senders.insert(salt, sender);
    }
}

impl Sender {
    fn accept(&mut self, counter: u64) -> Result<(), Broken> {
        if counter > self.newest {
            let ahead = counter - self.newest;
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 } | 1;
            self.newest = counter;
            return Ok(());
        }
        let late = self.newest - counter;
        if late >= WINDOW || self.seen >> late & 1 == 1 {
            return Err(Broken::Replay);
        }
        self.seen |= 1 << late;
        Ok(())
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn derive(secret: &hkdf::Prk, salt: &[u8; SALT_BYTES]) -> LessSafeKey {
    let info: [&[u8]; 2] = [b"causeway speaker datagram 1", salt];
    let okm = secret.expand(&info, &AES_256_GCM).expect("32 bytes are within HKDF's limit");
    LessSafeKey::new(UnboundKey::from(okm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_seals_another_with_the_secret_opens_once() {
        let (mut a, mut b) = (Seal::new(b"secret"), Seal::new(b"secret"));
        let mut sealed = a.seal(b"hello");
        assert_eq!(b.open(&mut sealed.clone()), Ok(&b"hello"[..]));
        assert_eq!(b.open(&mut sealed.clone()), Err(Broken::Replay));
        assert_eq!(Seal::new(b"other").open(&mut sealed), Err(Broken::Key));
    }

    #[test]
    fn late_datagrams_are_taken_and_changed_ones_are_not() {
        let (mut a, mut b) = (Seal::new(b"secret"), Seal::new(b"secret"));
        let (mut first, mut second) = (a.seal(b"1"), a.seal(b"2"));
        assert!(b.open(&mut second).is_ok());
        assert!(b.open(&mut first.clone()).is_ok());
        assert_eq!(b.open(&mut first), Err(Broken::Replay));
        let third = a.seal(b"3");
        for at in 0..third.len() {
            let mut changed = third.clone();
            changed[at] ^= 1;
            assert!(b.open(&mut changed).is_err(), "byte {at}");
        }
        assert!(b.open(&mut third.clone()).is_ok(), "the failures used nothing up");
        for length in 0..third.len() {
            assert!(b.open(&mut third.clone()[..length]).is_err());
        }
    }
}
