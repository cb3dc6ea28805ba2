//! A small origin that answers every kind of request in a checkable way, and a visitor that checks it through an edge.

pub mod check;
pub mod content;
mod handler;
pub mod origin;
