//! Operators that hold events back: `throttle`, `rollup`, `batch`; and
//! `fill-in`, which adds some.

use std::sync::Arc;
use std::time::Duration;

use super::held::{Buffer, Held};
use super::patch;
use super::step::{Cx, Memory, Rest, Steps};
use super::timer::{AT_ONCE, Grid, NEVER, Timer, is_expired};
use crate::base::{Event, Timestamp};
use crate::config::{Patch, Window};

/// Passes the first of each window.
pub struct Throttle {
    most: usize,
    grid: Grid,
    sent: usize,
}

impl Throttle {
    /// Before the first window.
    pub fn new(window: Window) -> Self {
        Self { most: window.count, grid: Grid::new(window.every), sent: 0 }
    }
}

impl Memory for Throttle {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        self.grid.open(cx.now);
        if self.sent < self.most {
            self.sent += 1;
            then.push(event, cx);
        }
    }

    fn due(&self) -> Timestamp {
        self.grid.end()
    }

    fn fire(&mut self, _cx: &mut Cx<'_>, _then: &mut Steps) {
        self.grid.close();
        self.sent = 0;
    }

    fn rest(&self) -> Rest {
        open(&self.grid)
    }
}

fn open(grid: &Grid) -> Rest {
    if grid.end() == NEVER { Rest::Free } else { Rest::Waits }
}

/// Passes the first of each window, and the rest as a list at its end.
pub struct Rollup {
    most: usize,
    grid: Grid,
    /// Calls in this window; what came as a list at its beginning is one.
    sent: usize,
    rest: Buffer,
}

impl Rollup {
    /// Before the first window.
    pub fn new(window: Window, held: &Arc<Held>) -> Self {
        let (grid, rest) = (Grid::new(window.every), Buffer::new(held));
        Self { most: window.count, grid, sent: 0, rest }
    }
}

impl Memory for Rollup {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        self.grid.open(cx.now);
        if self.sent < self.most {
            self.sent += 1;
            then.push_list(std::slice::from_ref(event), true, cx);
        } else {
            self.rest.push(event);
        }
    }

    fn due(&self) -> Timestamp {
        self.grid.end()
    }

    fn fire(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        self.grid.close();
        let rest = self.rest.take();
        self.sent = usize::from(!rest.is_empty());
        if !rest.is_empty() {
            then.push_list(&rest, true, cx);
        }
    }

    fn rest(&self) -> Rest {
        open(&self.grid)
    }
}

/// Lists of so many, or of what there is at the end of a window.
pub struct Batch {
    full: usize,
    grid: Grid,
    list: Buffer,
}

impl Batch {
    /// Before the first window.
    pub fn new(window: Window, held: &Arc<Held>) -> Self {
        Self { full: window.count, grid: Grid::new(window.every), list: Buffer::new(held) }
    }
}

impl Memory for Batch {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        self.grid.open(cx.now);
        self.list.push(event);
        if self.list.len() >= self.full {
            then.push_list(&self.list.take(), true, cx);
        }
    }

    fn due(&self) -> Timestamp {
        self.grid.end()
    }

    fn fire(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        self.grid.close();
        let batch = self.list.take();
        if !batch.is_empty() {
            then.push_list(&batch, true, cx);
        }
    }

    fn rest(&self) -> Rest {
        open(&self.grid)
    }
}

/// Passes all, and an event of its own into each gap.
pub struct FillIn {
    timer: Timer,
    /// Until the first moment; gaps count from there, also without any event.
    begins: bool,
    event: Patch,
}

impl FillIn {
    /// Gaps count from the first moment on.
    pub fn new(every: Duration, event: &Patch) -> Self {
        Self { timer: Timer::new(every), begins: true, event: event.clone() }
    }
}

impl Memory for FillIn {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        self.begins = false;
        if is_expired(event, cx.now) {
            self.timer.stop();
        } else {
            self.timer.start(cx.now, self.timer.every());
        }
        then.push(event, cx);
    }

    fn due(&self) -> Timestamp {
        if self.begins { AT_ONCE } else { self.timer.due() }
    }

    fn fire(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        if self.begins {
            self.begins = false;
            self.timer.start(cx.now, self.timer.every());
            return;
        }
        self.timer.next(cx.now, cx.real);
        then.push(&patch::make(&self.event, cx.now), cx);
    }

    fn rest(&self) -> Rest {
        Rest::Day
    }
}
