//! The steps there and back, as values. Nothing here touches the machine.

use super::journal::{Record, Saved, Setting, Shown};
use super::screen::Screen;
use super::settings::{Attribute, Needs, Wanted};
pub use super::step::{Step, VFIO};
use crate::base::PciAddress;
use crate::pci::Driver;

/// A function as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Which.
    pub address: PciAddress,
    /// Vendor and device.
    pub identity: Option<(u16, u16)>,
    /// Subsystem vendor and device.
    pub subsystem: Option<(u16, u16)>,
    /// Its driver.
    pub driver: Driver,
    /// The module of that driver, where it is one.
    pub module: Option<String>,
    /// Its override.
    pub driver_override: Option<String>,
    /// The attributes that were asked for and are there.
    pub settings: Vec<(Attribute, String)>,
    /// Width of its link, in lanes.
    pub link_width: Option<u8>,
}

impl Function {
    /// Whether it is where a guest can have it.
    pub fn is_on_vfio(&self) -> bool {
        self.driver.name() == Some(VFIO)
    }

    fn setting(&self, which: Attribute) -> Option<&str> {
        self.settings.iter().find(|(attribute, _)| *attribute == which).map(|(_, now)| now.as_str())
    }

    fn save(&self) -> Saved {
        Saved {
            address: self.address,
            identity: self.identity,
            driver: self.driver.name().map(str::to_owned),
            module: self.module.clone(),
            driver_override: self.driver_override.clone(),
            wrote: Vec::new(),
            subsystem: self.subsystem,
            settings: Vec::new(),
            link_width: self.link_width,
            delay: 0,
        }
    }

    /// Whether it is the device that was saved.
    fn is(&self, saved: &Saved) -> bool {
        let board = saved.subsystem.is_none() || self.subsystem == saved.subsystem;
        self.address == saved.address && self.identity == saved.identity && board
    }
}

/// The way to vfio-pci.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct There {
    /// In order; none when all functions are there already.
    pub steps: Vec<Step>,
    /// What the functions were: from the record where there is one, else now.
    pub saved: Vec<Saved>,
    /// What the host shows on it, to be put back.
    pub shown: Shown,
    /// What to know before.
    pub warnings: Vec<String>,
}

/// What the way to vfio-pci is planned from.
pub struct From<'a> {
    /// The functions, function 0 first.
    pub now: &'a [Function],
    /// What they shall be set to.
    pub needs: &'a Needs,
    /// What the host shows on them.
    pub screen: &'a Screen,
    /// The unit to stop for it.
    pub display_manager: Option<&'a str>,
    /// The card's record.
    pub on_record: Option<&'a Record>,
    /// The drivers that are there.
    pub drivers: &'a [String],
}

/// Plans the way to vfio-pci for the functions of a card.
pub fn there(from: &From<'_>) -> There {
    let mut plan = There {
        shown: from.on_record.map(|record| record.shown.clone()).unwrap_or_default(),
        ..There::default()
    };
    // The firmware's framebuffer may sit on a card that vfio-pci has, too: only
    // from class 0300 does it take that away.
    let taken = from.now.iter().any(|function| !function.is_on_vfio());
    if taken || !from.screen.framebuffers.is_empty() {
        plan.darken(from);
    }
    for function in from.now {
        plan.function(function, from);
    }
    let touches = |step: &Step| matches!(step, Step::Probe { .. });
    if plan.steps.iter().any(touches) && !from.drivers.iter().any(|driver| driver == VFIO) {
        plan.steps.insert(0, load(VFIO, None));
    }
    plan
}

impl There {
    /// Takes the host's screen off the card, in the order that the kernel wants.
    fn darken(&mut self, from: &From<'_>) {
        if let Some(unit) = from.display_manager {
            self.shown.display_manager = Some(unit.to_owned());
            let functions = from.now.iter().map(|function| function.address).collect();
            self.steps.push(Step::Stop { unit: unit.to_owned() });
            self.steps.push(Step::Vacate { functions });
        }
        for &console in &from.screen.consoles {
            if !self.shown.consoles.contains(&console) {
                self.shown.consoles.push(console);
            }
            self.steps.push(Step::Console { console, on: false });
        }
        for framebuffer in &from.screen.framebuffers {
            if !self.shown.framebuffers.contains(framebuffer) {
                self.shown.framebuffers.push(framebuffer.clone());
            }
            self.steps.push(Step::Framebuffer(framebuffer.clone()));
        }
    }

