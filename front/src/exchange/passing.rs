//! A visitor's connection whose TLS ends elsewhere, on its way from the door to the core.

use std::net::SocketAddr;

use bytes::Bytes;
use causeway_tunnel::{Host, RequestId, TlsEnd};

use super::{RawIn, RawOut};
use crate::record::Record;

#[derive(Debug)]
pub struct Passing {
    pub id: RequestId,
    pub visitor: SocketAddr,
    /// By the ClientHello, which is all that is read of it.
    pub name: Host,
    pub end: TlsEnd,
    /// What the visitor has said so far: the first bytes that the other side has to get.
    pub hello: Bytes,
    pub from_visitor: RawIn,
    pub to_visitor: RawOut,
    pub record: Record,
}

/// The connection was not carried, and the visitor has heard nothing yet.
#[derive(Debug)]
pub struct Refused {
    pub to_visitor: RawOut,
}
