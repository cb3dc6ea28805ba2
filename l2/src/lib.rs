//! The L2 half of Causeway: addresses for Services of type LoadBalancer, and answers for them on the wire.
//!
//! `Service → allocator → allocate → status`; `status → speaker → elect → announce → packet → ARP/NDP`.

pub mod allocate;
pub mod allocator;
pub mod api;
pub mod check;
pub mod convert;
pub mod crds;
pub mod explain;
pub mod lease;
pub mod manifest;
pub mod pool;
pub mod range;
pub mod selector;
pub mod announce;
pub mod arp;
pub mod elect;
pub mod mac;
pub mod membership;
pub mod ndp;
pub mod node_name;
pub mod ownership;
pub mod packet;
mod chance;
