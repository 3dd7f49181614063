//! lab-agent: runs commands inside the lab for whoever holds the other end of
//! a virtio-serial port.
//!
//! - `main.rs`  finds the ports; with `--init` also process 1 of the fast tier
//! - `port.rs`  one conversation: frames in, jobs started, fed and ended
//! - `job.rs`   one command, in a process group of its own, with a deadline
//! - `init.rs`  process 1: starts the agent, reaps what others leave behind
//!
//! It does nothing on its own and listens to nothing else. As little as
//! possible may go wrong in it: each port, and each job on it, has its threads,
//! and an error becomes a message to the host or a line on the console.

mod init;
mod job;
mod port;

use hostd_lab::wire;
use std::{fs, path::PathBuf, time::Duration};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--init") {
        init::run();
    }
    let threads: Vec<_> = (0..wire::PORTS)
        .map(|number| {
            std::thread::spawn(move || {
                let path = find(&format!("hostd.lab.{number}"));
                port::serve(&path);
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
    // Only a panic leads here; whoever started the agent starts it again.
    eprintln!("lab-agent: every port has ended");
    std::process::exit(1);
}

/// The device of a virtio-serial port, by its name in sysfs: udev's links in
/// /dev/virtio-ports do not exist early, and in the fast tier not at all.
fn find(name: &str) -> PathBuf {
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if found.trim() == name {
                return PathBuf::from("/dev").join(entry.file_name());
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
