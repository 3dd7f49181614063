//! What goes out: `/index` and `/pubsub/<topic>`, as a web socket for those who
//! ask for one, else as server-sent events.
//!
//! `/index?query=Q` tells what matches now; with `subscribe=true`, or as
//! server-sent events without `subscribe=false`, also what comes. `/pubsub/index`
//! tells only what comes, and `/pubsub/<topic>` what streams publish under that
//! name. A subscriber who is slow loses its oldest events; who
//! takes nothing at all is cut off.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval_at};

use super::guard::{Wish, parameter};
use super::{App, Stay, refusal};
use crate::base::Event;
use crate::query::{self, Query};
use crate::riemann::index::{Index, TooManySubscribers};
use crate::riemann::json;
use crate::riemann::stats::Reason;
use crate::riemann::subscribe::Subscription;

/// Longest message of a client; there is nothing that it could say.
const HEARD: usize = 4096;

/// Longest reason in a web socket's last frame (RFC 6455, 5.5).
const LAST_WORDS: usize = 123;

/// Longest name of a topic.
const LONGEST_TOPIC: usize = 64;

/// For a web socket's answer to our last frame.
const GOODBYE: Duration = Duration::from_secs(1);

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

pub(super) async fn index(
    State(app): State<Arc<App>>,
    Extension(stay): Extension<Stay>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    open(app, stay, uri, headers, upgrade, Source::Index { now: true }).await
}

pub(super) async fn topic(
    State(app): State<Arc<App>>,
    Extension(stay): Extension<Stay>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Response {
    let source = match path {
        Ok(Path(topic)) if topic == "index" => Source::Index { now: false },
        Ok(Path(topic)) if topic.len() <= LONGEST_TOPIC => Source::Topic(topic),
        Ok(_) | Err(_) => {
            app.index.stats().refuse(Reason::BadRequest);
            return refusal(StatusCode::NOT_FOUND, "there is no such topic; `index` is one");
        }
    };
    open(app, stay, uri, headers, upgrade, source).await
}

/// Where events come from.
enum Source {
    /// The index; also what is there already.
    Index { now: bool },
    /// What streams publish under this name. Nobody may do so yet.
    Topic(String),
}

/// What somebody wants to be told.
struct Wanted {
    query: Query,
    source: Source,
    /// What comes.
    later: bool,
}

async fn open(
    app: Arc<App>,
    stay: Stay,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Upgrade,
    source: Source,
) -> Response {
    let now = matches!(source, Source::Index { now: true });
    let admitted = match app.guard.admit(Wish::Read, &uri, &headers, app.index.stats()) {
        Ok(admitted) => admitted,
        Err(answer) => return *answer,
    };
    let text = parameter(&uri, "query").unwrap_or_else(|| "true".to_owned());
    let query = query::parse(&text).map_err(|error| {
        app.index.stats().refuse(Reason::BadQuery);
        format!("the query is wrong {error}")
    });
    let subscribe = parameter(&uri, "subscribe");
    let answer = match upgrade {
        Ok(upgrade) => {
            let later = !now || subscribe.as_deref() == Some("true");
            let upgrade =
                upgrade.max_message_size(HEARD).max_frame_size(HEARD).on_failed_upgrade(|_| {});
            upgrade.on_upgrade(move |socket| async move {
                let wanted = query.map(|query| Wanted { query, source, later });
                tell(&app, stay, socket, wanted).await;
            })
        }
        Err(rejection) if headers.contains_key(header::UPGRADE) => {
            app.index.stats().refuse(Reason::BadRequest);
            rejection.into_response()
        }
        Err(_) => {
            let later = subscribe.as_deref() != Some("false");
            match query {
                Err(why) => refusal(StatusCode::BAD_REQUEST, &why),
                Ok(query) => match Feed::of(&app, Wanted { query, source, later }).await {
                    Ok(feed) => {
                        let events = Sse::new(lines(feed, stay));
                        let alive = KeepAlive::new().interval(app.limits.ping);
                        events.keep_alive(alive).into_response()
                    }
                    Err(full) => refusal(StatusCode::SERVICE_UNAVAILABLE, &full.to_string()),
                },
            }
        }
    };
    admitted.pass(answer)
}

/// Events for one subscriber: those that are there, then those that come. What
/// was published while we looked comes again, so that the last one is the newest.
struct Feed {
    now: std::vec::IntoIter<Arc<Event>>,
    later: Option<Subscription>,
}

impl Feed {
    async fn of(app: &App, wanted: Wanted) -> Result<Self, TooManySubscribers> {
        let Wanted { query, source, later } = wanted;
        let later = if later { Some(subscribe(&app.index, &source, &query)?) } else { None };
        let mut found = Vec::new();
        if matches!(source, Source::Index { now: true }) {
            let turn = app.scans.acquire().await;
            let index = app.index.clone();
            // A panic there has been told; nothing was found then.
            found = spawn_blocking(move || index.query(&query)).await.unwrap_or_default();
            drop(turn);
            app.index.stats().answered.add(1);
        }
        Ok(Self { now: found.into_iter(), later })
    }

    /// The next one as JSON; `None` when there will be none. Can be cancelled
    /// without losing one.
    async fn next(&mut self) -> Option<String> {
        let event = match (self.now.next(), &mut self.later) {
            (Some(event), _) => event,
            (None, Some(later)) => later.next().await,
            (None, None) => return None,
        };
        Some(json::to_json(&event).to_string())
    }
}

fn subscribe(
    index: &Index,
    source: &Source,
    query: &Query,
) -> Result<Subscription, TooManySubscribers> {
    let subscription = match source {
        Source::Index { .. } => index.subscribe(query.clone()),
        Source::Topic(topic) => index.subscribe_topic(topic, query.clone()),
    };
    subscription.inspect_err(|_| index.stats().refuse(Reason::TooManySubscribers))
}

/// Server-sent events until the server stops.
fn lines(feed: Feed, stay: Stay) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    let stop = Box::pin(stay.clone().until_stop());
    stream::unfold((feed, stop, stay), |(mut feed, mut stop, stay)| async move {
        let event = tokio::select! {
            event = feed.next() => event?,
            () = &mut stop => return None,
        };
        Some((Ok(sse::Event::default().data(event)), (feed, stop, stay)))
    })
}

