//! Causeway tests.
