//! Medians and ratios, as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::{KINDS, Kind};

/// All measurements: contender, kind, and the two figures of each round.
#[derive(Debug, Default)]
pub struct Report {
    pub contenders: Vec<&'static str>,
    pub rounds: Vec<(&'static str, Kind, [f64; 2])>,
    /// Contender, program, bytes at rest, bytes after the load.
    pub memory: Vec<(&'static str, &'static str, u64, u64)>,
    /// What was not measured, and why.
    pub missing: Vec<String>,
    pub machine: String,
}

impl Report {
    /// The median of one figure over all rounds.
    pub fn median(&self, contender: &str, kind: Kind, figure: usize) -> Option<f64> {
        let of = |(name, measured, figures): &(&'static str, Kind, [f64; 2])| {
            (*name == contender && *measured == kind).then_some(figures[figure])
        };
        let mut values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len().checked_sub(1)? / 2;
        Some(values[middle])
    }

    /// Ours against another: below 1 is better for a cost, above 1 for a yield.
    fn ratio(&self, against: &str, kind: Kind, figure: usize) -> Option<f64> {
        Some(self.median("causeway", kind, figure)? / self.median(against, kind, figure)?)
    }

    pub fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.machine);
        for kind in KINDS {
            let figures = kind.figures();
            let better = kind.less_is_better().map(|less| if less { "less" } else { "more" });
            let _ = writeln!(
                text,
                "{:<24} {:>16} {:>10} {:>16} {:>10}",
                kind.name(),
                figures[0],
                "ours/this",
                figures[1],
                "ours/this"
            );
            let _ = writeln!(
                text,
                "{:<24} {:>16} {:>10} {:>16}",
                "",
                format!("({} is better)", better[0]),
                "",
                format!("({})", better[1])
            );
            for &contender in &self.contenders {
                let cell = |figure| {
                    self.median(contender, kind, figure)
                        .map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
                };
                let ratio = |figure| match self.ratio(contender, kind, figure) {
                    Some(ratio) if contender != "causeway" => format!("{ratio:.2}"),
                    _ => String::new(),
                };
                let (first, second) = if kind == Kind::Download {
                    (two(self, contender, kind, 0), two(self, contender, kind, 1))
                } else {
                    (cell(0), cell(1))
                };
                let _ = writeln!(
                    text,
                    "{contender:<24} {first:>16} {:>10} {second:>16} {:>10}",
                    ratio(0),
                    ratio(1)
                );
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "{:<24} {:<20} {:>12} {:>14}",
            "memory (VmRSS)", "program", "idle MiB", "after load MiB"
        );
        for (contender, program, idle, after) in &self.memory {
            let mib = |bytes: &u64| *bytes as f64 / f64::from(1 << 20);
            let _ = writeln!(text, "{contender:<24} {program:<20} {:>12.1} {:>14.1}", mib(idle), mib(after));
        }
        for missing in &self.missing {
            let _ = writeln!(text, "\nnot measured: {missing}");
        }
        text
    }

    pub fn json(&self) -> Value {
        let mut results = Vec::new();
        for &contender in &self.contenders {
            for kind in KINDS {
                let figures = kind.figures();
                for (n, figure) in figures.into_iter().enumerate() {
                    results.push(json!({
                        "contender": contender, "load": kind.name(), "figure": figure,
                        "median": self.median(contender, kind, n), "oursToThis": self.ratio(contender, kind, n),
                    }));
                }
            }
        }
        let memory: Vec<Value> = self
            .memory
            .iter()
            .map(|(contender, program, idle, after)| {
                json!({ "contender": contender, "program": program, "idleBytes": idle, "afterLoadBytes": after })
            })
            .collect();
        json!({ "machine": self.machine, "results": results, "memory": memory, "missing": self.missing })
    }
}

fn two(report: &Report, contender: &str, kind: Kind, figure: usize) -> String {
    report.median(contender, kind, figure).map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}
