//! KVM: whether it is there, and whether it really runs a guest.

use crate::base::with_sources;
use std::time::Duration;

use super::check::{Check, Id};
use super::scope::Scope;
use crate::config::Accel;
use crate::host::kvm::{Look, Opens, Outcome, VERB};
use crate::host::{Command, Host};
use crate::passthrough::helper::OURSELVES;

/// A guest of a few instructions runs in a millisecond; an answer has to come
/// before whoever asks for it gives up.
const DEADLINE: Duration = Duration::from_secs(6);
/// More than any answer is long.
const LIMIT: usize = 1 << 20;

/// What there is to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What was seen, or why nothing was.
    pub look: Result<Look, Unseen>,
    /// Whether the processor says that it can: `svm` or `vmx`.
    pub processor: bool,
    /// Whether this machine is itself a guest.
    pub guest: bool,
}

/// Why nothing was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseen {
    /// These are another machine's files; whether it has a `/dev/kvm`.
    Elsewhere {
        /// The file is there.
        device: bool,
    },
    /// The process that looks failed, or did not come back.
    Failed(String),
}

/// Reads it, in a process of its own.
pub async fn read(host: &Host) -> Facts {
    let cpuinfo = host.sys.text("/proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_ascii_whitespace().any(|word| word == flag);
    let look = if host.sys.is_real() {
        look(host).await
    } else {
        Err(Unseen::Elsewhere { device: host.sys.exists("/dev/kvm") })
    };
    Facts { look, processor: has("svm") || has("vmx"), guest: has("hypervisor") }
}

async fn look(host: &Host) -> Result<Look, Unseen> {
    let mut command = Command::new(OURSELVES, [VERB]).deadline(DEADLINE);
    command.limit = LIMIT;
    let said = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    let said = said.map_err(|error| Unseen::Failed(with_sources(&error)))?;
    serde_json::from_slice(&said)
        .map_err(|error| Unseen::Failed(format!("its answer makes no sense: {error}")))
}

const FIRMWARE: &str = "turn on virtualization (SVM on AMD, VT-x on Intel) in the firmware setup, \
                        then: modprobe -a kvm_amd kvm_intel";
const NESTED: &str = "this machine is itself a guest: give it the host's processor with nested \
                      virtualization (kvm_amd or kvm_intel with nested=1, `-cpu host`), or use \
                      `accel: tcg` in the VM's file, which is slow";
const BROKEN: &str = "look into `dmesg | grep -i kvm`; update the kernel, microcode and firmware; \
                      until it runs, use `accel: tcg` in the VM's file, which is slow";
const ROOT: &str = "run it as root, or ask the daemon: systemctl start hostd";

/// The checks.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    // A VM that names no acceleration gets KVM, where there is one.
    let wanted = scope.wanted || scope.vms.iter().any(|vm| vm.accel == Accel::Kvm);
    match &facts.look {
        Err(Unseen::Elsewhere { device: true }) => vec![
            Check::ok(Id::KvmDevice, "the file is there"),
            Check::unknown(Id::KvmRun, "only the running machine can be tried", ""),
        ],
        Err(Unseen::Elsewhere { device: false }) | Ok(Look::Missing) => {
            vec![missing(facts).only_if(wanted)]
        }
        Err(Unseen::Failed(why)) => vec![Check::critical(
            Id::KvmRun,
            format!("trying it did not come to an end: {why}"),
            BROKEN,
        )],
        Ok(Look::Denied) => {
            vec![Check::unknown(Id::KvmDevice, "permission denied (needs root)", ROOT)]
        }
        Ok(Look::Broken { why }) => {
            let seen = format!("it does not open: {why}");
            vec![Check::critical(Id::KvmDevice, seen, fix(facts)).only_if(wanted)]
        }
        Ok(Look::Opens(opens)) => {
            let mut checks = vec![
                Check::ok(Id::KvmDevice, format!("opens, interface version {}", opens.api)),
                run(facts, opens),
                capabilities(opens, wanted),
            ];
            checks.extend(
                scope
                    .vms
                    .iter()
                    .filter(|vm| vm.accel == Accel::Kvm)
                    .map(|vm| vcpus(opens, u64::from(vm.cpus)).of(vm.name.to_string())),
            );
            checks
        }
    }
}

fn fix(facts: &Facts) -> &'static str {
    match (facts.guest, facts.processor) {
        (true, _) => NESTED,
        (false, true) => "modprobe -a kvm_amd kvm_intel; if that fails, `dmesg | grep -i kvm`",
        (false, false) => FIRMWARE,
    }
}

