//! The HTTP port for people and Prometheus: `/metrics`.
//!
//! What is behind a page comes in as a function, so that nothing here reaches
//! past this room. Who may come in is decided by the engine's [`Guard`].

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::riemann::Index;
use crate::riemann::http::guard::{Guard, Wish};
use crate::riemann::http::refusal;

/// Pages that are made at one time.
const AT_ONCE: usize = 2;

/// Makes a page's text.
pub type Make = Arc<dyn Fn() -> String + Send + Sync>;

/// What the pages are made of.
pub struct Pages {
    /// Counts refusals.
    pub index: Index,
    /// Who may come in.
    pub guard: Guard,
    /// `/metrics`.
    pub metrics: Make,
    /// Its media type.
    pub metrics_type: &'static str,
}

struct App {
    pages: Pages,
    turns: Semaphore,
}

/// The pages.
pub fn router(pages: Pages) -> Router {
    let app = Arc::new(App { pages, turns: Semaphore::new(AT_ONCE) });
    Router::new().route("/metrics", get(metrics)).fallback(nothing).with_state(app)
}

async fn nothing() -> Response {
    refusal(StatusCode::NOT_FOUND, "here is /metrics")
}

async fn metrics(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let pages = &app.pages;
    let admitted = match pages.guard.admit(Wish::Read, &uri, &headers, pages.index.stats()) {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    let turn = app.turns.acquire().await;
    let make = Arc::clone(&pages.metrics);
    let page = spawn_blocking(move || make()).await;
    drop(turn);
    let answer = match page {
        Ok(page) => ([(header::CONTENT_TYPE, pages.metrics_type)], page).into_response(),
        Err(_) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made"),
    };
    admitted.pass(answer)
}