/// Talks to a web socket until one side has enough.
async fn tell(app: &App, stay: Stay, mut socket: WebSocket, wanted: Result<Wanted, String>) {
    let last = match wanted {
        Err(why) => Some((close_code::POLICY, why)),
        Ok(wanted) => match Feed::of(app, wanted).await {
            Err(full) => Some((close_code::AGAIN, full.to_string())),
            Ok(feed) => send(app, stay.clone(), &mut socket, feed).await,
        },
    };
    if let Some((code, why)) = last {
        let reason = cut(&why, LAST_WORDS).into();
        // Nobody there is fine too.
        let _ = socket.send(Message::Close(Some(CloseFrame { code, reason }))).await;
    }
    // Its answer ends the connection in order; it may well not come.
    let _ = tokio::time::timeout(GOODBYE, async { while socket.recv().await.is_some() {} }).await;
}

/// The last words, unless the peer is gone.
async fn send(
    app: &App,
    stay: Stay,
    socket: &mut WebSocket,
    mut feed: Feed,
) -> Option<(u16, String)> {
    let every = app.limits.ping;
    let mut ping = interval_at(tokio::time::Instant::now() + every, every);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut silent = 0;
    let mut stop = pin!(stay.until_stop());
    loop {
        let message = tokio::select! {
            event = feed.next() => match event {
                Some(event) => Message::Text(event.into()),
                None => return Some((close_code::NORMAL, String::new())),
            },
            heard = socket.recv() => match heard {
                Some(Ok(_)) => {
                    silent = 0;
                    continue;
                }
                Some(Err(_)) | None => return None,
            },
            _ = ping.tick() => {
                silent += 1;
                if silent > 2 {
                    app.index.stats().refuse(Reason::Idle);
                    return None;
                }
                Message::Ping(Bytes::new())
            }
            () = &mut stop => return Some((close_code::AWAY, "hostd stops".to_owned())),
        };
        if socket.send(message).await.is_err() {
            return None;
        }
    }
}

/// At most so many bytes of a text, at a character's end.
fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
