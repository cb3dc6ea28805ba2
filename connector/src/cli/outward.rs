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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        outward: OutwardArgs,
    }

    fn said(flags: &[&str]) -> Result<Config, String> {
        let flags =
            Flags::try_parse_from([&["causeway"], flags].concat()).map_err(|error| error.to_string())?;
        let file = config::parse("c.yml", "protocol: quic\nurl: http://a\n").unwrap();
        flags.outward.over(file).map_err(|error| error.to_string())
    }

    #[test]
    fn a_flag_wins_over_the_file_and_cloudflareds_words_are_taken() {
        for (flags, protocol) in [
            (&[][..], Protocol::Quic),
            (&["--protocol", "auto"], Protocol::Auto),
            (&["--protocol", "tcp"], Protocol::Tcp),
            (&["--protocol=http2"], Protocol::Tcp),
            (&["-p", "http2"], Protocol::Tcp),
        ] {
            assert_eq!(said(flags).unwrap().carriers.protocol, protocol, "{flags:?}");
        }
        let error = said(&["--protocol", "h2mux"]).unwrap_err();
        assert!(error.contains("auto, quic, tcp"), "{error}");
        let error = said(&["--proxy", "http://u:s3cret@h:1"]).unwrap_err();
        assert!(error.contains("no password is taken here") && !error.contains("s3cret"), "{error}");
    }
}
