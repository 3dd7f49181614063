//! What is done with an ask: reads come from the snapshot, queries go to
//! [`scan`](super::scan), acts to the supervisors.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::Shared;
use super::scan::Scans;
use super::tail::Tails;
use crate::ask::view::{DoneView, EventView, PoolsView, ServicesView, VmsView};
use crate::ask::{Answer, Ask, Asked, Caller, Code, Refusal, Reply};
use crate::base::{Event, Name, Reading};
use crate::doctor;
use crate::local::one_disk;
use crate::passthrough::{Bound, Owner, Passthrough, Released};
use crate::riemann::Origin;
use crate::state::status;
use crate::vm::plan::Plan;
use crate::vm::supervisor::VmHandle;
use crate::vm::usb;
use crate::{media, pci, zfs};

/// Asks of each kind under way at one time. A VM's start holds its place until
/// it runs, and a query until it had its turn: neither keeps a look out.
const AT_ONCE: usize = 64;

/// How long a doctor who only looks waits for cards that are being changed.
const STILL: Duration = Duration::from_secs(2);

/// The places of asks of one kind.
struct Places(Arc<Semaphore>);

impl Places {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// A place, without waiting: others are behind this ask.
    fn take(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let message = format!("hostd is busy: {AT_ONCE} requests of this kind are under way");
            Refusal::new(Code::Refused, message, "wait for those under way")
        })
    }
}

/// Answers until nobody can ask any more.
pub(super) async fn run(shared: Shared, mut asks: mpsc::Receiver<Asked>) {
    let (acting, looking, scanning) = (Places::new(), Places::new(), Places::new());
    let talking = Places::new();
    let following = Places::new();
    let scans = Arc::new(Scans::new(shared.index.clone()));
    let tails = Arc::new(Tails::new(shared.index.clone()));
    while let Some(asked) = asks.recv().await {
        let places = match &asked.ask {
            Ask::EventQuery { .. } => &scanning,
            // They wait for what happens.
            Ask::EventTail { .. } => &following,
            // They wait for the guest.
            Ask::VmConsoleRead { .. } | Ask::VmConsoleWrite { .. } | Ask::VmConsoleClose { .. } => {
                &talking
            }
            ask if ask.right().is_some() => &acting,
            _ => &looking,
        };
        let place = match places.take() {
            Ok(place) => place,
            Err(busy) => {
                // The asker may have left.
                let _ = asked.answer.send(Err(busy));
                continue;
            }
        };
        let (shared, scans, tails) = (shared.clone(), Arc::clone(&scans), Arc::clone(&tails));
        tokio::spawn(async move {
            let Asked { ask, caller, answer: to } = asked;
            let made = match ask {
                Ask::EventTail { query, session } => tails.next(&caller, &query, session).await,
                ask => answer(&shared, &scans, ask, &caller).await,
            };
            // The asker may have left; what was asked is done all the same.
            let _ = to.send(made);
            drop(place);
        });
    }
}

