//! `PUT` or `POST /events`: a JSON document a line, a line of answer for each:
//! `{}`, or `{"error": "…"}` when it was not taken.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::guard::Wish;
use super::{App, refusal};
use crate::base::with_sources;
use crate::riemann::index::Origin;
use crate::riemann::json;
use crate::riemann::stats::Reason;

/// Bytes of answer beyond which nothing more is said line by line.
const ANSWER: usize = 1 << 20;

pub(super) async fn events(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let admitted = match app.guard.admit(Wish::Send, &uri, &headers, app.index.stats()) {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    let mut lines = Lines::new(&app);
    let read = async {
        let mut body = body.into_data_stream();
        while let Some(bytes) = body.next().await {
            // Whoever goes away in the middle gets no answer anyway.
            let Ok(bytes) = bytes else {
                return Err((StatusCode::BAD_REQUEST, Reason::BadRequest));
            };
            lines.feed(&bytes)?;
        }
        lines.end()
    };
    let read = timeout(app.limits.body, read).await;
    let read = read.unwrap_or(Err((StatusCode::REQUEST_TIMEOUT, Reason::HalfFrame)));
    let answer = match read {
        Ok(()) => {
            let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
            (kind, lines.answer).into_response()
        }
        Err((status, reason)) => {
            app.index.stats().refuse(reason);
            let why = format!("{}; {} lines before it were read", reason.explain(), lines.read);
            refusal(status, &why)
        }
    };
    admitted.pass(answer)
}

/// The lines of a body, as far as it has come.
struct Lines<'a> {
    app: &'a App,
    /// The line that is not complete.
    rest: Vec<u8>,
    /// Bytes so far.
    bytes: usize,
    /// Lines so far.
    read: usize,
    answer: String,
}

impl<'a> Lines<'a> {
    fn new(app: &'a App) -> Self {
        Self { app, rest: Vec::new(), bytes: 0, read: 0, answer: String::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), (StatusCode, Reason)> {
        const TOO_LARGE: StatusCode = StatusCode::PAYLOAD_TOO_LARGE;
        self.bytes += bytes.len();
        if self.bytes > self.app.limits.body_bytes {
            return Err((TOO_LARGE, Reason::FrameTooLarge));
        }
        let mut pieces = bytes.split(|b| *b == b'\n');
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            let mut line = std::mem::take(&mut self.rest);
            if line.len() + piece.len() > self.app.limits.line {
                return Err((TOO_LARGE, Reason::LineTooLong));
            }
            line.extend_from_slice(piece);
            self.take(&line)?;
        }
        if self.rest.len() + last.len() > self.app.limits.line {
            return Err((TOO_LARGE, Reason::LineTooLong));
        }
        self.rest.extend_from_slice(last);
        Ok(())
    }

    /// The last line needs no end.
    fn end(&mut self) -> Result<(), (StatusCode, Reason)> {
        let line = std::mem::take(&mut self.rest);
        self.take(&line)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), (StatusCode, Reason)> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        if self.read >= self.app.limits.lines {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, Reason::TooManyEvents));
        }
        self.read += 1;
        let wrong = self.index(line).err();
        if self.answer.len() < ANSWER {
            let said = wrong
                .map_or_else(|| serde_json::json!({}), |why| serde_json::json!({ "error": why }));
            self.answer.push_str(&said.to_string());
            self.answer.push('\n');
        }
        Ok(())
    }

    fn index(&self, line: &[u8]) -> Result<(), String> {
        let index = &self.app.index;
        let read = str::from_utf8(line).map_err(|_| "not UTF-8".to_owned());
        let read = read.and_then(|text| {
            json::from_json(text, index.now()).map_err(|error| with_sources(&error))
        });
        let event = read.inspect_err(|_| index.stats().refuse(Reason::BadJson))?;
        let applied = index.apply(Origin::Outside, vec![event]);
        applied.reason.map_or(Ok(()), |reason| Err(reason.explain().to_owned()))
    }
}
