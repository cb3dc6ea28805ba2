//! The whole road, as its users lay it: allocator and speaker give two Services in a real cluster their VIPs, the connector runs with
//! `docker run` on the LAN beside it, the edge in a container on a VPS with certificates from an authority, and a visitor comes from
//! a third network. Then one thing after the other breaks, and what the visitor saw of it is measured and bounded.
//!
//! `tests/road` runs it alone and shows the table, which docs/operations.md has as well.

mod account;
mod cluster;
mod faults;
mod ground;
mod machines;
mod road;
mod table;
mod visitor;

use std::time::Instant;

use anyhow::{Result, ensure};
use causeway_tests::client::{Http1, PROTOCOLS, visit};
use causeway_tests::cluster::scenarios;
use causeway_tests::needs;
use causeway_tests::origin::content::{Pattern, Sum, pattern_sum};

use cluster::INSIDE;
use faults::Course;
use ground::VISITOR;
use road::Road;
use visitor::{APPS, BLOG, Public, Visitor};

const UPLOAD: u64 = 200 << 20;

#[test]
fn a_visitor_reaches_services_at_home_and_whatever_breaks_heals_within_its_bound() -> Result<()> {
    if let Some(reason) = scenarios::missing() {
        eprintln!("SKIPPED road: {reason}");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nothing is skipped in CI");
        return Ok(());
    }
    if ["nginx", "nft", "iptables"].into_iter().any(|tool| needs(tool).is_none()) {
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let Some(mut road) = Road::lay(runtime)? else { return Ok(()) };
    let line = road.runtime.block_on(road.vps.create_tunnel())?;
    let walked = walk(&mut road, &line);
    if walked.is_err() {
        road.tell();
    }
    walked
}

fn walk(road: &mut Road, line: &str) -> Result<()> {
    road.runtime.block_on(async {
        road.home.start(line).await?;
        road.vps.has_certificates().await;
        road.internet.visitor.within(looks(&Public(road.authority.root()))).await
    })?;
    upload_whole(road)?;
    let visitor = Visitor::start(&road.internet.visitor, &road.authority.root());
    let mut course = Course::begin(&visitor)?;
    let ran = course.run(road, line);
    let events = course.events;
    let (table, held) = table::report(&visitor.finish(), &events);
    println!("\n{table}");
    ran.and(held)?;
    road.cluster.was_never_refused()
}

/// 200 MiB to the first site, byte for byte.
fn upload_whole(road: &Road) -> Result<()> {
    let since = Instant::now();
    let public = Public(road.authority.root());
    road.runtime.block_on(road.internet.visitor.within(upload(&public)))?;
    let took = since.elapsed().as_secs_f64();
    let mut sum = Sum::default();
    sum.update(&std::fs::read(road.sites.uploaded())?);
    ensure!(
        sum.bytes() == UPLOAD && sum.finish() == pattern_sum(UPLOAD),
        "it arrived otherwise than it was sent"
    );
    println!("200 MiB uploaded in {took:.1} s");
    std::fs::remove_file(road.sites.uploaded())?;
    Ok(())
}

/// Both sites by HTTPS over each version of HTTP, with certificates of the authority's.
async fn looks(public: &Public) -> Result<()> {
    for protocol in PROTOCOLS {
        let blog = visit(public, protocol, &format!("https://{BLOG}/")).await.ok();
        ensure!(blog.text() == "hello from nginx\n", "{protocol:?}: {blog:?}");
        let apps = visit(public, protocol, &format!("https://{APPS}/inspect")).await.ok().json();
        let header = |name: &str| {
            let all = apps["headers"].as_array().into_iter().flatten();
            all.filter(|header| header[0] == name).filter_map(|header| header[1].as_str()).collect::<Vec<_>>()
        };
        ensure!(header("host") == [INSIDE], "{protocol:?}: the Host is rewritten: {apps}");
        ensure!(
            header("x-forwarded-for") == [VISITOR.to_string()],
            "{protocol:?}: the visitor is known: {apps}"
        );
    }
    Ok(())
}

async fn upload(public: &Public) -> Result<()> {
    let mut client = Http1::tls(public, BLOG).await;
    let head = format!("PUT /upload/big HTTP/1.1\r\nhost: {BLOG}\r\ncontent-length: {UPLOAD}\r\n\r\n");
    client.try_send(head.as_bytes()).await?;
    let mut pattern = Pattern::sized(UPLOAD);
    while let Some(chunk) = pattern.take_chunk() {
        client.try_send(&chunk).await?;
    }
    let answer = client.answer("PUT").await.map_err(anyhow::Error::msg)?;
    ensure!(answer.status == 201, "the upload: {answer:?}");
    Ok(())
}
