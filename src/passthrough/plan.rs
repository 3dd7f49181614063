//! The steps there and back, as values. Nothing here touches the machine.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::journal::{Record, Saved};
use crate::base::PciAddress;
use crate::pci::Driver;

/// The driver that hands a function to a guest.
pub const VFIO: &str = "vfio-pci";

/// One thing done to the machine. Each can be read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Step {
    /// Load a module so that a driver is there.
    Load {
        /// For `modprobe`.
        module: String,
        /// What must be there afterwards.
        driver: String,
    },
    /// Say which driver alone may take a function.
    Override {
        /// Which function.
        function: PciAddress,
        /// The driver; `None` lifts the restriction.
        to: Option<String>,
    },
    /// Take a function from its driver.
    Unbind {
        /// Which function.
        function: PciAddress,
        /// Its driver: if it is another by then, the kernel refuses.
        from: String,
    },
    /// Let the kernel bind a function by its override, to vfio-pci.
    Probe {
        /// Which function.
        function: PciAddress,
    },
    /// Give a function to a driver.
    Attach {
        /// Which function.
        function: PciAddress,
        /// The driver.
        to: String,
    },
}

impl Step {
    /// The function it touches.
    pub fn function(&self) -> Option<PciAddress> {
        match self {
            Self::Load { .. } => None,
            Self::Override { function, .. }
            | Self::Unbind { function, .. }
            | Self::Probe { function }
            | Self::Attach { function, .. } => Some(*function),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { module, .. } => write!(f, "load the module {module}"),
            Self::Override { function, to: Some(to) } => {
                write!(f, "set driver_override of {function} to {to}")
            }
            Self::Override { function, to: None } => {
                write!(f, "clear driver_override of {function}")
            }
            Self::Unbind { function, from } => write!(f, "unbind {function} from {from}"),
            Self::Probe { function } => write!(f, "let the kernel bind {function} to {VFIO}"),
            Self::Attach { function, to } => write!(f, "bind {function} to {to}"),
        }
    }
}

/// A function as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Which.
    pub address: PciAddress,
    /// Vendor and device.
    pub identity: Option<(u16, u16)>,
    /// Its driver.
    pub driver: Driver,
    /// The module of that driver, where it is one.
    pub module: Option<String>,
    /// Its override.
    pub driver_override: Option<String>,
}

impl Function {
    fn is_on_vfio(&self) -> bool {
        self.driver.name() == Some(VFIO)
    }

    fn save(&self) -> Saved {
        Saved {
            address: self.address,
            identity: self.identity,
            driver: self.driver.name().map(str::to_owned),
            module: self.module.clone(),
            driver_override: self.driver_override.clone(),
            wrote: Vec::new(),
        }
    }
}

/// The way to vfio-pci.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct There {
    /// In order; none when all functions are there already.
    pub steps: Vec<Step>,
    /// What the functions were: from the record where there is one, else now.
    pub saved: Vec<Saved>,
    /// What to know before.
    pub warnings: Vec<String>,
}

/// Plans the way to vfio-pci for the functions of a card, function 0 first.
pub fn there(now: &[Function], on_record: Option<&Record>, drivers: &[String]) -> There {
    let mut plan = There::default();
    for function in now {
        let (address, known) = (function.address, known(function, on_record));
        if known.is_none() {
            plan.warnings.extend(foreign_override(function));
        }
        plan.saved.push(known.cloned().unwrap_or_else(|| function.save()));
        if function.is_on_vfio() {
            continue;
        }
        if function.driver_override.as_deref() != Some(VFIO) {
            plan.steps.push(Step::Override { function: address, to: Some(VFIO.to_owned()) });
        }
        if let Driver::Named(from) = &function.driver {
            plan.steps.push(Step::Unbind { function: address, from: from.clone() });
        }
        plan.steps.push(Step::Probe { function: address });
    }
    if !plan.steps.is_empty() && !drivers.iter().any(|driver| driver == VFIO) {
        plan.steps.insert(0, load(VFIO, None));
    }
    plan
}

