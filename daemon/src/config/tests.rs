//! The promises of configuration files, variables and their errors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};
use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, load, load_with_vars, nearest, parse};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Sample {
    address: Vec<String>,
    access_log: AccessLog,
    shards: u16,
    name: String,
    password: Option<Secret>,
    #[serde(with = "super::duration")]
    grace: Duration,
    #[serde(with = "super::duration::option")]
    idle: Option<Duration>,
    mode: Mode,
    labels: BTreeMap<String, String>,
    pair: Option<Pair>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct AccessLog {
    enabled: bool,
    query: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pair {
    cert: String,
    key: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Fast,
    Safe,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            address: Vec::new(),
            access_log: AccessLog::default(),
            shards: 1,
            name: "edge".to_owned(),
            password: None,
            grace: Duration::from_secs(30),
            idle: None,
            mode: Mode::Safe,
            labels: BTreeMap::new(),
            pair: None,
        }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { enabled: true, query: false }
    }
}

fn fails(text: &str) -> ConfigError {
    parse::<Sample>("edge.yaml", text).unwrap_err()
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "\n\n", "# nothing yet\n", "{}", "---\n{}\n"] {
        assert_eq!(parse::<Sample>("edge.yaml", text).unwrap(), Sample::default(), "{text:?}");
    }
}

#[test]
fn every_kind_of_value_is_read() {
    let text = "address: [\"a:443\", b:443]\naccessLog: { enabled: false }\nname: 123\npassword: s3cret\n\
                grace: 1m30s\nidle: 5\nmode: fast\nlabels:\n  a: b\npair:\n  cert: c\n  key: k\n";
    let sample: Sample = parse("edge.yaml", text).unwrap();
    assert_eq!(sample.address, ["a:443", "b:443"]);
    assert_eq!(sample.access_log, AccessLog { enabled: false, query: false });
    assert_eq!(sample.name, "123");
    assert_eq!(sample.password.unwrap().expose(), "s3cret");
    assert_eq!((sample.grace, sample.idle), (Duration::from_secs(90), Some(Duration::from_secs(5))));
    assert_eq!((sample.mode, sample.labels["a"].as_str()), (Mode::Fast, "b"));
}

#[test]
fn a_misspelt_key_is_named_with_its_place_and_the_nearest_one() {
    assert_eq!(
        fails("shards: 2\nacessLog: {}\n").to_string(),
        "edge.yaml:2:1: unknown key `acessLog`; did you mean `accessLog`?"
    );
    assert_eq!(
        fails("shards: 2\naccessLog:\n  enabled: true\n  qurey: true\n").to_string(),
        "edge.yaml:4:3: unknown key `qurey`; did you mean `query`?"
    );
}

#[test]
fn a_key_like_no_other_is_answered_with_the_choice() {
    let error = fails("zzz: 1\n");
    assert_eq!((error.line, error.column), (1, 1));
    assert!(error.help.unwrap().starts_with("possible here: `address`, `accessLog`"));
}

