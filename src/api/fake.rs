//! A daemon for the tests of this room: answers asks, and remembers them.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::{Changes, Stop};
use crate::ask::view::{DoneView, LogView, VmState, VmView, VmsView};
use crate::ask::{Answer, Ask, Asked, Asks, Code, Refusal, Reply};
use crate::base::Timestamp;

/// What a server needs, and what the daemon was asked.
pub struct Fake {
    pub asks: Asks,
    pub changes: Changes,
    pub stop: Stop,
    pub end: watch::Sender<bool>,
    pub seen: Arc<Mutex<Vec<(Ask, String)>>>,
}

impl Fake {
    pub fn start() -> Self {
        let (asks, mut asked) = mpsc::channel::<Asked>(8);
        let changes = Changes::new(16);
        let (end, stop) = watch::channel(false);
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let fake = Self { asks, changes: changes.clone(), stop, end, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Some(asked) = asked.recv().await {
                seen.lock().unwrap().push((asked.ask.clone(), asked.caller.label.clone()));
                let _ = asked.answer.send(answer(&asked.ask, &changes));
            }
        });
        fake
    }

    pub fn seen(&self) -> Vec<(Ask, String)> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn vm() -> VmView {
    let since = Timestamp::from_secs(1_795_000_000);
    VmView {
        pid: Some(4242),
        devices: vec!["0000:01:00.0".parse().unwrap()],
        ..VmView::new("gaming".parse().unwrap(), VmState::Running, since, "started by a person")
    }
}

fn answer(ask: &Ask, changes: &Changes) -> Answer {
    match ask {
        Ask::VmList => Ok(Reply::Vms(VmsView { vms: vec![vm()] })),
        Ask::VmStatus { name } if name.as_str() == "gaming" => {
            Ok(Reply::Vms(VmsView { vms: vec![vm()] }))
        }
        Ask::VmStatus { name } => Err(Refusal::new(
            Code::NotFound,
            format!("there is no VM {name}"),
            "`hostctl vm list` shows those there are",
        )),
        Ask::VmStart { .. } => {
            for step in ["binding 0000:01:00.0", ""] {
                changes.send(VmView { step: step.into(), ..vm() });
            }
            let message = "gaming runs".to_owned();
            Ok(Reply::Done(DoneView { changed: true, message, warnings: Vec::new() }))
        }
        Ask::VmLog { .. } => {
            let text = "x".repeat(256 << 10);
            Ok(Reply::Log(LogView { text, path: "/var/log/gaming".into() }))
        }
        other => Err(Refusal::new(Code::Failed, format!("{other:?} is not faked"), "")),
    }
}
