//! The program's commands as a person runs them: what they print and how they exit.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails where it panics")]

use std::path::Path;
use std::process::{Command, Output};

const RULES: &str = "ingress:\n  - hostname: blog.example.dev\n    service: http://10.0.0.104\n  - service: http_status:404\n";

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway-connector"))
        .args(arguments)
        .env_remove("CAUSEWAY_TOKEN")
        .env_remove("CAUSEWAY_TOKEN_FILE")
        .env_remove("CAUSEWAY_CONFIG")
        .env("HOME", "/nonexistent")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn rules(folder: &Path, text: &str) -> String {
    let file = folder.join("config.yml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn check_exits_0_for_a_good_file_and_1_with_the_place_for_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = rules(folder.path(), RULES);
    let good = run(&["check", &file]);
    assert!(good.status.success());
    assert!(text(&good.stdout).contains("fine, 2 rules"));
    rules(folder.path(), &RULES.replace("hostname", "hostnam"));
    let bad = run(&["check", &file]);
    assert_eq!(bad.status.code(), Some(1));
    let said = text(&bad.stderr);
    assert!(
        said.starts_with(&format!("{file}:2:5: ")) && said.contains("did you mean `hostname`?"),
        "{said}"
    );
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["check", &file, "--output", "json"]).stdout).unwrap();
    assert_eq!((&json["valid"], &json["error"]["line"]), (&false.into(), &2.into()));
    let missing = run(&["check", "/does/not/exist.yml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("/does/not/exist.yml"));
}

#[test]
fn route_says_which_rule_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let file = rules(folder.path(), RULES);
    let hit = run(&["route", &file, "https://blog.example.dev/x"]);
    assert!(text(&hit.stdout).starts_with("rule 1 (line 2): blog.example.dev -> http://10.0.0.104:80\n"));
    let json: serde_json::Value =
        serde_json::from_slice(&run(&["route", &file, "other.dev", "--output", "json"]).stdout).unwrap();
    assert_eq!((&json["rule"], &json["service"]), (&2.into(), &"http_status:404".into()));
}

#[test]
fn what_is_missing_is_named_with_its_mend() {
    let folder = tempfile::tempdir().unwrap();
    let file = rules(folder.path(), RULES);
    let no_token = run(&["run", "--config", &file]);
    assert_eq!(no_token.status.code(), Some(1));
    assert!(text(&no_token.stderr).contains("--token-file"), "{}", text(&no_token.stderr));
    let no_rules = run(&["run"]);
    assert_eq!(no_rules.status.code(), Some(1));
    let said = text(&no_rules.stderr);
    assert!(said.contains("there is no rule file") && said.contains("--token-file"), "{said}");
    let token = folder.path().join("token");
    std::fs::write(&token, "eyJhIjoiMSJ9").unwrap();
    let foreign = run(&["run", "--config", &file, "--token-file", &token.display().to_string()]);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(text(&foreign.stderr).contains("cwt1_"), "{}", text(&foreign.stderr));
}

#[test]
fn status_and_healthcheck_of_nobody_exit_1() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for command in ["status", "healthcheck"] {
        let nobody = run(&[command, "--metrics", &port]);
        assert_eq!(nobody.status.code(), Some(1));
        assert!(text(&nobody.stderr).contains(&port), "{}", text(&nobody.stderr));
    }
}
