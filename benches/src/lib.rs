//! Causeway benches.
