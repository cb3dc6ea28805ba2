//! The pieces that datagrams between speakers are made of: names, addresses, numbers. Reads are total.

use std::net::{IpAddr, SocketAddr};

use bytes::{Buf, BufMut};

use super::Identity;
use crate::node_name::NodeName;

/// A datagram that ends early or holds an impossible value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed datagram")]
pub(crate) struct Cut;

pub(crate) fn u8(buf: &mut impl Buf) -> Result<u8, Cut> {
    buf.try_get_u8().map_err(|_| Cut)
}

pub(crate) fn u16(buf: &mut impl Buf) -> Result<u16, Cut> {
    buf.try_get_u16().map_err(|_| Cut)
}

pub(crate) fn u64(buf: &mut impl Buf) -> Result<u64, Cut> {
    buf.try_get_u64().map_err(|_| Cut)
}

pub(crate) fn put_name(buf: &mut impl BufMut, name: &NodeName) {
    let bytes = name.as_str().as_bytes();
    let length = bytes.len().min(NodeName::MAX_BYTES);
    buf.put_u8(u8::try_from(length).expect("capped at 253"));
    buf.put_slice(&bytes[..length]);
}

pub(crate) fn name(buf: &mut impl Buf) -> Result<NodeName, Cut> {
    let length = usize::from(u8(buf)?);
    let mut bytes = [0; 255];
    let bytes = &mut bytes[..length];
    buf.try_copy_to_slice(bytes).map_err(|_| Cut)?;
    let text = std::str::from_utf8(bytes).map_err(|_| Cut)?;
    if text.is_empty() || text.len() > NodeName::MAX_BYTES {
        return Err(Cut);
    }
    Ok(NodeName::from(text))
}

pub(crate) fn put_ip(buf: &mut impl BufMut, ip: IpAddr) {
    match ip {
        IpAddr::V4(v4) => {
            buf.put_u8(4);
            buf.put_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            buf.put_u8(6);
            buf.put_slice(&v6.octets());
        }
    }
}

pub(crate) fn ip(buf: &mut impl Buf) -> Result<IpAddr, Cut> {
    match u8(buf)? {
        4 => {
            let mut octets = [0; 4];
            buf.try_copy_to_slice(&mut octets).map_err(|_| Cut)?;
            Ok(IpAddr::from(octets))
        }
        6 => {
            let mut octets = [0; 16];
            buf.try_copy_to_slice(&mut octets).map_err(|_| Cut)?;
            Ok(IpAddr::from(octets))
        }
        _ => Err(Cut),
    }
}

pub(crate) fn put_identity(buf: &mut impl BufMut, identity: &Identity) {
    put_name(buf, &identity.name);
    put_ip(buf, identity.addr.ip());
    buf.put_u16(identity.addr.port());
    buf.put_u64(identity.boot);
    buf.put_u16(identity.bump);
}

pub(crate) fn identity_bytes(identity: &Identity) -> usize {
    let address = if identity.addr.is_ipv4() { 5 } else { 17 };
    1 + identity.name.as_str().len().min(NodeName::MAX_BYTES) + address + 2 + 8 + 2
}

pub(crate) fn identity(buf: &mut impl Buf) -> Result<Identity, Cut> {
    let name = name(buf)?;
    let ip = ip(buf)?;
    let port = u16(buf)?;
    Ok(Identity { name, addr: SocketAddr::new(ip, port), boot: u64(buf)?, bump: u16(buf)? })
}
