//! While QEMU runs: its events, its answers, its silence and its end.

use crate::base::with_sources;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::guest::{Told, Watching, set_clock};
use super::stopping::Order;
use super::{Asked, At, Supervisor, until};
use crate::ask::view::VmState;
use crate::host::Dial;
use crate::host::process::Signal;
use crate::host::run::Exit;
use crate::vm::argv::token_id;
use crate::vm::identity::Uuid;
use crate::vm::lifecycle::{Action, End, Observation};
use crate::vm::process::Held;
use crate::vm::qmp::wire::{Event, RunState, Shutdown};
use crate::vm::qmp::{self, Events, Qmp, QmpError};
use crate::vm::record::Record;
use crate::vm::{companion, unfinished, usb};

/// How often QEMU is asked whether the guest runs, events aside.
const BEAT: Duration = Duration::from_secs(5);
/// How long it may take to answer before it counts as silent.
pub(super) const ANSWER: Duration = Duration::from_secs(3);
/// What is said of a VM whose TPM has died under it.
const TPM_GONE: &str = "its TPM (swtpm) has ended: a restart of the VM brings it back";
/// After so many looks, the guest's interrupts are moved after it again.
const TEND: u32 = 15;
/// How often the devices that it was given are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often a lost connection is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long after hanging up QEMU may still take to end.
pub(super) const PARTING: Duration = Duration::from_millis(500);
/// How long a QEMU that says that it ends may take to do so: it writes its
/// caches out. QEMU 7.2 may then hang for ever in `monitor_cleanup`
/// (monitor/monitor.c), when it was asked something at that moment.
const LINGER: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(30) };

/// A QEMU that runs.
pub(super) struct Live {
    /// The process.
    pub body: Body,
    /// The conversation with it.
    pub talk: Talk,
}

/// The process of a QEMU.
pub(super) struct Body {
    /// The hold on it.
    pub held: Held,
    /// Its exit status, if it is our child.
    child: Option<oneshot::Receiver<Exit>>,
}

/// The conversation with a QEMU.
pub(super) struct Talk {
    token: Uuid,
    line: Line,
    /// What QEMU said about its end.
    said: Option<Shutdown>,
    /// When it should have ended, after it has said so.
    pub overdue: Option<Instant>,
    /// The last failure of a disk.
    trouble: Option<String>,
}

enum Line {
    Up { qmp: Qmp, events: Events },
    Down { retry: Instant },
}

/// What [`Talk::news`] brings.
pub(super) enum News {
    /// QEMU says something.
    Event(Event),
    /// The conversation is over.
    Lost(String),
    /// It was begun again.
    Back,
    /// It could not be begun again.
    Still(String),
}

impl Live {
    /// Not yet on speaking terms.
    pub fn new(held: Held, token: Uuid, child: Option<oneshot::Receiver<Exit>>) -> Self {
        let line = Line::Down { retry: Instant::now() };
        let talk = Talk { token, line, said: None, overdue: None, trouble: None };
        Self { body: Body { held, child }, talk }
    }

    /// What is known about its end, now that it has ended. What it said last
    /// may still be on its way to us.
    pub async fn end(&mut self, exit: Exit) -> End {
        if let Line::Up { events, .. } = &mut self.talk.line {
            let said = &mut self.talk.said;
            let rest = async {
                while let Some(event) = events.next().await {
                    if let Event::Shutdown(shutdown) = event {
                        *said = Some(shutdown);
                    }
                }
            };
            // Somebody else who holds the line open tells nothing of interest.
            let _ = timeout(PARTING, rest).await;
        }
        let said = self.talk.said.take().map(|shutdown| (shutdown.guest, shutdown.reason));
        End { exit, said, away: false }
    }

    /// What it means when QEMU gives no answer.
    pub fn silent(&self, why: &str) -> Observation {
        let pid = self.body.held.id.pid;
        let why = format!("nobody knows whether the guest runs: QEMU (pid {pid}) lives, but {why}");
        Observation::Silent { why }
    }
}

impl Body {
    /// Resolves when the process has ended. May be dropped and asked again.
    pub async fn ended(&mut self) -> Exit {
        if let Some(child) = &mut self.child {
            let told = child.await;
            self.child = None;
            if let Ok(exit) = told {
                return exit;
            }
        }
        self.held.process.ended().await;
        Exit::Unknown
    }
}

