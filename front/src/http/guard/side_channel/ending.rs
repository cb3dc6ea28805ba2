//! What the end of a connection says to its visitor.

/// ```text
///   Plain ──────must_reset──────▶ Reset ──complete──▶ Completing ──written──▶ Plain
///                                   ▲                     │
///                                   └─────must_reset──────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing: every answer says by itself where it ends.
    Plain,
    /// That the answer is whole, and it is not: the connection must be reset.
    Reset,
    /// The same, and it is whole as soon as all of it is written.
    Completing,
}

impl Ending {
    pub(super) fn must_reset(&mut self) {
        *self = Self::Reset;
    }

    /// All of it was handed over.
    pub(super) fn complete(&mut self) {
        *self = match self {
            // Reset → Completing: only the writing is missing.
            Self::Reset => Self::Completing,
            Self::Plain | Self::Completing => return,
        }
    }

    /// All that was handed over is written, and our end with it.
    pub(super) fn written(&mut self) {
        *self = match self {
            // Completing → Plain: the visitor has it whole.
            Self::Completing => Self::Plain,
            // What breaks off later is still broken off.
            Self::Plain | Self::Reset => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_138_only_what_is_whole_and_written_ends_plainly() {
        let mut ending = Ending::Plain;
        ending.complete();
        ending.written();
        assert_eq!(ending, Ending::Plain);
        ending.must_reset();
        ending.written();
        assert_eq!(ending, Ending::Reset, "the end was written before the answer was whole");
        ending.complete();
        assert_eq!(ending, Ending::Completing);
        ending.must_reset();
        ending.written();
        assert_eq!(ending, Ending::Reset, "broken off meanwhile");
        ending.complete();
        ending.written();
        assert_eq!(ending, Ending::Plain);
    }
}
