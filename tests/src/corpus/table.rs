//! Who accepts what, as a table for people.

use super::{Case, Reading};

/// One line a case; behind what is read differently by two servers that pass it on stands `≠`.
pub fn table(cases: &[Case], names: &[&str], readings: &[Vec<Reading>]) -> String {
    let mut text =
        format!("| case | hazard | {} | |\n|---|---|{}---|\n", names.join(" | "), "---|".repeat(names.len()));
    for (index, case) in cases.iter().enumerate() {
        let row: Vec<&Reading> = readings.iter().map(|server| &server[index]).collect();
        let cells: Vec<String> = row.iter().map(|reading| cell(reading)).collect();
        let torn = row.iter().any(|one| row.iter().any(|other| !one.agrees_with(other)));
        let mark = if torn { "≠" } else { "" };
        text.push_str(&format!("| {} | {} | {} | {mark} |\n", case.name, case.hazard, cells.join(" | ")));
    }
    text
}

fn cell(reading: &Reading) -> String {
    let whole: Vec<String> = reading
        .seen
        .iter()
        .filter(|seen| seen.whole)
        .map(|seen| {
            let body: String = seen.body.escape_ascii().to_string().chars().take(12).collect();
            format!("{} “{body}”", seen.method.replace('|', "\\|"))
        })
        .collect();
    let said: Vec<String> = reading.statuses.iter().map(ToString::to_string).collect();
    match (whole.is_empty(), said.is_empty()) {
        (false, _) => format!("→ {}", whole.join(", ")),
        (true, false) => said.join(", "),
        (true, true) if reading.closed => "closed".to_owned(),
        (true, true) => "waits".to_owned(),
    }
}
