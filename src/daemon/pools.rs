//! The loop that watches the pools, and the one that hears what ZFS says.
//!
//! ```text
//!   zed.sock ───────────┐ events                 a round: kstats, and `zpool` for a reason
//!   zpool events -Hvf ──┴───────▶ run ──────────▶ Fact::Pools, when something is new
//!   uevents, asks ── notify ──────┘
//! ```
//!
//! While there is no zed that tells us, a `zpool events` child does: also at the
//! beginning where one runs, for whether it has our script is only known when it
//! has spoken. After each change of source all pools are read afresh.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::Shared;
use crate::host::follow::Following;
use crate::host::{Command, Host, listen};
use crate::state::Fact;
use crate::zfs;
use crate::zfs::events::{Event, Heard, Reaction, parse, zed};

/// How often pools are looked at when nothing is heard.
const ROUND: Duration = Duration::from_secs(1);
/// However much is heard: so long from the end of a round to the next.
const BURST: Duration = Duration::from_millis(100);
/// Events that wait for a round; more are one reason to read everything.
pub(super) const EVENTS: usize = 256;
/// How often it is looked whether zed runs.
const ZED: Duration = Duration::from_secs(10);
/// How long after the end of a child the next is started; grows each time.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_MOST: Duration = Duration::from_secs(300);
/// A child that has lasted so long has worked.
const WORKED: Duration = Duration::from_secs(60);
/// Where the kernel module shows itself.
const MODULE: &str = "/proc/spl/kstat/zfs";
const WHAT: &str = "ZFS events";

/// Looks at the pools every second, and at once when something is heard.
pub(super) async fn run(
    shared: Shared,
    mut observer: zfs::Observer,
    mut events: mpsc::Receiver<Event>,
) {
    loop {
        if let Some(view) = observer.news().await
            && shared.facts.send(Fact::Pools(view)).await.is_err()
        {
            return;
        }
        let now = Instant::now();
        let (soonest, next) = (now + BURST, now + BURST + observer.rest(ROUND));
        let mut look = false;
        while !look {
            tokio::select! {
                () = shared.pools.notified() => {
                    observer.poke();
                    look = true;
                }
                Some(event) = events.recv() => look = observer.hear(&event),
                () = sleep_until(next) => look = true,
            }
        }
        sleep_until(soonest).await;
        while let Ok(event) = events.try_recv() {
            observer.hear(&event);
        }
    }
}

/// Passes on what is worth a look; all pools when too much has come.
struct Tell {
    pools: Arc<Notify>,
    to: mpsc::Sender<Event>,
}

impl Tell {
    fn event(&self, event: Event) {
        debug!("ZFS says: {event:?}");
        if event.reaction() != Reaction::Ignore && self.to.try_send(event).is_err() {
            self.pools.notify_one();
        }
    }
}

/// Where events come from now.
struct Sources {
    /// The zed that has told us something.
    zed: Option<u32>,
    child: Option<(Following, Instant)>,
    blocks: parse::Blocks,
    /// When a child may be started, and the pause before the one after.
    again: (Instant, Duration),
    why: Option<String>,
}

/// Hears what ZFS says.
pub(super) async fn events(shared: Shared, to: mpsc::Sender<Event>) {
    let tell = Tell { pools: Arc::clone(&shared.pools), to };
    let socket = listen::datagrams(&shared.host.runtime.path("zed.sock"), 0o600);
    let (socket, deaf) = match socket {
        Ok(socket) => (Some(socket), None),
        Err(error) => (None, Some(crate::base::with_sources(&error))),
    };
    let mut sources = Sources::new();
    let mut buffer = vec![0; parse::DATAGRAM];
    let mut look = Instant::now();
    let mut told = None;
    loop {
        tokio::select! {
            length = datagram(socket.as_ref(), &mut buffer) => {
                if let Some(event) = parse::datagram(buffer.get(..length).unwrap_or_default()) {
                    tell.event(event);
                }
                sources.heard_zed(&shared.host, &tell);
            }
            line = line(&mut sources.child) => {
                sources.line(line, &tell).await;
                look = look.min(sources.next());
            }
            () = sleep_until(look) => {
                sources.look(&shared.host, &tell);
                look = sources.next();
            }
        }
        let why = sources.why(deaf.as_ref());
        if why != told {
            shared.without(WHAT, why.clone()).await;
            told = why;
        }
    }
}

