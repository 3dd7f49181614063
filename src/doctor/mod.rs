//! Everything that decides whether a VM with a card will work, judged.
//!
//! In: the machine, the configuration, who has which card. Out: a list of
//! checks, each with what was seen and what to type. Nothing is changed; only
//! when told to ([`Question::probe`]) are devices opened, which resets them.
//!
//! ```text
//!   machine ── read ──▶ Facts of a theme ── judge ──▶ checks ──▶ `hostctl doctor`
//!                          ▲ pure from here on
//!   configuration ──▶ Scope: the cards and VMs that matter
//! ```
//!
//! - [`check`]: one check, and the table of all kinds; read this first
//! - [`scope`]: the cards and VMs that matter
//! - [`kernel`], [`cmdline`]: firmware, IOMMU, modules, the command line
//! - [`kvm`], [`vfio`]: asked through their own interfaces
//! - [`cards`], [`screen`]: the cards and who holds them
//! - [`record`]: what hostd has on record about them; `hostd.safe`
//! - [`memory`], [`processor`]: what the guest gets
//! - [`vms`]: VMs, and what has changed since they last ran

pub mod cards;
pub mod check;
pub mod cmdline;
pub mod kernel;
pub mod kvm;
pub mod memory;
pub mod processor;
pub mod record;
pub mod scope;
pub mod screen;
pub mod vfio;
pub mod vms;

#[cfg(test)]
pub(crate) mod tests;

use crate::ask::view::DoctorView;
use crate::config::Config;
use crate::host::Host;
use crate::passthrough::Claim;
use crate::passthrough::screen::Screen;
use crate::pci;
use check::{Check, Id};
use scope::Scope;

/// What the doctor is asked about.
#[derive(Debug, Clone)]
pub struct Question {
    /// What is configured.
    pub config: Config,
    /// Who has which card.
    pub claims: Vec<Claim>,
    /// What is wrong with the configuration, in words.
    pub wrong: Option<String>,
    /// Whether we are hostd, whose limits QEMU inherits.
    pub daemon: bool,
    /// Open the devices of free cards, which resets them.
    pub probe: bool,
    /// A card is being changed at this moment: no group may be opened, for
    /// groups open once, and who changes it may be about to.
    pub changing: bool,
}

/// What can be read without waiting for anybody.
struct Quiet {
    facts: pci::Facts,
    scope: Scope,
    kernel: kernel::Facts,
    cmdline: cmdline::Facts,
    holding: Vec<cards::Holding>,
    record: record::Facts,
    screen: Vec<Screen>,
    memory: memory::Facts,
    processor: processor::Facts,
}

fn look(host: &Host, question: &Question) -> Quiet {
    let sys = &host.sys;
    let facts = pci::read(sys, &mut pci::Names::default());
    let scope = Scope::new(&question.config, &facts, &question.claims);
    Quiet {
        kernel: kernel::read(sys, &scope, facts.groups.len(), facts.absence.clone()),
        cmdline: cmdline::read(sys),
        holding: cards::read(sys, &scope),
        record: record::read(host, &scope, question.changing),
        screen: screen::read(sys, &scope),
        memory: memory::read(host, &scope, question.daemon),
        processor: processor::read(sys),
        facts,
        scope,
    }
}

/// Looks at everything and judges it. `still` is what keeps the cards as they
/// are, let go once groups and devices are closed again.
pub async fn examine(host: &Host, question: Question, still: impl Send) -> DoctorView {
    let (machine, asked) = (host.clone(), question.clone());
    // Away from the runtime's threads: there are many small files.
    let looked = tokio::task::spawn_blocking(move || look(&machine, &asked)).await;
    let Ok(quiet) = looked else {
        let why = "looking at the machine ended early";
        let check = Check::unknown(Id::Iommu, why, "look into the log of hostd");
        return DoctorView { checks: vec![check.into()], notes: Vec::new() };
    };
    let scope = &quiet.scope;
    let (kvm, vfio, vms) = tokio::join!(
        kvm::read(host),
        async {
            let seen = vfio::read(host, scope, question.probe, question.changing).await;
            drop(still);
            seen
        },
        vms::read(host, scope)
    );
    let mut checks = vec![configuration(&question)];
    checks.extend(kernel::judge(&quiet.kernel, scope));
    checks.extend(cmdline::judge(&quiet.cmdline));
    checks.push(record::safe_mode(quiet.cmdline.running.as_deref(), scope));
    checks.extend(kvm::judge(&kvm, scope));
    checks.extend(vfio::judge(&vfio, scope));
    checks.extend(cards::judge(&quiet.facts, &quiet.holding, scope, &question.config.quirks));
    checks.extend(record::judge(&quiet.record, scope));
    checks.extend(screen::judge(&quiet.screen, scope));
    checks.extend(memory::judge(&quiet.memory, scope));
    checks.extend(processor::judge(&quiet.processor, scope));
    checks.extend(vms::judge(&vms, scope, host.clock.now()));
    // By kind, and by card or VM where there are several of a kind.
    checks.sort_by_key(|check| check.id);
    let mut notes = notes(scope);
    notes.extend(quiet.facts.notes);
    DoctorView { checks: checks.into_iter().map(Into::into).collect(), notes }
}

fn configuration(question: &Question) -> Check {
    let id = Id::Configuration;
    if let Some(why) = &question.wrong {
        return Check::critical(id, why, "hostctl config check");
    }
    let Config { gpus, vms, .. } = &question.config;
    Check::ok(id, format!("{} cards, {} VMs", gpus.len(), vms.len()))
}

fn notes(scope: &Scope) -> Vec<String> {
    let note = match (scope.wanted, scope.cards.is_empty()) {
        (true, _) => return Vec::new(),
        (false, true) => "there is no graphics card here that could be given to a VM",
        (false, false) => {
            "no card is configured: the cards that were found are judged; name one under `gpus:` \
             in host.yaml"
        }
    };
    vec![note.to_owned()]
}
