//! A wide-area line: two network namespaces with a link between them that this process carries, packet by packet.
//!
//! ```text
//!   far ──(access line)── vps ──(line)── home
//!   visitors              edge, visitors   connector, origins
//! ```
//!
//! The ends are TUN devices; a thread for each line takes what one end sends, holds it as long as the shape says, and gives
//! it to the other. Needs root and `/dev/net/tun`.

mod bulk;
mod carry;
mod probe;
mod shape;
mod tun;
mod wan;
mod way;

pub use bulk::{Bulk, Course, Running, Speech, TcpFlow};
pub use carry::{Line, Place, Towards};
pub use probe::{Record, Talk, percentile, requests};
pub use shape::{Mode, Shape};
pub use wan::{A, B, CALLS, Door, FAR, HOME, Origins, Ours, VPS, VPS_FAR, Wan, missing, wan};
pub use way::Counters;
