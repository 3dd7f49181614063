//! The room as a whole, on a fake machine with the lab's card.

mod claims;
mod faults;
mod random;
mod refusals;
mod trips;

use std::sync::Arc;

use super::journal::{Journal, Record};
use super::{Bound, Owner, Passthrough, PassthroughError, Released};
use crate::ask::view::GpuView;
use crate::base::PciAddress;
use crate::config::{Gpu, GpuRef};
use crate::host::fake::FakeHost;
use crate::pci::fake::FakePci;

/// A fake machine with the lab's card, configured as `gaming`.
struct Rig {
    _dir: tempfile::TempDir,
    pci: Arc<FakePci>,
    pass: Passthrough,
}

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
        let pass = Self::handle(&pci);
        Self { _dir: dir, pci, pass }
    }

    fn new() -> Self {
        let rig = Self::empty();
        rig.pci.plug_lab_card().unwrap();
        rig
    }

    fn handle(pci: &FakePci) -> Passthrough {
        let identity = Some((0x1002, 0x5046));
        let gpu = Gpu { identity, ..Gpu::at("gaming".parse().unwrap(), at("01:00.0")) };
        Passthrough::new(pci.host(), vec![gpu])
    }

    /// The daemon is started again.
    async fn restart(&mut self) -> Vec<String> {
        self.pass = Self::handle(&self.pci);
        self.pass.recover().await
    }

    async fn bind(&self, owner: Owner) -> Result<Bound, PassthroughError> {
        self.pass.bind(&gaming(), owner).await
    }

    async fn release(&self, owner: Owner) -> Result<Released, PassthroughError> {
        self.pass.release(&gaming(), owner).await
    }

    /// Binds or releases in a task that may "die"; `None` when it did.
    async fn dying(&self, owner: Owner, release: bool) -> Option<bool> {
        let pass = self.pass.clone();
        let task = tokio::spawn(async move {
            if release {
                pass.release(&gaming(), owner).await.is_ok()
            } else {
                pass.bind(&gaming(), owner).await.is_ok()
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
