//! Whether an authority answers, and what time it has: for whoever looks what is wrong.

use std::time::SystemTime;

use bytes::Bytes;
use http::Request;
use http::header::{DATE, USER_AGENT};

use crate::client::OURSELVES;
use crate::http::Http;
use crate::settings::Directory;

impl Directory {
    /// Asks for the directory and nothing else: no account is needed, and none of its limits counts it.
    ///
    /// # Errors
    /// Why there is no answer, or which status there is instead.
    pub async fn look(&self) -> Result<Option<SystemTime>, String> {
        let http = Http::new(self).map_err(|error| error.to_string())?;
        let request = Request::get(&self.url).header(USER_AGENT, OURSELVES).body(Bytes::new());
        let request = request.map_err(|error| error.to_string())?;
        let response = http.send(request).await.map_err(|error| error.to_string())?;
        if !response.status().is_success() {
            return Err(format!("it answers {}", response.status()));
        }
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        Ok(date.and_then(|date| httpdate::parse_http_date(date).ok()))
    }
}
