//! The proxy on the way out, through which edges are dialled over TCP where nothing else leads out of a network. It opens a
//! connection to the edge and carries its bytes; the session's own TLS goes through it unread.
//!
//! ```text
//! setting      what a person says of it
//! outward      which proxy an edge is dialled through: the setting's, or what environment says (HTTPS_PROXY and its kin)
//! proxy        one of them, named by its address, asked for a connection
//! http, socks  how it is asked: CONNECT, SOCKS5
//! error        what it answers instead, and the mend
//! ```

mod address;
mod environment;
mod error;
mod http;
mod outward;
mod proxy;
mod setting;
mod socks;

pub(crate) use address::Address;
pub(crate) use environment::Environment;
pub(crate) use outward::Outward;
pub(crate) use proxy::Proxy;
pub(crate) use setting::{Setting, SettingError};
