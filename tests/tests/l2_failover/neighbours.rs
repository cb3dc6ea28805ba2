//! Other hosts on the wire: who has the address already, who asks, who lies (A6-A8, H180, H181, H184).

use anyhow::{Context, Result, bail, ensure};
use causeway_tests::cluster::{
    Cluster, Heard, Kind, Mac, SOON, Said, TEST, Wire, annotate, eventually, frames, path, pause, service,
    service_of, visit,
};
use std::net::IpAddr;
use std::time::Duration;
use std::time::Instant;

/// What a speaker answers on one interface, in a second; so many may burst.
const ANSWERS_PER_SECOND: u32 = 2000;
/// One host asks for so long, a burst of questions every other millisecond: a few times more than is answered.
const FLOOD: Duration = Duration::from_secs(2);
const BURST: u32 = 20;

pub(super) fn foreign_host(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    let laptop = c.lan.plug_host("laptop", 99)?;
    laptop.namespace.ip(&format!(
        "addr add {}/16 dev eth0\naddr add {}/16 dev eth0\n",
        net.v4(10),
        net.v4(20)
    ))?;
    c.announce_pool("pool", &[&net.range4(10, 30)])?;
    let foreign: Mac = laptop.mac;
    let start = Instant::now();
    c.create(&[&service("web"), &annotate(service("asked"), "metallb.io/loadBalancerIPs", &net.v4(20))])?;
    // Nobody asked for .10 by name: the Service gets another, and that one is announced.
    eventually(2 * SOON, "the Service has another address", || {
        let ips = c.ips("web")?;
        ensure!(ips.len() == 1 && ips[0] != net.v4(10), "it has {ips:?}");
        Ok(())
    })?;
    let ip = c.wait_ip("web")?;
    c.wait_owner(&ip)?;
    c.wait_reached(&ip, 80)?;
    // .20 was asked for by name: it stays, unannounced, and the Service says why.
    eventually(SOON, "a condition names the conflict", || {
        let status = c.api.get(&path("Service", TEST, "asked"))?["status"].clone();
        let told = status["conditions"].as_array().is_some_and(|list| {
            list.iter().any(|c| c["message"].as_str().is_some_and(|m| m.contains("02:00:00:4d:00:63")))
        });
        ensure!(told, "{status}");
        Ok(())
    })?;
    for last in [10, 20] {
        let claims = c.wire.claims_since(start, net.ip4(last));
        let ours = claims.iter().filter(|h| h.from != foreign).count();
        ensure!(ours == 0, "{ours} claims of the laptop's address {}", net.v4(last));
    }
    // The laptop leaves, and the Service that waited for its address is served.
    c.lan.cut("laptop", 0)?;
    eventually(6 * SOON, "the address is announced once it is free", || c.wait_owner(&net.v4(20)).map(drop))
}

pub(super) fn v6_vip(c: &mut Cluster) -> Result<(std::net::Ipv6Addr, usize)> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range6(0x10, 0x30)])?;
    c.create(&[&service_of("web", "SingleStack", &["IPv6"])])?;
    let ip = c.wait_ip("web")?;
    let owner = c.wait_owner(&ip)?;
    c.wait_reached(&ip, 80)?;
    Ok((ip.parse()?, c.node(&owner)?))
}

pub(super) fn unicast_solicitation(c: &mut Cluster) -> Result<()> {
    let (ip, owner) = v6_vip(c)?;
    let client = &c.lan.client;
    let option = [&[1u8, 1], client.mac.as_slice()].concat();
    // As neighbour unreachability detection asks: to the MAC and the address that it knows, with and without its own MAC.
    for options in [option.as_slice(), &[]] {
        let start = Instant::now();
        c.wire.send(&frames::neighbour(c.mac(owner), client.mac, client.v6, ip, ip, options))?;
        let answer = c.wire.wait_answer(start, Duration::from_secs(1), ip.into())?;
        ensure!(answer.from == c.mac(owner) && answer.to == client.mac, "{answer:?}");
    }
    // And the kernel's own detection agrees.
    client.namespace.sysctl(&[("ipv6/neigh/eth0/delay_first_probe_time", "0")])?;
    client.namespace.ip(&format!("neigh change {ip} dev eth0 nud stale\n"))?;
    eventually(SOON, "the neighbour is reachable again", || {
        visit(&client.namespace, ip.into(), 80)?;
        let table = client.namespace.output("ip", &["neigh", "show", &ip.to_string()])?;
        ensure!(table.contains("REACHABLE"), "{table}");
        Ok(())
    })
}

