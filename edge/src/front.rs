//! The seam between the wiring and the public side: certificates, listeners, and the handler of their requests.

use std::net::TcpListener;
use std::sync::Arc;

use anyhow::Result;
use causeway_daemon::drain::Drain;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::shard::Shard;

/// What all shards' public listeners share.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    registry: Arc<Registry>,
}

impl Front {
    pub(crate) fn new(_config: &Config, registry: &Arc<Registry>, _metrics: &Metrics) -> Result<Self> {
        Ok(Self { registry: Arc::clone(registry) })
    }

    pub(crate) fn spawn_services(&self, _drain: &Drain) {}

    pub(crate) fn reload(&self, _config: &Config) -> Result<()> {
        Ok(())
    }

    pub(crate) fn listen(
        &self,
        _shard: &Arc<Shard>,
        _https: Vec<TcpListener>,
        _http: Vec<TcpListener>,
    ) -> std::io::Result<()> {
        let _ = &self.registry;
        Ok(())
    }
}
