//! Causeway tunnel.
