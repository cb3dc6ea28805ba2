//! The rules in force: the checked file with its table, its origins and its routes; swapped whole on reload.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use causeway_daemon::config::ConfigError;
use causeway_tunnel::{Authority, Host, Kind, Pattern, Route, Scheme, TlsEnd, limits::MAX_ROUTES};
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;

use crate::builtin::Hello;
use crate::config::{Config, Rule, Source, Visitors, end_of};
use crate::ingress::{Choice, Table};
use crate::metrics::{Metrics, RuleMetrics};
use crate::origin::{Egress, Origin};
use crate::service::Service;

/// One version of the rules. Immutable.
#[derive(Debug)]
pub(crate) struct RuleSet {
    /// Counts from 1.
    pub(crate) generation: u64,
    pub(crate) config: Config,
    table: Table,
    /// Of connections that the edge does not read, if there are any.
    passing: Option<Table>,
    rules: Vec<Arc<ActiveRule>>,
    origins: HashMap<String, Vec<Arc<Origin>>>,
    /// What is announced now.
    routes: HashMap<u32, Offer>,
    /// What was announced before: a request that crossed a reload on the wire still finds its route.
    former: HashMap<u32, Offer>,
}

/// A rule ready for requests.
#[derive(Debug)]
pub(crate) struct ActiveRule {
    /// `hostname path`, for logs and labels.
    pub(crate) label: String,
    pub(crate) handler: Handler,
    /// Where TLS of its visitors ends.
    pub(crate) tls: TlsEnd,
    pub(crate) host_header: Option<HeaderValue>,
    pub(crate) visitor_ip_header: Option<HeaderName>,
    pub(crate) metrics: RuleMetrics,
}

/// Who answers.
#[derive(Debug)]
pub(crate) enum Handler {
    Origin(Arc<Origin>),
    Status(StatusCode),
    HelloWorld(Hello),
    Unserved(String),
}

/// Why no rule takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRule {
    /// The route id is not one of ours, or its hostname is not the request's: the edge asks for what was not offered.
    UnknownRoute,
    /// See [`Choice::Ambiguous`].
    AmbiguousPath,
}

/// One route as it is announced.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) pattern: Pattern,
    /// At the edge: it takes requests. Elsewhere: it takes whole connections.
    pub(crate) tls: TlsEnd,
    visitors: Visitors,
}

/// Numbers for hostnames, the same from one version of the rules to the next and never given to another name, so that a request
/// may cross a reload.
#[derive(Debug, Default)]
pub(crate) struct RouteIds(Mutex<Ids>);

#[derive(Debug, Default)]
struct Ids {
    /// Of this version and the one before: names of Services come and go for ever.
    known: HashMap<String, u32>,
    last: u32,
}

/// What rule sets are built from, besides the file.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) egress: Arc<Egress>,
    pub(crate) ids: Arc<RouteIds>,
    pub(crate) metrics: Metrics,
    /// How many shards the origins serve.
    pub(crate) shards: usize,
}

