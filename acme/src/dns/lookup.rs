//! Questions to nameservers: to one that is authoritative, or to the resolvers of this machine.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{Name, RData, RecordType};

use super::answer::{self, AnswerError};
use super::exchange::{self, ExchangeError};
use super::server::{DEFAULT_PORT, Server};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("no resolver is known: /etc/resolv.conf names none; write `resolvers: [ADDRESS]`")]
    NoResolver,
    #[error("cannot ask {server} for {kind} of {name}: {source}")]
    Exchange { server: SocketAddr, name: String, kind: RecordType, source: ExchangeError },
    #[error("cannot ask {server} for {kind} of {name}: {source}")]
    Answer { server: SocketAddr, name: String, kind: RecordType, source: AnswerError },
    #[error("{server} has no answer for {kind} of {name}: {code}")]
    Refused { server: SocketAddr, name: String, kind: RecordType, code: ResponseCode },
}

/// The resolvers that follow the whole of DNS for this machine, asked in turn until one answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolvers(Vec<Server>);

impl Resolvers {
    /// Those given, or the system's when there are none.
    pub fn new(given: &[Server]) -> Self {
        if given.is_empty() { Self::system() } else { Self(given.to_vec()) }
    }

    /// Those of `/etc/resolv.conf`.
    fn system() -> Self {
        let text = std::fs::read_to_string(Path::new("/etc/resolv.conf")).unwrap_or_default();
        Self(nameservers(&text).map(|ip| SocketAddr::new(ip, DEFAULT_PORT).into()).collect())
    }

    /// The values of the TXT records of a name, aliases followed; none where there is no such name.
    ///
    /// # Errors
    /// When no resolver answers.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let Ok(name) = super::record_name(name) else { return Ok(Vec::new()) };
        Ok(texts(&self.ask(&name, RecordType::TXT).await?))
    }

    /// An answer whose code is "there it is" or "there is no such name".
    pub(crate) async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, LookupError> {
        let mut last = LookupError::NoResolver;
        for server in &self.0 {
            for address in server.addresses().await.unwrap_or_default() {
                match question(address, name, kind, Recursion::Wanted).await {
                    Ok(answer) => match answer.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Ok(answer),
                        code => {
                            last =
                                LookupError::Refused { server: address, name: name.to_string(), kind, code }
                        }
                    },
                    Err(error) => last = error,
                }
            }
        }
        Err(last)
    }

    /// What a name is an alias of.
    pub(crate) async fn alias(&self, name: &Name) -> Result<Option<Name>, LookupError> {
        Ok(alias(&self.ask(name, RecordType::CNAME).await?, name))
    }

    /// What a name stands for at the end of its aliases; itself where it is none, or nobody answers.
    pub(crate) async fn canonical(&self, name: &Name) -> Name {
        let mut end = name.clone();
        for _ in 0..MAX_ALIASES {
            let Ok(Some(target)) = self.alias(&end).await else { break };
            end = target;
        }
        end
    }

    /// The addresses of a host; none where it has none, or nobody knows them.
    pub(crate) async fn addresses(&self, host: &Name) -> Vec<IpAddr> {
        let (four, six) =
            futures_util::join!(self.ask(host, RecordType::A), self.ask(host, RecordType::AAAA));
        [four, six].iter().flatten().flat_map(|answer| addresses(answer, None)).collect()
    }
}

/// Whether a server shall ask others for what it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recursion {
    Wanted,
    Unwanted,
}

/// One question to one server.
pub(crate) async fn question(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    recursion: Recursion,
) -> Result<Message, LookupError> {
    let mut asked = Message::query();
    asked.metadata.recursion_desired = recursion == Recursion::Wanted;
    asked.add_query(Query::query(name.clone(), kind));
    let bytes = asked.to_vec().expect("a question of one name fits");
    let answered = exchange::ask(server, &bytes).await;
    let bytes =
        answered.map_err(|source| LookupError::Exchange { server, name: name.to_string(), kind, source })?;
    answer::read(&asked, &bytes).map_err(|source| LookupError::Answer {
        server,
        name: name.to_string(),
        kind,
        source,
    })
}

/// What a name is an alias of, by an answer.
pub(crate) fn alias(answer: &Message, name: &Name) -> Option<Name> {
    answer.answers.iter().filter(|record| record.name == *name).find_map(|record| match &record.data {
        RData::CNAME(target) => Some(target.0.clone()),
        _ => None,
    })
}

/// The zone that a name stands in, by the answer to a question for its SOA record: an authoritative server names the zone
/// beside "no such record" as well (RFC 2308 §3), so that nobody has to walk up the labels.
pub(crate) fn zone(answer: &Message, name: &Name) -> Option<Name> {
    let mut found = answer.answers.iter().chain(&answer.authorities);
    found
        .find(|record| record.record_type() == RecordType::SOA && record.name.zone_of(name))
        .map(|it| it.name.clone())
}

/// The values of all TXT records of an answer, each in one piece.
pub(crate) fn texts(answer: &Message) -> Vec<String> {
    answer.answers.iter().filter_map(|record| text(&record.data)).collect()
}

fn text(data: &RData) -> Option<String> {
    let RData::TXT(TXT { txt_data, .. }) = data else { return None };
    Some(String::from_utf8_lossy(&txt_data.concat()).into_owned())
}

/// The addresses in an answer, of all hosts or of one.
pub(crate) fn addresses<'a>(answer: &'a Message, of: Option<&'a Name>) -> impl Iterator<Item = IpAddr> + 'a {
    let records = answer.answers.iter().chain(&answer.additionals);
    records.filter(move |record| of.is_none_or(|host| record.name == *host)).filter_map(
        |record| match &record.data {
            RData::A(four) => Some(four.0.into()),
            RData::AAAA(six) => Some(six.0.into()),
            _ => None,
        },
    )
}

/// Resolvers follow about as many.
pub(crate) const MAX_ALIASES: usize = 8;

/// The `nameserver` lines of a resolv.conf.
fn nameservers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::nameservers;

    #[test]
    fn the_systems_resolvers_are_those_of_its_file() {
        let text = "# nameserver 1.1.1.1\nsearch home\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 # x\nnameserver\nnameserver x\n";
        let found: Vec<_> = nameservers(text).collect();
        assert_eq!(found, ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    }
}
