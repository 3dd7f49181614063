//! `event tail`: subscriptions of callers, who come back for what has arrived.
//!
//! A call waits a while for the first event and takes what is there; the next
//! call with the same session goes on where this one ended. A session that
//! nobody reads ends by itself: its queue is bounded meanwhile, and what it
//! loses is counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::ask::view::{EventView, TailView};
use crate::ask::{Answer, Caller, Code, Refusal, Reply};
use crate::query;
use crate::riemann::Subscription;
use crate::riemann::index::Index;

/// How long a call waits for the first event.
const PATIENCE: Duration = Duration::from_secs(10);
/// After which a session that nobody reads ends.
const IDLE: Duration = Duration::from_secs(60);
/// Sessions at one time.
const MOST: usize = 32;
/// Events in one answer.
const AT_ONCE: usize = 500;

/// All sessions.
pub(super) struct Tails {
    index: Index,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The last session's number.
    last: u64,
    /// By number; those that are being read are not here.
    idle: BTreeMap<u64, Tail>,
    /// How many are being read.
    busy: usize,
}

struct Tail {
    uid: u32,
    events: Subscription,
    /// How many losses were told.
    told: u64,
    used: Instant,
}

/// A session that is being read; it goes back when this is dropped, also when
/// the caller has left.
struct Reading<'a> {
    tails: &'a Tails,
    number: u64,
    tail: Option<Tail>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut open = self.tails.open();
        open.busy -= 1;
        if let Some(mut tail) = self.tail.take() {
            tail.used = Instant::now();
            open.idle.insert(self.number, tail);
        }
    }
}

impl Tails {
    pub(super) fn new(index: Index) -> Self {
        Self { index, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has arrived since the last call with this session; a new one
    /// without.
    pub(super) async fn next(&self, caller: &Caller, query: &str, session: Option<u64>) -> Answer {
        let mut reading = match session {
            Some(number) => self.resume(caller, number)?,
            None => self.begin(caller, query)?,
        };
        let number = reading.number;
        let gone = || Refusal::new(Code::Failed, "the session is gone", "begin another");
        let tail = reading.tail.as_mut().ok_or_else(gone)?;
        let mut events = Vec::new();
        // The first answer is at once: it tells that events are heard from now on.
        if session.is_some()
            && let Ok(first) = timeout(PATIENCE, tail.events.next()).await
        {
            events.push(EventView::from(first.as_ref()));
        }
        while events.len() < AT_ONCE {
            let Some(event) = tail.events.try_next() else { break };
            events.push(EventView::from(event.as_ref()));
        }
        let all = tail.events.dropped();
        let lost = all - std::mem::replace(&mut tail.told, all);
        Ok(Reply::Tail(TailView { session: number, events, lost }))
    }

    fn begin(&self, caller: &Caller, query: &str) -> Result<Reading<'_>, Refusal> {
        let query =
            query::parse(query).map_err(|error| Refusal::new(Code::Usage, error.caret(), ""))?;
        let mut open = self.open();
        open.idle.retain(|_, tail| tail.used.elapsed() < IDLE);
        if open.idle.len() + open.busy >= MOST {
            let message = format!("{MOST} programs follow events already");
            return Err(Refusal::new(Code::Refused, message, "end one of them"));
        }
        let events = self
            .index
            .subscribe(query)
            .map_err(|many| Refusal::new(Code::Refused, many.to_string(), "end one of them"))?;
        open.last += 1;
        open.busy += 1;
        let tail = Tail { uid: caller.uid, events, told: 0, used: Instant::now() };
        Ok(Reading { tails: self, number: open.last, tail: Some(tail) })
    }

    fn resume(&self, caller: &Caller, number: u64) -> Result<Reading<'_>, Refusal> {
        let mut open = self.open();
        open.idle.retain(|at, tail| *at == number || tail.used.elapsed() < IDLE);
        let its = open.idle.get(&number).is_some_and(|tail| tail.uid == caller.uid);
        let tail = if its { open.idle.remove(&number) } else { None };
        let Some(tail) = tail else {
            let message = format!("there is no session {number} that follows events");
            return Err(Refusal::new(Code::NotFound, message, "begin another"));
        };
        open.busy += 1;
        Ok(Reading { tails: self, number, tail: Some(tail) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::{Event, Severity};
    use crate::host::clock::RealClock;
    use crate::riemann::index::Limits;

    fn caller(uid: u32) -> Caller {
        Caller { uid, ..Caller::default() }
    }

    fn view(answer: Answer) -> TailView {
        match answer.unwrap() {
            Reply::Tail(view) => view,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_goes_on_where_it_ended_and_is_its_callers() {
        let index = Index::new(Limits { queue: 2, ..Limits::default() }, Arc::new(RealClock));
        let tails = Tails::new(index.clone());
        let send = |service: &str| index.apply_own(vec![Event::new(service, Severity::Ok, "")]);
        assert_eq!(tails.next(&caller(7), "a ==", None).await.unwrap_err().code, Code::Usage);
        let first = view(tails.next(&caller(7), r#"service =~ "a%""#, None).await);
        assert_eq!((first.events.len(), first.lost), (0, 0));
        ["a1", "b", "a2", "a3"].into_iter().for_each(send);
        let number = first.session;
        let stranger = tails.next(&caller(8), "true", Some(number)).await;
        assert_eq!(stranger.unwrap_err().code, Code::NotFound);
        let next = view(tails.next(&caller(7), "", Some(number)).await);
        let names: Vec<_> = next.events.iter().filter_map(|e| e.service.as_deref()).collect();
        assert_eq!((names, next.lost), (vec!["a2", "a3"], 1));
        // Nothing comes: an empty answer after a while, and the session goes on.
        let next = view(tails.next(&caller(7), "", Some(number)).await);
        assert_eq!((next.events.len(), next.lost), (0, 0));
        send("a4");
        let next = view(tails.next(&caller(7), "", Some(number)).await);
        assert_eq!(next.events.len(), 1);
        tokio::time::advance(IDLE).await;
        view(tails.next(&caller(9), "true", None).await);
        assert!(tails.next(&caller(7), "", Some(number)).await.is_err(), "nobody has read it");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_are_few_and_a_caller_who_left_keeps_no_place() {
        let index = Index::new(Limits::default(), Arc::new(RealClock));
        let tails = Tails::new(index);
        let first = view(tails.next(&caller(7), "true", None).await).session;
        for _ in 1..MOST {
            view(tails.next(&caller(7), "true", None).await);
        }
        assert_eq!(tails.next(&caller(7), "true", None).await.unwrap_err().code, Code::Refused);
        let who = caller(7);
        let left = timeout(Duration::from_secs(1), tails.next(&who, "", Some(first)));
        assert!(left.await.is_err());
        assert!(tails.next(&who, "", Some(first)).await.is_ok(), "it went back");
        tokio::time::advance(IDLE).await;
        assert!(tails.next(&who, "true", None).await.is_ok());
    }
}
