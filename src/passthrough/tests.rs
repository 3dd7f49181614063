//! The room as a whole, on a fake machine with the lab's card.

mod claims;
mod faults;
mod moved;
mod random;
mod refusals;
mod screens;
mod settings;
mod trips;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::journal::{Journal, Record};
use super::{Bound, Owner, Passthrough, PassthroughError, Released};
use crate::ask::view::GpuView;
use crate::base::PciAddress;
use crate::config::{Gpu, GpuOptions, GpuRef, QuirkFiles, ResizableBar, Source};
use crate::host::fake::FakeHost;
use crate::host::run::{Exit, Output};
use crate::pci::fake::FakePci;

/// A fake machine with the lab's card, configured as `gaming`.
struct Rig {
    _dir: tempfile::TempDir,
    pci: Arc<FakePci>,
    pass: Passthrough,
    gpu: Gpu,
    quirks: QuirkFiles,
    options: GpuOptions,
    /// Whether the display manager runs.
    desktop: Arc<AtomicBool>,
}

/// What a bind changes and a release brings back.
type Machine = (State, Vec<Option<String>>, bool);

fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn gaming() -> GpuRef {
    GpuRef::Name("gaming".parse().unwrap())
}

fn vm(name: &str) -> Owner {
    Owner::Vm(name.parse().unwrap())
}

/// Driver and override of both functions.
type State = [(Option<String>, Option<String>); 2];

impl Rig {
    fn empty() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let pci = Arc::new(FakePci::new(Arc::new(FakeHost::new(dir.path()))).unwrap());
        let identity = Some((0x1002, 0x5046));
        let gpu = Gpu { identity, ..Gpu::at("gaming".parse().unwrap(), at("01:00.0")) };
        let pass = Passthrough::new(pci.host(), vec![gpu.clone()]);
        let (quirks, options, desktop) = Default::default();
        Self { _dir: dir, pci, pass, gpu, quirks, options, desktop }
    }

    fn new() -> Self {
        let rig = Self::empty();
        rig.pci.plug_lab_card().unwrap();
        rig
    }

    /// A card with everything that a bind may have to do: it shows a desktop,
    /// may sleep, must not be reset by its bus, and has a BAR to be resized.
    fn full() -> Self {
        let mut rig = Self::new();
        let card = at("01:00.0");
        for (attribute, text) in [
            ("power/control", "auto\n"),
            ("d3cold_allowed", "1\n"),
            ("reset_method", "flr bus\n"),
            ("resource", "0x8000000000 0x800fffffff 0x14220c\n"),
            ("resource0_resize", "0000000000003f00\n"),
            ("boot_vga", "1\n"),
        ] {
            rig.pci.attribute(card, attribute, text).unwrap();
        }
        rig.pci.attribute(card.with_function(1), "power/control", "on\n").unwrap();
        rig.pci.plug_native_screen(card).unwrap();
        rig.gpu.stop_display_manager = true;
        rig.options.resizable_bar = ResizableBar::Max;
        let text = "quirks: [{ids: [1002:5046], action: {reset: no-bus}, why: x, source: y}]";
        rig.quirks.quirks =
            crate::config::quirks::read(&Source::quirks("quirks.d/lab.yaml", text)).unwrap();
        rig.run_desktop();
        rig.pass = rig.handle();
        rig
    }

    /// systemd with a display manager that runs.
    fn run_desktop(&self) {
        self.desktop.store(true, Ordering::SeqCst);
        let runs = Arc::clone(&self.desktop);
        self.pci.fake.runner.on(move |command| {
            let text = command.to_string();
            let words: Vec<&str> = text.split(' ').collect();
            let code = match words[..] {
                ["systemctl", "stop", "display-manager.service"] => {
                    runs.store(false, Ordering::SeqCst);
                    0
                }
                ["systemctl", "start", "display-manager.service"] => {
                    runs.store(true, Ordering::SeqCst);
                    0
                }
                ["systemctl", "is-active", "--quiet", "display-manager.service"] => {
                    if runs.load(Ordering::SeqCst) { 0 } else { 3 }
                }
                _ => return None,
            };
            Some(Ok(Output { exit: Exit::Code(code), stdout: Vec::new(), stderr: Vec::new() }))
        });
    }

    fn handle(&self) -> Passthrough {
        Passthrough::with_quirks(self.pci.host(), vec![self.gpu.clone()], self.quirks.clone())
    }

    /// All that a release has to bring back.
    fn machine(&self) -> Machine {
        let sys = self.pci.host().sys;
        let read = |path: String| sys.text(path).ok().map(|text| text.trim().to_owned());
        let mut said = vec![read("/sys/class/vtconsole/vtcon1/bind".to_owned())];
        for function in ["01:00.0", "01:00.1"] {
            let folder = crate::pci::read::folder(at(function));
            let files = ["power/control", "d3cold_allowed", "reset_method", "resource"];
            said.extend(files.map(|file| read(format!("{folder}/{file}"))));
        }
        (self.state(), said, self.desktop.load(Ordering::SeqCst))
    }

    /// The daemon is started again.
    async fn restart(&mut self) -> Vec<String> {
        self.pass = self.handle();
        self.pass.recover().await
    }

    async fn bind(&self, owner: Owner) -> Result<Bound, PassthroughError> {
        self.pass.bind_with(&gaming(), owner, &self.options).await
    }

    async fn release(&self, owner: Owner) -> Result<Released, PassthroughError> {
        self.pass.release(&gaming(), owner).await
    }

    /// Binds or releases in a task that may "die"; `None` when it did.
    async fn dying(&self, owner: Owner, release: bool) -> Option<bool> {
        let (pass, options) = (self.pass.clone(), self.options.clone());
        let task = tokio::spawn(async move {
            if release {
                pass.release(&gaming(), owner).await.is_ok()
            } else {
                pass.bind_with(&gaming(), owner, &options).await.is_ok()
            }
        });
        task.await.ok()
    }

    fn state(&self) -> State {
        ["01:00.0", "01:00.1"]
            .map(|name| (self.pci.driver(at(name)), self.pci.driver_override(at(name))))
    }

    fn record(&self) -> Option<Record> {
        Journal::new(&self.pci.host()).load(at("01:00.0")).unwrap()
    }

    async fn gpu(&self) -> GpuView {
        self.pass.list().await.gpus.remove(0)
    }
}

/// As the machine starts.
fn at_home() -> State {
    [(Some("aty128fb".into()), None), (Some("snd_hda_intel".into()), None)]
}

fn on_vfio() -> State {
    let vfio = Some("vfio-pci".to_owned());
    [(vfio.clone(), vfio.clone()), (vfio.clone(), vfio)]
}
