//! What a command prints: its result in the form that `--output` asks for, and its last words.

use std::io::{self, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

/// How a command prints its result on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Text,
    /// For programs: one JSON document
    Json,
}

impl Output {
    /// Prints `value` as JSON, or what `text` makes of it, with one line end at the end.
    ///
    /// # Errors
    /// When standard output fails. A reader that went away (`| head`) is not a failure.
    pub fn print<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        self.write(&mut io::stdout().lock(), value, text)
    }

    fn write<T: Serialize>(
        self,
        out: &mut impl Write,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        let mut rendered = match self {
            Self::Text => text(value),
            Self::Json => serde_json::to_string_pretty(value)?,
        };
        if !rendered.is_empty() && !rendered.ends_with('\n') {
            rendered.push('\n');
        }
        match out.write_all(rendered.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => done,
        }
    }
}

/// Writes one line to standard error, for a program that ends: a reader that reads nothing does not keep it.
pub fn complain(line: String) {
    let (done, written) = mpsc::channel();
    let write = move || {
        // Nobody is left to be told.
        let _ = writeln!(io::stderr(), "{line}");
        let _ = done.send(());
    };
    if thread::Builder::new().name("last words".to_owned()).spawn(write).is_ok() {
        let _ = written.recv_timeout(COMPLAIN_TIMEOUT);
    }
}

/// As for the end of the log.
const COMPLAIN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::Output;

    #[test]
    fn json_is_one_document_and_text_is_as_written() {
        let print = |output: Output| {
            let mut out = Vec::new();
            output.write(&mut out, &[1, 2], |list| format!("{} entries", list.len())).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(print(Output::Text), "2 entries\n");
        assert_eq!(serde_json::from_str::<Vec<u8>>(&print(Output::Json)).unwrap(), [1, 2]);
    }
}
