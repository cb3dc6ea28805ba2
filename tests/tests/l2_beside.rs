//! Side by side with MetalLB: the same cluster, the same kills, the same crowd. The long form only.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use causeway_tests::cluster::scenarios::{self, is_long};
use causeway_tests::cluster::{Cluster, Crowd, UnderTest, metallb_is_here, report};

const KILLS: usize = 20;
const HAND_OVERS: usize = 10;
const SERVICES: u16 = 1000;
const REST: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let name = "l2_beside";
    if std::env::args().any(|a| a == "--list") {
        println!("{name}: test");
        return ExitCode::SUCCESS;
    }
    if !is_long() {
        println!("{name}: the comparison runs in the long form only");
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = scenarios::missing().or_else(|| metallb_is_here().err().map(|e| format!("{e:#}"))) {
        eprintln!("SKIPPED {name}: {reason}");
        return ExitCode::SUCCESS;
    }
    for (who, under_test) in [("MetalLB", UnderTest::MetalLb), ("Causeway", UnderTest::Causeway)] {
        println!("{who}");
        if let Err(error) = compare(under_test) {
            println!("    failed: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn compare(under_test: UnderTest) -> Result<()> {
    let mut cluster = Cluster::start_with("beside", 3, under_test)?;
    let [crashes, cuts] = cluster.kills(KILLS)?;
    report("process killed", crashes);
    report("link cut", cuts);
    cluster.reset()?;
    let (times, failed, straddlers) = cluster.hand_overs(HAND_OVERS)?;
    report("stop to new owner", times);
    println!(
        "    connections failed in {HAND_OVERS} hand-overs: {failed}; {straddlers} more were reset in the instant of a move"
    );
    cluster.reset()?;
    let Crowd { creating, given, api_calls, allocator_mib, speaker_mib } = cluster.crowd(SERVICES, REST)?;
    println!(
        "    {SERVICES} Services: created in {creating:.1?}, all addresses after {given:.1?}; at rest {api_calls:.2} API calls/s \
         in the whole cluster; allocator {allocator_mib:.1} MiB, speaker {speaker_mib:.1} MiB"
    );
    Ok(())
}
