//! The load, by tools of others: wrk for HTTP/1.1, h2load for HTTP/2, curl for bulk; each run is one measurement.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use causeway_tests::child::output;
use regex::Regex;
use tokio::process::Command;

use crate::contender::{Contender, HOST};

/// The generators that are installed.
#[derive(Clone, Debug)]
pub struct Tools {
    pub wrk: PathBuf,
    pub h2load: PathBuf,
    pub curl: PathBuf,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// 1 KiB GET, keep-alive HTTP/1.1, 32 visitors.
    Http1,
    /// 1 KiB GET, HTTP/2, 8 connections with 16 streams each.
    Http2,
    /// 1 KiB GET, one visitor: what a request takes when nothing else is to do.
    Latency,
    /// One download of 256 MiB.
    Download,
}

pub const KINDS: [Kind; 4] = [Kind::Http1, Kind::Http2, Kind::Latency, Kind::Download];

/// Bytes of the bulk download.
pub const BULK_BYTES: u64 = 256 << 20;

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1, 32 visitors",
            Self::Http2 => "HTTP/2, 8 x 16 streams",
            Self::Latency => "HTTP/1.1, 1 visitor",
            Self::Download => "256 MiB download",
        }
    }

    /// The figures that one run gives, with their units.
    pub fn figures(self) -> [&'static str; 2] {
        match self {
            Self::Http1 | Self::Http2 => ["CPU us/request", "requests/s"],
            Self::Latency => ["p50 us", "CPU us/request"],
            Self::Download => ["CPU ns/byte", "Gbit/s"],
        }
    }

    /// Whether less is better, for each figure.
    pub fn less_is_better(self) -> [bool; 2] {
        match self {
            Self::Http1 | Self::Http2 | Self::Download => [true, false],
            Self::Latency => [true, true],
        }
    }
}

/// Puts one load on one contender and says what came out, in the order of [`Kind::figures`].
///
/// # Errors
/// When the generator fails, or one request did.
pub async fn measure(
    tools: &Tools,
    contender: &Contender,
    kind: Kind,
    seconds: u64,
) -> anyhow::Result<[f64; 2]> {
    let url = |path: &str| format!("https://{HOST}:{}{path}", contender.https.port());
    let before = contender.cpu();
    match kind {
        Kind::Http1 | Kind::Latency => {
            let visitors = if kind == Kind::Http1 { "32" } else { "1" };
            let mut command = Command::new(&tools.wrk);
            command.args([
                "--latency",
                "-t",
                "1",
                "-c",
                visitors,
                "-d",
                &format!("{seconds}s"),
                &url("/1k.bin"),
            ]);
            let seen = output(command).await.ok();
            let cpu = contender.cpu() - before;
            ensure!(!seen.contains("Non-2xx") && !seen.contains("Socket errors"), "wrk saw errors: {seen}");
            let requests = number(&seen, r"(\d+) requests in")?;
            let each = micros(cpu) / requests;
            if kind == Kind::Latency {
                return Ok([wrk_time(&seen)?, each]);
            }
            Ok([each, number(&seen, r"Requests/sec:\s+([\d.]+)")?])
        }
        Kind::Http2 => {
            let mut command = Command::new(&tools.h2load);
            command.args(["-t", "1", "-c", "8", "-m", "16", "-D", &seconds.to_string(), &url("/1k.bin")]);
            let seen = output(command).await.ok();
            let cpu = contender.cpu() - before;
            ensure!(seen.contains(" 0 failed, 0 errored, 0 timeout"), "h2load saw errors: {seen}");
            let requests = number(&seen, r"(\d+) succeeded")?;
            Ok([micros(cpu) / requests, number(&seen, r"finished in [\d.]+s, ([\d.]+) req/s")?])
        }
        Kind::Download => {
            let mut command = Command::new(&tools.curl);
            command.args([
                "-sS",
                "-k",
                "--http1.1",
                "-o",
                "/dev/null",
                "-w",
                "%{size_download} %{time_total} %{http_code}",
            ]);
            command.arg(url("/bulk.bin"));
            let seen = output(command).await.ok();
            let cpu = contender.cpu() - before;
            let parts: Vec<f64> = seen.split(' ').filter_map(|part| part.parse().ok()).collect();
            let [bytes, time, 200.0] = parts[..] else { bail!("curl: {seen}") };
            ensure!(bytes == BULK_BYTES as f64, "curl got {bytes} bytes");
            Ok([micros(cpu) * 1000.0 / bytes, bytes * 8.0 / time / 1e9])
        }
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn number(text: &str, pattern: &str) -> anyhow::Result<f64> {
    let found = Regex::new(pattern)?.captures(text).with_context(|| format!("no {pattern} in {text}"))?;
    Ok(found[1].parse()?)
}

/// wrk's median, in microseconds.
fn wrk_time(text: &str) -> anyhow::Result<f64> {
    let found = Regex::new(r"50%\s+([\d.]+)(us|ms|s)")?
        .captures(text)
        .with_context(|| format!("no median in {text}"))?;
    let scale = match &found[2] {
        "us" => 1.0,
        "ms" => 1e3,
        _ => 1e6,
    };
    Ok(found[1].parse::<f64>()? * scale)
}