fn missing(facts: &Facts) -> Check {
    let why = if facts.processor {
        "there is none, although the processor offers virtualization"
    } else {
        "there is none, and the processor offers no virtualization"
    };
    Check::critical(Id::KvmDevice, why, fix(facts))
}

fn run(facts: &Facts, opens: &Opens) -> Check {
    let (mut ran, mut failed, mut without) = (Vec::new(), Vec::new(), Vec::new());
    for trial in &opens.trials {
        let name = trial.name.as_str();
        match &trial.outcome {
            Outcome::Ran => ran.push(name),
            Outcome::Failed { why } => failed.push(format!("the {name} guest: {why}")),
            Outcome::NotOffered => without.push(name),
        }
    }
    let not_offered = if without.is_empty() {
        String::new()
    } else {
        format!("; not offered to guests: {}", without.join(", "))
    };
    if !failed.is_empty() {
        let seen =
            format!("it opens, and does not run a guest: {}{not_offered}", failed.join("; "));
        let fix = if facts.guest { NESTED } else { BROKEN };
        return Check::critical(Id::KvmRun, seen, fix);
    }
    if ran.is_empty() {
        return Check::unknown(Id::KvmRun, "no guest was tried", "");
    }
    let seen = format!("guests ran to their end: {}{not_offered}", ran.join(", "));
    if without.is_empty() {
        Check::ok(Id::KvmRun, seen)
    } else {
        // Windows and games of today expect them.
        Check::warning(
            Id::KvmRun,
            seen,
            "nothing where the processor has none; otherwise look for `clearcpuid=` and `noxsave` \
             on the kernel command line",
        )
    }
}

/// Capabilities without which no VM with UEFI firmware and a card runs.
const NEEDED: [&str; 8] = [
    "USER_MEMORY",
    "IRQCHIP",
    "EXT_CPUID",
    "READONLY_MEM",
    "IRQ_ROUTING",
    "IRQFD",
    "IOEVENTFD",
    "DEVICE_CTRL",
];

/// Those that Windows guests run faster with.
const GOOD: [&str; 5] =
    ["IRQFD_RESAMPLE", "IMMEDIATE_EXIT", "HYPERV", "HYPERV_TIME", "HYPERV_SYNIC2"];

fn capabilities(opens: &Opens, wanted: bool) -> Check {
    let lacks = |names: &[&str]| -> Vec<String> {
        let has = |name: &str| opens.capabilities.get(name).is_some_and(|says| *says > 0);
        names.iter().filter(|name| !has(name)).map(|name| format!("KVM_CAP_{name}")).collect()
    };
    let (needed, good) = (lacks(&NEEDED), lacks(&GOOD));
    if opens.api != 12 {
        let seen = format!("its interface is version {} and not 12", opens.api);
        return Check::critical(Id::KvmCapabilities, seen, BROKEN).only_if(wanted);
    }
    if !needed.is_empty() {
        let seen = format!("missing, and needed: {}", needed.join(", "));
        return Check::critical(Id::KvmCapabilities, seen, BROKEN).only_if(wanted);
    }
    if !good.is_empty() {
        let seen = format!("missing: {}; Windows guests will be slower", good.join(", "));
        return Check::warning(Id::KvmCapabilities, seen, "use the distribution's kernel");
    }
    Check::ok(Id::KvmCapabilities, format!("all {} are there", NEEDED.len() + GOOD.len()))
}

