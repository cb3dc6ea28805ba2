//! What `doctor` finds: findings with their severity, cause and mend, printed for people or programs, and the exit code.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

/// How much a finding matters. In order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know; nobody has to do anything.
    Note,
    /// It works, and will not for long, or not for everybody.
    Warning,
    /// It does not work.
    Fault,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What was looked at, in one word: `dns`, `udp`, `origin` …
    pub check: &'static str,
    /// Of what: a name, an address, a rule.
    pub subject: String,
    /// What is so: of a fault its cause.
    pub cause: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// Everything that was looked at, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
}

impl Finding {
    pub fn ok(check: &'static str, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, check, subject: subject.into(), cause: cause.into(), mend: None }
    }

    pub fn note(check: &'static str, subject: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::ok(check, subject, cause) }
    }

    pub fn warning(
        check: &'static str,
        subject: impl Into<String>,
        cause: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, mend: Some(mend.into()), ..Self::ok(check, subject, cause) }
    }

    pub fn fault(
        check: &'static str,
        subject: impl Into<String>,
        cause: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Fault, mend: Some(mend.into()), ..Self::ok(check, subject, cause) }
    }

    /// The same with at most this severity: for what matters less where it was seen from.
    #[must_use]
    pub fn at_most(self, severity: Severity) -> Self {
        Self { severity: self.severity.min(severity), ..self }
    }
}

impl Extend<Finding> for Report {
    fn extend<T: IntoIterator<Item = Finding>>(&mut self, findings: T) {
        self.findings.extend(findings);
    }
}

impl Report {
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    pub fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok)
    }

    /// 0: nothing that somebody has to do. 1: warnings. 2: faults.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self.worst() {
            Severity::Ok | Severity::Note => 0,
            Severity::Warning => 1,
            Severity::Fault => 2,
        })
    }

    /// For people: a line a finding, its mend below, and the count at the end.
    pub fn render(&self) -> String {
        let column = |width: fn(&Finding) -> usize| self.findings.iter().map(width).max().unwrap_or(0);
        let (checks, subjects) = (column(|f| f.check.len()), column(|f| f.subject.len()).min(WIDEST_SUBJECT));
        let mut out = String::new();
        for Finding { severity, check, subject, cause, mend } in &self.findings {
            let word = severity.word();
            let _ = writeln!(out, "{word:7}  {check:checks$}  {subject:subjects$}  {cause}");
            if let Some(mend) = mend {
                let _ = writeln!(out, "{:7}  {:checks$}  {:subjects$}  mend: {mend}", "", "", "");
            }
        }
        let count = |severity| self.findings.iter().filter(|finding| finding.severity == severity).count();
        let (faults, warnings) = (count(Severity::Fault), count(Severity::Warning));
        let fine = self.findings.len() - faults - warnings;
        let _ = writeln!(out, "{faults} faults, {warnings} warnings, {fine} fine");
        out
    }
}

impl Severity {
    /// In capitals what wants somebody.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Fault => "FAULT",
        }
    }
}

/// A longer subject pushes its own line to the right, not all of them.
const WIDEST_SUBJECT: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_decides_and_each_mend_is_shown() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Severity::Ok);
        report.add(Finding::note("udp", "buffers", "fine"));
        assert_eq!(report.worst(), Severity::Note);
        report.add(Finding::fault("dns", "a.example", "has no address", "add a record"));
        report.add(Finding::fault("dns", "b.example", "elsewhere", "change it").at_most(Severity::Warning));
        assert_eq!(report.worst(), Severity::Fault);
        let text = report.render();
        assert!(text.contains("FAULT    dns  a.example  has no address\n"), "{text}");
        assert!(
            text.contains("mend: add a record") && text.ends_with("1 faults, 1 warnings, 1 fine\n"),
            "{text}"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["findings"][1]["severity"], "fault");
        assert!(json["findings"][0].get("mend").is_none());
    }
}
