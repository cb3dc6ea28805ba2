//! Informational responses between the request that says them and the connection that writes them.

use std::mem;

use bytes::{Bytes, BytesMut};

/// ```text
///            say                 take                    take, and nothing came meanwhile
///  Open(bytes) ◀─┘   Open(bytes) ────▶ Writing(behind) ────────────▶ Open, all is written
///      │ answer, nothing waits                 ▲ │ put back, say
///      ▼                                       └─┘
///    Over ────begin────▶ Open
/// ```
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interims {
    /// No request is being served, or its final head is on the way: nothing may be said.
    Over,
    /// What was said and nobody writes yet; mostly nothing.
    Open(BytesMut),
    /// The connection writes what it took, and this comes behind.
    Writing(BytesMut),
}

/// What the connection is to write now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Bytes(Bytes),
    /// Nothing, and what was taken before is written.
    Written,
    Nothing,
}

impl Interims {
    /// A request's turn comes.
    pub(super) fn begin(&mut self) {
        *self = Self::Open(BytesMut::new());
    }

    /// Where to write one more; `None` when it is too late.
    pub(super) fn say(&mut self) -> Option<&mut BytesMut> {
        match self {
            Self::Over => None,
            Self::Open(bytes) | Self::Writing(bytes) => Some(bytes),
        }
    }

    pub(super) fn take(&mut self) -> Due {
        match self {
            // Open, Writing → Writing: there is something.
            Self::Open(bytes) | Self::Writing(bytes) if !bytes.is_empty() => {
                let taken = bytes.split().freeze();
                *self = Self::Writing(BytesMut::new());
                Due::Bytes(taken)
            }
            // Writing → Open: what was taken is written, or it would have been put back.
            Self::Writing(bytes) => {
                *self = Self::Open(mem::take(bytes));
                Due::Written
            }
            Self::Over | Self::Open(_) => Due::Nothing,
        }
    }

    /// Writing → Writing: the rest of what was taken could not be written yet.
    pub(super) fn put_back(&mut self, rest: &[u8]) {
        let mut bytes = BytesMut::from(rest);
        if let Self::Open(behind) | Self::Writing(behind) = self {
            bytes.extend_from_slice(behind);
        }
        *self = Self::Writing(bytes);
    }

    /// Open → Over: the final head goes out. False while something has to go before it.
    pub(super) fn end(&mut self) -> bool {
        match self {
            Self::Over => true,
            Self::Open(bytes) if bytes.is_empty() => {
                *self = Self::Over;
                true
            }
            Self::Open(_) | Self::Writing(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_goes_out_in_order_before_the_final_head_and_nothing_after() {
        let mut interims = Interims::Over;
        assert!(interims.say().is_none());
        interims.begin();
        interims.say().unwrap().extend_from_slice(b"one");
        assert!(!interims.end(), "it waits");
        assert_eq!(interims.take(), Due::Bytes(Bytes::from_static(b"one")));
        assert!(!interims.end(), "it is being written");
        interims.say().unwrap().extend_from_slice(b"two");
        interims.put_back(b"ne");
        assert_eq!(interims.take(), Due::Bytes(Bytes::from_static(b"netwo")));
        assert_eq!((interims.take(), interims.take()), (Due::Written, Due::Nothing));
        assert!(interims.end() && interims.say().is_none() && interims.take() == Due::Nothing);
    }
}
