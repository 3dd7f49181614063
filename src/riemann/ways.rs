//! Events on their way through the streams, and where those let them out.
//!
//! hostd's own events are indexed, in the history and with those who watch the
//! index whatever the streams say, so that no configuration can hide a failing
//! pool; `index` and `history` then do nothing to them. An event of others that
//! claims a host and service of hostd's never gets into the streams. What
//! streams make is indexed as an event of others is. An event that has expired
//! is published once, then goes through the streams.

use std::sync::Arc;

use super::index::{Content, Index, Limits, OWN_TAG, Origin, Shared, TooManySubscribers};
use super::outlet::Outlet;
use super::stats::{Reason, Stats};
use super::streams::{Outputs, Reloaded, Streams, Target};
use super::subscribe::{Subscribers, Subscription};
use super::table::{Table, key};
use crate::base::{Event, Timestamp};
use crate::config::Step;
use crate::query::Query;

/// The outlet that gets hostd's own events in any case.
const HISTORY: &str = "history";

/// One that is attached.
pub(super) struct Sink {
    pub(super) outlet: Outlet,
    pub(super) gets: Gets,
}

/// What a sink gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gets {
    /// What streams send to its name; everything when there are none.
    Streams,
    /// What streams send to its name and nothing else.
    Named,
    /// Everything that is indexed.
    Index,
}

/// Subscribers by topic.
#[derive(Default)]
pub(super) struct Topics(Vec<(Arc<str>, Subscribers)>);

impl Topics {
    /// One more, unless there are `most` already.
    pub(super) fn add(
        &mut self,
        topic: &str,
        query: Query,
        capacity: usize,
        most: usize,
    ) -> Option<Subscription> {
        self.0.retain_mut(|(_, those)| those.count() > 0);
        if self.0.iter_mut().map(|(_, those)| those.count()).sum::<usize>() >= most {
            return None;
        }
        let there = self.0.iter().position(|(name, _)| &**name == topic);
        let at = there.unwrap_or_else(|| {
            self.0.push((topic.into(), Subscribers::default()));
            self.0.len() - 1
        });
        self.0.get_mut(at)?.1.add(query, capacity, most)
    }

    fn publish(&mut self, topic: &str, event: &Arc<Event>) -> usize {
        let there = self.0.iter_mut().find(|(name, _)| &**name == topic);
        there.map_or(0, |(_, those)| those.publish(event))
    }
}

/// Everything but the streams themselves, while an event is in them.
struct Ways<'a> {
    table: &'a mut Table,
    subscribers: &'a mut Subscribers,
    topics: &'a mut Topics,
    outlets: &'a [Sink],
    limits: &'a Limits,
    stats: &'a Stats,
    now: Timestamp,
    /// The event that is indexed and published already.
    current: Option<Current<'a>>,
    /// Events that subscribers and sinks lost.
    lost: usize,
}

#[derive(Clone, Copy)]
struct Current<'a> {
    event: &'a Arc<Event>,
    /// hostd's own, which is in the history as well.
    own: bool,
}

impl Ways<'_> {
    /// To subscribers of the index, and to the sinks that watch it.
    fn publish(&mut self, event: &Arc<Event>) {
        let watching = self.outlets.iter().filter(|sink| sink.gets == Gets::Index);
        self.lost += watching.map(|sink| sink.outlet.push(event)).sum::<usize>();
        self.lost += self.subscribers.publish(event);
    }

    fn send(&mut self, name: &str, event: &Arc<Event>) {
        let by_name = |sink: &&Sink| sink.gets != Gets::Index && sink.outlet.name() == name;
        let named = self.outlets.iter().filter(by_name);
        self.lost += named.map(|sink| sink.outlet.push(event)).sum::<usize>();
    }

    fn index(&mut self, event: &Arc<Event>) {
        let expired = |event: &Event| event.state.as_deref() == Some("expired");
        let told = |there: Current<'_>| {
            let same = Arc::ptr_eq(there.event, event);
            // It may have got a field or two on its way.
            same || (expired(there.event) && expired(event) && key(there.event) == key(event))
        };
        if self.current.is_some_and(told) {
            return;
        }
        match self.table.set(Origin::Outside, event, self.now, self.limits) {
            Ok(()) => self.publish(event),
            // One of hostd's own that was changed or has waited: it is there already.
            Err(Reason::OwnKey) if event.tags.iter().any(|tag| tag == OWN_TAG) => {}
            Err(reason) => self.stats.refuse(reason),
        }
    }
}

impl Outputs for Ways<'_> {
    fn take(&mut self, target: &Target, event: &Arc<Event>) {
        match target {
            Target::Index => self.index(event),
            Target::Outlet(name) => {
                let there = |c: Current<'_>| c.own && Arc::ptr_eq(c.event, event);
                if &**name != HISTORY || !self.current.is_some_and(there) {
                    self.send(name, event);
                }
            }
            Target::Topic(topic) => self.lost += self.topics.publish(topic, event),
        }
    }
}

