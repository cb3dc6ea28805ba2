//! Figures, as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One measured value.
#[derive(Clone, Debug)]
pub struct Figure {
    pub row: String,
    pub contender: String,
    pub name: String,
    /// None: it did not come to its end, and why.
    pub value: Result<f64, String>,
    pub unit: &'static str,
}

/// All of them, in the order in which they were measured.
#[derive(Debug, Default)]
pub struct Table {
    pub figures: Vec<Figure>,
    /// What was not measured, and why.
    pub missing: Vec<String>,
    pub machine: String,
}

impl Table {
    /// A line for each row and contender; several rounds show their median and their span.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.machine);
        let mut row = "";
        for (of, contender) in self.lines() {
            if of != row {
                let _ = writeln!(text, "\n{of}");
                row = of;
            }
            let cells: Vec<_> =
                self.names(of, contender).iter().map(|name| self.cell(of, contender, name)).collect();
            let _ = writeln!(text, "  {contender:<24} {}", cells.join(" | "));
        }
        for missing in &self.missing {
            let _ = writeln!(text, "\nnot measured: {missing}");
        }
        text
    }

    pub fn json(&self) -> Value {
        let one = |figure: &Figure| {
            json!({
                "row": figure.row, "contender": figure.contender, "figure": figure.name,
                "value": figure.value.as_ref().ok(), "broken": figure.value.as_ref().err(), "unit": figure.unit,
            })
        };
        let figures: Vec<_> = self.figures.iter().map(one).collect();
        json!({ "machine": self.machine, "figures": figures, "missing": self.missing })
    }

    fn lines(&self) -> Vec<(&str, &str)> {
        let mut lines = Vec::new();
        for figure in &self.figures {
            let line = (figure.row.as_str(), figure.contender.as_str());
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        // Rounds come interleaved: the lines of one row stand together.
        let mut rows: Vec<&str> = Vec::new();
        for (row, _) in &lines {
            if !rows.contains(row) {
                rows.push(row);
            }
        }
        lines.sort_by_key(|(row, _)| rows.iter().position(|known| known == row));
        lines
    }

    fn names<'a>(&'a self, row: &'a str, contender: &'a str) -> Vec<&'a str> {
        let mut names = Vec::new();
        for figure in self.of(row, contender) {
            if !names.contains(&figure.name.as_str()) {
                names.push(figure.name.as_str());
            }
        }
        names
    }

    fn of<'a>(&'a self, row: &'a str, contender: &'a str) -> impl Iterator<Item = &'a Figure> {
        self.figures.iter().filter(move |figure| figure.row == row && figure.contender == contender)
    }

    fn cell(&self, row: &str, contender: &str, name: &str) -> String {
        let figures: Vec<_> = self.of(row, contender).filter(|figure| figure.name == name).collect();
        let mut values: Vec<f64> = figures.iter().filter_map(|figure| figure.value.clone().ok()).collect();
        values.sort_by(f64::total_cmp);
        let broken: Vec<_> = figures.iter().filter_map(|figure| figure.value.as_ref().err()).collect();
        let unit = figures.first().map_or("", |figure| figure.unit);
        let mut text = match values.as_slice() {
            [] => format!("{name} -"),
            [one] => format!("{name} {one:.1} {unit}"),
            [least, .., most] => {
                format!("{name} {:.1} ({least:.1}-{most:.1}) {unit}", values[values.len() / 2])
            }
        };
        if let Some(first) = broken.first() {
            let _ = write!(text, " BROKEN {}x: {first:.120}", broken.len());
        }
        text
    }
}
