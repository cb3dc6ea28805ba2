//! Secrets: masked wherever they are shown, wiped from memory when dropped.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize, Zeroizing};

/// A text that is never shown: `Debug`, `Display` and `Serialize` give `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be read from its file.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the secret in {} is empty: write it there as one line", .0.display())]
    Empty(PathBuf),
    #[error("the secret in {} is larger than {MAX_BYTES} bytes: this is not the file that was meant", .0.display())]
    TooLarge(PathBuf),
    #[error("the secret in {} is not UTF-8 text", .0.display())]
    NotText(PathBuf),
}

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A secret as people hand it over: white space, a byte order mark and a pair of quotation marks around it are not
    /// part of it. (Editors of Windows write the mark, `docker --env-file` keeps the quotes, a shell adds the line end.)
    pub fn written(text: &str) -> Self {
        Self(bare(text).to_owned())
    }

    /// Reads a file that holds one secret, as [`Self::written`]. Others than the owner being able
    /// to read the file is worth a warning, not a refusal: mounted secrets of Kubernetes are readable by all.
    ///
    /// # Errors
    /// When the file cannot be read, is empty, too large or not text.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), mode = format!("{:o}", metadata.permissions().mode() & 0o777),
                "others than its owner can read this secret: run chmod 600 on it");
        }
        // The whole capacity at once: a growing buffer would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_BYTES {
            return Err(SecretError::TooLarge(path.to_owned()));
        }
        let text = str::from_utf8(&bytes).map_err(|_| SecretError::NotText(path.to_owned()))?;
        let text = bare(text);
        if text.is_empty() {
            return Err(SecretError::Empty(path.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

fn bare(text: &str) -> &str {
    let is_around = |c: char| c.is_whitespace() || c == '\u{feff}';
    let text = text.trim_matches(is_around);
    let inner = ['"', '\''].iter().find_map(|&quote| text.strip_prefix(quote)?.strip_suffix(quote));
    inner.unwrap_or(text).trim_matches(is_around)
}

/// Tokens have a few hundred bytes, keys in PEM a few thousand.
const MAX_BYTES: usize = 64 << 10;

pub(super) const MASK: &str = "***";

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{MAX_BYTES, Secret, SecretError};

    #[test]
    fn hazard_122_a_secret_is_shown_nowhere() {
        let secret = Secret::new("hunter2");
        let shown = format!("{secret} {secret:?} {secret:#?} {}", serde_json::to_string(&secret).unwrap());
        assert_eq!(shown, "*** *** *** \"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn quotes_a_byte_order_mark_and_line_ends_are_no_part_of_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for written in [
            "\"cw1.abc\"",
            "'cw1.abc'\n",
            "\u{feff}cw1.abc\r\n",
            "\u{feff}\"cw1.abc\" \r\n\r\n",
            "  cw1.abc\t",
        ] {
            assert_eq!(Secret::written(written).expose(), "cw1.abc", "{written:?}");
            fs::write(&path, written).unwrap();
            assert_eq!(Secret::from_file(&path).unwrap().expose(), "cw1.abc", "{written:?}");
        }
        // What is not a pair belongs to it.
        assert_eq!(Secret::written("\"a'").expose(), "\"a'");
        assert_eq!(Secret::written("\"").expose(), "\"");
    }

    #[test]
    fn a_file_holds_one_secret_and_a_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "hunter2\r\n").unwrap();
        assert_eq!(Secret::from_file(&path).unwrap().expose(), "hunter2");

        for empty in [" \n", "\"\"\n", "\u{feff}"] {
            fs::write(&path, empty).unwrap();
            assert!(matches!(Secret::from_file(&path), Err(SecretError::Empty(_))), "{empty:?}");
        }
        fs::write(&path, vec![b'x'; MAX_BYTES + 1]).unwrap();
        assert!(matches!(Secret::from_file(&path), Err(SecretError::TooLarge(_))));
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(Secret::from_file(&path), Err(SecretError::NotText(_))));
        let missing = Secret::from_file(&folder.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none") && missing.contains("No such file"), "{missing}");
    }
}