impl RuleSet {
    /// # Errors
    /// When a `caPool` cannot be used, or there are more hostnames than can be announced.
    pub(crate) fn build(config: Config, before: Option<&Self>, ground: &Ground) -> Result<Self, ConfigError> {
        let mut origins: HashMap<String, Vec<Arc<Origin>>> = HashMap::new();
        let mut rules = Vec::with_capacity(config.rules.len());
        let mut routes = HashMap::new();
        for rule in &config.rules {
            let key = rule.service.to_string();
            let handler = match &rule.service {
                Service::Status(status) => Handler::Status(*status),
                Service::HelloWorld if config.source == Source::Nobody => Handler::HelloWorld(Hello::NoRules),
                Service::HelloWorld => Handler::HelloWorld(Hello::Asked),
                Service::Unserved(text) => Handler::Unserved(text.clone()),
                service => {
                    let same = |origin: &&Arc<Origin>| origin.is(service, &rule.origin);
                    let kept = origins.get(&key).and_then(|list| list.iter().find(same)).or_else(|| {
                        // The authorities are read anew: their file may have changed as well.
                        let before = before.filter(|_| rule.origin.ca_pool.is_none())?;
                        before.origins.get(&key)?.iter().find(same)
                    });
                    let origin = match kept {
                        Some(kept) => Arc::clone(kept),
                        None => {
                            let egress = Arc::clone(&ground.egress);
                            let at = rule.ca_pool_at.unwrap_or((rule.line, 1));
                            let origin =
                                Origin::new(service.clone(), rule.origin.clone(), egress, ground.shards)
                                    .map_err(|error| config.error_at(at, error.to_string()))?;
                            Arc::new(origin)
                        }
                    };
                    let list = origins.entry(key).or_default();
                    if !list.iter().any(|listed| Arc::ptr_eq(listed, &origin)) {
                        list.push(Arc::clone(&origin));
                    }
                    Handler::Origin(origin)
                }
            };
            for offer in offers(&config, rule) {
                routes.insert(ground.ids.of(&offer), offer);
            }
            let label = match &rule.path {
                Some(path) => format!("{} {path}", rule.hostname),
                None if rule.tls == TlsEnd::Passthrough => format!("{} tls:passthrough", rule.hostname),
                None => rule.hostname.to_string(),
            };
            rules.push(Arc::new(ActiveRule {
                handler,
                tls: rule.tls,
                host_header: rule
                    .origin
                    .http_host_header
                    .as_ref()
                    .and_then(|host| HeaderValue::try_from(host).ok()),
                visitor_ip_header: rule.origin.visitor_ip_header.clone(),
                metrics: ground.metrics.rule(&label),
                label,
            }));
        }
        if routes.len() > MAX_ROUTES {
            let reason =
                format!("{} hostnames: a connector can announce {MAX_ROUTES}; use wildcards", routes.len());
            return Err(config.error_at((1, 1), reason));
        }
        let former = before.map(|before| before.routes.clone()).unwrap_or_default();
        ground.ids.keep(|id| routes.contains_key(&id) || former.contains_key(&id));
        Ok(Self {
            generation: before.map_or(1, |before| before.generation + 1),
            table: config.table(),
            passing: config.rules.iter().any(|rule| !rule.tls.is_edge()).then(|| config.passing()),
            rules,
            origins,
            routes,
            former,
            config,
        })
    }

    /// What the edges are told, in a stable order.
    pub(crate) fn announcement(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = self
            .routes
            .iter()
            .map(|(&id, Offer { pattern, tls, visitors })| Route {
                kind: if tls.is_edge() { Kind::Request } else { Kind::Connect },
                tls: *tls,
                http: visitors.http,
                hsts: visitors.hsts,
                exclusive: self.config.source == Source::Exposed,
                ..Route::of_requests(id, pattern.to_string())
            })
            .collect();
        routes.sort_by_key(|route| route.id);
        routes
    }

    /// The rule for a request that came in by a route.
    pub(crate) fn choose(
        &self,
        route: u32,
        scheme: Scheme,
        authority: &str,
        target: &str,
    ) -> Result<&Arc<ActiveRule>, NoRule> {
        let pattern = self.offered(route, TlsEnd::is_edge).ok_or(NoRule::UnknownRoute)?;
        // The edge's parser is this one, so what does not parse cannot be a visitor's.
        let Ok(Authority { host, .. }) = Authority::parse(authority.as_bytes()) else {
            return Err(NoRule::UnknownRoute);
        };
        // An edge that has read what came by TLS to a name that passes through was not asked to.
        let is_read = scheme == Scheme::Https && self.unread_by(&host).is_some();
        if !pattern.matches(&host) || is_read {
            return Err(NoRule::UnknownRoute);
        }
        self.find(&host, target)
    }

    /// The rule for a request whose TLS ended here.
    pub(crate) fn choose_at_home(&self, authority: &str, target: &str) -> Result<&Arc<ActiveRule>, NoRule> {
        match Authority::parse(authority.as_bytes()) {
            Ok(Authority { host, .. }) if self.at_home(&host).is_some() => self.find(&host, target),
            _ => Err(NoRule::UnknownRoute),
        }
    }

