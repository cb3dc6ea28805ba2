//! The DNS hook with real scripts: what it is handed, what its failure says, and that it is ended in time with all it started.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is the harness's, and each of these files needs a part of it"
)]
#[path = "../../tests/src/named.rs"]
mod named;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use causeway_acme::dns::{DnsConfig, DnsSolver, Resolvers, Server};
use causeway_daemon::config::parse;

use crate::named::{Difference, Named};

const NAME: &str = "_acme-challenge.example.test";

fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("dns-hook");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn solver(hook: &Path, rest: &str) -> Arc<dyn DnsSolver> {
    parse::<DnsConfig>("edge.yaml", &format!("hook: {}\n{rest}", hook.display()))
        .unwrap()
        .solver()
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn the_hook_is_handed_its_words_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().join("seen");
    let at = seen.display();
    let text =
        format!("{{ printf '%s|' \"$@\"; pwd; cat; env | cut -d= -f1 | sort | tr '\\n' ' '; }} >>{at}");
    let hook = solver(&script(folder.path(), &text), "wait: 0s");
    hook.present(NAME, "a b;$(id)").await.unwrap();
    hook.remove(NAME, "-x").await.unwrap();
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains(&format!("present|{NAME}|a b;$(id)|/\n")), "{seen}");
    assert!(seen.contains(&format!("remove|{NAME}|-x|/\n")), "{seen}");
    assert!(seen.contains("PATH") && !seen.contains("CARGO"), "the environment is not handed on: {seen}");
}

#[tokio::test]
async fn a_hook_that_fails_is_quoted_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let hook = script(
        folder.path(),
        "yes chatter | head -c 100000; printf 'no such\\n\\033[31mtoken\\n' >&2; exit 3",
    );
    let told = solver(&hook, "wait: 0s").present(NAME, "x").await.unwrap_err().to_string();
    assert!(told.contains("exit status: 3") && told.contains("it said: no such"), "{told}");
    assert!(!told.contains(char::is_control) && told.len() < 6000, "{told}");
    let told = solver(&folder.path().join("gone"), "").present(NAME, "x").await.unwrap_err().to_string();
    assert!(told.starts_with("cannot start the DNS hook"), "{told}");
}

#[tokio::test]
async fn a_hook_that_anybody_may_change_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let hook = script(folder.path(), "touch \"$0.ran\"");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o777)).unwrap();
    let told = solver(&hook, "wait: 0s").present(NAME, "x").await.unwrap_err().to_string();
    assert!(told.contains("chmod o-w"), "{told}");
    assert!(!folder.path().join("dns-hook.ran").exists());
}

#[tokio::test]
async fn what_a_hook_leaves_running_is_ended_with_it() {
    let folder = tempfile::tempdir().unwrap();
    // The child holds the pipe: reading to its end would take an hour.
    let hook = script(folder.path(), "sleep 3600 & echo $! >\"$0.child\"");
    solver(&hook, "wait: 0s").present(NAME, "x").await.unwrap();
    assert!(is_gone(&folder.path().join("dns-hook.child")).await);
}

#[tokio::test]
async fn a_present_that_is_given_up_ends_the_hook() {
    let folder = tempfile::tempdir().unwrap();
    let hook = script(folder.path(), "echo $$ >\"$0.new\"; mv \"$0.new\" \"$0.child\"; sleep 3600");
    let solver = solver(&hook, "wait: 0s");
    let child = folder.path().join("dns-hook.child");
    let started = async {
        while !child.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { outcome = solver.present(NAME, "x") => panic!("{outcome:?}"), () = started => {} }
    assert!(is_gone(&child).await);
}

/// A hook whose record comes into the zone by `nsupdate`, and a CA that would see it there.
#[tokio::test]
async fn a_hook_is_done_when_the_record_is_seen() {
    let named = Named::start(Difference::default());
    let (server, key) = (named.address, named.key_file.display());
    let text = format!(
        "[ $1 = present ] && change=add || change=delete\n\
         {{ echo server 127.0.0.1 {}; echo update $change $2 60 TXT $3; echo send; }} | nsupdate -k {key}",
        server.port()
    );
    let rest = format!("seenBy: ['{server}']\nresolvers: ['{server}']\nwait: 10s");
    let hook = solver(&script(named.folder(), &text), &rest);
    let values = || async move { Resolvers::new(&[Server::from(server)]).txt(NAME).await.unwrap().len() };
    hook.present(NAME, "one").await.unwrap();
    assert_eq!(values().await, 2);
    hook.remove(NAME, "one").await.unwrap();
    assert_eq!(values().await, 1);

    let idle = tempfile::tempdir().unwrap();
    let told = solver(&script(idle.path(), "true"), &rest.replace("10s", "1s")).present(NAME, "two").await;
    assert!(told.unwrap_err().to_string().contains("still missing at"));
}

/// Whether the process whose number stands in a file ends soon.
async fn is_gone(file: &Path) -> bool {
    let id = fs::read_to_string(file).unwrap();
    let status = PathBuf::from(format!("/proc/{}/status", id.trim()));
    let ended = async {
        // One that nobody waits for stays as a zombie where no init reaps it.
        while fs::read_to_string(&status).is_ok_and(|text| !text.contains("State:\tZ")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.is_ok()
}
