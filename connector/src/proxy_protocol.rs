//! PROXY protocol, version 2 (haproxy's specification): tells a service whose connection it is, in front of its first byte. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use causeway_tunnel::Passage;

/// The header for a visitor's connection. `service`: where it was taken to, as far as that is an address.
pub(crate) fn header(passage: &Passage, service: Option<SocketAddr>) -> Vec<u8> {
    let visitor = passage.visitor.ip().to_canonical();
    // Both addresses are of one family; of the other end nothing else is known here.
    let service = service.map(|service| (service.ip().to_canonical(), service.port()));
    let service = service.filter(|(ip, _)| ip.is_ipv4() == visitor.is_ipv4());
    let any: IpAddr =
        if visitor.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let (to, to_port) = service.unwrap_or((any, 0));
    let mut rest = Vec::with_capacity(64);
    for ip in [visitor, to] {
        match ip {
            IpAddr::V4(ip) => rest.extend(ip.octets()),
            IpAddr::V6(ip) => rest.extend(ip.octets()),
        }
    }
    rest.extend(passage.visitor.port().to_be_bytes());
    rest.extend(to_port.to_be_bytes());
    put(&mut rest, AUTHORITY, passage.name.as_bytes());
    put(&mut rest, UNIQUE_ID, &passage.request_id.0);
    let length = u16::try_from(rest.len()).expect("a name and a few addresses are short");
    let mut out = SIGNATURE.to_vec();
    out.extend([VERSION_2_PROXY, if visitor.is_ipv4() { TCP_OVER_IPV4 } else { TCP_OVER_IPV6 }]);
    out.extend(length.to_be_bytes());
    out.extend(rest);
    out
}

fn put(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    // Names have 253 bytes at most; what a hostile edge says beyond is left out.
    let value = &value[..value.len().min(MAX_VALUE_BYTES)];
    out.push(kind);
    out.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    out.extend(value);
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const VERSION_2_PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// The name that the visitor asked for.
const AUTHORITY: u8 = 0x02;
/// The id that stands in the edge's log.
const UNIQUE_ID: u8 = 0x05;
const MAX_VALUE_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use causeway_tunnel::RequestId;

    use super::*;

    fn of(visitor: &str, service: Option<&str>) -> Vec<u8> {
        let passage = Passage {
            request_id: RequestId([7; 16]),
            route: 1,
            visitor: visitor.parse().unwrap(),
            name: "a.dev".to_owned(),
        };
        header(&passage, service.map(|service| service.parse().unwrap()))
    }

    #[test]
    fn the_header_is_the_specifications() {
        let tail = [&[2, 0, 5][..], b"a.dev", &[5, 0, 16], &[7; 16]].concat();
        let v4 = of("[::ffff:192.0.2.7]:258", Some("10.0.0.1:443"));
        let head =
            [&SIGNATURE[..], &[0x21, 0x11, 0, 12 + 27], &[192, 0, 2, 7, 10, 0, 0, 1, 1, 2, 1, 187]].concat();
        assert_eq!(v4, [head, tail.clone()].concat());
        // Another family, or no address at all: unspecified.
        let mixed = of("192.0.2.7:1", Some("[fd00::1]:443"));
        assert_eq!(mixed[16..28], [192, 0, 2, 7, 0, 0, 0, 0, 0, 1, 0, 0]);
        let v6 = of("[2001:db8::7]:1", None);
        assert_eq!((v6[13], v6.len()), (0x21, 16 + 36 + tail.len()));
        assert_eq!(v6[16..20], [0x20, 0x01, 0x0d, 0xb8]);
    }
}
