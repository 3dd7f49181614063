//! Takes steps: journalled before, read back after.

use std::time::Duration;

use super::helper::{self, AttributeError};
use super::journal::{Journal, JournalError, Phase, Record};
use super::plan::{self, Back, Function, ShownNow, Step, VFIO};
use super::screen::Framebuffer;
use super::settings::{self, Attribute};
use super::{holders, screen};
use crate::base::{PciAddress, with_sources};
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
    /// The unit did not do as it was told.
    #[error("systemd did not do it")]
    Unit(#[source] RunError),
    /// Somebody uses the card.
    #[error("it is in use by {}", .0.join(", "))]
    InUse(Vec<String>),
    /// The function does not answer.
    #[error(
        "{0} does not answer: its config space reads as ones only. It has not come back from a \
         reset; switch the machine off and on again"
    )]
    Dead(PciAddress),
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
    /// What nothing brings back before a restart; it stays on record too.
    pub lost: Vec<String>,
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
            subsystem: id("subsystem_vendor").zip(id("subsystem_device")).filter(|s| *s != (0, 0)),
            driver,
            module,
            driver_override: parse::driver_override(&text),
            settings: all_settings(host, address),
            link_width: link_width(host, address),
        });
    }
    Ok(functions)
}

/// The attributes of a function that may be set, as far as it has them.
fn all_settings(host: &Host, function: PciAddress) -> Vec<(Attribute, String)> {
    let plain = [Attribute::PowerControl, Attribute::D3cold, Attribute::ResetMethod];
    let all = plain.into_iter().chain((0..6).map(Attribute::Bar));
    all.filter_map(|which| Some((which, settings::now(&host.sys, function, which)?))).collect()
}

/// Lanes of a function's link; nothing where it is on no link.
fn link_width(host: &Host, function: PciAddress) -> Option<u8> {
    let text = attribute(&host.sys, &format!("{}/current_link_width", folder(function))).ok()?;
    // The kernel says 255 when it cannot tell.
    text.trim().parse().ok().filter(|width| (1..=32).contains(width))
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
    if let Step::Set { function, attribute, to } = step {
        let saved = record.functions.iter_mut().find(|saved| saved.address == *function);
        let all = saved.into_iter().flat_map(|saved| &mut saved.settings);
        for setting in all.filter(|setting| setting.attribute == *attribute) {
            if !setting.wrote.contains(to) {
                setting.wrote.push(to.clone());
            }
        }
    }
    journal.save(record).await.map_err(StepFault::Journal)?;
    act(host, record, step).await
}

