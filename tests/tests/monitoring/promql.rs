//! As much of PromQL as is needed to know which metrics and labels an expression names. What it does not know is an unknown metric.

use regex::Regex;

/// What an expression names.
#[derive(Debug, Default)]
pub(crate) struct Expression {
    /// With the labels that are matched of each.
    pub(crate) metrics: Vec<(String, Vec<String>)>,
    /// In `by (…)` and the like.
    pub(crate) labels: Vec<String>,
}

/// Everything in an expression that is neither a metric nor a label.
const WORDS: [&str; 17] = [
    "sum",
    "count",
    "max",
    "min",
    "rate",
    "increase",
    "histogram_quantile",
    "topk",
    "sort",
    "or",
    "and",
    "vector",
    "scalar",
    "by",
    "on",
    "without",
    "label_values",
];

pub(crate) fn read(text: &str) -> Expression {
    let strings = Regex::new(r#""[^"]*"|'[^']*'"#).unwrap();
    let text = strings.replace_all(text, "\"\"").into_owned();
    let mut expression = Expression::default();
    let grouped = Regex::new(r"\b(?:by|on|without)\s*\(([^)]*)\)").unwrap();
    for group in grouped.captures_iter(&text) {
        expression.labels.extend(words(&group[1]));
    }
    let text = grouped.replace_all(&text, " ").into_owned();
    // `label_values(metric, label)`, the dashboard's own.
    let values = Regex::new(r"label_values\((\w+),\s*(\w+)\)").unwrap();
    if let Some(values) = values.captures(&text) {
        return Expression {
            metrics: vec![(values[1].to_owned(), vec![values[2].to_owned()])],
            labels: vec![],
        };
    }
    // Ranges and numbers are no names.
    let text = Regex::new(r"\[[^\]]*\]").unwrap().replace_all(&text, " ").into_owned();
    let named = Regex::new(r"\b([a-zA-Z_]\w*)\s*(?:\{([^}]*)\})?").unwrap();
    for name in named.captures_iter(&text) {
        if WORDS.contains(&&name[1]) {
            continue;
        }
        let matched = name.get(2).map_or("", |matchers| matchers.as_str());
        let labels = matched.split(',').filter_map(|matcher| words(matcher).into_iter().next());
        expression.metrics.push((name[1].to_owned(), labels.collect()));
    }
    expression
}

/// The labels that a text of an alert, or a legend, fills in.
pub(crate) fn named_in(text: &str) -> Vec<String> {
    let filled = Regex::new(r"\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}").unwrap();
    filled.captures_iter(text).map(|label| label[1].to_owned()).collect()
}

fn words(text: &str) -> Vec<String> {
    Regex::new(r"[a-zA-Z_]\w*").unwrap().find_iter(text).map(|word| word.as_str().to_owned()).collect()
}

#[test]
fn metrics_and_labels_are_found() {
    let read = read(
        "sum by (tunnel, le) (rate(a_total{status=\"5xx\", x=~\"b{c\"}[5m])) > 0.05 * scalar(count(b)) or c == 0",
    );
    let metrics: Vec<_> =
        read.metrics.iter().map(|(name, labels)| (name.as_str(), labels.join(","))).collect();
    assert_eq!(metrics, [("a_total", "status,x".to_owned()), ("b", String::new()), ("c", String::new())]);
    assert_eq!(read.labels, ["tunnel", "le"]);
    assert_eq!(
        named_in("{{ $labels.route }} {{$value}} {{mode}} {{ $value | humanize }}"),
        ["route", "mode"]
    );
}
