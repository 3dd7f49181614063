//! What is done with an ask: reads come from the snapshot and the index, acts
//! go to the supervisors.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::Shared;
use crate::ask::view::{DoneView, EventView, EventsView, PoolsView, VmsView};
use crate::ask::{Answer, Ask, Asked, Code, Refusal, Reply};
use crate::base::{Name, Reading};
use crate::passthrough::{Bound, Owner, Released};
use crate::query;
use crate::state::status;
use crate::vm::supervisor::VmHandle;

/// Asks under way at one time; a VM's start holds its place until it runs.
const AT_ONCE: usize = 64;

/// Answers until nobody can ask any more.
pub(super) async fn run(shared: Shared, mut asks: mpsc::Receiver<Asked>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(asked) = asks.recv().await {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let shared = shared.clone();
        tokio::spawn(async move {
            // The asker may have left; what was asked is done all the same.
            let _ = asked.answer.send(answer(&shared, asked.ask).await);
            drop(place);
        });
    }
}

async fn answer(shared: &Shared, ask: Ask) -> Answer {
    let snapshot = shared.snapshot.borrow().clone();
    match ask {
        Ask::Status => Ok(Reply::Status(status::status(&snapshot))),
        Ask::IommuList => read(&snapshot.iommu, "the IOMMU groups").map(Reply::Iommu),
        Ask::GpuList => Ok(Reply::Gpus(shared.passthrough.list().await)),
        Ask::GpuPlan { gpu, release } => {
            let gpu = shared.passthrough.resolve_gpu(gpu.as_deref())?;
            Ok(Reply::Plan(shared.passthrough.plan(&gpu, release).await?))
        }
        Ask::GpuBind { gpu } => {
            let gpu = shared.passthrough.resolve_gpu(gpu.as_deref())?;
            let bound = shared.passthrough.bind(&gpu, Owner::Person).await;
            shared.devices.notify_one();
            bound.map(self::bound).map(Reply::Done).map_err(Refusal::from)
        }
        Ask::GpuRelease { gpu } => {
            let gpu = shared.passthrough.resolve_gpu(gpu.as_deref())?;
            let released = shared.passthrough.release(&gpu, Owner::Person).await;
            shared.devices.notify_one();
            released.map(self::released).map(Reply::Done).map_err(Refusal::from)
        }
        Ask::VmList => {
            Ok(Reply::Vms(VmsView { vms: shared.vms.values().map(VmHandle::view).collect() }))
        }
        Ask::VmStatus { name } => Ok(Reply::Vms(VmsView { vms: vec![vm(shared, &name)?.view()] })),
        Ask::VmStart { name } => done(vm(shared, &name)?.start().await),
        Ask::VmStop { name, force } => done(vm(shared, &name)?.stop(force).await),
        Ask::VmKill { name } => done(vm(shared, &name)?.kill().await),
        Ask::VmLog { name, firmware } => vm(shared, &name)?.log(firmware).await.map(Reply::Log),
        Ask::PoolStatus { pool } => {
            one_pool(read(&snapshot.pools, "the pools")?, pool.as_deref()).map(Reply::Pools)
        }
        Ask::ServiceList => read(&snapshot.services, "the services").map(Reply::Services),
        Ask::EventQuery { query } => {
            let query = query::parse(&query)
                .map_err(|error| Refusal::new(Code::Usage, error.caret(), ""))?;
            let events = shared.index.query(&query);
            let events = events.iter().map(|event| EventView::from(event.as_ref())).collect();
            Ok(Reply::Events(EventsView { events }))
        }
    }
}

fn done(result: Result<DoneView, Refusal>) -> Answer {
    result.map(Reply::Done)
}

fn bound(card: Bound) -> DoneView {
    let message = if card.changed {
        format!("{} is on vfio-pci with all its functions", card.gpu)
    } else {
        format!("{} was on vfio-pci already", card.gpu)
    };
    DoneView { changed: card.changed, message, warnings: card.warnings }
}

fn released(card: Released) -> DoneView {
    let message = if card.changed {
        format!("{} is back with the drivers it had", card.gpu)
    } else {
        format!("{} was left as it is: {}", card.gpu, card.why)
    };
    DoneView { changed: card.changed, message, warnings: card.warnings }
}

/// The last value; a reading that never came is refused, not shown as empty.
fn read<T: Clone>(reading: &Reading<T>, what: &str) -> Result<T, Refusal> {
    reading.value().cloned().ok_or_else(|| {
        let why = reading.why().unwrap_or_default();
        Refusal::new(Code::Failed, format!("{what} are not known: {why}"), "ask again in a second")
    })
}

fn vm<'a>(shared: &'a Shared, name: &Name) -> Result<&'a VmHandle, Refusal> {
    if let Some(vm) = shared.vms.get(name) {
        return Ok(vm);
    }
    let known: Vec<_> = shared.vms.keys().map(Name::as_str).collect();
    let hint = match known.as_slice() {
        [] => "write vms/NAME.yaml beside host.yaml, then: systemctl restart hostd".to_owned(),
        known => format!("there are: {}", known.join(", ")),
    };
    Err(Refusal::new(Code::NotFound, format!("there is no VM {name}"), hint))
}

fn one_pool(mut view: PoolsView, name: Option<&str>) -> Result<PoolsView, Refusal> {
    let Some(name) = name else { return Ok(view) };
    let known: Vec<_> = view.pools.iter().map(|pool| pool.name.clone()).collect();
    view.pools.retain(|pool| pool.name == name);
    if view.pools.is_empty() {
        let hint = match known.as_slice() {
            [] => "no pool is imported; `zpool import` lists what could be".to_owned(),
            known => format!("there are: {}", known.join(", ")),
        };
        return Err(Refusal::new(Code::NotFound, format!("there is no pool {name}"), hint));
    }
    Ok(view)
}
