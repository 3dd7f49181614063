//! The tree of steps, and how an event goes through it.
//!
//! A [`Node`] is one step of the configuration with what it knows. What needs
//! no memory is done here; the others are a [`Memory`] each. Every list of
//! steps knows when the first thing below it is due, so that an event that
//! `where` does not pass costs one query and a tick one comparison.

use std::sync::Arc;

use super::before::{Changed, Runs, Stable};
use super::by::By;
use super::fewer::{Batch, FillIn, Rollup, Throttle};
use super::held::Held;
use super::lists::{Coalesce, FixedTime, MovingTime, Project, fold};
use super::numbers::{Count, Derivative, Ewma, Percentiles, Rate, Slope};
use super::timer::NEVER;
use super::{Outputs, Reloaded, Target, patch};
use crate::base::{Event, Timestamp};
use crate::config::{Op, Step};

/// What a step needs to know beside the event.
pub struct Cx<'a> {
    /// The moment that is being lived through.
    pub now: Timestamp,
    /// The same, or later when a tick comes late.
    pub real: Timestamp,
    /// The bounds.
    pub held: &'a Arc<Held>,
    /// The ways out.
    pub out: &'a mut dyn Outputs,
}

/// Whether a child of `by` may be forgotten when its events have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rest {
    /// It knows nothing that matters.
    Free,
    /// It knows something that counts for a day.
    Day,
    /// Something is still to happen.
    Waits,
}

/// A step that knows something of the events before.
pub trait Memory: Send {
    /// An event comes.
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps);

    /// When it has something to do by itself.
    fn due(&self) -> Timestamp {
        NEVER
    }

    /// That moment has come; afterwards it is due later or never.
    fn fire(&mut self, _cx: &mut Cx<'_>, _then: &mut Steps) {}

    /// Whether it may be forgotten.
    fn rest(&self) -> Rest {
        Rest::Free
    }
}

enum State {
    /// All is in the operator.
    Plain,
    Out(Target),
    By(Box<By>),
    Memory(Box<dyn Memory>),
}

struct Node {
    op: Op,
    state: State,
    then: Steps,
    other: Steps,
}

/// Steps that all get the same events, one after the other.
pub struct Steps {
    nodes: Vec<Node>,
    /// Nothing is due before.
    due: Timestamp,
}

impl Steps {
    /// Steps that have seen nothing yet.
    pub fn new(steps: &[Step], held: &Arc<Held>) -> Self {
        let nodes: Vec<Node> = steps.iter().map(|step| Node::new(step, held)).collect();
        let due = nodes.iter().map(Node::due).min().unwrap_or(NEVER);
        Self { nodes, due }
    }

