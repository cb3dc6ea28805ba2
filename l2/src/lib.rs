//! The L2 half of Causeway: addresses for Services of type LoadBalancer, and answers for them on the wire.
//!
//! `Service → allocator → allocate → status`; `status → speaker → elect → announce → packet → ARP/NDP`.

pub mod allocate;
pub mod allocator;
pub mod announce;
pub mod api;
pub mod arp;
mod call;
mod chance;
pub mod check;
pub mod client;
pub mod convert;
pub mod crds;
pub mod elect;
pub mod explain;
mod host_routes;
pub mod interfaces;
pub mod lease;
pub mod mac;
pub mod manifest;
pub mod membership;
pub mod ndp;
pub mod netlink;
pub mod node_name;
pub mod ownership;
pub mod packet;
pub mod pool;
pub mod range;
mod retry;
pub mod selector;
#[cfg(test)]
mod sim;
pub mod speaker;
mod version;