#[test]
fn a_wrong_value_is_shown_with_what_was_expected() {
    let error = fails("name: x\nmode: fats\n");
    assert_eq!(error.to_string(), "edge.yaml:2:7: `mode`: unknown value `fats`; did you mean `fast`?");
    let error = fails("grace: soon\n");
    assert!(error.reason.contains("\"soon\" is not a duration") && error.line == 1, "{error}");
    let error = fails("labels: 3\n");
    assert_eq!((error.line, error.column), (1, 9), "{error}");
    let error = fails("shards: many\n");
    assert_eq!((error.line, error.column), (1, 9), "{error}");
    let error = fails("pair: { cert: a }\n");
    assert!(error.reason.contains("`key` is missing") && error.line == 1, "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_is_told_with_its_key_and_what_to_write() {
    for (text, told) in [
        (
            "address: \"203.0.113.7:443\"\n",
            "1:10: `address` is a list, not \"203.0.113.7:443\"; write `address: [\"203.0.113.7:443\"]`",
        ),
        ("address: a:443 # the VPS\n", "1:10: `address` is a list, not a:443; write `address: [\"a:443\"]`"),
        ("shards: many\n", "1:9: `shards` is a whole number, not many"),
        ("name: [a]\n", "1:7: `name` is a single value, and here is a list"),
        ("accessLog: true\n", "1:12: `accessLog` is a mapping: keys of its own, indented below it, not true"),
        ("accessLog:\n  enabled: maybe\n", "2:12: `enabled` is `true` or `false`, not maybe"),
        (
            "- 1\n- 2\n",
            "1:1: here must be a mapping: keys of its own, indented below it, and there is a list",
        ),
        (
            "accessLog:\n  enabled:true\n",
            "2:3: `enabled:` has no space after the colon, so it is no key; write `enabled: true`",
        ),
    ] {
        assert_eq!(fails(text).to_string(), format!("edge.yaml:{told}"), "{text}");
    }
}

#[test]
fn slips_in_yaml_are_told_in_plain_words() {
    for (text, told) in [
        (
            "name: *.example.dev\n",
            "1:7: `name`: `*.example.dev` is a reference to YAML, not a text; put it into quotation marks: \"*.example.dev\"",
        ),
        (
            "shards: *none\n",
            "1:9: `shards`: `*none` is a reference to YAML, not a text; define it with `&none`, or put it into quotation marks",
        ),
        ("shards: 1\n\tname: x\n", "2:1: the line is indented with a tab; YAML takes spaces only"),
        (
            "name: a: b\n",
            "1:7: `name`: a `: ` inside a value makes a second key of it; put the value into quotation marks, or the second key on a line of its own",
        ),
        (
            "name: \"open\nshards: 1\n",
            "1:7: `name`: the quotation mark is never closed; end the value with \"",
        ),
        ("name: @home\n", "1:7: `name`: a value cannot begin with `@`; put it into quotation marks"),
        (
            "pair:\n    -cert: a\n     key: b\n",
            "2:5: `-cert` has no space after the dash, so it is no entry of a list; write `- cert`",
        ),
    ] {
        assert_eq!(fails(text).to_string(), format!("edge.yaml:{told}"), "{text}");
    }
    let libraries = [
        "serde",
        "deserialize",
        "anchor",
        "scalar",
        "mapping start",
        "sequence start",
        "token",
        "node",
        "Option<",
    ];
    for text in [
        "a: [1, 2\nb: 3\n",
        "]",
        "{",
        "a: &x",
        "? [a]: b",
        "!!binary x",
        "name: !foo x",
        "--- a\n--- b\n",
        "name:\n  - a\n - b\n",
        "name: ~\n",
    ] {
        let told = parse::<Sample>("edge.yaml", text).map_err(|error| error.to_string());
        if let Err(told) = told {
            assert!(!libraries.iter().any(|word| told.contains(word)), "{text}: {told}");
        }
    }
}

#[test]
fn a_key_given_twice_is_an_error() {
    let error = fails("shards: 1\nname: a\nshards: 2\n");
    assert!(error.reason.contains("`shards` stands here a second time") && error.line == 3, "{error}");
}

#[test]
fn broken_yaml_is_one_line_with_its_place() {
    for text in
        ["a: [1, 2\nb: 3\n", "shards: 1\n\tname: x", "a: b: c", "shards: *none", "a: \"open", "- 1\n- 2\n"]
    {
        let error = parse::<Sample>("edge.yaml", text).expect_err(text);
        assert!(error.line >= 1 && error.column >= 1, "{error}");
        assert!(!error.to_string().contains(['\n', '\r']), "{error}");
    }
}

#[test]
fn bombs_end_quickly() {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let row = format!("*a{}, ", level - 1).repeat(10);
        aliases.push_str(&format!("a{level}: &a{level} [{row}]\n"));
    }
    assert!(parse::<serde_json::Value>("bomb.yaml", &aliases).is_err());
    assert!(parse::<serde_json::Value>("deep.yaml", &"[".repeat(100_000)).is_err());
    assert!(parse::<serde_json::Value>("large.yaml", &"a".repeat(5 << 20)).is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = load::<Sample>(&folder.path().join("none.yaml")).unwrap_err();
    assert!(error.to_string().contains("none.yaml: cannot read the configuration: No such file"), "{error}");
    let path = folder.path().join("latin1.yaml");
    fs::write(&path, b"name: a\nname: caf\xe9\n").unwrap();
    let error = load::<Sample>(&path).unwrap_err();
    assert_eq!((error.line, error.column), (2, 10), "{error}");
    assert!(load::<Sample>(folder.path()).is_err());
}

fn with_vars(text: &str, vars: &[(&str, &str)]) -> Result<Sample, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.yaml");
    fs::write(&path, text).unwrap();
    load_vars(Some(&path), vars)
}

