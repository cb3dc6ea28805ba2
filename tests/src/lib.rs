//! The harness of the end-to-end tests: real programs on real sockets, real peers around them, everything reaped at the end.

pub mod child;
pub mod client;
pub mod cluster;
pub mod connector;
pub mod corpus;
pub mod docker;
pub mod edge;
pub mod files;
pub mod forward_proxy;
pub mod hostile;
pub mod line;
pub mod load;
pub mod machine;
pub mod memory;
pub mod named;
mod names;
pub mod neighbour;
pub mod netns;
pub mod one_process;
pub mod origin;
pub mod outside;
pub mod page;
pub mod pebble;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod relay;
pub mod run;
pub mod site;
pub mod tls_end;
pub mod wait;

pub use run::{long, needs, run, run_within};
