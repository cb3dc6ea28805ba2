//! Links and addresses of this node, as the kernel reports each change of them.

use std::{collections::BTreeMap, io, net::IpAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{LinkAttribute, LinkFlags, LinkMessage, State},
    },
};
use tokio::{sync::watch, task::JoinSet};

use crate::mac::Mac;

/// A full list again, in case the kernel dropped a message because we were slow.
const RELIST: Duration = Duration::from_secs(30);

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Mac,
    /// Switched on, and with a carrier.
    pub(crate) up: bool,
    /// Belongs to a bridge or bond, which speaks for it.
    pub(crate) enslaved: bool,
    /// Has broadcasts, and ARP is not switched off.
    pub(crate) arp: bool,
    /// Its addresses with their prefixes.
    pub(crate) networks: Vec<IpNet>,
}

impl Link {
    pub(crate) fn has_link_local(&self) -> bool {
        self.networks.iter().any(|net| matches!(net, IpNet::V6(v6) if v6.addr().is_unicast_link_local()))
    }

    pub(crate) fn connects(&self, ip: IpAddr) -> bool {
        self.networks.iter().any(|net| net.contains(&ip))
    }
}

pub(crate) type Links = Arc<BTreeMap<u32, Link>>;

/// Starts to follow the kernel. The receiver has the state of the moment; the tasks run in `tasks`.
///
/// # Errors
/// When netlink cannot be used, which no privileges are needed for.
pub(crate) async fn follow(tasks: &mut JoinSet<()>) -> io::Result<watch::Receiver<Links>> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, handle, mut messages) = new_multicast_connection(&groups)?;
    tasks.spawn(connection);
    let mut table = list(&handle).await.map_err(io::Error::other)?;
    let (sender, receiver) = watch::channel(Arc::new(table.clone()));
    tasks.spawn(async move {
        let mut relist = tokio::time::interval(RELIST);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some((message, _)) = message else { return };
                    if let NetlinkPayload::InnerMessage(message) = message.payload {
                        apply(&mut table, message);
                    }
                }
                _ = relist.tick() => {
                    if let Ok(fresh) = list(&handle).await {
                        table = fresh;
                    }
                }
            }
            sender.send_if_modified(|known| {
                let changed = **known != table;
                if changed {
                    *known = Arc::new(table.clone());
                }
                changed
            });
        }
    });
    Ok(receiver)
}

async fn list(handle: &Handle) -> Result<BTreeMap<u32, Link>, rtnetlink::Error> {
    let mut table = BTreeMap::new();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await? {
        apply(&mut table, RouteNetlinkMessage::NewLink(message));
    }
    let mut addresses = handle.address().get().execute();
    while let Some(message) = addresses.try_next().await? {
        apply(&mut table, RouteNetlinkMessage::NewAddress(message));
    }
    Ok(table)
}

fn apply(table: &mut BTreeMap<u32, Link>, message: RouteNetlinkMessage) {
    // A port that leaves its bridge is told as a deleted link of the bridge family: the interface itself stays.
    if let RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) = &message
        && link.header.interface_family == AddressFamily::Bridge
    {
        return;
    }
    match message {
        RouteNetlinkMessage::NewLink(message) => {
            let networks = table.remove(&message.header.index).map(|link| link.networks);
            if let Some(link) = link(&message, networks.unwrap_or_default()) {
                table.insert(link.index, link);
            }
        }
        RouteNetlinkMessage::DelLink(message) => drop(table.remove(&message.header.index)),
        RouteNetlinkMessage::NewAddress(message) => {
            if let Some((link, net)) = table.get_mut(&message.header.index).zip(network(&message))
                && !link.networks.contains(&net)
            {
                link.networks.push(net);
            }
        }
        RouteNetlinkMessage::DelAddress(message) => {
            if let Some((link, net)) = table.get_mut(&message.header.index).zip(network(&message)) {
                link.networks.retain(|known| *known != net);
            }
        }
        _ => {}
    }
}

/// None for what has no Ethernet address, such as tunnels.
fn link(message: &LinkMessage, networks: Vec<IpNet>) -> Option<Link> {
    let flags = message.header.flags;
    let (mut name, mut mac, mut enslaved, mut state) = (None, None, false, State::Unknown);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac),
            LinkAttribute::Controller(index) => enslaved = *index != 0,
            LinkAttribute::OperState(oper) => state = *oper,
            _ => {}
        }
    }
    // Some drivers never say more than "unknown"; then the carrier flag decides.
    let carrier = state == State::Up || (state == State::Unknown && flags.contains(LinkFlags::LowerUp));
    Some(Link {
        index: message.header.index,
        name: name?,
        mac: mac?,
        up: flags.contains(LinkFlags::Up) && carrier,
        enslaved,
        arp: flags.contains(LinkFlags::Broadcast) && !flags.contains(LinkFlags::Noarp),
        networks,
    })
}

fn network(message: &AddressMessage) -> Option<IpNet> {
    let of = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    // On a point-to-point link ADDRESS is the peer; LOCAL is ours.
    let local = of(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let address =
        of(|attribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None });
    IpNet::new(local.or(address)?, message.header.prefix_len).ok()
}
