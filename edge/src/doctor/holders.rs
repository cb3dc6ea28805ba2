//! Which program has a port, as `ss -p` finds it: the kernel's table of sockets names an inode, and a program's open files name it
//! too. Another user's programs show it to root alone.

use std::fmt;
use std::fs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "TCP" } else { "UDP" })
    }
}

/// Name and process id.
pub(super) fn of(protocol: Protocol, port: u16) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| listening(&table, protocol, port))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |id: &u32| {
        let files = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| inodes.iter().any(|inode| link.as_os_str() == format!("socket:[{inode}]").as_str()))
    };
    let id = ids.into_iter().find(has)?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    Some(format!("{}, process {id}", name.trim()))
}

/// The inodes of the sockets that wait on a port.
fn listening(table: &str, protocol: Protocol, port: u16) -> Vec<String> {
    // TCP_LISTEN; a UDP socket that is not connected is TCP_CLOSE.
    let state = if protocol == Protocol::Tcp { "0A" } else { "07" };
    let end = format!(":{port:04X}");
    let rows = table.lines().skip(1).filter_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&end) && *fields.get(3)? == state;
        is_it.then(|| fields.get(9).map(ToString::to_string))?
    });
    rows.collect()
}

#[test]
fn the_table_of_sockets_is_read() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                 0: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
                 1: 0100007F:01BB 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
    assert_eq!(listening(table, Protocol::Tcp, 443), ["4711"]);
    assert!(listening(table, Protocol::Tcp, 80).is_empty());
}
