//! What hostd itself has to say about the cards: the owner's word against all
//! binding, and the record of each card that is not as the host had it.

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::base::{PciAddress, with_sources};
use crate::host::Host;
use crate::passthrough::PassthroughError;
use crate::passthrough::journal::{Journal, JournalError, Phase, Record, boot_id};
use crate::passthrough::safe;

/// What there is to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The id of this boot: a record of another one is void.
    pub boot: Result<String, String>,
    /// The record of each card, in the scope's order, then those of other slots.
    pub records: Vec<(PciAddress, Result<Option<Record>, Unread>)>,
    /// Why the records of other slots are not known.
    pub unlisted: Option<String>,
    /// Whether a card is being changed at this moment.
    pub changing: bool,
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Why.
    pub why: String,
    /// What to do.
    pub fix: String,
}

const RIGHTS: &str = "run it as root, or ask the daemon: systemctl start hostd";

/// Reads the records.
pub fn read(host: &Host, scope: &Scope, changing: bool) -> Facts {
    let journal = Journal::new(host);
    let (others, unlisted) = match journal.slots() {
        Ok(slots) => (slots, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let mut slots: Vec<PciAddress> = scope.cards.iter().map(|card| card.target.slot).collect();
    for slot in others {
        if !slots.contains(&slot) {
            slots.push(slot);
        }
    }
    let load = |slot| (slot, journal.load(slot).map_err(|error| unread(slot, error)));
    Facts {
        boot: boot_id(&host.sys).map_err(|error| error.to_string()),
        records: slots.into_iter().map(load).collect(),
        unlisted,
        changing,
    }
}

fn unread(slot: PciAddress, error: JournalError) -> Unread {
    let why = with_sources(&error);
    let fix = match error {
        JournalError::Corrupt { .. } => {
            PassthroughError::Journal { gpu: slot.to_string(), source: error }.hint()
        }
        JournalError::Read(_)
        | JournalError::Write(_)
        | JournalError::Encode(_)
        | JournalError::Lost(_) => RIGHTS.to_owned(),
    };
    Unread { why, fix }
}

/// Whether the kernel was told that nothing is to be bound; `running` is its
/// command line.
pub fn safe_mode(running: Option<&str>, scope: &Scope) -> Check {
    let id = Id::SafeMode;
    match running {
        None => Check::unknown(id, "/proc/cmdline cannot be read", ""),
        Some(line) if safe::asks(line) => {
            let seen = format!("{}: no card is bound, at boot or later", safe::WHY);
            Check::critical(id, seen, safe::FIX).only_if(scope.wanted)
        }
        Some(_) => Check::ok(id, format!("{} is not on the kernel command line", safe::WORD)),
    }
}

/// The checks of the records.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    let mut checks = Vec::new();
    for (slot, recorded) in &facts.records {
        let card = scope.cards.iter().find(|card| card.target.slot == *slot);
        let name = match (card, recorded) {
            (Some(card), _) => card.name().to_owned(),
            (None, Ok(Some(record))) => record.gpu.clone(),
            (None, Ok(None) | Err(_)) => slot.to_string(),
        };
        let check = match recorded {
            Err(unread) => Check::unknown(Id::CardRecord, &unread.why, &unread.fix),
            Ok(None) => Check::ok(Id::CardRecord, "hostd has not touched it"),
            Ok(Some(record)) => match &facts.boot {
                Err(why) => {
                    let why = format!("there is a record, but not to be judged: {why}");
                    Check::unknown(Id::CardRecord, why, RIGHTS)
                }
                Ok(boot) if *boot != record.boot => {
                    Check::ok(Id::CardRecord, "the record is of an earlier boot, and void")
                }
                Ok(_) => on_record(record, card, &name, facts.changing),
            },
        };
        checks.push(check.only_if(scope.wanted).of(name));
    }
    if let Some(why) = &facts.unlisted {
        let why = format!("the records cannot be listed: {why}");
        checks.push(Check::unknown(Id::CardRecord, why, RIGHTS));
    }
    checks
}

fn on_record(record: &Record, card: Option<&Card>, name: &str, changing: bool) -> Check {
    let id = Id::CardRecord;
    if !record.wedged.is_empty() {
        let functions: Vec<String> = record.wedged.iter().map(ToString::to_string).collect();
        let seen = format!("a write to {} hangs in the kernel", functions.join(", "));
        let error =
            PassthroughError::Wedged { gpu: name.to_owned(), functions: record.wedged.clone() };
        return Check::critical(id, seen, error.hint());
    }
    let again = format!("hostctl gpu release {name}");
    let step = record.step.as_ref().map_or_else(String::new, |step| format!(": {step}"));
    match record.phase {
        Phase::Binding | Phase::Restoring if changing => {
            Check::unknown(id, format!("it is being changed at this moment{step}"), "ask again")
        }
        Phase::Binding | Phase::Restoring => Check::warning(
            id,
            format!("a change was interrupted{step}"),
            format!("{again} gives it back; hostd does so when it starts"),
        ),
        Phase::Left => {
            let left = match record.problems.as_slice() {
                [] => "nobody has noted what".to_owned(),
                problems => problems.join("; "),
            };
            Check::warning(id, format!("it was not given back whole: {left}"), again)
        }
        Phase::Bound => match card.filter(|card| !card.functions.is_empty() && !card.is_bound()) {
            Some(_) => Check::warning(
                id,
                "hostd has bound it, and not all of it is on vfio-pci any more",
                format!("{again}, then bind it again"),
            ),
            None => Check::ok(id, format!("hostd has bound it for {}", owner(record))),
        },
    }
}

fn owner(record: &Record) -> String {
    match (&record.vm, record.person) {
        (Some(vm), false) => format!("the VM {vm}"),
        (Some(vm), true) => format!("a person, and the VM {vm} has it"),
        (None, true) => "a person".to_owned(),
        (None, false) => "nobody any more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{bound, scope, status};
    use crate::host::fake::FakeHost;
    use crate::passthrough::journal::Shown;

    fn record(phase: Phase) -> Record {
        Record {
            boot: "this".into(),
            gpu: "gaming".into(),
            slot: "01:00.0".parse().unwrap(),
            group: 11,
            phase,
            functions: Vec::new(),
            person: false,
            vm: Some("win".parse().unwrap()),
            step: None,
            wedged: Vec::new(),
            problems: Vec::new(),
            shown: Shown::default(),
        }
    }

    fn with(record: Record, scope: &Scope, changing: bool) -> Check {
        let records = vec![(record.slot, Ok(Some(record)))];
        let facts = Facts { boot: Ok("this".into()), records, unlisted: None, changing };
        judge(&facts, scope).remove(0)
    }

    #[test]
    fn each_phase_is_judged() {
        let is = |phase, scope: &Scope, changing| with(record(phase), scope, changing).status;
        assert_eq!(is(Phase::Bound, &bound(), false), Severity::Ok);
        assert_eq!(is(Phase::Bound, &scope(), false), Severity::Warning, "somebody else took it");
        assert_eq!(is(Phase::Binding, &scope(), false), Severity::Warning);
        assert_eq!(is(Phase::Restoring, &scope(), true), Severity::Unknown);
        let left = Record { problems: vec!["01:00.1 has no driver".into()], ..record(Phase::Left) };
        let found = with(left, &scope(), false);
        assert_eq!((found.status, found.object.as_str()), (Severity::Warning, "gaming"));
        assert!(found.evidence.contains("01:00.1 has no driver"), "{found:?}");
        assert_eq!(found.fix, "hostctl gpu release gaming");
    }

    #[test]
    fn a_wedged_card_is_critical_and_after_a_restart_it_is_void() {
        let wedged = Record { wedged: vec!["01:00.0".parse().unwrap()], ..record(Phase::Left) };
        let found = with(wedged.clone(), &scope(), false);
        assert_eq!(found.status, Severity::Critical);
        assert!(found.evidence.contains("0000:01:00.0 hangs in the kernel"), "{found:?}");
        assert!(found.fix.contains("Restart the machine"), "{found:?}");
        let void = Record { boot: "before".into(), ..wedged };
        assert_eq!(with(void, &scope(), false).status, Severity::Ok);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_unknown() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let host = fake.host();
        let none = judge(&read(&host, &scope(), false), &scope());
        assert_eq!(status(&none, Id::CardRecord), Severity::Ok);
        host.state.write("passthrough/0000:01:00.0.json", "{").unwrap();
        let corrupt = judge(&read(&host, &scope(), false), &scope());
        assert_eq!(status(&corrupt, Id::CardRecord), Severity::Unknown);
        assert!(corrupt[0].fix.contains("then remove"), "{corrupt:?}");
        // One of a card that nobody has configured is not lost.
        let other =
            Record { slot: "02:00.0".parse().unwrap(), gpu: "x".into(), ..record(Phase::Left) };
        let text = serde_json::to_string(&other).unwrap();
        host.state.write("passthrough/0000:02:00.0.json", &text).unwrap();
        let both = judge(&read(&host, &scope(), false), &scope());
        assert_eq!((both.len(), both[1].object.as_str()), (2, "x"));
        // Without this boot's id nobody knows whether it is void.
        assert_eq!(both[1].status, Severity::Unknown);
        fake.file("/proc/sys/kernel/random/boot_id", "this\n").unwrap();
        let both = judge(&read(&host, &scope(), false), &scope());
        assert_eq!(both[1].status, Severity::Warning);
    }

    #[test]
    fn records_that_cannot_be_listed_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        host.state.write("passthrough", "a file").unwrap();
        let found = judge(&read(&host, &Scope::default(), false), &Scope::default());
        assert_eq!(status(&found, Id::CardRecord), Severity::Unknown);
    }

    #[test]
    fn safe_mode_matters_where_a_card_is_configured() {
        let none = Scope::default();
        let on = Some("quiet hostd.safe");
        assert_eq!(safe_mode(on, &scope()).status, Severity::Critical);
        assert_eq!(safe_mode(on, &none).status, Severity::Warning);
        assert_eq!(safe_mode(Some("quiet hostd.safe=0"), &scope()).status, Severity::Ok);
        assert_eq!(safe_mode(None, &scope()).status, Severity::Unknown);
    }
}
