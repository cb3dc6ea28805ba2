//! Causeway edge.
