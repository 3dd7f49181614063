//! Takes steps: journalled before, read back after.

use super::helper::{self, AttributeError, with_sources};
use super::holders;
use super::journal::{Journal, JournalError, Phase, Record};
use super::plan::{self, Back, Function, Step, VFIO};
use crate::base::PciAddress;
use crate::host::run::RunError;
use crate::host::{Command, Host};
use crate::pci::read::{DEVICES, attribute, driver, folder};
use crate::pci::{Driver, parse};

const DRIVERS: &str = "/sys/bus/pci/drivers";

/// Why a step was not taken, or not believed.
#[derive(Debug, thiserror::Error)]
pub enum StepFault {
    /// It could not be journalled, so it was not taken.
    #[error("nothing was touched")]
    Journal(#[source] JournalError),
    /// The write failed, or hung.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The module was not loaded.
    #[error("the module was not loaded")]
    Module(#[source] RunError),
    /// The kernel took it and the machine shows something else.
    #[error("the kernel took it, but {found}")]
    Unmoved {
        /// What is there instead.
        found: String,
    },
}

impl StepFault {
    /// Whether the write may still be under way.
    pub fn hung(&self) -> bool {
        matches!(self, Self::Attribute(AttributeError::Hung(_)))
    }
}

/// How a way back ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// What is not as it was; empty when the record is closed.
    pub left: Vec<String>,
    /// What else to know.
    pub notes: Vec<String>,
    /// Whether any step was taken.
    pub touched: bool,
}

/// How the functions are now. `driver_override` goes through the helper,
/// because reading it waits for an unbind that hangs.
pub async fn look(host: &Host, addresses: &[PciAddress]) -> Result<Vec<Function>, AttributeError> {
    // What cannot be listed is not gone.
    let listed = host.sys.list(DEVICES).map_err(AttributeError::Refused)?;
    let mut functions = Vec::new();
    for &address in addresses {
        let folder = folder(address);
        let id = |name: &str| {
            let text = attribute(&host.sys, &format!("{folder}/{name}")).ok()?;
            parse::hex16(&text)
        };
        if !listed.contains(&address.to_string()) {
            continue;
        }
        let text = helper::read(host, &format!("{folder}/driver_override")).await?;
        let driver = driver(&host.sys, &folder);
        let module = driver
            .name()
            .and_then(|name| host.sys.link_name(format!("{DRIVERS}/{name}/module")).ok());
        functions.push(Function {
            address,
            identity: id("vendor").zip(id("device")),
            driver,
            module,
            driver_override: parse::driver_override(&text),
        });
    }
    Ok(functions)
}

/// The drivers that are there to bind to; none when they cannot be listed,
/// which costs a `modprobe` at worst.
pub fn drivers(host: &Host) -> Vec<String> {
    host.sys.list(DRIVERS).unwrap_or_default()
}

/// Takes one step: on record before, read back after.
pub async fn take(
    host: &Host,
    journal: &Journal,
    record: &mut Record,
    step: &Step,
) -> Result<(), StepFault> {
    record.step = Some(step.clone());
    if let Step::Override { function, to } = step {
        let mut saved = record.functions.iter_mut().filter(|saved| saved.address == *function);
        if let Some(saved) = saved.next()
            && !saved.wrote.contains(to)
        {
            saved.wrote.push(to.clone());
        }
    }
    journal.save(record).await.map_err(StepFault::Journal)?;
    act(host, record, step).await
}

/// Takes a step and marks its function when the write hangs.
async fn act(host: &Host, record: &mut Record, step: &Step) -> Result<(), StepFault> {
    let done = change(host, step).await;
    if let (Err(fault), Some(function)) = (&done, step.function())
        && fault.hung()
        && !record.wedged.contains(&function)
    {
        record.wedged.push(function);
    }
    done
}

async fn change(host: &Host, step: &Step) -> Result<(), StepFault> {
    match step {
        Step::Load { module, driver } => {
            let command = Command::new("modprobe", [module]).deadline(helper::DEADLINE);
            let ran = host.runner.run(command.clone()).await;
            ran.and_then(|output| output.success(&command)).map_err(StepFault::Module)?;
            let there = host.sys.exists(format!("{DRIVERS}/{driver}"));
            expect(there, || format!("there is no driver {driver}"))
        }
        Step::Override { function, to } => {
            let path = format!("{}/driver_override", folder(*function));
            // An empty line lifts it.
            let value = format!("{}\n", to.as_deref().unwrap_or(""));
            let now = parse::driver_override(&helper::write(host, &path, &value).await?);
            let shown = now.as_deref().unwrap_or("(none)").to_owned();
            expect(now == *to, || format!("driver_override of {function} is {shown}"))
        }
        Step::Unbind { function, from } => {
            let path = format!("{DRIVERS}/{from}/unbind");
            helper::write(host, &path, &function.to_string()).await?;
            is_on(host, *function, None)
        }
        Step::Probe { function } => {
            helper::write(host, "/sys/bus/pci/drivers_probe", &function.to_string()).await?;
            is_on(host, *function, Some(VFIO))
        }
        Step::Attach { function, to } => {
            let path = format!("{DRIVERS}/{to}/bind");
            helper::write(host, &path, &function.to_string()).await?;
            is_on(host, *function, Some(to))
        }
    }
}

fn is_on(host: &Host, function: PciAddress, wanted: Option<&str>) -> Result<(), StepFault> {
    let now = driver(&host.sys, &folder(function));
    let right = !matches!(now, Driver::Unknown(_)) && now.name() == wanted;
    expect(right, || format!("{function} has {}", now.in_words()))
}

fn expect(right: bool, found: impl FnOnce() -> String) -> Result<(), StepFault> {
    if right { Ok(()) } else { Err(StepFault::Unmoved { found: found() }) }
}

/// Takes the way back from wherever the card is. The record is closed when all
/// is as it was, and kept with what is not.
pub async fn restore(
    host: &Host,
    journal: &Journal,
    record: &mut Record,
) -> Result<Restored, JournalError> {
    record.phase = Phase::Restoring;
    record.step = None;
    // The record on disk leads back already, so a full disk stops nothing here.
    let _ = journal.save(record).await;
    let mut done = match way_back(host, record).await {
        Ok(plan) => walk(host, journal, record, plan).await,
        Err(error) => Restored { left: vec![with_sources(&error)], ..Restored::default() },
    };
    record.step = None;
    if done.left.is_empty() {
        journal.remove(record.slot).await?;
        return Ok(done);
    }
    done.left.dedup();
    record.phase = Phase::Left;
    (record.person, record.vm) = (false, None);
    record.problems.clone_from(&done.left);
    journal.save(record).await?;
    Ok(done)
}

/// Plans the way back from how things are now; wedged functions are not even
/// looked at.
pub async fn way_back(host: &Host, record: &Record) -> Result<Back, AttributeError> {
    let addresses: Vec<PciAddress> = record
        .functions
        .iter()
        .map(|saved| saved.address)
        .filter(|address| !record.wedged.contains(address))
        .collect();
    let mut plan = plan::back(&look(host, &addresses).await?, record, &drivers(host));
    // Unbinding what somebody has open hangs until they let go.
    let holders = holders::of(&host.sys, &addresses);
    if !holders.is_empty() && !plan.ways.is_empty() {
        plan.ways.clear();
        plan.left.push(format!("in use by {}", holders.join(", ")));
    }
    Ok(plan)
}

async fn walk(host: &Host, journal: &Journal, record: &mut Record, plan: Back) -> Restored {
    let mut done = Restored { left: plan.left, notes: plan.notes, touched: false };
    for way in plan.ways {
        for step in way {
            done.touched = true;
            let taken = match take(host, journal, record, &step).await {
                // Going back without a line in the journal is better than staying:
                // what is on record leads here again.
                Err(StepFault::Journal(error)) => {
                    done.notes.push(with_sources(&error));
                    act(host, record, &step).await
                }
                other => other,
            };
            if let Err(fault) = taken {
                done.left.push(format!("could not {step}: {}", with_sources(&fault)));
                break;
            }
        }
    }
    done
}