/// The saved state of a function if it is still the same device.
fn known<'a>(function: &Function, on_record: Option<&'a Record>) -> Option<&'a Saved> {
    on_record?
        .functions
        .iter()
        .find(|saved| saved.address == function.address && saved.identity == function.identity)
}

fn foreign_override(function: &Function) -> Option<String> {
    let address = function.address;
    let found = function.driver_override.as_deref().filter(|name| *name != VFIO)?;
    Some(format!(
        "driver_override of {address} is `{found}`, set by somebody else; a release puts it back"
    ))
}

fn load(driver: &str, module: Option<&str>) -> Step {
    Step::Load { module: module.unwrap_or(driver).to_owned(), driver: driver.to_owned() }
}

/// The way back. Each function has its own, so that one that fails does not
/// keep the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Back {
    /// By function, in the reverse order of binding.
    pub ways: Vec<Vec<Step>>,
    /// What no step can put right.
    pub left: Vec<String>,
    /// What is otherwise than before and none of our business.
    pub notes: Vec<String>,
}

/// Plans the way back to what is on record, from how things are now.
/// Whatever somebody else has changed in between is left to them.
pub fn back(now: &[Function], record: &Record, drivers: &[String]) -> Back {
    let mut plan = Back::default();
    for saved in record.functions.iter().rev() {
        let address = saved.address;
        if record.wedged.contains(&address) {
            plan.left.push(format!("{address} hangs in the kernel and was not touched again"));
            continue;
        }
        match now.iter().find(|function| function.address == address) {
            None => plan.notes.push(format!("{address} is gone from the bus")),
            Some(function) if function.identity != saved.identity => {
                plan.notes.push(format!("{address} is another device now and was left alone"));
            }
            Some(function) => plan.way(function, saved, drivers),
        }
    }
    plan
}

impl Back {
    fn way(&mut self, now: &Function, saved: &Saved, drivers: &[String]) {
        let function = saved.address;
        let ours = now.driver_override == saved.driver_override
            || saved.wrote.contains(&now.driver_override);
        let restriction = now.driver_override.as_deref().unwrap_or("(none)");
        let before = saved.driver.as_deref();
        let mut steps = Vec::new();
        let set = |current: &Option<String>, to: &Option<String>, steps: &mut Vec<Step>| {
            if current != to {
                steps.push(Step::Override { function, to: to.clone() });
            }
        };
        match &now.driver {
            Driver::Unknown(why) => {
                self.left.push(format!("the driver of {function} cannot be read: {why}"));
            }
            there if there.name() == before => {
                if ours {
                    set(&now.driver_override, &saved.driver_override, &mut steps);
                } else {
                    self.notes.push(format!(
                        "driver_override of {function} is `{restriction}`, set by somebody else"
                    ));
                }
            }
            Driver::Named(other) if other != VFIO => {
                self.notes.push(format!("{function} is on {other}: somebody else has taken it"));
                if ours {
                    set(&now.driver_override, &saved.driver_override, &mut steps);
                }
            }
            Driver::None | Driver::Named(_) if !ours => self.left.push(format!(
                "{function} was not given back to {}: its driver_override is `{restriction}`, \
                 set by somebody else",
                before.unwrap_or("no driver"),
            )),
            Driver::None | Driver::Named(_) => {
                // An override that names another driver would keep the old one out.
                let open = match (&saved.driver_override, before) {
                    (Some(only), Some(driver)) if only != driver => None,
                    (other, _) => other.clone(),
                };
                set(&now.driver_override, &open, &mut steps);
                if now.is_on_vfio() {
                    steps.push(Step::Unbind { function, from: VFIO.to_owned() });
                }
                if let Some(driver) = before {
                    if !drivers.iter().any(|present| present == driver) {
                        steps.push(load(driver, saved.module.as_deref()));
                    }
                    steps.push(Step::Attach { function, to: driver.to_owned() });
                }
                set(&open, &saved.driver_override, &mut steps);
            }
        }
        if !steps.is_empty() {
            self.ways.push(steps);
        }
    }
}