fn load_vars(path: Option<&Path>, vars: &[(&str, &str)]) -> Result<Sample, ConfigError> {
    load_with_vars(path, "CW", vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn variables_override_single_values() {
    let sample = with_vars(
        "name: \"1.10\"\npassword: 0123\naccessLog: { query: true }\naddress: [a]\ngrace: 10\n",
        &[
            ("CW_ACCESS_LOG_ENABLED", "false"),
            ("CW_SHARDS", "4"),
            ("CW_ADDRESS", "[::1]:443, b:443"),
            ("CW_IDLE", "90s"),
            ("CW_PAIR", "{cert: c, key: k}"),
            ("CW_LABELS", "{a: b}"),
            ("OTHER_SHARDS", "9"),
        ],
    )
    .unwrap();
    assert_eq!(sample.access_log, AccessLog { enabled: false, query: true });
    assert_eq!((sample.shards, sample.name.as_str()), (4, "1.10"));
    assert_eq!(sample.address, ["[::1]:443", "b:443"]);
    assert_eq!((sample.grace, sample.idle), (Duration::from_secs(10), Some(Duration::from_secs(90))));
    assert_eq!(sample.pair, Some(Pair { cert: "c".to_owned(), key: "k".to_owned() }));
    assert!(sample.password.is_some());
}

#[test]
fn variables_work_without_a_file_and_keep_texts_texts() {
    let sample = load_vars(None, &[("CW_NAME", "0123"), ("CW_PASSWORD", "42"), ("CW_GRACE", "5")]).unwrap();
    assert_eq!(sample.name, "0123");
    assert_eq!(sample.password.unwrap().expose(), "42");
    assert_eq!(sample.grace, Duration::from_secs(5));
}

#[test]
fn an_error_in_a_variable_names_the_variable() {
    let error = load_vars(None, &[("CW_NAME", "ok"), ("CW_SHARDS", "many")]).unwrap_err();
    assert!(
        error.to_string().starts_with("CW_SHARDS: ") && error.to_string().contains("`shards`"),
        "{error}"
    );
    let error = load_vars(None, &[("CW_GRACE", "soon")]).unwrap_err();
    assert!(error.to_string().starts_with("CW_GRACE: \"soon\" is not a duration"), "{error}");
    let error = load_vars(None, &[("CW_PAIR", "{cert: c}")]).unwrap_err();
    assert!(error.to_string().starts_with("CW_PAIR: "), "{error}");
    let error = load_vars(None, &[("CW_SHARD", "2")]).unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean `CW_SHARDS`?"));
}

#[test]
fn foreign_variables_of_the_prefix_are_left_alone() {
    let kubernetes =
        [("CW_SERVICE_HOST", "10.0.0.1"), ("CW_PORT", "tcp://10.0.0.1:443"), ("CW_PORT_443_TCP", "x")];
    assert_eq!(load_vars(None, &kubernetes).unwrap(), Sample::default());
    assert_eq!(load_vars(None, &[("CW_CONFIG", "/etc/edge.yaml")]).unwrap(), Sample::default());
}

#[test]
fn near_words_are_found_whatever_their_style() {
    let known = ["hostname", "path", "service", "originRequest"];
    for (word, near) in [
        ("orignRequest", "originRequest"),
        ("origin_request", "originRequest"),
        ("host", "hostname"),
        ("Service", "service"),
    ] {
        assert_eq!(nearest(word, &known), Some(near));
    }
    assert_eq!(nearest("zzz", &known), None);
}

fn sample() -> impl Strategy<Value = Sample> {
    let text = || prop_oneof!["\\PC{0,20}", "[0-9.]{1,6}", "true|null|~|yes|0x1f|1e9|-|: |#|&a|\\*a|!x"];
    let list = prop::collection::vec(text(), 0..4);
    let labels = prop::collection::btree_map("[a-z]{1,6}", text(), 0..4);
    let pair = prop::option::of((text(), text()).prop_map(|(cert, key)| Pair { cert, key }));
    (
        list,
        any::<(bool, bool)>(),
        any::<u16>(),
        text(),
        0u64..100_000_000,
        prop::option::of(0u64..1_000_000),
        labels,
        pair,
    )
        .prop_map(|(address, (enabled, query), shards, name, grace, idle, labels, pair)| Sample {
            address,
            access_log: AccessLog { enabled, query },
            shards,
            name,
            password: None,
            grace: Duration::from_millis(grace),
            idle: idle.map(Duration::from_millis),
            mode: if query { Mode::Fast } else { Mode::Safe },
            labels,
            pair,
        })
}

proptest! {
    /// JSON is YAML: whatever a configuration says, the file says it back.
    #[test]
    fn what_is_written_is_read_back(sample in sample()) {
        let text = serde_json::to_string_pretty(&sample).unwrap();
        assert_eq!(parse::<Sample>("edge.yaml", &text).unwrap(), sample);
    }

    #[test]
    fn any_text_gives_a_value_or_one_line_that_starts_with_the_file(text in any::<String>()) {
        if let Err(error) = parse::<Sample>("edge.yaml", &text) {
            let shown = error.to_string();
            assert!(shown.starts_with("edge.yaml") && !shown.contains(['\n', '\r', '\u{1b}']), "{shown:?}");
        }
    }

    #[test]
    fn yaml_like_text_never_panics(lines in prop::collection::vec("[ ]{0,4}(- )?(name|shards|grace|accessLog|x)?(: )?[\\[{&*!|>\"'#a-z0-9 ,:\\]}]{0,12}", 0..8)) {
        let text = lines.join("\n");
        if let Err(error) = parse::<Sample>("edge.yaml", &text) {
            let lines = text.lines().count() as u64 + 1;
            assert!(error.line >= 1 && error.line <= lines, "{error} in {text:?}");
        }
    }

    /// Every letter changed in a right key is an error, and never another key's value.
    #[test]
    fn a_changed_key_is_refused(at in 0usize..6, letter in "[a-z]") {
        let mut key = "shards".to_owned();
        key.replace_range(at..=at, &letter);
        let read = parse::<Sample>("edge.yaml", &format!("{key}: 7\n"));
        if key == "shards" {
            assert_eq!(read.unwrap().shards, 7);
        } else {
            assert_eq!(read.unwrap_err().help.as_deref(), Some("did you mean `shards`?"));
        }
    }
}
