//! What a server's bytes say, and whether they are the answer to what was asked and come from who holds the key. Pure.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::TSigVerifier;
use hickory_proto::rr::rdata::tsig::TsigError;

/// Why bytes are not the answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("its answer is not a DNS message: {0}")]
    Malformed(String),
    #[error("its answer is not to our question")]
    Stray,
    #[error("its answer bears no signature, so it may be anybody's")]
    Unsigned { code: ResponseCode, error: Option<TsigError> },
    #[error("its answer bears a signature that is not of our key: {0}")]
    Forged(String),
}

/// Reads the answer to `asked`.
///
/// # Errors
/// When the bytes are none.
pub fn read(asked: &Message, bytes: &[u8]) -> Result<Message, AnswerError> {
    let answer = Message::from_vec(bytes).map_err(|error| AnswerError::Malformed(error.to_string()))?;
    let ours = answer.message_type == MessageType::Response
        && (answer.id, answer.op_code) == (asked.id, asked.op_code)
        // Servers that refuse at once may leave the question out.
        && (answer.queries.is_empty() || answer.queries == asked.queries);
    if ours { Ok(answer) } else { Err(AnswerError::Stray) }
}

/// Reads the answer to a signed message and checks the signature: what is returned is the word of the key's holder.
///
/// # Errors
/// When the bytes are no answer, or one without a good signature. A server that does not know the key cannot sign; what it
/// says about that is in [`AnswerError::Unsigned`], to be told and not to be believed.
pub fn read_signed(
    asked: &Message,
    verifier: &mut TSigVerifier,
    bytes: &[u8],
) -> Result<Message, AnswerError> {
    // The whole is read first: the crate's own check takes for granted that the sections are as long as the header says.
    let answer = read(asked, bytes)?;
    let code = answer.response_code;
    let Some(signature) = answer.signature() else {
        return Err(AnswerError::Unsigned { code, error: None });
    };
    let tsig = &signature.data;
    if tsig.mac.is_empty() {
        return Err(AnswerError::Unsigned { code, error: tsig.error });
    }
    // The crate subtracts one from the other.
    if tsig.time < u64::from(tsig.fudge) {
        return Err(AnswerError::Forged("it was made before 1970".to_owned()));
    }
    verifier.verify(bytes).map_err(|error| AnswerError::Forged(error.to_string()))?;
    Ok(answer)
}

/// The server's clock, in seconds since 1970, where a signed answer says that ours differs too much (RFC 8945 §5.2.3).
pub(crate) fn server_time(answer: &Message) -> Option<u64> {
    let tsig = &answer.signature()?.data;
    let [a, b, c, d, e, f]: [u8; 6] = tsig.other.as_slice().try_into().ok()?;
    (tsig.error == Some(TsigError::BadTime)).then(|| u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::{Message, Query};
    use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
    use hickory_proto::rr::{Name, RecordType, TSigVerifier, TSigner};
    use proptest::prelude::{any, proptest};

    use super::{AnswerError, read, read_signed};

    fn asked() -> (Message, TSigVerifier) {
        let mut asked = Message::query();
        asked.add_query(Query::query(Name::from_ascii("a.test.").unwrap(), RecordType::TXT));
        let key = TSigner::new(vec![7; 32], TsigAlgorithm::HmacSha256, Name::from_ascii("k.").unwrap(), 300);
        let verifier = asked.finalize(&key.unwrap(), 1_000_000).unwrap().unwrap();
        (asked, verifier)
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let (asked, _) = asked();
        let good = asked.clone().into_response();
        assert!(read(&asked, &good.to_vec().unwrap()).is_ok());
        let mut other = good.clone();
        other.metadata.id = asked.id.wrapping_add(1);
        assert_eq!(read(&asked, &other.to_vec().unwrap()).unwrap_err(), AnswerError::Stray);
        let mut other = good;
        other.queries = vec![Query::query(Name::from_ascii("b.test.").unwrap(), RecordType::TXT)];
        assert_eq!(read(&asked, &other.to_vec().unwrap()).unwrap_err(), AnswerError::Stray);
        assert_eq!(
            read(&asked, &asked.to_vec().unwrap()).unwrap_err(),
            AnswerError::Stray,
            "our own question"
        );
    }

    #[test]
    fn an_answer_without_a_good_signature_is_not_believed() {
        let (asked, mut verifier) = asked();
        let mut bare = asked.clone().into_response();
        bare.take_signature();
        let told = read_signed(&asked, &mut verifier, &bare.to_vec().unwrap()).unwrap_err();
        assert!(matches!(told, AnswerError::Unsigned { error: None, .. }), "{told:?}");
        // Our own signature, sent back.
        let echoed = asked.clone().into_response().to_vec().unwrap();
        let told = read_signed(&asked, &mut verifier, &echoed).unwrap_err();
        assert!(matches!(told, AnswerError::Forged(_)), "{told:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_from_the_network_panic_or_pass(noise in any::<Vec<u8>>(), at in any::<u16>(), byte in any::<u8>()) {
            let (asked, mut verifier) = asked();
            let _ = read(&asked, &noise);
            let mut bent = asked.clone().into_response().to_vec().unwrap();
            let place = usize::from(at) % bent.len();
            bent[place] = byte;
            assert!(read_signed(&asked, &mut verifier, &bent).is_err());
            bent.extend(noise);
            assert!(read_signed(&asked, &mut verifier, &bent).is_err());
        }
    }
}