impl Index {
    /// From now on the streams decide on the events of others. Streams that are
    /// there already are reloaded: what did not change keeps what it knows. None
    /// are in the way of nothing.
    pub fn set_streams(&self, steps: &[Step]) -> Reloaded {
        let streams = &mut self.content().streams;
        match streams {
            _ if steps.is_empty() => {
                *streams = None;
                Reloaded::default()
            }
            Some(streams) => streams.reload(steps),
            None => {
                let mut told = Reloaded::default();
                let mut fresh = Box::new(Streams::new(&[]));
                told.new += fresh.reload(steps).new;
                *streams = Some(fresh);
                told
            }
        }
    }

    /// Lets the streams do what is due.
    pub fn tick(&self) {
        let now = self.now();
        let dropped = self.content().tick(now, &self.shared);
        self.shared.stats.dropped.add(dropped);
    }

    /// When the streams have something to do next.
    pub fn due(&self) -> Option<Timestamp> {
        self.content().streams.as_ref().and_then(|streams| streams.due())
    }

    /// Names that streams send to and nobody is attached to.
    pub fn unattached(&self) -> Vec<String> {
        let content = self.content();
        let named = content.streams.iter().flat_map(|streams| streams.targets());
        let names = named.filter_map(|target| match target {
            Target::Outlet(name) => Some(name),
            Target::Index | Target::Topic(_) => None,
        });
        let there = |name: &str| content.outlets.iter().any(|sink| sink.outlet.name() == name);
        names.filter(|name| !there(name)).map(ToString::to_string).collect()
    }

    /// What the streams hold and have lost: events, children, losses.
    pub fn streams_hold(&self) -> Option<(usize, usize, u64)> {
        let content = self.content();
        let held = content.streams.as_ref()?.held();
        Some((held.events(), held.children(), held.losses()))
    }

    /// Events that streams publish under a topic from now on and that match.
    pub fn subscribe_topic(
        &self,
        topic: &str,
        query: Query,
    ) -> Result<Subscription, TooManySubscribers> {
        let Limits { queue, subscribers, .. } = self.shared.limits;
        let mut content = self.content();
        let added = content.topics.add(topic, query, queue, subscribers);
        added.ok_or(TooManySubscribers(subscribers))
    }
}

impl Content {
    /// An event that has arrived; returns how many subscribers and sinks lost for it.
    pub(super) fn stream(
        &mut self,
        origin: Origin,
        event: Event,
        now: Timestamp,
        shared: &Shared,
    ) -> Result<usize, Reason> {
        let event = Arc::new(event);
        match origin {
            Origin::Own => self.table.set(origin, &event, now, &shared.limits)?,
            Origin::Outside => {
                let there = self.table.get(key(&event));
                if there.is_some_and(|there| there.origin == Origin::Own) {
                    return Err(Reason::OwnKey);
                }
            }
        }
        let published = origin == Origin::Own;
        Ok(self.through(&event, published, origin == Origin::Own, now, shared))
    }

    /// An event that has expired and is not in the table any more.
    pub(super) fn restream(
        &mut self,
        origin: Origin,
        event: &Arc<Event>,
        now: Timestamp,
        shared: &Shared,
    ) -> usize {
        self.through(event, true, origin == Origin::Own, now, shared)
    }

    /// Through the streams; `published` if it is to be published whatever they say.
    fn through(
        &mut self,
        event: &Arc<Event>,
        published: bool,
        own: bool,
        now: Timestamp,
        shared: &Shared,
    ) -> usize {
        let current = published.then_some(Current { event, own });
        let Some((streams, mut ways)) = self.ways(current, now, shared) else { return 0 };
        if published {
            ways.publish(event);
        }
        if own {
            ways.send(HISTORY, event);
        }
        streams.push(event, now, &mut ways);
        ways.lost
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Timestamp, shared: &Shared) -> usize {
        let Some((streams, mut ways)) = self.ways(None, now, shared) else { return 0 };
        streams.tick(now, &mut ways);
        ways.lost
    }

    fn ways<'a>(
        &'a mut self,
        current: Option<Current<'a>>,
        now: Timestamp,
        shared: &'a Shared,
    ) -> Option<(&'a mut Streams, Ways<'a>)> {
        let streams = self.streams.as_deref_mut()?;
        let ways = Ways {
            table: &mut self.table,
            subscribers: &mut self.subscribers,
            topics: &mut self.topics,
            outlets: &self.outlets,
            limits: &shared.limits,
            stats: &shared.stats,
            now,
            current,
            lost: 0,
        };
        Some((streams, ways))
    }
}

#[cfg(test)]
#[path = "ways_tests.rs"]
mod tests;
