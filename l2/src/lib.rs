//! Causeway l2.