impl Talk {
    /// The way to speak to it, while there is one.
    pub fn qmp(&self) -> Option<&Qmp> {
        match &self.line {
            Line::Up { qmp, .. } => Some(qmp),
            Line::Down { .. } => None,
        }
    }

    /// Begins the conversation and makes sure that it is with this process.
    pub async fn connect(
        &mut self,
        dial: &dyn Dial,
        socket: &Path,
        within: Duration,
    ) -> Result<Qmp, QmpError> {
        let (qmp, events) = qmp::connect(dial, socket, within).await?;
        if !qmp.has_chardev(&token_id(self.token), ANSWER).await? {
            let why = format!("{} is answered by somebody else", socket.display());
            return Err(QmpError::Closed { why });
        }
        self.line = Line::Up { qmp: qmp.clone(), events };
        Ok(qmp)
    }

    /// What happens next. May be dropped and asked again.
    pub async fn news(&mut self, dial: &dyn Dial, socket: &Path) -> News {
        match &mut self.line {
            Line::Up { qmp, events } => {
                if let Some(event) = events.next().await {
                    return News::Event(event);
                }
                let why = qmp.why_closed();
                self.hang_up();
                News::Lost(why)
            }
            Line::Down { retry } => {
                sleep_until(*retry).await;
                match self.connect(dial, socket, ANSWER).await {
                    Ok(_) => News::Back,
                    Err(error) => {
                        self.hang_up();
                        News::Still(with_sources(&error))
                    }
                }
            }
        }
    }

    fn hang_up(&mut self) {
        self.line = Line::Down { retry: Instant::now() + RETRY };
    }

    /// Takes in an event; true when QEMU should be asked how the guest is.
    pub fn heard(&mut self, event: Event) -> bool {
        match event {
            Event::Shutdown(shutdown) => {
                self.said = Some(shutdown);
                self.overdue = Some(Instant::now() + LINGER);
                false
            }
            Event::BlockIoError { device, nospace, stopped, reason } => {
                let why = if nospace { "the host has no space left" } else { reason.as_str() };
                self.trouble = Some(format!("disk `{device}` failed under the guest: {why}"));
                stopped
            }
            Event::Stop | Event::Resume | Event::Suspend | Event::Wakeup | Event::GuestPanicked => {
                true
            }
            Event::Powerdown
            | Event::Reset { .. }
            | Event::DeviceDeleted(_)
            | Event::UnplugRefused(_)
            | Event::Channel { .. } => false,
            Event::Other { name, .. } => {
                debug!(name, "an event of QEMU that means nothing to hostd");
                false
            }
        }
    }

    /// What QEMU's answer means.
    pub fn judge(&self, state: RunState) -> Observation {
        let why = match state {
            RunState::Running => {
                let why = "QEMU says that the guest runs".to_owned();
                return Observation::Runs { why };
            }
            RunState::Prelaunch => "the guest was never let run".to_owned(),
            RunState::Paused => {
                let why = "the guest's processors are halted on request".to_owned();
                return Observation::Halted { why, held: true };
            }
            RunState::IoError => {
                self.trouble.clone().unwrap_or_else(|| "a disk failed under the guest".to_owned())
            }
            RunState::Suspended => "the guest sleeps".to_owned(),
            RunState::GuestPanicked => "the guest's kernel has panicked".to_owned(),
            RunState::InternalError => {
                "QEMU cannot go on from a state of the guest's processor".to_owned()
            }
            RunState::Shutdown => "the guest has shut down; QEMU is ending".to_owned(),
            RunState::Other(state) => format!("QEMU calls it `{state}`"),
        };
        Observation::Halted { why, held: false }
    }
}

/// Takes the way to QEMU back from the handles, however this ends: a QEMU
/// speaks to one at a time, and the next supervisor wants to be that one.
struct Published(watch::Sender<Option<Qmp>>);

impl Drop for Published {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

type Look = Pin<Box<dyn Future<Output = Result<RunState, QmpError>> + Send>>;

/// Asking QEMU regularly, and at once when something has happened: never two
/// questions at a time.
struct Pulse {
    timer: Pin<Box<tokio::time::Sleep>>,
    look: Option<Look>,
    again: bool,
}

impl Pulse {
    /// Asks at once.
    fn new() -> Self {
        Self { timer: Box::pin(sleep(Duration::ZERO)), look: None, again: false }
    }

