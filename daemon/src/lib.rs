//! Causeway daemon.