/// Takes a step and marks its function when the write hangs; the card, where it
/// is the host's screen that hangs.
async fn act(host: &Host, record: &mut Record, step: &Step) -> Result<(), StepFault> {
    let done = change(host, step).await;
    let function = step.function().unwrap_or(record.slot);
    if matches!(&done, Err(fault) if fault.hung()) && !record.wedged.contains(&function) {
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
        Step::Stop { unit } => {
            systemctl(host, "stop", unit).await?;
            expect(!is_active(host, unit).await, || format!("{unit} still runs"))
        }
        Step::Start { unit } => systemctl(host, "start", unit).await,
        Step::Vacate { functions } => vacate(host, functions).await,
        Step::Console { console, on } => {
            let path = format!("/sys/class/vtconsole/vtcon{console}/bind");
            helper::write(host, &path, if *on { "1" } else { "0" }).await?;
            let now = screen::consoles(&host.sys).contains(&(*console, *on));
            expect(now, || format!("vtcon{console} stays where it is"))
        }
        Step::Framebuffer(framebuffer) => {
            let Framebuffer { driver, device } = framebuffer;
            let path = format!("/sys/bus/platform/drivers/{driver}/unbind");
            helper::write(host, &path, device).await?;
            let gone = !screen::is_bound(&host.sys, framebuffer);
            expect(gone, || format!("{device} still has {driver}"))
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
        Step::Set { function, attribute, to } => {
            let path = format!("{}/{}", folder(*function), attribute.file());
            helper::write(host, &path, &format!("{to}\n")).await?;
            let now = settings::now(&host.sys, *function, *attribute);
            expect(now.as_ref() == Some(to), || {
                let now = now.map_or_else(|| "gone".to_owned(), |now| attribute.in_words(&now));
                format!("{attribute} of {function} is {now}")
            })
        }
        Step::Wait { milliseconds, .. } => {
            tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
            Ok(())
        }
        Step::Probe { function } => {
            helper::write(host, "/sys/bus/pci/drivers_probe", &function.to_string()).await?;
            is_on(host, *function, Some(VFIO))?;
            answers(host, *function)
        }
        Step::Attach { function, to } => {
            // A host driver that meets a dead card may take the machine with it.
            answers(host, *function)?;
            let path = format!("{DRIVERS}/{to}/bind");
            helper::write(host, &path, &function.to_string()).await?;
            is_on(host, *function, Some(to))
        }
    }
}

/// Whether a function still answers: reads of one that does not are all ones.
/// Where config space cannot be read nothing is known, and nothing is said.
pub fn answers(host: &Host, function: PciAddress) -> Result<(), StepFault> {
    let head = host.sys.head(format!("{}/config", folder(function)), 4).unwrap_or_default();
    if head == [0xff; 4] { Err(StepFault::Dead(function)) } else { Ok(()) }
}

/// How long the display manager may take to end or to come up.
const UNIT_DEADLINE: Duration = Duration::from_secs(90);
/// How long the processes of a session have to let go after it.
const VACATE: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

async fn systemctl(host: &Host, verb: &str, unit: &str) -> Result<(), StepFault> {
    let command = Command::new("systemctl", [verb, unit]).deadline(UNIT_DEADLINE);
    let ran = host.runner.run(command.clone()).await;
    ran.and_then(|output| output.success(&command)).map(|_| ()).map_err(StepFault::Unit)
}

/// Whether a unit of systemd runs; without systemd none does.
pub async fn is_active(host: &Host, unit: &str) -> bool {
    let command = Command::new("systemctl", ["is-active", "--quiet", unit]);
    let command = command.deadline(helper::DEADLINE);
    let ran = host.runner.run(command.clone()).await;
    ran.is_ok_and(|output| output.success(&command).is_ok())
}

async fn vacate(host: &Host, functions: &[PciAddress]) -> Result<(), StepFault> {
    let mut left = VACATE;
    loop {
        let users = holders::users(&host.sys, functions).working;
        if users.is_empty() {
            return Ok(());
        }
        if left.is_zero() {
            return Err(StepFault::InUse(users));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        left = left.saturating_sub(LOOK_AGAIN);
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
    // A driver that is back may have made the screen that a console wants.
    let (steps, lost) = plan::light(record, &shown_now(host, record).await);
    if done.left.is_empty() {
        let ways = steps.into_iter().map(|step| vec![step]).collect();
        let back = Back { ways, ..Back::default() };
        let lit = walk(host, journal, record, back).await;
        done.touched |= lit.touched;
        done.left.extend(lit.left);
        done.notes.extend(lit.notes);
        done.lost = lost;
    } else {
        // Not without the card; and said, because it is missed.
        done.left.extend(steps.iter().map(|step| format!("not done before that is: {step}")));
    }
    record.step = None;
    done.notes.extend(narrowed(host, record));
    if done.left.is_empty() && done.lost.is_empty() {
        journal.remove(record.slot).await?;
        return Ok(done);
    }
    done.left.dedup();
    record.phase = Phase::Left;
    (record.person, record.vm) = (false, None);
    record.problems = done.left.iter().chain(&done.lost).cloned().collect();
    journal.save(record).await?;
    Ok(done)
}

/// What the host's screens show now, as far as the record is about it.
pub async fn shown_now(host: &Host, record: &Record) -> ShownNow {
    let shown = &record.shown;
    let lost = shown.framebuffers.iter().filter(|f| !screen::is_bound(&host.sys, f));
    let display_manager = match &shown.display_manager {
        Some(unit) => is_active(host, unit).await,
        None => false,
    };
    ShownNow {
        consoles: screen::consoles(&host.sys),
        framebuffer: screen::any_framebuffer(&host.sys),
        lost: lost.map(|framebuffer| framebuffer.device.clone()).collect(),
        display_manager,
    }
}

/// Links that have come back with fewer lanes than they had.
pub fn narrowed(host: &Host, record: &Record) -> Vec<String> {
    let functions = record.functions.iter();
    functions
        .filter(|saved| !record.wedged.contains(&saved.address))
        .filter_map(|saved| {
            let (was, now) = (saved.link_width?, link_width(host, saved.address)?);
            (now < was).then(|| {
                format!(
                    "the link of {} has {now} lanes and had {was}: a reset has not restored it; \
                     if it stays so, switch the machine off and on again",
                    saved.address
                )
            })
        })
        .collect()
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
    let mut done = Restored { left: plan.left, notes: plan.notes, ..Restored::default() };
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
                // A driver is worth more than an attribute.
                if fault.hung() || !matches!(step, Step::Set { .. }) {
                    break;
                }
            }
        }
    }
    done
}
