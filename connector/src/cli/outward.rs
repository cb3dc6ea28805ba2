//! Flags of the commands that dial edges: over what, and through what.

use std::path::PathBuf;

use causeway_daemon::config::ConfigError;
use clap::Args;

use crate::carriers::Protocol;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct OutwardArgs {
    /// What sessions go over: QUIC, and TCP where that does not come through, or one of them [default: auto]
    #[arg(short, long, env = "CAUSEWAY_PROTOCOL", value_enum, value_name = "PROTOCOL")]
    protocol: Option<Protocol>,
    /// What TCP goes through: http://[USER@]HOST:PORT, socks5://…, or none [default: as HTTPS_PROXY, ALL_PROXY and NO_PROXY say]
    #[arg(long, env = "CAUSEWAY_PROXY", hide_env_values = true, value_name = "URL")]
    proxy: Option<String>,
    /// File with the password of the proxy's user
    #[arg(long, env = "CAUSEWAY_PROXY_PASSWORD_FILE", value_name = "FILE")]
    proxy_password_file: Option<PathBuf>,
}

impl OutwardArgs {
    /// What is said here wins over the file's word.
    ///
    /// # Errors
    /// When it names no proxy.
    pub(super) fn over(&self, mut config: Config) -> Result<Config, ConfigError> {
        config.carriers.protocol = self.protocol.unwrap_or(config.carriers.protocol);
        config.say_proxy(self.proxy.as_deref(), self.proxy_password_file.as_deref())?;
        Ok(config)
    }
}
