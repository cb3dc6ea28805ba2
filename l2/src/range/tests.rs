use super::*;
use proptest::prelude::*;

fn range(text: &str) -> IpRange {
    text.parse().unwrap()
}

#[test]
fn every_form_of_metallb_is_read() {
    assert_eq!(range("192.168.10.0/24"), range("192.168.10.0-192.168.10.255"));
    assert_eq!(range("192.168.9.1-192.168.9.5").count(), 5);
    assert_eq!(range(" 10.0.0.1 - 10.0.0.3 "), range("10.0.0.1-10.0.0.3"));
    assert_eq!(range("10.0.0.77/24"), range("10.0.0.0/24"), "host bits are masked off");
    assert_eq!(range("fc00:f853:0ccd:e799::/124").count(), 16);
    assert_eq!(range("2001:db8::-2001:db8::f").to_string(), "2001:db8::/124");
    assert_eq!(range("192.168.1.100-192.168.2.200").count(), 357);
}

#[test]
fn what_is_no_range_is_refused_with_the_mend() {
    let error = |text: &str| text.parse::<IpRange>().unwrap_err().to_string();
    assert!(error("10.0.0.1").contains("10.0.0.1/32"));
    assert!(error("fc00::1").contains("fc00::1/128"));
    assert!(error("10.0.0.9-10.0.0.1").contains("above its end"));
    assert!(error("10.0.0.1-fc00::1").contains("families"));
    assert!(error("10.0.0.0/33").contains("0 to 32"));
    for bad in [
        "",
        "-",
        "/",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.1-",
        "-10.0.0.1",
        "1-2-3",
        "10.0.0.1-10.0.0.2-10.0.0.3",
        "010.0.0.1/8",
        "fe80::1%eth0/64",
        "10.0.0.0/8/8",
        "pool",
    ] {
        assert!(bad.parse::<IpRange>().is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn addresses_that_end_in_0_or_255_are_counted_exactly() {
    for (text, buggy) in [
        ("10.0.0.0/24", 2),
        ("10.0.0.0/23", 4),
        ("10.0.0.1-10.0.0.254", 0),
        ("10.0.0.255/32", 1),
        ("10.0.0.250-10.0.1.5", 2),
        ("0.0.0.0/30", 1),
        ("fc00::/120", 0),
    ] {
        assert_eq!(range(text).buggy_count(), buggy, "{text}");
    }
}

#[test]
fn merged_ranges_neither_touch_nor_overlap() {
    let merged =
        merge(vec![range("10.0.0.4/30"), range("10.0.0.0/30"), range("10.0.1.0/24"), range("fc00::/64")]);
    assert_eq!(merged, vec![range("10.0.0.0/29"), range("10.0.1.0/24"), range("fc00::/64")]);
}

proptest! {
    #[test]
    fn parsing_never_panics(text in "[0-9a-f.:/ -]{0,40}") {
        let _ = text.parse::<IpRange>();
    }

    #[test]
    fn what_is_printed_reads_the_same(a: u32, b: u32, c: u128, d: u128) {
        let v4 = IpRange::new(IpAddr::from(a.min(b).to_be_bytes()), IpAddr::from(a.max(b).to_be_bytes())).unwrap();
        prop_assert_eq!(v4.to_string().parse::<IpRange>().unwrap(), v4);
        let v6 = IpRange::new(IpAddr::from(c.min(d).to_be_bytes()), IpAddr::from(c.max(d).to_be_bytes())).unwrap();
        prop_assert_eq!(v6.to_string().parse::<IpRange>().unwrap().count(), v6.count());
    }

    #[test]
    fn prefixes_cover_the_range_and_nothing_else(a: u32, length in 0u32..2000) {
        let first = IpAddr::from(a.to_be_bytes());
        let last = IpAddr::from(a.saturating_add(length).to_be_bytes());
        let range = IpRange::new(first, last).unwrap();
        let covered: u128 = range.prefixes().iter().map(|net| IpRange::from(*net).count()).sum();
        prop_assert_eq!(covered, range.count());
        prop_assert_eq!(merge(range.prefixes().into_iter().map(IpRange::from).collect()), vec![range]);
        let by_hand = (u64::from(a)..=u64::from(a.saturating_add(length))).filter(|n| matches!(n % 256, 0 | 255)).count();
        prop_assert_eq!(range.buggy_count(), by_hand as u128);
    }
}
