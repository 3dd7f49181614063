//! The way up, from outside: walks the [`phases`](super::phases), hears
//! requests meanwhile, and says how it ended.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::live::Live;
use super::phases::{Prepared, Setback, Why};
use super::{AFTER_CRASH, At, Outcome, Supervisor};
use crate::ask::view::{DoneView, VmState};
use crate::ask::{Code, Refusal};
use crate::vm::last_good;
use crate::vm::lifecycle::{Action, Observation};

impl Supervisor {
    /// A start was granted.
    pub(super) async fn start_up(&mut self) -> At {
        // Until it runs, or is off again, and says so.
        let _disks = self.busy.take();
        self.observe(Observation::StartBegun { why: self.begun.to_owned() }).await;
        match self.phases().await {
            Ok((live, outcome)) => {
                self.started(&outcome);
                At::Live(live)
            }
            Err(setback) => self.set_back(setback).await,
        }
    }

    async fn phases(&mut self) -> Result<(Live, Outcome), Setback> {
        // Held until the guest runs.
        let _turn = self.turn().await?;
        let prepared = Prepared::new(self).await?;
        let lent = prepared.lend(self).await?;
        let launched = lent.launch(self).await?;
        launched.run(self).await
    }

    /// Waits until few enough others are starting.
    async fn turn(&mut self) -> Result<Option<OwnedSemaphorePermit>, Setback> {
        let starts = Arc::clone(&self.starts);
        if let Ok(turn) = Arc::clone(&starts).try_acquire_owned() {
            return Ok(Some(turn));
        }
        self.step("waiting for its turn: others are starting").await;
        match self.unless_cancelled(starts.acquire_owned()).await {
            // Nobody closes it.
            Some(turn) => Ok(turn.ok()),
            None => Err(Setback { why: Why::Cancelled, left: None, stuck: None }),
        }
    }

    async fn set_back(&mut self, setback: Setback) -> At {
        let Setback { why, left, stuck } = setback;
        self.step.clear();
        let name = self.vm.name.clone();
        let seen = match (&why, &left) {
            (Why::Cancelled, None) => Observation::StartCancelled,
            (Why::Cancelled, Some(left)) => {
                Observation::StartFailed { why: left.clone(), left: true }
            }
            (Why::Failed(refusal), None) => {
                Observation::StartFailed { why: refusal.message.clone(), left: false }
            }
            (Why::Failed(refusal), Some(left)) => {
                let why = format!("{}; and {left}", refusal.message);
                Observation::StartFailed { why, left: true }
            }
        };
        self.observe(seen).await;
        self.publish().await;
        if let Why::Failed(refusal) = &why {
            let why = refusal.message.clone();
            self.keep_in_mind(move |host, vm| last_good::failed(host, vm, &why));
        }
        let refusal = match why {
            Why::Failed(refusal) => refusal,
            Why::Cancelled => {
                let message = format!("the start of `{name}` was given up: somebody stopped it");
                Refusal::new(Code::Refused, message, "start it again")
            }
        };
        self.started(&Err(refusal));
        let failed = left.is_none() && self.life.state == VmState::Failed;
        if failed && self.begun == AFTER_CRASH {
            self.crashed().await;
        }
        let stopped = match left {
            None => {
                let message = format!("the start of `{name}` was given up and undone");
                Ok(DoneView { changed: true, message, warnings: Vec::new() })
            }
            Some(left) => {
                let message = format!("the start of `{name}` was given up, but {left}");
                Err(Refusal::new(Code::Failed, message, "`hostctl vm stop` tries again"))
            }
        };
        self.stopped(&stopped);
        match stuck {
            Some(live) => At::Stuck(live),
            None => At::Rest,
        }
    }

    /// Goes on with `work`, hearing requests; `None` when one of them wants
    /// the start given up.
    pub(super) async fn unless_cancelled<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            if self.cancelled() {
                return None;
            }
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.hear_one() => {}
            }
        }
    }

    /// Finishes `work`, hearing requests.
    pub(super) async fn hearing<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = self.hear_one() => {}
            }
        }
    }

    async fn hear_one(&mut self) {
        if self.deaf {
            std::future::pending::<()>().await;
        }
        let Some(asked) = self.asked.recv().await else {
            self.deaf = true;
            return;
        };
        match self.hear(asked) {
            // Who wants it given up waits among the stoppers, and is seen there.
            None | Some(Action::Cancel) => {}
            Some(action) => self.misplaced(action),
        }
    }

    /// Whether somebody wants the start given up.
    pub(super) fn cancelled(&self) -> bool {
        !self.stoppers.is_empty()
    }
}
