//! Who may send how much: windows that follow the path, under one budget a process.

mod budget;
mod memory;

pub use budget::{Budget, Held, Pressure};