pub(super) fn probes(c: &mut Cluster) -> Result<()> {
    let (ip6, owner) = v6_vip(c)?;
    let start = Instant::now();
    let laptop = c.lan.plug_host("laptop", 98)?;
    laptop.namespace.ip(&format!("addr add {ip6}/64 dev eth0\n"))?;
    eventually(SOON, "the laptop learns that the address is taken", || {
        let table = laptop.namespace.output("ip", &["-6", "addr", "show", "dev", "eth0"])?;
        ensure!(table.contains("dadfailed"), "{table}");
        Ok(())
    })?;
    ensure!(!c.wire.claims_since(start, ip6.into()).is_empty(), "the answer to a probe goes to all nodes");
    let own = c.mac(owner);
    c.delete_service("web")?;
    c.api.delete(&path("IPAddressPool", "metallb-system", ""))?;
    c.api.delete(&path("L2Advertisement", "metallb-system", ""))?;
    let vip = c.vip()?;
    let IpAddr::V4(ip4) = vip.ip else { bail!("an IPv4 VIP") };
    let start = Instant::now();
    let nobody = std::net::Ipv4Addr::UNSPECIFIED;
    c.wire.send(&frames::arp([0xff; 6], c.lan.client.mac, 1, (c.lan.client.mac, nobody), ([0; 6], ip4)))?;
    let answer = c.wire.wait_claim(start, Duration::from_secs(1), vip.ip, |_| true)?;
    ensure!(answer.from == c.mac(vip.owner), "{answer:?} (IPv6 owner had {own:?})");
    Ok(())
}

pub(super) fn rogue_claim(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let IpAddr::V4(ip) = vip.ip else { bail!("an IPv4 VIP") };
    pause(Duration::from_millis(2500));
    let rogue = [2, 0, 0, 0, 0, 0x66];
    let start = Instant::now();
    // A second's war from the other side.
    for _ in 0..20 {
        c.wire.send(&frames::arp_claim(rogue, ip))?;
        pause(Duration::from_millis(50));
    }
    let defended: Vec<_> =
        c.wire.claims_since(start, vip.ip).into_iter().filter(|h| h.from == c.mac(vip.owner)).collect();
    ensure!(!defended.is_empty() && defended.len() <= 4, "{} defences in a second", defended.len());
    eventually(SOON, "an event tells of the conflict", || {
        let events = c.api.list(&path("Event", TEST, ""))?;
        let told =
            events.iter().any(|e| e["message"].as_str().is_some_and(|m| m.contains("02:00:00:00:00:66")));
        ensure!(told, "there are {:?}", c.events("web")?);
        Ok(())
    })?;
    eventually(SOON, "the client gets through again", || visit(&c.lan.client.namespace, vip.ip, 80)).map(drop)
}

pub(super) fn malformed(c: &mut Cluster) -> Result<()> {
    let (ip6, owner6) = v6_vip(c)?;
    let client = &c.lan.client;
    let (to, from) = (c.mac(owner6), client.mac);
    let good = frames::neighbour(to, from, client.v6, ip6, ip6, &[]);
    let arp = frames::arp_request(from, client.v4, std::net::Ipv4Addr::new(10, 77, 1, 10));
    for frame in [&good, &arp] {
        for length in 14..frame.len() {
            c.wire.send(&frame[..length])?;
        }
        for at in 12..frame.len() {
            let mut bent = frame.clone();
            bent[at] ^= 0xff;
            c.wire.send(&bent)?;
        }
    }
    // Another flow label is as good as any: what was bent there is answered, and that is over before the next frames.
    c.wait_owner_is(&ip6.to_string(), &c.nodes[owner6].name)?;
    // A hop limit that says "I came through a router" gets no answer; nor does an option of length zero.
    let start = Instant::now();
    let mut far = good;
    far[21] = 254;
    c.wire.send(&far)?;
    c.wire.send(&frames::neighbour(to, from, client.v6, ip6, ip6, &[1, 0, 0, 0, 0, 0, 0, 0]))?;
    pause(Duration::from_millis(200));
    let answers = c.wire.claims_since(start, ip6.into());
    let reply = |h: &&Heard| matches!(h.said, Said::Claims { kind: Kind::Reply, .. });
    let answers: Vec<_> = answers.iter().filter(reply).map(|h| (h.at - start, h)).collect();
    ensure!(answers.is_empty(), "answers to frames that must be dropped: {answers:?}");
    for node in &mut c.nodes {
        node.speaker.as_mut().context("a speaker")?.check()?;
    }
    c.wait_owner_is(&ip6.to_string(), &c.nodes[owner6].name)
}

