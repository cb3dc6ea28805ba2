//! The annotations of a Service that look like ours and are none: each named with the one that was meant. Pure.

use causeway_daemon::config::nearest;

use crate::api::annotations;

/// Of MetalLB's annotations, and before v0.14.9.
const PREFIX: &str = "metallb.io/";
const OLD_PREFIX: &str = "metallb.universe.tf/";
/// Under either prefix.
const BOTH: [&str; 3] =
    [annotations::ADDRESS_POOL, annotations::LOAD_BALANCER_IPS, annotations::ALLOW_SHARED_IP];

/// What a key was meant to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slip {
    /// This one.
    Meant(&'static str),
    /// It is under a prefix of ours and like nothing that means anything.
    Nothing,
}

/// None for a key that means what it says, or that is somebody else's.
pub(super) fn slip(key: &str) -> Option<Slip> {
    let (prefix, name) = key.split_once('/').map_or(("", key), |(prefix, name)| (prefix, name));
    let ours = [PREFIX, OLD_PREFIX].iter().any(|known| known.trim_end_matches('/') == prefix);
    if !ours {
        // The name alone is nobody's for sure, unless the prefix is a slip as well.
        let near = flat(prefix).contains("metallb")
            || nearest(prefix, &["metallb.io", "metallb.universe.tf"]).is_some();
        return known().find(|known| near && flat(bare(known)) == flat(name)).map(Slip::Meant);
    }
    let valid = key == annotations::OWNER
        || BOTH.iter().any(|known| *known == key || annotations::deprecated(known) == key)
        // Written by an allocator.
        || name == bare(annotations::ALLOCATED_FROM_POOL);
    if valid {
        return None;
    }
    // `load-balancer-ips` is spelt another way, `addres-pool` is a slip; `loadBalancerIP` is the name of the field.
    let same = known().find(|known| flat(bare(known)) == flat(name));
    let names: Vec<&'static str> = known().map(bare).collect();
    let meant = same.or_else(|| {
        let near = nearest(name, &names)?;
        known().find(|known| bare(known) == near)
    });
    Some(meant.map_or(Slip::Nothing, Slip::Meant))
}

fn known() -> impl Iterator<Item = &'static str> {
    BOTH.into_iter().chain([annotations::OWNER])
}

/// Without its prefix, which would make everything alike.
fn bare(key: &str) -> &str {
    key.strip_prefix(PREFIX).unwrap_or(key)
}

fn flat(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_mean_something_and_those_of_others_are_no_slips() {
        for key in [
            "metallb.io/address-pool",
            "metallb.universe.tf/address-pool",
            "metallb.io/loadBalancerIPs",
            "metallb.io/owner",
            "metallb.universe.tf/ip-allocated-from-pool",
            "example.dev/address-pool",
            "address-pool",
            "kubectl.kubernetes.io/last-applied-configuration",
        ] {
            assert_eq!(slip(key), None, "{key}");
        }
    }

    #[test]
    fn a_slip_is_named_with_the_nearest_key() {
        let (pool, ips, share, owner) = (
            annotations::ADDRESS_POOL,
            annotations::LOAD_BALANCER_IPS,
            annotations::ALLOW_SHARED_IP,
            annotations::OWNER,
        );
        for (key, meant) in [
            ("metallb.universe.tf/allow-shared", share),
            ("metallb.io/allow-shared-ips", share),
            ("metallb.universe.tf/addres-pool", pool),
            ("metallb.io/addresspool", pool),
            ("metallb.universe.tf/loadBalancerIP", ips),
            ("metallb.io/load-balancer-ips", ips),
            ("metallb.io/loadbalancerips", ips),
            ("metallb.universe.tf/owner", owner),
            ("metallb/address-pool", pool),
            ("metalb.io/address-pool", pool),
            ("metallb.universe.tf.io/loadBalancerIPs", ips),
        ] {
            assert_eq!(slip(key), Some(Slip::Meant(meant)), "{key}");
        }
        assert_eq!(slip("metallb.io/zzz"), Some(Slip::Nothing));
    }
}