fn vcpus(opens: &Opens, cpus: u64) -> Check {
    let seen =
        format!("{cpus} of at most {} (recommended: up to {})", opens.max_vcpus, opens.vcpus);
    if cpus > opens.max_vcpus {
        Check::critical(Id::KvmVcpus, seen, format!("cpus: {} in the VM's file", opens.vcpus))
    } else if cpus > opens.vcpus {
        // The kernel recommends as many as there are processors.
        Check::warning(Id::KvmVcpus, seen, format!("cpus: {} in the VM's file", opens.vcpus))
    } else {
        Check::ok(Id::KvmVcpus, seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{scope, status};
    use crate::host::kvm::Trial;

    fn opens() -> Opens {
        let trial = |name: &str| Trial { name: name.to_owned(), outcome: Outcome::Ran };
        Opens {
            api: 12,
            vcpus: 16,
            max_vcpus: 1024,
            capabilities: NEEDED.iter().chain(&GOOD).map(|name| ((*name).to_owned(), 1)).collect(),
            trials: ["64-bit", "BMI2", "AVX", "AVX2"].map(trial).to_vec(),
        }
    }

    fn facts(look: Result<Look, Unseen>) -> Facts {
        Facts { look, processor: true, guest: false }
    }

    fn opened(change: impl FnOnce(&mut Opens)) -> Vec<Check> {
        let mut opens = opens();
        change(&mut opens);
        judge(&facts(Ok(Look::Opens(opens))), &scope())
    }

    #[test]
    fn one_that_runs_guests_is_fine() {
        for check in opened(|_| {}) {
            assert_eq!(check.status, Severity::Ok, "{check:?}");
        }
    }

    #[test]
    fn one_that_opens_and_dies_is_critical_whoever_asks() {
        let dead = |opens: &mut Opens| {
            let why = "it died with KVM_EXIT_INTERNAL_ERROR".to_owned();
            opens.trials[1].outcome = Outcome::Failed { why };
        };
        let mut dying = opens();
        dead(&mut dying);
        let facts = facts(Ok(Look::Opens(dying)));
        for scope in [scope(), Scope::default()] {
            let checks = judge(&facts, &scope);
            assert_eq!(status(&checks, Id::KvmDevice), Severity::Ok);
            let run = checks.iter().find(|check| check.id == Id::KvmRun).unwrap();
            assert_eq!(run.status, Severity::Critical);
            assert!(run.evidence.contains("the BMI2 guest: it died with KVM_EXIT"), "{run:?}");
            assert!(run.fix.contains("dmesg"), "{run:?}");
        }
        let nested = Facts { guest: true, ..facts };
        assert!(judge(&nested, &scope())[1].fix.contains("nested"));
    }

    #[test]
    fn what_was_not_seen_is_not_fine() {
        let stuck = facts(Err(Unseen::Failed("it hangs in the kernel".into())));
        assert_eq!(status(&judge(&stuck, &scope()), Id::KvmRun), Severity::Critical);
        let elsewhere = facts(Err(Unseen::Elsewhere { device: true }));
        assert_eq!(status(&judge(&elsewhere, &scope()), Id::KvmRun), Severity::Unknown);
        let denied = facts(Ok(Look::Denied));
        assert_eq!(status(&judge(&denied, &scope()), Id::KvmDevice), Severity::Unknown);
        assert_eq!(status(&opened(|kvm| kvm.trials.clear()), Id::KvmRun), Severity::Unknown);
    }

    #[test]
    fn a_missing_one_is_as_bad_as_it_is_wanted() {
        let none = facts(Ok(Look::Missing));
        assert_eq!(status(&judge(&none, &scope()), Id::KvmDevice), Severity::Critical);
        assert_eq!(status(&judge(&none, &Scope::default()), Id::KvmDevice), Severity::Warning);
        let off = Facts { processor: false, ..none };
        assert!(judge(&off, &scope())[0].fix.contains("firmware setup"));
    }

    #[test]
    fn less_than_all_is_said() {
        let lacks = |name: &'static str| {
            opened(move |kvm| {
                kvm.capabilities.remove(name);
            })
        };
        assert_eq!(status(&lacks("READONLY_MEM"), Id::KvmCapabilities), Severity::Critical);
        assert_eq!(status(&lacks("HYPERV"), Id::KvmCapabilities), Severity::Warning);
        let plain = opened(|kvm| kvm.trials[3].outcome = Outcome::NotOffered);
        assert_eq!(status(&plain, Id::KvmRun), Severity::Warning);
        let few = opened(|kvm| kvm.vcpus = 1);
        assert_eq!(status(&few, Id::KvmVcpus), Severity::Warning);
        let none = opened(|kvm| (kvm.vcpus, kvm.max_vcpus) = (1, 1));
        assert_eq!(status(&none, Id::KvmVcpus), Severity::Critical);
    }

    #[tokio::test]
    async fn the_helpers_answer_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let fake = crate::host::fake::FakeHost::new(dir.path());
        let host = fake.host();
        assert!(matches!(look(&host).await, Err(Unseen::Failed(_))));
        fake.runner.says("/proc/self/exe --kvm-look", "{\"kvm\":\"dancing\"}");
        assert!(matches!(look(&host).await, Err(Unseen::Failed(_))));
        fake.runner.says("/proc/self/exe --kvm-look", "{\"kvm\":\"missing\"}");
        assert_eq!(look(&host).await, Ok(Look::Missing));
        assert_eq!(read(&host).await.look, Err(Unseen::Elsewhere { device: false }));
    }
}