/// The length of the next datagram; never when there is no socket.
async fn datagram(socket: Option<&UnixDatagram>, buffer: &mut [u8]) -> usize {
    while let Some(socket) = socket {
        match socket.recv(buffer).await {
            Ok(length) => return length,
            Err(error) => {
                debug!("zed.sock: {error}");
                sleep(AGAIN).await;
            }
        }
    }
    std::future::pending().await
}

/// The child's next line, `None` at its end; never when there is no child.
async fn line(child: &mut Option<(Following, Instant)>) -> Option<Vec<u8>> {
    match child {
        Some((child, _)) => child.line().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

impl Sources {
    fn new() -> Self {
        Self {
            zed: None,
            child: None,
            blocks: parse::Blocks::default(),
            again: (Instant::now(), AGAIN),
            why: None,
        }
    }

    /// When to look again.
    fn next(&self) -> Instant {
        if self.why.is_some() { self.again.0 } else { Instant::now() + ZED }
    }

    /// Looks whether the zed that told us is still there, and starts a child
    /// where it is not.
    fn look(&mut self, host: &Host, tell: &Tell) {
        if self.zed.is_some() && zed::running(&host.sys) != self.zed {
            info!("zed has ended or is another one");
            self.zed = None;
        }
        let wanted = self.zed.is_none() && host.sys.exists(MODULE);
        if !wanted {
            self.child = None;
            self.why = None;
            return;
        }
        if self.child.is_some() || Instant::now() < self.again.0 {
            return;
        }
        let command = Command::new("zpool", ["events", "-Hvf"]);
        match host.runner.follow(&command) {
            Ok(child) => {
                self.child = Some((child, Instant::now()));
                self.blocks = parse::Blocks::default();
                self.why = None;
                tell.pools.notify_one();
            }
            Err(error) => self.ended(crate::base::with_sources(&error)),
        }
    }

    /// zed has told us something: a child is not needed any more.
    fn heard_zed(&mut self, host: &Host, tell: &Tell) {
        if self.zed.is_none() {
            self.zed = zed::running(&host.sys);
            if self.zed.is_some() {
                info!("zed tells of ZFS events");
                self.child = None;
                self.why = None;
                tell.pools.notify_one();
            }
        }
    }

    async fn line(&mut self, line: Option<Vec<u8>>, tell: &Tell) {
        if let Some(line) = line {
            match self.blocks.line(&line) {
                Some(Heard::Event(event)) => tell.event(event),
                Some(Heard::Lost) => tell.pools.notify_one(),
                None => {}
            }
            return;
        }
        let Some((child, since)) = self.child.take() else { return };
        if since.elapsed() >= WORKED {
            self.again.1 = AGAIN;
        }
        let why = child.why().await;
        self.ended(format!("`zpool events` ended: {why}"));
        // What happened meanwhile is not told.
        tell.pools.notify_one();
    }

    fn ended(&mut self, why: String) {
        debug!("{why}");
        let pause = self.again.1;
        self.again = (Instant::now() + pause, (pause * 2).min(AGAIN_AT_MOST));
        self.why = Some(why);
    }

    /// Why nothing is heard; nothing when something is, or there is no ZFS.
    fn why(&self, deaf: Option<&String>) -> Option<String> {
        let why = self.why.as_ref()?;
        let socket = deaf.map_or("zed tells nothing".to_owned(), Clone::clone);
        Some(format!("{why}; {socket}; kstats are read every {ROUND:?} all the same"))
    }
}

#[cfg(test)]
mod tests;