async fn answer(shared: &Shared, scans: &Scans, ask: Ask, caller: &Caller) -> Answer {
    let snapshot = shared.snapshot.borrow().clone();
    match ask {
        Ask::Status => Ok(Reply::Status(status::status(&snapshot))),
        Ask::Doctor { probe } => {
            // Before asking who has which card: nobody may bind one, or start a
            // VM with it, while its group or devices are open.
            let still = still(&shared.passthrough, probe).await;
            let question = doctor::Question {
                config: (*shared.config).clone(),
                claims: shared.passthrough.claims(),
                wrong: shared.wrong.clone(),
                daemon: true,
                probe,
                changing: still.is_none(),
            };
            Ok(Reply::Doctor(doctor::examine(&shared.host, question, still).await))
        }
        Ask::IommuList => read(&snapshot.iommu, "the IOMMU groups").map(Reply::Iommu),
        Ask::IommuShow { group } => in_full(shared, group).await,
        Ask::GpuList => Ok(Reply::Gpus(shared.passthrough.list().await)),
        Ask::GpuQuirks { gpu } => {
            let gpu = gpu.map(|gpu| shared.passthrough.resolve_gpu(Some(&gpu))).transpose()?;
            let view = shared.passthrough.quirks(gpu.as_ref(), &shared.quirks).await?;
            Ok(Reply::Quirks(view))
        }
        Ask::GpuRomDump { gpu, strip } => {
            let gpu = shared.passthrough.resolve_gpu(Some(&gpu))?;
            Ok(Reply::RomDump(shared.passthrough.rom_dump(&gpu, strip).await?.into()))
        }
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
        Ask::GpuReset { gpu } => {
            let gpu = shared.passthrough.resolve_gpu(gpu.as_deref())?;
            let reset = shared.passthrough.reset(&gpu).await?;
            let functions = reset.functions.iter().map(ToString::to_string);
            let functions = functions.collect::<Vec<_>>().join(", ");
            let message = format!("{} is reset ({functions}) and answers", reset.gpu);
            Ok(Reply::Done(DoneView { changed: true, message, warnings: reset.warnings }))
        }
        Ask::GpuRelease { gpu } => {
            let gpu = shared.passthrough.resolve_gpu(gpu.as_deref())?;
            let released = shared.passthrough.release(&gpu, Owner::Person).await;
            shared.devices.notify_one();
            released.map(self::released).map(Reply::Done).map_err(Refusal::from)
        }
        Ask::BootPlan { gpus, remove } => {
            Ok(Reply::BootPlan(shared.boot.plan(&gpus, remove).await?))
        }
        Ask::BootSetup { gpus } => Ok(Reply::Done(shared.boot.setup(&gpus).await?)),
        Ask::BootRemove => Ok(Reply::Done(shared.boot.remove().await?)),
        Ask::BootStatus => Ok(Reply::BootStatus(shared.boot.status().await)),
        Ask::VmList => {
            Ok(Reply::Vms(VmsView { vms: shared.vms.values().map(VmHandle::view).collect() }))
        }
        Ask::VmStatus { name } => {
            let mut view = vm(shared, &name)?.view();
            view.stats = snapshot.vm_stats.get(&name).cloned();
            Ok(Reply::Vms(VmsView { vms: vec![view] }))
        }
        Ask::VmStart { name } => done(vm(shared, &name)?.start().await),
        Ask::VmStop { name, force } => done(vm(shared, &name)?.stop(force).await),
        Ask::VmRestart { name, force } => done(vm(shared, &name)?.restart(force).await),
        Ask::VmPause { name } => done(vm(shared, &name)?.pause().await),
        Ask::VmResume { name } => done(vm(shared, &name)?.resume().await),
        Ask::VmReset { name } => done(vm(shared, &name)?.reset().await),
        Ask::VmHibernate { name } => done(vm(shared, &name)?.hibernate().await),
        Ask::VmKill { name } => done(vm(shared, &name)?.kill().await),
        Ask::VmPlan { name } => Ok(Reply::VmPlan(preview(shared, &name).await?.into())),
        Ask::VmArgv { name } => Ok(Reply::VmArgv(preview(shared, &name).await?.into())),
        Ask::VmLog { name, firmware } => vm(shared, &name)?.log(firmware).await.map(Reply::Log),
        Ask::VmAttach { name, device } => {
            let vm = vm(shared, &name)?;
            let qmp = vm.qmp()?;
            done(usb::attach(&shared.host, vm.vm(), &qmp, &device, &qemus(shared)).await)
        }
        Ask::VmDetach { name, device } => {
            let qmp = vm(shared, &name)?.qmp()?;
            done(usb::detach(&shared.host, &name, &qmp, &device).await)
        }
        Ask::VmMedia { name, drive, file, force } => {
            let qmp = vm(shared, &name)?.qmp()?;
            let (drive, file) = (drive.as_deref(), file.as_deref());
            done(crate::vm::media::change(&shared.host, &name, &qmp, drive, file, force).await)
        }
        Ask::UsbList => {
            let (sys, vms) = (shared.host.sys.clone(), qemus(shared));
            let read = tokio::task::spawn_blocking(move || usb::view(&sys, &vms)).await;
            read.map(Reply::Usb).map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))
        }
        Ask::VmSnapshots { name } => vm(shared, &name)?.snapshots().await.map(Reply::Snapshots),
        Ask::VmSnapshotCreate { name, snapshot } => {
            done(vm(shared, &name)?.snapshot(snapshot).await)
        }
        Ask::VmSnapshotRevert { name, snapshot, yes } => {
            done(vm(shared, &name)?.revert(&snapshot, yes).await)
        }
        Ask::VmSnapshotDelete { name, snapshot } => {
            done(vm(shared, &name)?.delete_snapshot(&snapshot).await)
        }
        Ask::VmSerialLog { name } => vm(shared, &name)?.serial_log().await.map(Reply::Log),
        Ask::VmConsoleOpen { name, take } => {
            vm(shared, &name)?.console_open(caller, take).await.map(Reply::Console)
        }
        Ask::VmConsoleRead { name, session } => {
            vm(shared, &name)?.console_read(caller, session).await.map(Reply::ConsoleData)
        }
        Ask::VmConsoleWrite { name, session, data } => {
            let wrote = vm(shared, &name)?.console_write(caller, session, &data.0).await;
            wrote.map(Reply::ConsoleData)
        }
        Ask::VmConsoleClose { name, session } => {
            done(vm(shared, &name)?.console_close(caller, session))
        }
        Ask::VmScreenshot { name } => vm(shared, &name)?.screenshot().await.map(Reply::Screenshot),
        Ask::VmSendKey { name, keys, text, hold } => {
            done(vm(shared, &name)?.send_key(&keys, &text, hold).await)
        }
        Ask::PoolStatus { pool } => {
            one_pool(read(&snapshot.pools, "the pools")?, pool.as_deref()).map(Reply::Pools)
        }
        Ask::PoolScrub { pool, act } => {
            let scrubbed = zfs::scrub::act(&shared.host, &pool, act).await;
            if scrubbed.is_ok() {
                // What a person wants is not undone by the schedule.
                let _ = shared.hands.send((pool, act)).await;
            }
            shared.pools.notify_one();
            done(scrubbed)
        }
        Ask::HistoryList { query } => super::history::list(shared.past.as_ref(), &query),
        Ask::HistoryShow { service, host, since, until, points } => {
            super::history::show(shared, (service, host), (&since, &until), points).await
        }
        Ask::CareList { kind } => {
            let mut view = read(&snapshot.care, "the jobs")?;
            view.jobs.retain(|job| kind.as_ref().is_none_or(|kind| job.kind == *kind));
            Ok(Reply::Care(view))
        }
        Ask::DiskStatus { disk } => {
            one_disk(read(&snapshot.disks, "the disks")?, disk.as_deref()).map(Reply::Disks)
        }
        Ask::MachineStatus => read(&snapshot.machine, "the machine").map(Reply::Machine),
        Ask::ServiceList => read(&snapshot.services, "the services").map(Reply::Services),
        Ask::ServiceRestart { name } => {
            let target = shared.targets.find(&name);
            done(media::restart::service(&shared.host, &name, target).await)
        }
        Ask::ServiceStatus { service } => {
            let view = read(&snapshot.services, "the services")?;
            one_service(view, service.as_deref()).map(Reply::Services)
        }
        Ask::EventQuery { query } => scans.events(&query).await,
        Ask::EventSend { events } => done(send(shared, &events)),
        Ask::EventTail { .. } => Err(Refusal::new(Code::Failed, "this is answered elsewhere", "")),
    }
}

