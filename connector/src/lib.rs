//! Causeway connector.
