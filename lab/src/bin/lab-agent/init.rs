//! Process 1 of the fast tier: keeps the agent and a shell on the console
//! running and reaps everything else.

use rustix::process::{WaitOptions, wait};
use std::{
    fs::OpenOptions,
    os::unix::process::CommandExt,
    process::{Child, Command},
    thread::sleep,
    time::Duration,
};

pub fn run() -> ! {
    let mut agent = start_agent();
    let mut shell = None;
    loop {
        if agent.is_none() {
            sleep(Duration::from_millis(200));
            agent = start_agent();
        }
        if shell.is_none() {
            shell = start_shell();
        }
        // `wait` blocks until some child ends; the agent is always one.
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) => {
                let ended = |child: &Option<Child>| {
                    child
                        .as_ref()
                        .is_some_and(|child| child.id() == pid.as_raw_nonzero().get() as u32)
                };
                if ended(&agent) {
                    eprintln!("lab-agent: ended; starting it again");
                    agent = None;
                } else if ended(&shell) {
                    // Not a loop at full speed when the console is unusable.
                    sleep(Duration::from_millis(200));
                    shell = None;
                }
            }
            Ok(None) => {}
            Err(_) => sleep(Duration::from_millis(200)),
        }
    }
}

fn start_agent() -> Option<Child> {
    Command::new("/proc/self/exe")
        .spawn()
        .map_err(|error| eprintln!("lab-agent: cannot start the agent: {error}"))
        .ok()
}

/// A shell for a person on the serial console.
fn start_shell() -> Option<Child> {
    let console = OpenOptions::new().read(true).write(true).open("/dev/ttyS0").ok()?;
    let mut command = Command::new("/bin/sh");
    command
        .env("PS1", "lab# ")
        .current_dir("/")
        .stdin(console.try_clone().ok()?)
        .stdout(console.try_clone().ok()?)
        .stderr(console);
    let own_terminal = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec only two system calls are made.
    unsafe { command.pre_exec(own_terminal) };
    command.spawn().ok()
}
