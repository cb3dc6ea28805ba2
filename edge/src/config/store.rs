//! Where the store is: in a file of this edge's own, or on a PostgreSQL server that the edges of a fleet share.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use causeway_daemon::config::Secret;
use serde::{Deserialize, Serialize};
use url::Url;

/// `sqlite`, or `postgres://USER@HOST/DATABASE`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Backend {
    #[default]
    Sqlite,
    Postgres(Server),
}

/// A database on a server. Its URL has no password, so that it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server(Url);

/// What may stand behind the `?`. Not all that the driver knows: a password may not.
const PARAMETERS: [&str; 5] = ["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];
const FORM: &str = "write `sqlite` or `postgres://USER@HOST/DATABASE`";
const NO_PASSWORD: &str = "no password is taken here, where others can read it: put it into a file and name that by `storePasswordFile`";

impl Server {
    /// None of the reasons quotes the text, which may hold a password.
    fn parse(text: &str) -> Result<Self, String> {
        let url =
            Url::parse(text).map_err(|error| format!("this is no place of a store ({error}): {FORM}"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("this is no place of a store: {FORM}"));
        }
        if url.password().is_some() {
            return Err(NO_PASSWORD.to_owned());
        }
        for (name, value) in url.query_pairs() {
            match &*name {
                "password" => return Err(NO_PASSWORD.to_owned()),
                "host" if !value.starts_with('/') => {
                    return Err("`host` behind the `?` is the folder of a unix socket, as in `postgres://USER@localhost/DATABASE?host=/run/postgresql`".to_owned());
                }
                known if PARAMETERS.contains(&known) => {}
                _ => return Err(format!("behind the `?` may stand {} alone", PARAMETERS.join(", "))),
            }
        }
        let server = Self(url);
        if server.host().is_none() && !server.is_socket() {
            return Err(format!("no host is named: {FORM}"));
        }
        if server.0.path().trim_start_matches('/').is_empty() {
            return Err(format!("no database is named: {FORM}"));
        }
        Ok(server)
    }

    /// With the password, and with a check of the server's certificate where somebody could be in between.
    pub(crate) fn connect_url(&self, password: Option<&Secret>) -> Url {
        let mut url = self.0.clone();
        let says = |name: &str| self.0.query_pairs().any(|(key, _)| key == name);
        if !self.is_near() && !says("sslmode") {
            url.query_pairs_mut().append_pair("sslmode", "verify-full");
        }
        if let Some(password) = password {
            url.query_pairs_mut().append_pair("password", password.expose());
        }
        url
    }

    fn host(&self) -> Option<&str> {
        self.0.host_str().filter(|host| !host.is_empty())
    }

    fn is_socket(&self) -> bool {
        self.0.query_pairs().any(|(key, _)| key == "host")
            || self.host().is_some_and(|host| host.starts_with("%2F"))
    }

    /// Whether what is sent stays on this machine.
    fn is_near(&self) -> bool {
        let Some(host) = self.host() else { return true };
        let bare = host.trim_matches(['[', ']']);
        self.is_socket() || host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// Without what stands behind the `?`.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut short = self.0.clone();
        short.set_query(None);
        fmt::Display::fmt(&short, f)
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "sqlite" { Ok(Self::Sqlite) } else { Server::parse(text).map(Self::Postgres) }
    }
}

impl TryFrom<String> for Backend {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Backend> for String {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => "sqlite".to_owned(),
            Backend::Postgres(server) => server.0.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        match text.parse() {
            Ok(Backend::Postgres(server)) => server,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_server_is_known_by_its_certificate_unless_it_is_on_this_machine() {
        for (text, is_checked) in [
            ("postgres://edge@db.example/causeway", true),
            ("postgresql://edge@192.0.2.1:5433/causeway?sslrootcert=/ca.pem", true),
            ("postgres://edge@localhost.example/causeway", true),
            ("postgres://edge@localhost/causeway", false),
            ("postgres://edge@127.0.0.1:5433/causeway", false),
            ("postgres://edge@[::1]/causeway", false),
            ("postgres://edge@localhost/causeway?host=/run/postgresql", false),
            ("postgres://edge@%2Frun%2Fpostgresql/causeway", false),
            ("postgres://edge@db.example/causeway?sslmode=disable", false),
        ] {
            let url = server(text).connect_url(None);
            assert_eq!(url.as_str().contains("sslmode=verify-full"), is_checked, "{text}");
        }
    }

    #[test]
    fn a_password_is_refused_wherever_it_stands_and_shown_nowhere() {
        for text in [
            "postgres://edge:hunter2@db/causeway",
            "postgres://edge@db/causeway?password=hunter2",
            "postgres://edge@db/causeway?pass=hunter2",
            "postgres://edge@db:hunter2/causeway",
            "mysql://edge:hunter2@db/causeway",
            "postgres://hunter2",
            "hunter2",
        ] {
            let reason = text.parse::<Backend>().unwrap_err();
            assert!(!reason.contains("hunter2"), "{reason}");
        }
        let server = server("postgres://edge@db/causeway?sslmode=verify-ca");
        let url = server.connect_url(Some(&Secret::new("a&b=c d")));
        assert_eq!(url.query_pairs().find(|(key, _)| key == "password").unwrap().1, "a&b=c d");
        assert_eq!(server.to_string(), "postgres://edge@db/causeway");
    }

    #[test]
    fn what_is_no_place_of_a_store_is_told_how_one_is_written() {
        for text in ["", "SQLite", "postgres:///causeway", "postgres://edge@db", "postgres://edge@db/"] {
            assert!(text.parse::<Backend>().unwrap_err().contains(FORM), "{text}");
        }
        assert_eq!("sqlite".parse(), Ok(Backend::Sqlite));
    }
}
