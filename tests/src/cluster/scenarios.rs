//! Runs numbered scenarios in order on one shared cluster and reports each by its number.
//!
//! The test targets that use it have `harness = false`: a cluster takes seconds to stand up, so one serves a whole file.
//! They understand what cargo and nextest say to a test binary: `--list`, the file's name as a filter, numbers as filters.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::{Cluster, UnderTest};

#[derive(Debug)]
pub struct Scenario {
    /// The number in the list of what is to be proven, as `9` or `A4`.
    pub number: &'static str,
    /// The promise.
    pub name: &'static str,
    pub run: fn(&mut Cluster) -> Result<()>,
}

/// Whether the long forms run: `--long`, or CAUSEWAY_LONG=1.
pub fn is_long() -> bool {
    std::env::args().any(|a| a == "--long") || std::env::var("CAUSEWAY_LONG").is_ok_and(|v| v == "1")
}

/// The `main` of a test target.
pub fn main(file: &str, nodes: u8, scenarios: &[Scenario]) -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|a| a == "--list") {
        if !args.iter().any(|a| a == "--ignored") {
            println!("{file}: test");
        }
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-') && *a != file).collect();
    let wanted = |s: &&Scenario| {
        filters.is_empty() || filters.iter().any(|f| *f == s.number || s.name.contains(f.as_str()))
    };
    let chosen: Vec<&Scenario> = scenarios.iter().filter(wanted).collect();
    if chosen.is_empty() || args.iter().any(|a| a == "--ignored") {
        println!("{file}: nothing to run");
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = missing() {
        return skip(file, &format!("{} scenarios: {reason}", chosen.len()));
    }
    match run(file, nodes, &chosen) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{file}: the cluster did not stand up: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says that a file is skipped, and why. In CI nothing is: there it is a failure.
pub fn skip(file: &str, reason: &str) -> ExitCode {
    eprintln!("SKIPPED {file}: {reason}");
    if std::env::var("CI").as_deref() == Ok("true") { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Why scenarios cannot run here, with what to do about it.
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".into());
    }
    if let Err(error) = super::control::Programs::find() {
        return Some(format!("{error:#}"));
    }
    super::ours::find().err().map(|error| format!("{error:#}"))
}

/// CAUSEWAY_UNDER_TEST=metallb holds the scenarios against MetalLB itself: what differs is ours to explain.
fn under_test() -> UnderTest {
    match std::env::var("CAUSEWAY_UNDER_TEST").as_deref() {
        Ok("metallb") => UnderTest::MetalLb,
        _ => UnderTest::Causeway,
    }
}

fn run(file: &str, nodes: u8, scenarios: &[&Scenario]) -> Result<usize> {
    let start = Instant::now();
    let mut cluster = Cluster::start_with(file, nodes, under_test())?;
    println!("{file}: cluster of {nodes} nodes up after {:.1} s", start.elapsed().as_secs_f64());
    let mut failed = Vec::new();
    for scenario in scenarios {
        let begin = Instant::now();
        let outcome = cluster.reset().and_then(|()| {
            let run = std::panic::AssertUnwindSafe(|| (scenario.run)(&mut cluster));
            std::panic::catch_unwind(run).unwrap_or_else(|_| Err(anyhow::anyhow!("panicked")))
        });
        let (word, seconds) = (if outcome.is_ok() { "ok" } else { "FAILED" }, begin.elapsed().as_secs_f64());
        println!("scenario {:>3} {} ... {word} ({seconds:.2} s)", scenario.number, scenario.name);
        if let Err(error) = outcome {
            println!("    {error:#}");
            println!("{}", cluster.tails(12));
            failed.push(scenario.number);
        }
    }
    let passed = scenarios.len() - failed.len();
    // MetalLB's programs have accounts of their own.
    if cluster.under_test == UnderTest::Causeway
        && let Err(error) = cluster.was_never_refused()
    {
        println!("{file}: {error:#}");
        failed.push("roles");
    }
    println!(
        "{file}: {passed} passed, {} failed {failed:?}; {:.1} s",
        failed.len(),
        start.elapsed().as_secs_f64()
    );
    if !failed.is_empty() || std::env::var_os("CAUSEWAY_KEEP_LOGS").is_some() {
        println!("{file}: logs are in {}", cluster.keep_logs().display());
    }
    Ok(failed.len())
}