    /// Something has happened: asks as soon as possible.
    fn hurry(&mut self) {
        self.again = self.look.is_some();
        self.timer.as_mut().reset(Instant::now());
    }

    /// The next answer; waits for ever while there is nobody to ask.
    async fn next(&mut self, qmp: Option<&Qmp>) -> Result<RunState, QmpError> {
        if self.look.is_none() {
            let Some(qmp) = qmp else { return std::future::pending().await };
            self.timer.as_mut().await;
            let qmp = qmp.clone();
            self.look = Some(Box::pin(async move { qmp.status(ANSWER).await }));
        }
        let answer = match &mut self.look {
            Some(look) => look.await,
            None => return std::future::pending().await,
        };
        self.look = None;
        let wait = if std::mem::take(&mut self.again) { Duration::ZERO } else { BEAT };
        self.timer.as_mut().reset(Instant::now() + wait);
        answer
    }
}

impl Supervisor {
    /// QEMU runs: watches it until it ends or is asked to.
    pub(super) async fn live(&mut self, live: Live) -> At {
        let _published = Published(self.line.clone());
        self.watch_live(live).await
    }

    async fn watch_live(&mut self, mut live: Live) -> At {
        self.step("").await;
        let mut pulse = Pulse::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut guest = self.agent.clone().map(|agent| {
            let (name, silent) = (self.vm.name.clone(), self.vm.agent.silent_after);
            Watching::begin(name, agent, silent, Arc::clone(&self.host.clock))
        });
        let settles = Instant::now() + unfinished::SETTLED;
        let mut settled = self.vm.autostart.is_none();
        let mut looks = 0_u32;
        let (dial, socket) = (self.host.dial.clone(), self.paths.qmp.clone());
        self.line.send_replace(live.talk.qmp().cloned());
        let mut usb = usb::open::Keeper::default();
        loop {
            let (qmp, overdue) = (live.talk.qmp().cloned(), live.talk.overdue);
            if let Some(guest) = &guest {
                guest.runs(self.life.state == VmState::Running);
            }
            // The news last: there may be a flood of them.
            let happened = tokio::select! {
                biased;
                asked = self.asked.recv() => Happened::Asked(asked),
                status = pulse.next(qmp.as_ref()) => Happened::Status(status),
                _ = look.tick() => Happened::Look,
                told = told(&mut guest) => Happened::Told(told),
                () = sleep_until(settles), if !settled => Happened::Settled,
                exit = live.body.ended() => Happened::Ended(exit),
                () = until(overdue) => Happened::Overdue,
                news = live.talk.news(&*dial, &socket) => Happened::News(news),
            };
            match happened {
                Happened::Asked(None) => return At::Leave,
                Happened::Asked(Some(asked)) => match self.hear(asked) {
                    None => {}
                    Some(Action::Shutdown { force }) => {
                        return At::Stop(live, Order::new(&self.vm, force));
                    }
                    Some(Action::Kill) => return At::Kill(live, "killed on request".to_owned()),
                    Some(Action::Hibernate) if self.agent.is_none() => self.no_agent(),
                    Some(Action::Hibernate) => {
                        return At::Stop(live, Order::hibernate(&self.vm));
                    }
                    Some(action @ (Action::Pause | Action::Resume | Action::Reset)) => {
                        self.act(&live, action).await;
                        if let (Action::Resume, Some(agent)) = (action, &self.agent) {
                            set_clock(self.vm.name.clone(), agent.clone());
                        }
                        // An answer that is on its way may be of before.
                        pulse = Pulse::new();
                    }
                    Some(action) => self.misplaced(action),
                },
                Happened::Status(Ok(state)) => {
                    let seen = live.talk.judge(state);
                    self.observe(seen).await;
                }
                // The line's own end will say so.
                Happened::Status(Err(QmpError::Closed { .. })) => {}
                Happened::Status(Err(error)) => {
                    let seen = live.silent(&with_sources(&error));
                    self.observe(seen).await;
                }
                Happened::News(News::Event(event)) => {
                    if let (Event::Reset { .. }, Some(guest)) = (&event, &guest) {
                        guest.reset();
                    }
                    if live.talk.heard(event) {
                        pulse.hurry();
                    }
                }
                Happened::News(News::Back) => {
                    self.line.send_replace(live.talk.qmp().cloned());
                    pulse.hurry();
                }
                Happened::News(News::Still(why)) => {
                    let seen = live.silent(&why);
                    self.observe(seen).await;
                }
                Happened::News(News::Lost(why)) => {
                    self.line.send_replace(None);
                    // Most often because it is ending.
                    if let Ok(exit) = timeout(PARTING, live.body.ended()).await {
                        return self.gone(live, exit, None).await;
                    }
                    let seen = live.silent(&format!("its connection is lost: {why}"));
                    self.observe(seen).await;
                }
                Happened::Ended(exit) => return self.gone(live, exit, None).await,
                Happened::Overdue => self.overdue(&mut live).await,
                Happened::Told(told) => {
                    self.told = told;
                    self.publish().await;
                }
                Happened::Settled => {
                    settled = true;
                    self.settled().await;
                }
                Happened::Look => {
                    looks += 1;
                    self.look_after(looks).await;
                    if let Some(why) = self.taken_away() {
                        self.doomed = true;
                        return At::Quit(live, why);
                    }
                    if let Some(qmp) = &qmp {
                        usb.look(&self.host, &self.vm, qmp).await;
                    }
                }
            }
        }
    }
}

impl Supervisor {
    /// What runs beside QEMU.
    async fn look_after(&mut self, looks: u32) {
        let deaf = self.vm.tpm
            && companion::is_noted(&self.host, &self.vm.name)
            && companion::find(&self.host, &self.vm.name).is_none();
        if deaf && !self.life.reason.contains(TPM_GONE) {
            let more = TPM_GONE.to_owned();
            self.observe(Observation::Remark { more }).await;
        }
        let isolates = self.vm.performance.as_ref().is_some_and(|performance| performance.isolate);
        if isolates && looks.is_multiple_of(TEND) {
            let devices: Vec<_> = self.record.iter().flat_map(Record::lent).collect();
            let (rooms, vm) = (self.rooms.clone(), self.vm.name.clone());
            tokio::spawn(async move { rooms.tend(&vm, &devices).await });
        }
    }