    /// When the first of them may have something to do.
    #[inline]
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// One event to each.
    pub fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>) {
        for node in &mut self.nodes {
            let due = node.push(event, cx);
            self.due = self.due.min(due);
        }
    }

    /// A list to each; `whole` when no place in it is empty. Who takes no lists
    /// gets its events.
    pub fn push_list(&mut self, events: &[Arc<Event>], whole: bool, cx: &mut Cx<'_>) {
        for node in &mut self.nodes {
            let due = match &node.op {
                Op::Fold(how) => {
                    if let Some(event) = fold(*how, events, whole) {
                        node.then.push(&event, cx);
                    }
                    node.then.due
                }
                _ => events.iter().map(|event| node.push(event, cx)).min().unwrap_or(NEVER),
            };
            self.due = self.due.min(due);
        }
    }

    /// Does what is due at `cx.now`.
    pub fn fire(&mut self, cx: &mut Cx<'_>) {
        self.due = NEVER;
        for node in &mut self.nodes {
            if node.due() <= cx.now {
                node.fire(cx);
            }
            self.due = self.due.min(node.due());
        }
    }

    /// Whether they may be forgotten.
    pub fn rest(&self) -> Rest {
        self.nodes.iter().map(Node::rest).max().unwrap_or(Rest::Free)
    }

    /// Takes on other steps; what is the same keeps what it knows.
    pub fn reload(&mut self, steps: &[Step], held: &Arc<Held>, told: &mut Reloaded) {
        let mut old: Vec<Option<Node>> =
            std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        let mut new: Vec<Option<Node>> = steps.iter().map(|_| None).collect();
        // First what is the same with all that is below it, then what is the
        // same by itself.
        let by_itself = |node: &Node, step: &Step| node.op == step.op;
        for alike in [Node::is as fn(&Node, &Step) -> bool, by_itself] {
            for (place, step) in new.iter_mut().zip(steps).filter(|(place, _)| place.is_none()) {
                let same = |node: &&mut Option<Node>| node.as_ref().is_some_and(|n| alike(n, step));
                *place = old.iter_mut().find(same).and_then(Option::take);
            }
        }
        let nodes = new.into_iter().zip(steps).map(|(kept, step)| {
            if let Some(mut node) = kept {
                told.kept += 1;
                node.reload(step, held, told);
                node
            } else {
                told.new += count(step);
                Node::new(step, held)
            }
        });
        self.nodes = nodes.collect();
        self.due = self.nodes.iter().map(Node::due).min().unwrap_or(NEVER);
    }

    fn are(&self, steps: &[Step]) -> bool {
        self.nodes.len() == steps.len() && self.nodes.iter().zip(steps).all(|(n, s)| n.is(s))
    }
}

/// A step with all below it.
fn count(step: &Step) -> usize {
    1 + step.then.iter().chain(&step.otherwise).map(count).sum::<usize>()
}

/// The targets that steps name, each once.
pub fn targets(steps: &[Step], out: &mut Vec<Target>) {
    for step in steps {
        if let Some(target) = target(&step.op).filter(|target| !out.contains(target)) {
            out.push(target);
        }
        targets(&step.then, out);
        targets(&step.otherwise, out);
    }
}

fn target(op: &Op) -> Option<Target> {
    match op {
        Op::Index => Some(Target::Index),
        Op::Outlet(name) => Some(Target::Outlet(name.as_str().into())),
        Op::Publish(topic) => Some(Target::Topic(topic.as_str().into())),
        _ => None,
    }
}

impl Node {
    fn new(step: &Step, held: &Arc<Held>) -> Self {
        let memory = |memory: Box<dyn Memory>| State::Memory(memory);
        let state = match &step.op {
            Op::Where(_)
            | Op::Tagged(_)
            | Op::With(_)
            | Op::Default(_)
            | Op::Over(_)
            | Op::Under(_)
            | Op::Expired
            | Op::Fold(_) => State::Plain,
            Op::By(fields) => State::By(Box::new(By::new(fields.clone(), step.then.clone()))),
            Op::Changed { field, init } => memory(Box::new(Changed::new(field, init.as_deref()))),
            Op::Stable { span, field } => memory(Box::new(Stable::new(*span, field, held))),
            Op::Runs { count, field } => memory(Box::new(Runs::new(*count, field))),
            Op::Throttle(window) => memory(Box::new(Throttle::new(*window))),
            Op::Rollup(window) => memory(Box::new(Rollup::new(*window, held))),
            Op::Batch(window) => memory(Box::new(Batch::new(*window, held))),
            Op::FillIn { every, event } => memory(Box::new(FillIn::new(*every, event))),
            Op::Rate(every) => memory(Box::new(Rate::new(*every))),
            Op::Ddt(None) => memory(Box::<Slope>::default()),
            Op::Ddt(Some(every)) => memory(Box::new(Derivative::new(*every))),
            Op::Ewma(weight) => memory(Box::new(Ewma::new(*weight))),
            Op::Percentiles { points, every } => {
                memory(Box::new(Percentiles::new(points, *every, held)))
            }
            Op::Counter(from) => memory(Box::new(Count::new(*from))),
            Op::Coalesce(every) => memory(Box::new(Coalesce::new(*every))),
            Op::MovingTime(span) => memory(Box::new(MovingTime::new(*span, held))),
            Op::FixedTime(span) => memory(Box::new(FixedTime::new(*span, held))),
            Op::Project(queries) => memory(Box::new(Project::new(queries))),
            Op::Index | Op::Outlet(_) | Op::Publish(_) => {
                target(&step.op).map_or(State::Plain, State::Out)
            }
        };
        let none = Steps { nodes: Vec::new(), due: NEVER };
        // The steps below `by` are in its children.
        let then = if matches!(step.op, Op::By(_)) { none } else { Steps::new(&step.then, held) };
        Self { op: step.op.clone(), state, then, other: Steps::new(&step.otherwise, held) }
    }