pub(super) fn flood(c: &mut Cluster) -> Result<()> {
    let net = c.fresh();
    c.announce_pool("pool", &[&net.range4(10, 10), &net.range6(10, 10)])?;
    c.create(&[&service_of("web", "RequireDualStack", &["IPv4", "IPv6"])])?;
    let laptop = c.lan.plug_host("laptop", 97)?;
    let other = Wire::new(&laptop)?;
    for ip in c.wait_ips("web", 2)? {
        let owner = c.wait_owner(&ip)?;
        flooded(c, &other, ip.parse()?, c.node(&owner)?)?;
        c.wait_owner_is(&ip, &owner)?;
    }
    Ok(())
}

/// The client floods the owner with well-formed questions for one address, and then another host asks once.
fn flooded(c: &Cluster, other: &Wire, ip: IpAddr, owner: usize) -> Result<()> {
    let client = &c.lan.client;
    let question = match ip {
        IpAddr::V4(target) => frames::arp_request(client.mac, client.v4, target),
        IpAddr::V6(target) => frames::solicitation(client.mac, client.v6, target),
    };
    let answered = format!("metallb_layer2_responses_sent{{ip=\"{ip}\"}}");
    let withheld = "causeway_speaker_limited_answers";
    // A whole second's worth of answers may burst.
    pause(Duration::from_secs(1));
    let before = c.speaker_metrics(owner)?;
    let (start, mut asked) = (Instant::now(), 0);
    while start.elapsed() < FLOOD {
        for _ in 0..BURST {
            c.wire.send(&question)?;
        }
        asked += BURST;
        pause(Duration::from_millis(2));
    }
    let over = Instant::now();
    eventually(Duration::from_secs(1), "another host's question is answered once the flood is over", || {
        let who = other.ask(ip, Duration::from_millis(20))?;
        ensure!(who.contains(&c.mac(owner)), "{who:?} answer");
        Ok(())
    })?;
    let waited = over.elapsed();
    let after = c.speaker_metrics(owner)?;
    let rise = |name: &str| count(&after, name) - count(&before, name);
    let (sent, kept) = (rise(&answered), rise(withheld));
    let most = f64::from(ANSWERS_PER_SECOND) * (1.0 + start.elapsed().as_secs_f64());
    let reply = |h: &&Heard| h.to == client.mac && matches!(h.said, Said::Claims { kind: Kind::Reply, .. });
    let claims = c.wire.claims_since(start, ip);
    let heard = claims.iter().filter(reply).count();
    println!(
        "    {ip}: {asked} questions in {:.1?}; {sent} answered ({heard} heard) of {most:.0} at most, {kept} withheld; \
         another host's answered {waited:.0?} after it",
        over - start
    );
    ensure!(sent <= most && f64::from(u32::try_from(heard)?) <= most, "{sent} answers, {heard} heard");
    // And no fewer than promised.
    ensure!(sent >= f64::from(ANSWERS_PER_SECOND), "{sent} answers only");
    ensure!(kept > 0.0, "no answer was withheld");
    Ok(())
}

/// The value of a sample, its name given with all of its labels; 0 when it is not there.
fn count(metrics: &str, name: &str) -> f64 {
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(value).unwrap_or(0.0)
}

pub(super) fn changed_mac(c: &mut Cluster) -> Result<()> {
    let vip = c.vip()?;
    let host = c.nodes[vip.owner].host.host.clone();
    let other: Mac = [2, 0, 0, 77, 9, 9];
    // The node's own addresses are its kernel's to announce; without this its peers send to the old one for a while.
    host.namespace.sysctl(&[("ipv4/conf/eth0/arp_notify", "1"), ("ipv6/conf/eth0/ndisc_notify", "1")])?;
    let start = Instant::now();
    host.namespace.ip("link set eth0 address 02:00:00:4d:09:09\n")?;
    let claim = c.wire.wait_claim(start, SOON, vip.ip, |m| m == other);
    let reached = claim.and_then(|claim| {
        println!("    announced with the new MAC after {:?}", claim.at - start);
        c.wait_reached(&vip.ip.to_string(), 80)
    });
    let old = host.mac.map(|b| format!("{b:02x}")).join(":");
    host.namespace.ip(&format!("link set eth0 address {old}\n"))?;
    reached?;
    c.wait_owner(&vip.ip.to_string()).map(drop)
}