    fn find(&self, host: &Host, target: &str) -> Result<&Arc<ActiveRule>, NoRule> {
        match self.table.find(host, target) {
            Choice::Rule(index) => Ok(&self.rules[index]),
            Choice::Ambiguous => Err(NoRule::AmbiguousPath),
            // The last rule takes everything; without rules nothing was announced.
            Choice::Nothing => Err(NoRule::UnknownRoute),
        }
    }

    /// What the visitors of a name are told whose TLS ends here.
    pub(crate) fn at_home(&self, host: &Host) -> Option<Visitors> {
        let rule = self.unread_by(host).map(|index| &self.config.rules[index])?;
        (rule.tls == TlsEnd::Connector).then_some(rule.visitors)
    }

    /// All names whose TLS ends here.
    pub(crate) fn names_at_home(&self) -> BTreeSet<Pattern> {
        let offers = self.routes.values().filter(|offer| offer.tls == TlsEnd::Connector);
        offers.map(|offer| offer.pattern.clone()).collect()
    }

    /// The rule for a connection that came in by a route and is not read at the edge.
    pub(crate) fn choose_passing(&self, route: u32, name: &str) -> Option<&Arc<ActiveRule>> {
        let pattern = self.offered(route, |tls| !tls.is_edge())?;
        let name = Host::name(name).ok().filter(|name| pattern.matches(name))?;
        self.unread_by(&name).map(|index| &self.rules[index])
    }

    /// Names whose TLS does not end at the edge.
    pub(crate) fn elsewhere(&self) -> Vec<&Offer> {
        let mut offers: Vec<_> = self.routes.values().filter(|offer| !offer.tls.is_edge()).collect();
        offers.sort_by(|a, b| a.pattern.cmp(&b.pattern));
        offers
    }

    fn offered(&self, route: u32, is_fit: impl Fn(&TlsEnd) -> bool) -> Option<&Pattern> {
        let offer = self.routes.get(&route).or_else(|| self.former.get(&route))?;
        is_fit(&offer.tls).then_some(&offer.pattern)
    }

    /// The first rule that takes a name, if the edge does not read what its TLS holds.
    fn unread_by(&self, host: &Host) -> Option<usize> {
        let rule = self.passing.as_ref()?.first(host)?;
        self.table.first(host).is_none_or(|other| rule <= other).then_some(rule)
    }

    /// What its rules are called in logs and figures.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.label.as_str())
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = &Arc<Origin>> {
        self.origins.values().flatten()
    }
}

/// What is announced for a rule. A name whose TLS the edge does not read, and has a rule for what comes in the clear, is
/// announced for both.
fn offers(config: &Config, rule: &Rule) -> impl Iterator<Item = Offer> {
    let offer = |tls| Offer { pattern: rule.hostname.clone(), tls, visitors: rule.visitors };
    let end = end_of(&config.rules, &rule.hostname);
    let requests = (rule.tls != TlsEnd::Passthrough).then(|| offer(TlsEnd::Edge));
    requests.into_iter().chain((!end.is_edge()).then(|| offer(end)))
}

impl RouteIds {
    fn of(&self, offer: &Offer) -> u32 {
        let kind = if offer.tls.is_edge() { "" } else { "connect " };
        let mut ids = self.0.lock();
        let next = ids.last.saturating_add(1);
        let id = *ids.known.entry(format!("{kind}{}", offer.pattern)).or_insert(next);
        ids.last = ids.last.max(id);
        id
    }