/// Keeps the cards as they are. A bind under way may take long: who only looks
/// goes without after [`STILL`].
async fn still(cards: &Passthrough, wait: bool) -> Option<impl Drop + '_> {
    let turn = cards.still();
    if wait { Some(turn.await) } else { timeout(STILL, turn).await.ok() }
}

/// Read now, not from the snapshot: what wakes devices is not read every minute.
/// A device that does not answer takes a thread, not the daemon.
async fn in_full(shared: &Shared, group: Option<u32>) -> Answer {
    let sys = shared.host.sys.clone();
    let read = tokio::task::spawn_blocking(move || pci::in_full(&sys, group)).await;
    read.map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))?
}

/// The VMs that have a QEMU, with its number.
fn qemus(shared: &Shared) -> Vec<(Name, u32)> {
    let one = |(name, vm): (&Name, &VmHandle)| Some((name.clone(), vm.view().pid?));
    shared.vms.iter().filter_map(one).collect()
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

/// What a start of the VM would do, by its file as it was when hostd started.
async fn preview(shared: &Shared, name: &Name) -> Result<Plan, Refusal> {
    vm(shared, name)?;
    let gone = || Refusal::new(Code::NotFound, format!("there is no VM {name}"), "");
    let vm = shared.config.vms.iter().find(|vm| vm.name == *name).ok_or_else(gone)?;
    crate::vm::preview(&shared.host, &shared.passthrough, vm).await
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

fn one_service(mut view: ServicesView, name: Option<&str>) -> Result<ServicesView, Refusal> {
    let Some(name) = name else { return Ok(view) };
    let known: Vec<_> = view.services.iter().map(|service| service.name.clone()).collect();
    view.services.retain(|service| service.name == name);
    if view.services.is_empty() {
        let hint = match known.as_slice() {
            [] => "name it under `services:` in host.yaml".to_owned(),
            known => format!("there are: {}", known.join(", ")),
        };
        let message = format!("no service {name} is watched");
        return Err(Refusal::new(Code::NotFound, message, hint));
    }
    Ok(view)
}

/// Takes in events as another program's: hostd's own keep their places.
fn send(shared: &Shared, events: &str) -> Result<DoneView, Refusal> {
    let usage = |why: String| {
        let hint = "each is an object with service, state, metric, … as `hostctl event query \
                    --json` prints them";
        Refusal::new(Code::Usage, why, hint)
    };
    let wrong = |error: serde_json::Error| usage(format!("the events cannot be read: {error}"));
    let events: Vec<EventView> = serde_json::from_str(events).map_err(wrong)?;
    if let Some(at) = events.iter().position(|event| event.service.is_none()) {
        return Err(usage(format!("event {} has no service", at + 1)));
    }
    let here = &shared.snapshot.borrow().host;
    let whole = |event: EventView| {
        let host = event.host.clone().or_else(|| Some(here.clone()));
        Event { host, ..Event::from(event) }
    };
    let all = events.len();
    let applied = shared.index.apply(Origin::Outside, events.into_iter().map(whole).collect());
    match applied.reason {
        Some(reason) => {
            let refused = applied.refused;
            let message = format!("{refused} of {all} events were refused: {}", reason.explain());
            Err(Refusal::new(Code::Refused, message, "`hostctl status` counts what is refused"))
        }
        None => Ok(DoneView {
            changed: all > 0,
            message: if all == 1 { "1 event sent".into() } else { format!("{all} events sent") },
            warnings: Vec::new(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[tokio::test(start_paused = true)]
    async fn who_only_looks_does_not_wait_for_a_bind_and_keeps_others_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let cards = Passthrough::new(FakeHost::new(dir.path()).host(), Vec::new());
        let bind = cards.still().await;
        assert!(still(&cards, false).await.is_none());
        drop(bind);
        let looking = still(&cards, false).await;
        assert!(looking.is_some());
        assert!(timeout(STILL, still(&cards, true)).await.is_err(), "a bind waits for the look");
    }

    #[test]
    fn a_kind_of_asks_that_is_full_is_refused_at_once_and_alone() {
        let (acting, looking) = (Places::new(), Places::new());
        let taken: Vec<_> = (0..AT_ONCE).map(|_| acting.take().unwrap()).collect();
        assert_eq!(acting.take().unwrap_err().code, Code::Refused);
        assert!(looking.take().is_ok());
        drop(taken);
        assert!(acting.take().is_ok());
    }
}
