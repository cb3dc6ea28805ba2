use proptest::prelude::{any, prop, proptest};

use super::*;

type Fields = Vec<(String, Vec<u8>)>;

fn decoded(section: &[u8], limit: usize) -> Result<Fields, SectionError> {
    let mut fields = Vec::new();
    decode(section, limit, |name, value| {
        fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
        Ok::<_, SectionError>(())
    })?;
    Ok(fields)
}

#[test]
fn the_example_of_the_standard() {
    let section = [&[0, 0, 0x51, 0x0b][..], b"/index.html"].concat();
    assert_eq!(decoded(&section, 1000).unwrap(), [(":path".to_owned(), b"/index.html".to_vec())]);
}

#[test]
fn hazard_093_whatever_asks_for_a_dynamic_table_is_refused() {
    for section in [
        &[][..],
        &[0],
        &[1, 0],
        &[0, 0, 0x80],
        &[0, 0, 0x10],
        &[0, 0, 0x40, 0],
        &[0, 0, 0x00, 0],
        &[0, 0, 0xff, 0x24],
        &[0, 0, 0x5f, 0x55, 0],
        &[0, 0, 0x51, 5, b'/'],
        &[0, 0, 0x23, b'a'],
        &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ] {
        assert_eq!(decoded(section, 1000), Err(SectionError::Malformed), "{section:x?}");
    }
    assert_eq!(
        decoded(&[0, 0, 0xff, 0x23], 1000).unwrap(),
        [("x-frame-options".to_owned(), b"sameorigin".to_vec())]
    );
}

#[test]
fn hazard_093_a_short_section_cannot_become_a_long_head() {
    // One byte each for fields of 40 and more.
    let section = [&[0, 0][..], &[0xc0 | 17; 1000]].concat();
    assert_eq!(decoded(&section, 30_000), Err(SectionError::TooLong));
    assert!(decoded(&section, 64 * 1024).is_ok());
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(fields in prop::collection::vec(("[a-z-]{1,40}", prop::collection::vec(any::<u8>(), 0..300)), 0..20)) {
        let mut encoder = Encoder::new();
        for (name, value) in &fields {
            encoder.field(name, value);
        }
        assert_eq!(decoded(encoder.section(), encoder.size()), Ok(fields));
    }

    #[test]
    fn nothing_is_too_odd_to_be_looked_at(section in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decoded(&section, 4096);
    }
}
