//! hostd as a process: what is its own and not the daemon's: log, arguments,
//! configuration.
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// hostd with its folders below `dir`, on a machine without anything.
fn hostd(dir: &Path) -> Command {
    fs::create_dir_all(dir.join("machine")).expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hostd"));
    for (option, folder) in
        [("--sysroot", "machine"), ("--state-dir", "state"), ("--runtime-dir", "run")]
    {
        command.arg(option).arg(dir.join(folder));
    }
    command.arg("--config").arg(dir.join("host.yaml"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A running hostd, ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until somebody answers; the exit code.
fn asked(dir: &Path, words: &[&str]) -> Option<i32> {
    for _ in 0..100 {
        let mut hostctl = Command::new(env!("CARGO_BIN_EXE_hostctl"));
        hostctl.arg("--socket").arg(dir.join("run/control.sock")).args(words);
        let code = hostctl.output().expect("hostctl runs").status.code();
        if code != Some(4) {
            return code;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

#[test]
fn a_log_that_cannot_be_written_is_not_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = "events: {tcp: off, udp: off, websocket: off}\nweb: {listen: off}\n";
    fs::write(dir.path().join("host.yaml"), config).expect("written");
    let full = File::options().write(true).open("/dev/full").expect("a full device");
    let mut running = Running(hostd(dir.path()).stderr(full).spawn().expect("hostd runs"));
    assert_eq!(asked(dir.path(), &["vm", "list"]), Some(0));
    assert_eq!(running.0.try_wait().expect("a child"), None, "it has ended");
}

#[test]
fn a_file_that_does_not_exist_is_said() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let to = File::create(&log).expect("a log");
    let _running = Running(hostd(dir.path()).stderr(to).spawn().expect("hostd runs"));
    assert_eq!(asked(dir.path(), &["vm", "list"]), Some(0));
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("host.yaml does not exist: watching what is found"), "{log}");
}

/// Waits until the log says so.
fn logged(log: &Path, words: &str) -> bool {
    (0..100).any(|_| {
        let found = fs::read_to_string(log).is_ok_and(|log| log.contains(words));
        if !found {
            std::thread::sleep(Duration::from_millis(100));
        }
        found
    })
}

#[test]
fn a_changed_configuration_is_taken_over_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let (file, log) = (dir.path().join("host.yaml"), dir.path().join("log"));
    let write = |streams: &str| {
        let text = format!("events: {{tcp: off, udp: off}}\nstreams:\n{streams}");
        fs::write(&file, text).expect("written");
    };
    write("  - index\n  - counter:\n    do: [log]\n");
    let to = File::create(&log).expect("a log");
    let mut running = Running(hostd(dir.path()).stderr(to).spawn().expect("hostd runs"));
    assert_eq!(asked(dir.path(), &["vm", "list"]), Some(0));
    let pid = rustix::process::Pid::from_child(&running.0);
    let hang_up = || {
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("a signal");
    };
    // hostd's own events go through the streams.
    assert!(logged(&log, "event: "), "nothing comes out of the streams");

    write("  - indx\n");
    hang_up();
    assert!(logged(&log, "there is no step `indx`"));
    assert_eq!(running.0.try_wait().expect("a child"), None, "it has ended");

    write("  - index\n  - counter:\n    do: [index]\n");
    hang_up();
    assert!(logged(&log, "streams are reloaded: 2 steps go on, 1 begin"));
    assert_eq!(asked(dir.path(), &["vm", "list"]), Some(0));
}
