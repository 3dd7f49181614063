//! `by`: the steps below once for each value of some fields.
//!
//! The reference never forgets a value. Here a child goes when its last event's
//! ttl (60 s without one) has passed and nothing waits in it, and after a day
//! without an event if it remembers something; the table is looked through
//! every ten seconds. When there are too many, those go first that have been
//! quiet for longest.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;

use super::Reloaded;
use super::held::{CHILDREN_OF_ONE, Held, Place};
use super::step::{Cx, Rest, Steps};
use super::timer::{NEVER, Timer, expires, is_expired};
use super::value::{self, Value};
use crate::base::{Event, Timestamp};
use crate::config::Step;
use crate::query::ast::Field;

const SWEEP: Duration = Duration::from_secs(10);
const DAY: i64 = 86_400 * 1_000_000;

/// Children by the values of their fields.
pub struct By {
    fields: Vec<Field>,
    template: Vec<Step>,
    children: Vec<Option<Child>>,
    free: Vec<usize>,
    /// Places in `children`, by the values.
    table: HashTable<usize>,
    // Keyed at random, because values come from anybody.
    hasher: RandomState,
    /// Who has something to do, by when.
    dues: BTreeSet<(Timestamp, usize)>,
    sweep: Timer,
}

struct Child {
    hash: u64,
    values: Box<[Value<'static>]>,
    steps: Steps,
    /// As it stands in `dues`.
    due: Timestamp,
    seen: Timestamp,
    expires: Timestamp,
    _place: Place,
}

impl By {
    /// Without children.
    pub fn new(fields: Vec<Field>, template: Vec<Step>) -> Self {
        Self {
            fields,
            template,
            children: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::new(),
            dues: BTreeSet::new(),
            sweep: Timer::new(SWEEP),
        }
    }

    /// The steps of each child.
    pub fn template(&self) -> &[Step] {
        &self.template
    }

    /// When the first child has something to do.
    pub fn due(&self) -> Timestamp {
        let first = self.dues.first().map_or(NEVER, |(due, _)| *due);
        first.min(self.sweep.due())
    }

    /// An event to the child of its values.
    pub fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>) {
        let Some(at) = self.child(event, cx) else { return };
        let Some(child) = self.children.get_mut(at).and_then(Option::as_mut) else { return };
        child.seen = cx.now;
        child.expires = if is_expired(event, cx.now) { cx.now } else { expires(event) };
        child.steps.push(event, cx);
        let due = child.steps.due();
        if due != child.due {
            self.dues.remove(&(child.due, at));
            if due != NEVER {
                self.dues.insert((due, at));
            }
            child.due = due;
        }
        if self.sweep.runs() {
            self.sweep.heal(cx.now);
        } else {
            self.sweep.start(cx.now, self.sweep.every());
        }
    }

    /// Where the child of an event is, a new one if need be; none when there are
    /// too many.
    fn child(&mut self, event: &Event, cx: &Cx<'_>) -> Option<usize> {
        let mut hasher = self.hasher.build_hasher();
        value::hash(&self.fields, event, &mut hasher);
        let hash = std::hash::Hasher::finish(&hasher);
        let (fields, children) = (&self.fields, &self.children);
        let same = |at: &usize| {
            let child = children.get(*at).and_then(Option::as_ref);
            child.is_some_and(|child| value::same(fields, event, &child.values))
        };
        if let Some(at) = self.table.find(hash, same) {
            return Some(*at);
        }
        if self.table.len() >= CHILDREN_OF_ONE {
            self.evict(cx.held);
        }
        let child = Child {
            hash,
            values: value::values(&self.fields, event),
            _place: Place::take(cx.held)?,
            steps: Steps::new(&self.template, cx.held),
            due: NEVER,
            seen: cx.now,
            expires: cx.now,
        };
        let at = self.free.pop().unwrap_or(self.children.len());
        if at == self.children.len() {
            self.children.push(Some(child));
        } else if let Some(place) = self.children.get_mut(at) {
            *place = Some(child);
        }
        let children = &self.children;
        self.table.insert_unique(hash, at, |at| {
            children.get(*at).and_then(Option::as_ref).map_or(0, |child| child.hash)
        });
        Some(at)
    }

    /// Does what is due, each child once.
    pub fn fire(&mut self, cx: &mut Cx<'_>) {
        let due: Vec<(Timestamp, usize)> =
            self.dues.iter().take_while(|(due, _)| *due <= cx.now).copied().collect();
        for (before, at) in due {
            self.dues.remove(&(before, at));
            let Some(child) = self.children.get_mut(at).and_then(Option::as_mut) else { continue };
            child.steps.fire(cx);
            child.due = child.steps.due();
            if child.due != NEVER {
                self.dues.insert((child.due, at));
            }
        }
        if self.sweep.due() <= cx.now {
            self.sweep.next(cx.now, cx.real);
            self.collect(cx.now);
            if self.table.is_empty() {
                self.sweep.stop();
            }
        }
    }

    /// Forgets children that are done.
    fn collect(&mut self, now: Timestamp) {
        let done = |child: &Child| {
            child.expires < now
                && match child.steps.rest() {
                    Rest::Free => true,
                    Rest::Day => now.0.saturating_sub(child.seen.0) >= DAY,
                    Rest::Waits => false,
                }
        };
        let children = self.children.iter().enumerate();
        let done: Vec<usize> =
            children.filter(|(_, c)| c.as_ref().is_some_and(done)).map(|(at, _)| at).collect();
        for at in done {
            self.remove(at);
        }
    }

    /// Makes room: the sixteenth that has been quiet for longest goes.
    fn evict(&mut self, held: &Held) {
        let children = self.children.iter().enumerate();
        let mut seen: Vec<(Timestamp, usize)> =
            children.filter_map(|(at, c)| c.as_ref().map(|child| (child.seen, at))).collect();
        seen.sort_unstable();
        seen.truncate(seen.len().div_ceil(16));
        held.evicted.add(seen.len());
        for (_, at) in seen {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        let Some(child) = self.children.get_mut(at).and_then(Option::take) else { return };
        self.dues.remove(&(child.due, at));
        if let Ok(entry) = self.table.find_entry(child.hash, |there| *there == at) {
            entry.remove();
        }
        self.free.push(at);
    }

    /// A `by` inside another keeps it as long as one of its children is kept.
    pub fn rest(&self) -> Rest {
        let rests = self.children.iter().flatten().map(|child| child.steps.rest());
        rests.max().unwrap_or(Rest::Free)
    }

    /// Other steps for each child.
    pub fn reload(&mut self, template: &[Step], held: &Arc<Held>, told: &mut Reloaded) {
        let mut once = Steps::new(&self.template, held);
        once.reload(template, held, told);
        self.template = template.to_vec();
        self.dues.clear();
        for (at, child) in self.children.iter_mut().enumerate() {
            let Some(child) = child else { continue };
            child.steps.reload(template, held, &mut Reloaded::default());
            child.due = child.steps.due();
            if child.due != NEVER {
                self.dues.insert((child.due, at));
            }
        }
    }
}