    fn keep(&self, is_in_use: impl Fn(u32) -> bool) {
        self.0.lock().known.retain(|_, id| is_in_use(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn ground() -> Ground {
        Ground { egress: Arc::default(), ids: Arc::default(), metrics: Metrics::new(), shards: 1 }
    }

    fn build(text: &str, before: Option<&RuleSet>, ground: &Ground) -> RuleSet {
        RuleSet::build(parse("c.yml", text).unwrap(), before, ground).unwrap()
    }

    const TWO: &str = "ingress:\n  - hostname: a.dev\n    service: http://10.0.0.1\n  - hostname: '*.b.dev'\n    service: http://10.0.0.2\n  - service: http_status:404\n";

    #[test]
    fn hazard_126_only_announced_routes_with_their_own_hostnames_reach_a_rule() {
        let ground = ground();
        let rules = build(TWO, None, &ground);
        let routes = rules.announcement();
        assert_eq!(routes.iter().map(|r| r.hostname.as_str()).collect::<Vec<_>>(), ["a.dev", "*.b.dev", "*"]);
        assert_eq!(rules.choose(routes[0].id, Scheme::Http, "A.dev:443", "/").unwrap().label, "a.dev");
        assert_eq!(rules.choose(routes[1].id, Scheme::Http, "x.b.dev", "/").unwrap().label, "*.b.dev");
        assert_eq!(rules.choose(routes[2].id, Scheme::Http, "other", "/").unwrap().label, "*");
        assert_eq!(
            rules.choose(routes[0].id, Scheme::Http, "x.b.dev", "/").unwrap_err(),
            NoRule::UnknownRoute
        );
        assert_eq!(rules.choose(999, Scheme::Http, "a.dev", "/").unwrap_err(), NoRule::UnknownRoute);
        assert_eq!(
            rules.choose(routes[0].id, Scheme::Http, "169.254.169.254", "/").unwrap_err(),
            NoRule::UnknownRoute
        );
    }

    #[test]
    fn a_reload_keeps_route_numbers_and_the_connections_of_unchanged_rules() {
        let ground = ground();
        let one = build(TWO, None, &ground);
        let changed = TWO.replace("10.0.0.2", "10.0.0.3").replace("a.dev", "c.dev");
        let two = build(&changed, Some(&one), &ground);
        assert_eq!(two.generation, 2);
        let old = one.announcement()[0].id;
        assert!(two.announcement().iter().all(|route| route.id != old));
        assert_eq!(two.choose(old, Scheme::Http, "a.dev", "/").unwrap().label, "*");
        let origin =
            |rules: &RuleSet, service: &str| rules.origins.get(service).map(|list| Arc::clone(&list[0]));
        let (before, after) =
            (origin(&one, "http://10.0.0.1:80").unwrap(), origin(&two, "http://10.0.0.1:80").unwrap());
        assert!(Arc::ptr_eq(&before, &after));
        assert!(origin(&two, "http://10.0.0.2:80").is_none());
        let three = build(&changed, Some(&two), &ground);
        assert_eq!(three.choose(old, Scheme::Http, "a.dev", "/").unwrap_err(), NoRule::UnknownRoute);
    }

    #[test]
    fn names_that_come_and_go_leave_nothing_behind() {
        let ground = ground();
        let mut rules = build(TWO, None, &ground);
        let mut seen = BTreeSet::new();
        for number in 0..50 {
            rules = build(&TWO.replace("a.dev", &format!("n{number}.dev")), Some(&rules), &ground);
            assert!(seen.insert(rules.announcement()[2].id), "no number is given to another name");
            assert!(ground.ids.0.lock().known.len() <= 4);
        }
        ground.metrics.forget("n49.dev");
        let mut registry = prometheus_client::registry::Registry::default();
        ground.metrics.register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        assert!(page.contains("n48.dev") && !page.contains("n49.dev"), "{page}");
    }

    #[test]
    fn a_name_that_passes_through_is_announced_for_that_and_for_what_comes_in_the_clear() {
        let text = "ingress:\n  - { hostname: x.a.dev, service: 'http://10.0.0.1' }\n  - { hostname: '*.a.dev', service: 'https://10.0.0.2', tls: passthrough }\n  - { hostname: b.a.dev, service: 'http://10.0.0.2' }\n  - service: http_status:404\n";
        let rules = build(text, None, &ground());
        let announced = rules.announcement();
        let told: Vec<_> = announced
            .iter()
            .map(|route| (route.hostname.as_str(), route.kind.to_string(), route.tls.as_str()))
            .collect();
        let expected = [
            ("x.a.dev", "request", "edge"),
            ("*.a.dev", "connect", "passthrough"),
            ("b.a.dev", "request", "edge"),
            ("b.a.dev", "connect", "passthrough"),
            ("*", "request", "edge"),
        ];
        assert_eq!(told, expected.map(|(name, kind, tls)| (name, kind.to_owned(), tls)));
        let [edge, wide, clear, narrow, any] = [0, 1, 2, 3, 4].map(|at| announced[at].id);

        assert_eq!(rules.choose_passing(wide, "c.a.dev").unwrap().label, "*.a.dev tls:passthrough");
        assert_eq!(rules.choose_passing(narrow, "b.a.dev").unwrap().label, "*.a.dev tls:passthrough");
        for (route, name) in [
            (wide, "x.a.dev"),
            (wide, "other"),
            (edge, "x.a.dev"),
            (clear, "b.a.dev"),
            (narrow, "c.a.dev"),
            (99, "b.a.dev"),
        ] {
            assert!(rules.choose_passing(route, name).is_none(), "{route} {name}");
        }
        let choose =
            |route, scheme, host| rules.choose(route, scheme, host, "/").map(|rule| rule.label.as_str());
        assert_eq!(choose(clear, Scheme::Http, "b.a.dev"), Ok("b.a.dev"));
        assert_eq!(
            choose(clear, Scheme::Https, "b.a.dev"),
            Err(NoRule::UnknownRoute),
            "nobody may have read it"
        );
        assert_eq!(choose(any, Scheme::Https, "c.a.dev"), Err(NoRule::UnknownRoute));
        assert_eq!(choose(edge, Scheme::Https, "x.a.dev"), Ok("x.a.dev"));
        assert_eq!(choose(wide, Scheme::Http, "c.a.dev"), Err(NoRule::UnknownRoute), "a connection's route");
    }

    #[test]
    fn a_name_that_ends_at_home_is_announced_for_connections_and_for_what_comes_in_the_clear() {
        let text = "data: /d\ningress:\n  - { hostname: a.dev, path: ^/x, service: 'http://10.0.0.1', tls: connector }\n  - { hostname: a.dev, service: 'http://10.0.0.2', tls: connector }\n  - service: http_status:404\n";
        let rules = build(text, None, &ground());
        let announced = rules.announcement();
        let told: Vec<_> = announced
            .iter()
            .map(|route| (route.hostname.as_str(), route.kind.to_string(), route.tls.as_str()))
            .collect();
        let expected =
            [("a.dev", "request", "edge"), ("a.dev", "connect", "connector"), ("*", "request", "edge")];
        assert_eq!(told, expected.map(|(name, kind, tls)| (name, kind.to_owned(), tls)));
        let [clear, whole, any] = [0, 1, 2].map(|at| announced[at].id);
        assert_eq!(rules.choose_passing(whole, "a.dev").unwrap().tls, TlsEnd::Connector);
        assert!(
            rules.choose_passing(clear, "a.dev").is_none() && rules.choose_passing(whole, "b.dev").is_none()
        );
        let at_home = |host, path| rules.choose_at_home(host, path).map(|rule| rule.label.as_str());
        assert_eq!([at_home("A.dev:443", "/x"), at_home("a.dev", "/y")], [Ok("a.dev ^/x"), Ok("a.dev")]);
        assert_eq!(at_home("b.dev", "/"), Err(NoRule::UnknownRoute), "its TLS ends at the edge");
        assert!(rules.choose(clear, Scheme::Http, "a.dev", "/x").is_ok());
        assert_eq!(
            rules.choose(any, Scheme::Https, "a.dev", "/x").unwrap_err(),
            NoRule::UnknownRoute,
            "nobody may have read it"
        );
        assert_eq!(
            rules.names_at_home().into_iter().map(|name| name.to_string()).collect::<Vec<_>>(),
            ["a.dev"]
        );
    }

    #[test]
    fn an_unusable_ca_pool_is_named_at_its_place() {
        let text = "ingress:\n  - service: https://10.0.0.1\n    originRequest:\n      caPool: /does/not/exist.pem\n";
        let error = RuleSet::build(parse("c.yml", text).unwrap(), None, &ground()).unwrap_err().to_string();
        assert!(error.starts_with("c.yml:4:15: ") && error.contains("/does/not/exist.pem"), "{error}");
    }
}