    /// Returns when the first thing is due that this event may have begun.
    #[inline]
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>) -> Timestamp {
        let passes = match (&mut self.state, &self.op) {
            (State::Out(target), _) => {
                cx.out.take(target, event);
                return NEVER;
            }
            (State::By(by), _) => {
                by.push(event, cx);
                return by.due();
            }
            (State::Memory(memory), _) => {
                memory.push(event, cx, &mut self.then);
                return memory.due().min(self.then.due);
            }
            (State::Plain, Op::Where(query)) => {
                if !query.matches(event) {
                    self.other.push(event, cx);
                    return self.other.due;
                }
                true
            }
            (State::Plain, Op::Tagged(tags)) => tags.iter().all(|tag| event.tags.contains(tag)),
            (State::Plain, Op::Over(than)) => event.metric.is_some_and(|m| m.as_f64() > *than),
            (State::Plain, Op::Under(than)) => event.metric.is_some_and(|m| m.as_f64() < *than),
            (State::Plain, Op::Expired) => event.state.as_deref() == Some("expired"),
            (State::Plain, Op::With(fields)) => {
                self.then.push(&Arc::new(patch::with(event, fields)), cx);
                return self.then.due;
            }
            (State::Plain, Op::Default(fields)) => {
                self.then.push(&patch::default(event, fields), cx);
                return self.then.due;
            }
            // Only lists are folded; all others have a state.
            (State::Plain, _) => false,
        };
        if !passes {
            return NEVER;
        }
        self.then.push(event, cx);
        self.then.due
    }

    fn own_due(&self) -> Timestamp {
        match &self.state {
            State::Plain | State::Out(_) => NEVER,
            State::By(by) => by.due(),
            State::Memory(memory) => memory.due(),
        }
    }

    fn due(&self) -> Timestamp {
        self.own_due().min(self.then.due).min(self.other.due)
    }

    fn fire(&mut self, cx: &mut Cx<'_>) {
        // What ends below does so before something new comes from here.
        for below in [&mut self.then, &mut self.other] {
            if below.due <= cx.now {
                below.fire(cx);
            }
        }
        if self.own_due() <= cx.now {
            match &mut self.state {
                State::Plain | State::Out(_) => {}
                State::By(by) => by.fire(cx),
                State::Memory(memory) => memory.fire(cx, &mut self.then),
            }
        }
    }

    fn rest(&self) -> Rest {
        let own = match &self.state {
            State::Plain | State::Out(_) => Rest::Free,
            State::By(by) => by.rest(),
            State::Memory(memory) => memory.rest(),
        };
        own.max(self.then.rest()).max(self.other.rest())
    }

    /// Whether it is this step, with all below it.
    fn is(&self, step: &Step) -> bool {
        let then = match &self.state {
            State::By(by) => by.template() == step.then,
            State::Plain | State::Out(_) | State::Memory(_) => self.then.are(&step.then),
        };
        then && self.op == step.op && self.other.are(&step.otherwise)
    }

    fn reload(&mut self, step: &Step, held: &Arc<Held>, told: &mut Reloaded) {
        match &mut self.state {
            State::By(by) => by.reload(&step.then, held, told),
            State::Plain | State::Out(_) | State::Memory(_) => {
                self.then.reload(&step.then, held, told);
            }
        }
        self.other.reload(&step.otherwise, held, told);
    }
}
