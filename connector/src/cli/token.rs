//! `token new|show`: a tunnel's credential made at home, so that no secret crosses a wire, and what of it the edge has to know.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv6Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use causeway_daemon::config::Secret;
use causeway_daemon::output::Output;
use causeway_tunnel::{KeyId, Pin, Token, TunnelId, TunnelKey};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key, write the token that holds it into a file, and print what the edge has to know: never the secret
    New {
        /// Where the token goes, with mode 0600
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
        /// Where the edge is, with port 443 if no other is given; may be repeated
        #[arg(long, required = true, value_parser = edge, value_name = "HOST[:PORT]")]
        edge: Vec<String>,
        /// The pin of the edge's key, as `causeway-edge identity` prints it
        #[arg(long, value_parser = pin, value_name = "PIN")]
        pin: Pin,
        /// Replace the file if there is one: the token in it is lost
        #[arg(long)]
        force: bool,
    },
    /// Print what of a token the edge has to know: never the secret
    Show {
        #[arg(default_value = DEFAULT_FILE)]
        file: PathBuf,
    },
}

pub(super) fn run(command: Command, output: Output) -> Result<ExitCode> {
    match command {
        Command::New { file, edge, pin, force } => {
            let (tunnel, key_id, key) = (TunnelId::random(), KeyId::random(), TunnelKey::generate());
            let token = Token { tunnel, key_id, key, edges: edge, pin };
            let existing = if force { Existing::Replace } else { Existing::Keep };
            write(&file, &token.expose(), existing)?;
            output.print(&shown(&file, &token), |_| {
                let key = token.public();
                format!(
                    "the token is in {} (mode 0600): it is the secret, and stays here\n\npublic key:\n{key}\n\n\
                     at the edge, in edge.yaml:\n\ntunnels:\n  - name: home\n    hostnames: [\"*.example.dev\"]\n    publicKey: {key}\n\n\
                     or instead: causeway-edge tunnel create home --hostname '*.example.dev' --public-key {key}\n",
                    file.display(),
                )
            })?;
        }
        Command::Show { file } => {
            let secret = Secret::from_file(&file)?;
            let token = Token::parse(secret.expose()).with_context(|| file.display().to_string())?;
            output.print(&shown(&file, &token), |_| {
                format!(
                    "tunnel      {}\nkey         {}\nedges       {}\npin         {}\npublic key  {}\n",
                    token.tunnel,
                    token.key_id,
                    token.edges.join(", "),
                    token.pin,
                    token.public()
                )
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Keep,
    Replace,
}

fn shown(file: &Path, token: &Token) -> Value {
    json!({
        "file": file.display().to_string(),
        "tunnel": token.tunnel.to_string(),
        "key": token.key_id.to_string(),
        "edges": token.edges,
        "pin": token.pin.to_string(),
        "publicKey": token.public().to_string(),
    })
}

/// Mode 0600 from the first byte, and whole or not at all: one that is replaced stays until the new one is written.
fn write(path: &Path, text: &str, existing: Existing) -> Result<()> {
    let place = match existing {
        Existing::Keep => path.to_owned(),
        Existing::Replace => {
            let mut name = path.file_name().context("this is no file's name")?.to_owned();
            name.push(".new");
            let place = path.with_file_name(name);
            // Of a run that was cut off.
            let _ = fs::remove_file(&place);
            place
        }
    };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place);
    let mut file = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "{} is there already, and what it holds would be lost: name another file, or replace it with --force",
            path.display()
        ),
        opened => opened.with_context(|| format!("cannot write {}", path.display()))?,
    };
    let written = writeln!(file, "{text}").and_then(|()| file.sync_all());
    let written = written.and_then(|()| if place == path { Ok(()) } else { fs::rename(&place, path) });
    written.with_context(|| {
        let _ = fs::remove_file(&place);
        format!("cannot write {}", path.display())
    })
}

/// `host:port` from what people write.
pub(super) fn edge(text: &str) -> Result<String, String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{text}]:{DEFAULT_PORT}"));
    }
    if text.contains(['/', '@', ' ']) {
        return Err("give the host alone, or host:port".to_owned());
    }
    let has_port = !text.ends_with(']') && text.contains(':');
    let whole = if has_port { text.to_owned() } else { format!("{text}:{DEFAULT_PORT}") };
    crate::config::check_edge(&whole).map(|()| whole)
}

fn pin(text: &str) -> Result<Pin, String> {
    text.parse().map_err(|why| format!("{why}: copy the pin that `causeway-edge identity` prints"))
}

const DEFAULT_FILE: &str = "causeway.token";
const DEFAULT_PORT: u16 = 443;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_edge_is_a_host_with_or_without_a_port() {
        for (text, read) in [
            ("edge.example.net", "edge.example.net:443"),
            ("edge.example.net:8443", "edge.example.net:8443"),
            ("203.0.113.7", "203.0.113.7:443"),
            ("2001:db8::1", "[2001:db8::1]:443"),
            ("[2001:db8::1]", "[2001:db8::1]:443"),
            ("[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ] {
            assert_eq!(edge(text).as_deref(), Ok(read));
        }
        for text in ["", ":443", "https://edge.example.net", "edge:port", "edge:99999"] {
            assert!(edge(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_is_written_for_its_owner_alone_and_never_over_another_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "one", Existing::Keep).unwrap();
        let refused = write(&path, "two", Existing::Keep).unwrap_err().to_string();
        assert!(refused.contains("--force") && refused.contains("token"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        write(&path, "two", Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}
