//! The rows of the table, by name.

use std::time::Duration;

use causeway_tests::line::{Course, Shape, Wan};

use super::contender::{Kind, Running};
use super::ground::Ground;
use super::measure::{Measure, Measured};
use super::table::Figure;
use super::{neighbours, small, still, transfers};

/// What a row measures.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// One transfer after the other on one visitor's connection: the first finds a tunnel that has carried nothing yet.
    Transfers,
    /// Far visitors over HTTP/2: `access` is the line that matters.
    Visitors,
    /// 1 KiB requests alone and beside a bulk transfer.
    Small(Course),
    /// Bulk transfers of two sites, and a WebSocket of a third.
    TwoSites(Course),
    /// Beside one plain TCP flow (cubic) on the same line.
    Neighbour(Course),
    /// The line stands still for so many seconds under everything.
    Still(u64),
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub what: What,
    pub line: Shape,
    pub access: Shape,
}

/// Hardly a line: where the other one is what matters.
const NEAR: fn() -> Shape = || Shape::new(0, 10_000.0);

/// All rows, in order.
pub fn rows() -> Vec<Row> {
    let row = |name: &str, what, line, access| Row { name: name.to_owned(), what, line, access };
    let transfers = [
        ("50ms-100M", Shape::new(50, 100.0)),
        ("50ms-100M-0.1%", Shape::new(50, 100.0).losing(0.001)),
        ("30ms-100M-1%", Shape::new(30, 100.0).losing(0.01)),
        ("50ms-100M-1%", Shape::new(50, 100.0).losing(0.01)),
        ("100ms-200M", Shape::new(100, 200.0)),
        ("100ms-500M", Shape::new(100, 500.0)),
    ];
    let mut rows: Vec<_> =
        transfers.map(|(name, line)| row(name, What::Transfers, line, NEAR())).into_iter().collect();
    rows.push(row("visitors-80ms", What::Visitors, Shape::new(4, 500.0), Shape::new(80, 100.0)));
    let home = Shape::new(30, 20.0).queue(300);
    rows.push(row("small-down", What::Small(Course::Down), home, NEAR()));
    rows.push(row("small-up", What::Small(Course::Up), home, NEAR()));
    rows.push(row("two-sites-down", What::TwoSites(Course::Down), home, NEAR()));
    rows.push(row("two-sites-up", What::TwoSites(Course::Up), home, NEAR()));
    for queue in [50, 200] {
        for (course, word) in [(Course::Down, "down"), (Course::Up, "up")] {
            let line = Shape::new(50, 50.0).queue(queue);
            rows.push(row(&format!("neighbour-{queue}ms-{word}"), What::Neighbour(course), line, NEAR()));
        }
    }
    for seconds in [3, 8, 20] {
        rows.push(row(&format!("still-{seconds}"), What::Still(seconds), Shape::new(50, 100.0), NEAR()));
    }
    rows
}

impl Row {
    /// Transfers over a line that is none of the table's: `RTT,MBIT[,LOSS%[,QUEUE]]`.
    pub fn custom(text: &str) -> anyhow::Result<Self> {
        let numbers: Vec<f64> = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        anyhow::ensure!((2..=4).contains(&numbers.len()), "--line takes RTT,MBIT[,LOSS%[,QUEUE]]");
        let milliseconds = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
        let mut line = Shape::new(0, numbers[1]);
        line.delay = milliseconds(numbers[0] / 2.0);
        line.loss = numbers.get(2).map_or(0.0, |percent| percent / 100.0);
        line.queue = numbers.get(3).map_or(line.queue, |ms| milliseconds(*ms));
        Ok(Self { name: format!("line {text}"), what: What::Transfers, line, access: NEAR() })
    }

    /// Measures one contender.
    ///
    /// # Errors
    /// When the ground cannot be laid, or the contender does not start; what breaks later is a figure.
    pub async fn measure(&self, kind: Kind, how: &Measure) -> anyhow::Result<Vec<Figure>> {
        let courses = match self.what {
            // Each way on a tunnel of its own, so that neither learns from the other.
            What::Transfers => vec![Course::Down, Course::Up],
            What::Visitors => vec![Course::Up, Course::Down],
            What::Small(course) | What::TwoSites(course) | What::Neighbour(course) => vec![course],
            What::Still(_) => vec![Course::Down],
        };
        let mut figures = Vec::new();
        for course in courses {
            let wan = Wan::lay(self.line, self.access, how.seed)?;
            if let Some(control) = kind.tcp() {
                wan.tcp(control)?;
            }
            let mut origins = wan.origins().await;
            origins.config.clone_from(&how.connector_config);
            let running = Running::start(kind, &wan, &origins, how).await?;
            let door = running.door();
            let ground = Ground { wan, origins, running, door, bytes: how.bytes, length: how.length };
            let measured = match self.what {
                What::Transfers => transfers::near(&ground, course).await,
                What::Visitors => transfers::far(&ground, course).await,
                What::Small(course) => small::beside(&ground, course).await,
                What::TwoSites(course) => neighbours::sites(&ground, course).await,
                What::Neighbour(course) => neighbours::tcp(&ground, course).await,
                What::Still(seconds) => still::still(&ground, Duration::from_secs(seconds)).await,
            };
            let figure = |(name, value, unit): Measured| Figure {
                row: self.name.clone(),
                contender: kind.name().to_owned(),
                name,
                value,
                unit,
            };
            figures.extend(measured.into_iter().map(figure));
        }
        Ok(figures)
    }
}