    fn function(&mut self, now: &Function, from: &From<'_>) {
        let function = now.address;
        let known = from.on_record.and_then(|r| r.functions.iter().find(|saved| now.is(saved)));
        if known.is_none() {
            self.warnings.extend(foreign_override(now));
        }
        let mut saved = known.cloned().unwrap_or_else(|| now.save());
        let delay = from.needs.delays.iter().find(|(of, _)| *of == function);
        saved.delay = delay.map_or(0, |(_, milliseconds)| *milliseconds);
        let mut sets: Vec<(Attribute, Step)> = Vec::new();
        for Wanted { attribute, to, .. } in
            from.needs.wanted.iter().filter(|wanted| wanted.function == function)
        {
            // Whatever it was, vfio-pci lets the function sleep when it takes it.
            let again = !now.is_on_vfio() && *attribute == Attribute::PowerControl;
            let is = now.setting(*attribute).filter(|is| is != to || again);
            let Some(is) = is else { continue };
            if !saved.settings.iter().any(|setting| setting.attribute == *attribute) {
                let (was, wrote) = (is.to_owned(), Vec::new());
                saved.settings.push(Setting { attribute: *attribute, was, wrote });
            }
            let step = Step::Set { function, attribute: *attribute, to: to.clone() };
            sets.push((*attribute, step));
        }
        self.saved.push(saved);
        let (unbound, plain): (Vec<_>, Vec<_>) =
            sets.into_iter().partition(|(attribute, _)| attribute.needs_unbound());
        let (awake, before): (Vec<_>, Vec<_>) =
            plain.into_iter().partition(|(attribute, _)| *attribute == Attribute::PowerControl);
        let awake = awake.into_iter().map(|(_, step)| step);
        self.steps.extend(before.into_iter().map(|(_, step)| step));
        if now.is_on_vfio() && unbound.is_empty() {
            self.steps.extend(awake);
            return;
        }
        if now.driver_override.as_deref() != Some(VFIO) {
            self.steps.push(Step::Override { function, to: Some(VFIO.to_owned()) });
        }
        if let Driver::Named(from) = &now.driver {
            self.steps.push(Step::Unbind { function, from: from.clone() });
        }
        self.steps.extend(unbound.into_iter().map(|(_, step)| step));
        self.steps.push(Step::Probe { function });
        self.steps.extend(awake);
    }
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
            Some(function) if !function.is(saved) => {
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
        let (unbound, plain) = self.settings(now, saved);
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
            // A size is changed without a driver only.
            there if there.name() == before && (unbound.is_empty() || before.is_none()) => {
                steps.extend(unbound.into_iter().chain(plain));
                if ours {
                    set(&now.driver_override, &saved.driver_override, &mut steps);
                } else {
                    self.notes.push(format!(
                        "driver_override of {function} is `{restriction}`, set by somebody else"
                    ));
                }
            }
            // Only a driver's absence would let it be set back; a restart does it too.
            Driver::Named(own) if own != VFIO && Some(own.as_str()) == before => {
                let sizes =
                    unbound.iter().map(|step| format!("not done, because {own} has it: {step}"));
                self.left.extend(sizes);
                steps.extend(plain);
                if ours {
                    set(&now.driver_override, &saved.driver_override, &mut steps);
                }
            }
            Driver::Named(other) if other != VFIO => {
                self.notes.push(format!("{function} is on {other}: somebody else has taken it"));
                steps.extend(plain);
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
                steps.extend(unbound.into_iter().chain(plain));
                if saved.delay > 0 {
                    steps.push(Step::Wait { function, milliseconds: saved.delay });
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

    /// The steps that set the attributes back: those that need the function to
    /// be without a driver, and the others.
    fn settings(&mut self, now: &Function, saved: &Saved) -> (Vec<Step>, Vec<Step>) {
        let (mut unbound, mut plain) = (Vec::new(), Vec::new());
        for Setting { attribute, was, wrote } in &saved.settings {
            let (function, attribute) = (saved.address, *attribute);
            // vfio-pci lets it sleep as it comes, and forbids it as it goes.
            let vfios = attribute == Attribute::PowerControl && now.is_on_vfio();
            match now.setting(attribute) {
                Some(_) if vfios && was == "on" => {}
                Some(is) if is == was && !vfios => {}
                Some(is) if vfios || wrote.iter().any(|ours| ours == is) => {
                    let step = Step::Set { function, attribute, to: was.clone() };
                    let steps = if attribute.needs_unbound() { &mut unbound } else { &mut plain };
                    steps.push(step);
                }
                Some(is) => self.notes.push(format!(
                    "{attribute} of {function} is {}, set by somebody else",
                    attribute.in_words(is)
                )),
                None => self.notes.push(format!("{attribute} of {function} is gone")),
            }
        }
        (unbound, plain)
    }
}

/// What the machine shows on its screens when the functions are back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShownNow {
    /// The virtual consoles, and whether they are on a framebuffer.
    pub consoles: Vec<(u8, bool)>,
    /// Whether any framebuffer is there.
    pub framebuffer: bool,
    /// The recorded framebuffers of the firmware that have lost their driver.
    pub lost: Vec<String>,
    /// Whether the display manager runs.
    pub display_manager: bool,
}

/// Plans the way back for the host's screen, after the functions are back; and
/// says what no kernel gives back.
pub fn light(record: &Record, now: &ShownNow) -> (Vec<Step>, Vec<String>) {
    let (mut steps, mut lost) = (Vec::new(), Vec::new());
    let shown = &record.shown;
    if !now.framebuffer && !now.lost.is_empty() {
        lost.push(format!(
            "the host's screen on it stays dark until a restart: the firmware's framebuffer {} \
             cannot be bound again, and no driver of the host shows a picture",
            now.lost.join(", ")
        ));
    }
    for &(console, on) in now.consoles.iter().filter(|(n, _)| shown.consoles.contains(n)) {
        if !on && now.framebuffer {
            steps.push(Step::Console { console, on: true });
        }
    }
    if let Some(unit) = shown.display_manager.as_ref().filter(|_| !now.display_manager) {
        steps.push(Step::Start { unit: unit.clone() });
    }
    (steps, lost)
}
