//! What this machine's kernel grants: UDP buffers.

use std::net::{Ipv4Addr, SocketAddr};

use causeway_daemon::doctor::Finding;
use causeway_tunnel::carrier::{self, Reuse};

/// Binds a socket as sessions do, and says what it got.
pub fn buffers() -> Finding {
    let report = match carrier::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), Reuse::Alone) {
        Ok((_, report)) => report,
        Err(error) => {
            let mend = "allow this user UDP sockets; raise the limit of open files";
            return Finding::fault("buffers", "UDP", format!("no UDP socket can be opened: {error}"), mend);
        }
    };
    let kib = |bytes: usize| bytes / 1024;
    let sizes = format!(
        "{} KiB to receive, {} KiB to send",
        kib(report.recv_buffer_bytes),
        kib(report.send_buffer_bytes)
    );
    match report.advice() {
        None => Finding::ok("buffers", "UDP", sizes),
        // Where the advice is a command, it comes after the colon.
        Some(advice) => match advice.split_once(": ") {
            Some((cause, command)) if command.starts_with("sysctl") => {
                let mend = format!(
                    "`{command}`, on the machine itself when this is a container; into /etc/sysctl.d to keep it"
                );
                Finding::warning("buffers", "UDP", cause, mend)
            }
            _ => Finding::note("buffers", "UDP", advice),
        },
    }
}
