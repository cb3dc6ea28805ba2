//! Limits of the operating system that a proxy raises at its start.

/// Raises the soft limit of open files as far as the process may, and returns what holds now.
///
/// Two descriptors a proxied connection make the usual default of 1,024 the first thing to run out.
pub fn raise_nofile() -> u64 {
    match rlimit::increase_nofile_limit(TARGET) {
        Ok(limit) => limit,
        Err(error) => {
            let limit = rlimit::Resource::NOFILE.get_soft().unwrap_or(0);
            tracing::warn!(%error, limit, "cannot raise the limit of open files: set it with ulimit -n or LimitNOFILE=");
            limit
        }
    }
}

/// Enough for half a million connections; containers often have a hard limit of 2^30, and some libraries walk
/// through all possible descriptors.
const TARGET: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #[test]
    fn the_soft_limit_reaches_the_hard_one_or_the_target() {
        let limit = super::raise_nofile();
        let (soft, hard) = rlimit::Resource::NOFILE.get().unwrap();
        assert_eq!(soft, limit);
        assert!(limit >= hard.min(super::TARGET));
    }
}
