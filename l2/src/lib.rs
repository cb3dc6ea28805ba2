//! The L2 half of Causeway: addresses for Services of type LoadBalancer, and answers for them on the wire.
//!
//! `Service → allocator → allocate → status`; `status → speaker → elect → announce → packet → ARP/NDP`.

pub mod allocate;
pub mod allocator;
mod announce;
pub mod api;
pub mod arp;
mod call;
mod chance;
mod check;
pub mod client;
mod convert;
mod crds;
pub mod elect;
mod explain;
mod follow;
mod host_routes;
mod interfaces;
mod lease;
pub mod mac;
mod manifest;
mod membership;
pub mod ndp;
mod netlink;
pub mod node_name;
mod ownership;
mod packet;
pub mod pool;
pub mod range;
mod retry;
pub mod selector;
#[cfg(test)]
mod sim;
pub mod speaker;
mod version;