    /// Ends a QEMU that has said that it ends, and hangs in doing so. Its guest
    /// is off. What it does say is kept: that is why it ends.
    pub(super) async fn overdue(&mut self, live: &mut Live) {
        let answers = match live.talk.qmp() {
            // `-no-shutdown` has it stay on purpose.
            Some(qmp) => qmp.status(ANSWER).await.is_ok(),
            None => false,
        };
        live.talk.overdue = answers.then(|| Instant::now() + LINGER);
        if !answers {
            let pid = live.body.held.id.pid;
            warn!(vm = %self.vm.name, pid, "QEMU hangs while it ends: ending it by SIGKILL");
            self.signal(live, Signal::Kill);
        }
    }

    /// Why QEMU has to end: a device that it was given is being pulled out, or
    /// somebody takes it. The kernel removes the link to vfio-pci first, and
    /// then waits for QEMU to let go (`__device_release_driver` in
    /// drivers/base/dd.c, `vfio_unregister_group_dev` in drivers/vfio).
    fn taken_away(&self) -> Option<String> {
        let record = self.record.as_ref()?;
        let sys = &self.host.sys;
        if !sys.exists("/sys/bus/pci/devices") {
            return None;
        }
        let gone = record.lent().find(|device| {
            let link = sys.link_name(format!("/sys/bus/pci/devices/{device}/driver"));
            link.is_err_and(|error| error.is_missing())
        })?;
        let how = if sys.exists(format!("/sys/bus/pci/devices/{gone}")) {
            "is being taken away from the guest"
        } else {
            "is gone"
        };
        Some(format!("its device {gone} {how}: pulled out, or unbound by somebody"))
    }
}

/// What comes of the guest's agent, if it has one.
async fn told(guest: &mut Option<Watching>) -> Told {
    match guest {
        Some(guest) => guest.changed().await,
        None => std::future::pending().await,
    }
}

/// What ends one turn of [`Supervisor::live`].
enum Happened {
    Asked(Option<Asked>),
    Status(Result<RunState, QmpError>),
    News(News),
    Ended(Exit),
    /// It has said that it ends, and is still there.
    Overdue,
    /// The guest's agent, or that it is silent.
    Told(Told),
    /// Its devices are looked at.
    Look,
    /// It has run for a while.
    Settled,
}
