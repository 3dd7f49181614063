//! A test in a process of its own: for what belongs to a whole process, as open
//! files and mounts do.

use std::process::Command;

/// What tells a test that it is the one inside.
const INSIDE: &str = "HOSTD_TEST_INSIDE";

/// What of the machine a test has for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Its process.
    Process,
    /// Mounts and network too, for which it has to be root.
    Namespaces,
}

/// True in the process of its own; outside of it, begins that with the test of
/// this name in it, and asserts that it passes.
pub fn alone(test: &str, own: Own) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if own == Own::Namespaces && !hostd::host::users::is_root() {
        eprintln!("skipped: only root has namespaces of its own");
        return false;
    }
    let ourselves = std::env::current_exe().unwrap();
    let mut command = match own {
        Own::Process => Command::new(ourselves),
        Own::Namespaces => {
            let mut unshare = Command::new("unshare");
            unshare.args(["--mount", "--net"]).arg(ourselves);
            unshare
        }
    };
    let ended = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status();
    assert!(ended.unwrap().success(), "{test} has failed inside; what it said is above");
    false
}

/// A command that must succeed: of the machine's own tools.
pub fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {args:?}: {status}");
}
