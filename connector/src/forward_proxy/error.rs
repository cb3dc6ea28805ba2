//! What a proxy answers in the place of a connection, whose doing it is, and what mends it.

use std::fmt;
use std::time::Duration;

/// No connection to an edge through a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyError {
    /// Without credentials.
    pub(crate) proxy: String,
    pub(crate) edge: String,
    pub(crate) cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There is no connection to the proxy itself.
    Unreachable(String),
    /// It says nothing for so long.
    Silent(Duration),
    /// It wants to know who we are, and was told nothing; in its words.
    NotIntroduced(String),
    /// It does not take who we are.
    NotTaken(String),
    /// It does not let anybody through to there.
    Forbidden(String),
    /// It cannot reach the edge.
    EdgeAway(String),
    /// It says no, for another reason.
    Refused(String),
    /// It is no proxy of this kind.
    Foreign(String),
}

impl Cause {
    /// Whether the next try may cost an account.
    pub(crate) fn is_of_credentials(&self) -> bool {
        matches!(self, Self::NotIntroduced(_) | Self::NotTaken(_))
    }
}

impl ProxyError {
    pub(crate) fn cause(&self) -> String {
        let Self { proxy, edge, cause } = self;
        match cause {
            Cause::Unreachable(why) => format!("the proxy {proxy} cannot be reached ({why})"),
            Cause::Silent(patience) => {
                format!("the proxy {proxy} has no answer within {} s", patience.as_secs())
            }
            Cause::NotIntroduced(said) => format!("the proxy {proxy} asks who comes ({said})"),
            Cause::NotTaken(said) => {
                format!("the proxy {proxy} does not take the user and password ({said})")
            }
            Cause::Forbidden(said) => format!("the proxy {proxy} lets nobody through to {edge} ({said})"),
            Cause::EdgeAway(said) => format!("the proxy {proxy} does not reach {edge} ({said})"),
            Cause::Refused(said) => format!("the proxy {proxy} opens no connection to {edge} ({said})"),
            Cause::Foreign(why) => format!("what answers as the proxy {proxy} is none of that kind ({why})"),
        }
    }

    pub(crate) fn mend(&self) -> String {
        let edge = &self.edge;
        match &self.cause {
            Cause::Unreachable(_) => "check its host and port, and that it runs".to_owned(),
            Cause::Silent(_) => format!("look whether it reaches {edge}, and takes connections from here"),
            Cause::NotIntroduced(_) => {
                "write a user into `proxy` (http://USER@HOST:PORT), and its password into a file that `proxyPasswordFile` names"
                    .to_owned()
            }
            Cause::NotTaken(_) => {
                "check the user in `proxy` and what is in `proxyPasswordFile`; it is asked again after five minutes".to_owned()
            }
            Cause::Forbidden(_) => {
                format!("have {edge} allowed there; many proxies let connections through to port 443 alone")
            }
            Cause::EdgeAway(_) => {
                format!("check that the edge runs, its name, and that the proxy may reach TCP at {edge}")
            }
            Cause::Refused(_) => "its log says more".to_owned(),
            Cause::Foreign(_) => {
                "check the port, and whether it is `http://` or `socks5://`".to_owned()
            }
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause(), self.mend())
    }
}

impl std::error::Error for ProxyError {}
