//! HTTP-01: the answer to an authority that asks, by plain HTTP, whether a name is ours. A token that we did not ask for is a
//! request like any other (hazard 131): the site's own client may have.

use causeway_acme::Answers;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::exchange::{Exchange, OutBody};

/// What to answer, if it is such a question.
pub fn answer(answers: &Answers, exchange: &Exchange) -> Option<Response<OutBody>> {
    let text = answers.http(&exchange.host, exchange.path())?;
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(OutBody::full(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Some(response)
}
