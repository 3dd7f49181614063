//! One round over all sources.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::levels::Above;
use super::look::{Found, Look};
use super::{clock, diskio, gpu, hwmon, kernel, memory, mounts, net, pressure, processor, reboot};
use crate::ask::view::MachineView;
use crate::base::Severity;
use crate::config::Health;
use crate::host::Host;
use crate::host::folder::{Folder, Page};

/// How often it is looked at what there is; what it says is read each round.
const ANEW: Duration = Duration::from_secs(60);

/// Looks at the machine, again and again. A round reads files and may wait for
/// slow sensors: it belongs on a thread of its own.
pub struct Observer {
    host: Host,
    config: Health,
    proc: Option<Folder>,
    text: Vec<u8>,
    page: Page,
    above: Above,
    seen: BTreeSet<&'static str>,
    /// When the last round was, and when it was last looked at what there is.
    last: Option<Instant>,
    listed: Option<Instant>,
    processor: processor::State,
    mounts: mounts::State,
    diskio: diskio::State,
    net: net::State,
    hwmon: hwmon::State,
    pressure: pressure::State,
    gpu: gpu::State,
    kernel: kernel::State,
    reboot: reboot::State,
}

impl Observer {
    /// Of this machine.
    pub fn new(host: Host, config: Health) -> Self {
        Self {
            host,
            config,
            proc: None,
            text: Vec::new(),
            page: Page::default(),
            above: Above::default(),
            seen: BTreeSet::new(),
            last: None,
            listed: None,
            processor: processor::State::default(),
            mounts: mounts::State::default(),
            diskio: diskio::State::default(),
            net: net::State::default(),
            hwmon: hwmon::State::default(),
            pressure: pressure::State::default(),
            gpu: gpu::State::default(),
            kernel: kernel::State::default(),
            reboot: reboot::State::default(),
        }
    }

    /// Looks once. `failed` are systemd's failed units, where that is known.
    /// Rates need two rounds.
    pub fn round(&mut self, failed: Option<&[String]>) -> MachineView {
        let now = self.host.clock.instant();
        if self.proc.is_none() {
            match self.host.sys.folder("/proc") {
                Ok(proc) => self.proc = Some(proc),
                Err(error) => {
                    let notes = vec![format!("nothing can be measured: {}", error.in_full())];
                    return MachineView { notes, ..MachineView::default() };
                }
            }
        }
        let Some(proc) = &self.proc else { return MachineView::default() };
        let since = |at: Instant| now.saturating_duration_since(at);
        let seconds = self.last.map(|last| since(last).as_secs_f64()).filter(|span| *span > 0.0);
        let anew = self.listed.is_none_or(|listed| since(listed) >= ANEW);
        if anew {
            self.listed = Some(now);
        }
        self.last = Some(now);
        let mut found = Found::default();
        let look = &mut Look {
            sys: &self.host.sys,
            proc,
            text: &mut self.text,
            page: &mut self.page,
            now,
            seconds,
            anew,
            config: &self.config,
            above: &mut self.above,
            seen: &mut self.seen,
            found: &mut found,
        };
        self.processor.round(look);
        memory::round(look);
        self.mounts.round(look);
        self.diskio.round(look);
        self.net.round(look);
        self.hwmon.round(look);
        self.pressure.round(look);
        self.gpu.round(look);
        clock::round(look);
        self.kernel.round(look, failed);
        self.reboot.round(look);
        let Found { mut readings, notes } = found;
        readings.sort_by(|a, b| a.service.cmp(&b.service));
        MachineView { readings, notes }
    }
}

/// What is left of a view when the machine can no longer be looked at.
pub fn lost(view: &MachineView, why: &str) -> MachineView {
    let mut lost = view.clone();
    for reading in &mut lost.readings {
        reading.health = Severity::Unknown;
        reading.value = None;
        why.clone_into(&mut reading.message);
    }
    lost
}
