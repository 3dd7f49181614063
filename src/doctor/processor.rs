//! The processor: its frequency governor, and cores that nobody may use.

use std::collections::BTreeMap;

use super::check::{Check, Id};
use super::scope::Scope;
use crate::host::SysRoot;

/// What there is to judge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// How many policies have which governor.
    pub governors: BTreeMap<String, usize>,
    /// Who sets the frequency: `intel_pstate`, `amd-pstate-epp`, …
    pub driver: Option<String>,
    /// Cores kept from the scheduler, as a list: `2-7`; `None` when it cannot be read.
    pub isolated: Option<String>,
    /// Whether cores have two threads.
    pub threads: Option<bool>,
}

const CPU: &str = "/sys/devices/system/cpu";

/// Reads it all.
pub fn read(sys: &SysRoot) -> Facts {
    let folder = format!("{CPU}/cpufreq");
    let mut facts = Facts {
        isolated: sys.text(format!("{CPU}/isolated")).ok().map(|text| text.trim().to_owned()),
        threads: sys.text(format!("{CPU}/smt/active")).ok().map(|text| text.trim() == "1"),
        ..Facts::default()
    };
    for policy in sys.list(&folder).unwrap_or_default() {
        if !policy.starts_with("policy") {
            continue;
        }
        if let Ok(governor) = sys.text(format!("{folder}/{policy}/scaling_governor")) {
            let governor: String = governor.trim().chars().take(32).collect();
            *facts.governors.entry(governor).or_default() += 1;
        }
        if facts.driver.is_none() {
            let driver = sys.text(format!("{folder}/{policy}/scaling_driver")).ok();
            facts.driver = driver.map(|driver| driver.trim().chars().take(32).collect());
        }
    }
    facts
}

/// The checks.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    let used = scope.wanted || !scope.vms.is_empty();
    vec![governor(facts, used), isolated(facts, used)]
}

fn governor(facts: &Facts, used: bool) -> Check {
    let driver = facts.driver.as_ref().map_or(String::new(), |driver| format!(" ({driver})"));
    let list: Vec<String> =
        facts.governors.iter().map(|(name, count)| format!("{name} on {count}")).collect();
    let seen = format!("{}{driver}", list.join(", "));
    if list.is_empty() {
        return Check::ok(Id::Governor, "none: the kernel does not set frequencies here");
    }
    if !used || facts.governors.keys().all(|name| name == "performance") {
        return Check::ok(Id::Governor, seen);
    }
    Check::warning(
        Id::Governor,
        format!("{seen}: games in a guest may stutter, and their sound crackle"),
        "cpupower frequency-set -g performance (Debian: `apt install linux-cpupower`)",
    )
}

fn isolated(facts: &Facts, used: bool) -> Check {
    let threads = match facts.threads {
        Some(true) => ", two threads a core",
        Some(false) => ", one thread a core",
        None => "",
    };
    match facts.isolated.as_deref() {
        None => Check::unknown(Id::Isolated, format!("{CPU}/isolated cannot be read"), ""),
        Some("") => Check::ok(Id::Isolated, format!("none{threads}")),
        Some(cores) => {
            let cores: String = cores.chars().take(80).collect();
            let check = Check::warning(
                Id::Isolated,
                format!(
                    "{cores}{threads}: nobody runs there, because hostd pins no VM to cores yet"
                ),
                "remove `isolcpus=` from the kernel command line and restart",
            );
            if used { check } else { Check::ok(Id::Isolated, format!("{cores}{threads}")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{scope, status};
    use crate::host::fake::FakeHost;

    #[test]
    fn a_governor_that_saves_power_matters_once_there_are_vms() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let policy = |number: u32, governor: &str| {
            let folder = format!("{CPU}/cpufreq/policy{number}");
            fake.file(&format!("{folder}/scaling_governor"), format!("{governor}\n")).unwrap();
            fake.file(&format!("{folder}/scaling_driver"), "amd-pstate-epp\n").unwrap();
        };
        assert_eq!(status(&judge(&read(&fake.host().sys), &scope()), Id::Governor), Severity::Ok);
        policy(0, "performance");
        policy(1, "powersave");
        let facts = read(&fake.host().sys);
        let checks = judge(&facts, &scope());
        assert_eq!(status(&checks, Id::Governor), Severity::Warning);
        assert!(
            checks[0].evidence.starts_with("performance on 1, powersave on 1 (amd-pstate-epp)")
        );
        assert_eq!(status(&judge(&facts, &Scope::default()), Id::Governor), Severity::Ok);
        policy(1, "performance");
        assert_eq!(status(&judge(&read(&fake.host().sys), &scope()), Id::Governor), Severity::Ok);
    }

    #[test]
    fn isolated_cores_without_a_use_are_said() {
        let with = |isolated: Option<&str>| {
            let facts = Facts { isolated: isolated.map(str::to_owned), ..Facts::default() };
            status(&judge(&facts, &scope()), Id::Isolated)
        };
        assert_eq!(with(Some("")), Severity::Ok);
        assert_eq!(with(Some("2-7")), Severity::Warning);
        assert_eq!(with(None), Severity::Unknown);
    }
}
