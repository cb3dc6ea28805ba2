//! A visitor's connection whose TLS ends elsewhere, on its way from the door to the core.

use std::net::SocketAddr;

use bytes::Bytes;
use causeway_tunnel::{Host, RequestId, TlsEnd};

use super::{RawIn, RawOut};
use crate::record::Record;

#[derive(Debug)]
pub(crate) struct Passing {
    pub(crate) id: RequestId,
    pub(crate) visitor: SocketAddr,
    /// By the ClientHello, which is all that is read of it.
    pub(crate) name: Host,
    pub(crate) end: TlsEnd,
    /// What the visitor has said so far: the first bytes that the other side has to get.
    pub(crate) hello: Bytes,
    pub(crate) from_visitor: RawIn,
    pub(crate) to_visitor: RawOut,
    pub(crate) record: Record,
}

/// The connection was not carried, and the visitor has heard nothing yet.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) to_visitor: RawOut,
}
