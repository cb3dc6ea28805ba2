//! The speaker: answers ARP and NDP for the VIPs that this node owns, and tells the cluster so.
//!
//! ```text
//! gather → index → Wanted ──────────────┐                        ┌─→ State → report → ServiceL2Status, events ─→ written
//!                                       ▼                        │            page → `causeway-speaker status`
//! netlink → Links ───────→ wire (a thread of its own: Ownership, Announcer, sockets) ⇄ other speakers, the LAN
//! ```
//! The wire thread needs neither the API server nor the other thread to go on: it works on what it was told last.

mod address;
mod app;
pub mod command;
mod gather;
mod host;
mod index;
mod isolation;
mod metrics;
mod objects;
mod options;
mod page;
mod peers;
mod ports;
mod record;
mod reduce;
mod report;
mod silence;
mod state;
mod wanted;
mod wire;
mod written;

pub use address::Reach;
pub use app::App;
pub use metrics::Metrics;
pub use options::Options;
pub use page::{HeldVip, Page, Vip};
pub use reduce::OWNER_ANNOTATION;
pub(crate) use silence::Silence;
pub use state::Member;
