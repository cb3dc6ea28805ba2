//! The raw HTTP/1.1 corpus: what the edge does with each case, what reaches an origin behind it, and that nothing reaches one
//! that two common servers would read differently. `--no-capture` shows the table of who accepts what.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use causeway_tests::corpus::{Case, Peer, Reading, Recorder, Verdict, cases, play, table};
use causeway_tests::site::Site;
use causeway_tests::{needs, run, run_within};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::iter;

/// Beyond this nobody is taken to have more to say. Servers that wait for the rest of a request do so for longer.
const QUIET: Duration = Duration::from_millis(700);
/// Whom the edge refuses it leaves within its linger.
const LEAVES: Duration = Duration::from_secs(8);
/// As many cases at once.
const AT_ONCE: usize = 24;

/// Plays all of these to one server, and gathers what its origin saw of each.
async fn play_all(
    server: SocketAddr,
    recorder: &Recorder,
    plays: impl Iterator<Item = (String, Vec<u8>, Duration)>,
) -> Vec<Reading> {
    let played = iter(plays)
        .map(|(word, bytes, quiet)| async move { (word, play(server, &bytes, quiet).await) })
        .buffered(AT_ONCE);
    let played: Vec<_> = played.collect().await;
    let with_seen = |(word, reading): (String, Reading)| Reading { seen: recorder.of(&word), ..reading };
    played.into_iter().map(with_seen).collect()
}

fn plays(cases: &[Case], refused: Duration) -> impl Iterator<Item = (String, Vec<u8>, Duration)> {
    cases.iter().map(move |case| {
        let passes = matches!(case.verdict, Verdict::Passes(_));
        (case.word.clone(), case.bytes.clone(), if passes { QUIET } else { refused })
    })
}

async fn by_the_edge(cases: &[Case]) -> (Site, Vec<Reading>) {
    let recorder = Recorder::start().await;
    let site = Site::of(format!("http://{}", recorder.addr())).await;
    let readings = play_all(site.edge.http, &recorder, plays(cases, LEAVES)).await;
    (site, readings)
}

/// What is wrong with what the edge did, if anything.
fn judge(case: &Case, reading: &Reading) -> Option<String> {
    let Reading { statuses, closed, seen } = reading;
    let fine = match &case.verdict {
        Verdict::Refused(wanted) => {
            seen.is_empty() && *closed && matches!(statuses[..], [status] if wanted.contains(&status))
        }
        Verdict::Cut => !reading.passes() && *closed && matches!(statuses[..], [] | [400 | 431]),
        Verdict::Passes(wanted) => {
            let seen: Vec<_> = seen
                .iter()
                .filter(|seen| seen.whole)
                .map(|seen| (seen.method.clone(), seen.target.clone(), seen.body.clone()))
                .collect();
            seen == *wanted
        }
    };
    (!fine).then(|| format!("{} ({}): {:?}: {reading:?}", case.name, case.hazard, case.verdict))
}

#[test]
fn hazards_001_to_079_reach_an_origin_as_the_corpus_says_and_no_other_way() {
    run(async {
        let cases = cases();
        let (_site, readings) = by_the_edge(&cases).await;
        let wrong: Vec<_> =
            cases.iter().zip(&readings).filter_map(|(case, reading)| judge(case, reading)).collect();
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    });
}

#[test]
fn what_two_common_servers_would_read_differently_is_never_forwarded() {
    let (Some(haproxy), Some(nginx), Some(caddy)) = (needs("haproxy"), needs("nginx"), needs("caddy")) else {
        return;
    };
    run_within(Duration::from_secs(180), async move {
        let cases = cases();
        let peers = [Peer::haproxy(&haproxy).await, Peer::nginx(&nginx).await, Peer::caddy(&caddy).await];
        let (_site, edge) = by_the_edge(&cases).await;
        let played = peers.iter().map(|peer| play_all(peer.addr, &peer.recorder, plays(&cases, QUIET)));
        let mut readings = vec![edge];
        readings.extend(join_all(played).await);
        let names = ["edge", peers[0].name, peers[1].name, peers[2].name];
        println!("{}", table(&cases, &names, &readings));
        for (name, readings) in names.iter().zip(&readings) {
            let passed = readings.iter().filter(|reading| reading.passes()).count();
            println!("{name} passes on {passed} of {}", cases.len());
        }

        let mut wrong = Vec::new();
        let mut torn = 0;
        for (index, case) in cases.iter().enumerate() {
            let row: Vec<&Reading> = readings.iter().map(|server| &server[index]).collect();
            let is_torn = row[1..].iter().any(|one| row[1..].iter().any(|other| !one.agrees_with(other)));
            torn += usize::from(is_torn);
            if row[0].passes() && (is_torn || row[1..].iter().any(|peer| !row[0].agrees_with(peer))) {
                wrong.push(format!("{}: {row:?}", case.name));
            }
        }
        println!("{torn} are read differently by two of the peers");
        assert!(torn > 0, "the peers disagree on nothing: the comparison sees nothing");

        // And what did go on, byte for byte as it reached the origin, means one thing to all of them.
        for peer in &peers {
            peer.recorder.forget();
        }
        let forwarded: Vec<_> = cases.iter().zip(&readings[0]).filter(|(_, edge)| edge.passes()).collect();
        let again = |_: &Peer| {
            let plays = forwarded.iter().map(|(case, edge)| {
                let bytes = edge.seen.iter().flat_map(|seen| seen.raw.clone()).collect();
                (case.word.clone(), bytes, QUIET)
            });
            plays.collect::<Vec<_>>().into_iter()
        };
        let played = peers.iter().map(|peer| play_all(peer.addr, &peer.recorder, again(peer)));
        for (peer, readings) in peers.iter().zip(join_all(played).await) {
            for ((case, edge), reading) in forwarded.iter().zip(readings) {
                if !edge.agrees_with(&reading) {
                    wrong
                        .push(format!("{}, as forwarded, to {}: {edge:?} {reading:?}", case.name, peer.name));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
