//! The words of HTTP that both ends of a tunnel must take for the same: names, targets, fields, methods. Pure.
//!
//! Whatever the visitors' side, the grants, the rules or the origins' side need to know of them is said here once.

mod cookies;
mod fields;
mod hop;
mod hostname;
mod media;
mod method;
mod octets;
mod pattern;
mod target;
mod trailers;

pub use cookies::join_cookies;
pub use fields::{Class, class, elements};
pub use hop::{Direction, end_hop};
pub use hostname::{Authority, Host, HostError, looked_up, without_port};
pub use media::{asks_for_event_stream, is_long_silent};
pub use method::is_idempotent;
pub use octets::{is_field_content, is_token};
pub use pattern::{Pattern, PatternError, parents};
pub use target::is_target;
pub use trailers::{keep_trailers, may_be_trailer};
