//! Tables and times for people.

use std::time::Duration;

use causeway_daemon::config::duration;

use crate::unix_now;

/// Columns padded to their widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.iter().map(|&cell| cell.to_owned()).collect()
}

/// `3m ago`, `in 2h`, or `-`; to the two largest units.
pub(super) fn when(at: Option<i64>) -> String {
    let Some(at) = at else { return "-".to_owned() };
    let seconds = unix_now() - at;
    let rounded = match seconds.unsigned_abs() {
        s @ 0..3600 => s,
        s @ 3600..86_400 => s / 60 * 60,
        s => s / 3600 * 3600,
    };
    let text = duration::format(Duration::from_secs(rounded));
    if seconds < 0 { format!("in {text}") } else { format!("{text} ago") }
}

/// How long, to the two largest units.
pub(super) fn span(seconds: i64) -> String {
    when(Some(unix_now() - seconds)).trim_end_matches(" ago").to_owned()
}

/// At most `limit` items and how many more there are.
pub(super) fn some(items: &[String], limit: usize) -> String {
    let mut text = items.iter().take(limit).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > limit {
        text.push_str(&format!(", … {} more", items.len() - limit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [row(["NAME", "STATE"]), row(["a-long-name", "UP"])];
        assert_eq!(table(&rows), "NAME         STATE\na-long-name  UP\n");
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        assert_eq!(some(&items, 2), "0, 1, … 3 more");
        assert_eq!(some(&items, 5), "0, 1, 2, 3, 4");
    }
}
