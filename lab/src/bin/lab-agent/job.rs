//! One command of the host: its process group, its pipes or terminal, its
//! deadline.
//!
//! A command that leaves something running in the background has ended when
//! its shell has: what the rest still writes is read and thrown away, so that
//! it neither blocks nor dies of a closed pipe. A command past its deadline is
//! killed with its whole process group.

use crate::port::Sender;
use hostd_lab::wire::{CHUNK, FromAgent};
use rustix::{
    process::{Pid, Signal, kill_process_group},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::{ffi::OsStrExt, process::CommandExt, process::ExitStatusExt},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// After the shell has ended, its output is waited for as long as some comes
/// at least this often.
const QUIET: Duration = Duration::from_millis(300);
/// Input that a command has not read yet; beyond it, the reading of frames
/// waits.
const INPUT: usize = 64;

pub struct Job {
    group: Pid,
    input: Option<mpsc::SyncSender<Vec<u8>>>,
    terminal: Option<File>,
    ended: Arc<AtomicBool>,
}

enum Progress {
    Some,
    End,
}

impl Job {
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub fn kill(&self) {
        // Once the leader is reaped its number may belong to somebody else.
        if !self.ended() {
            let _ = kill_process_group(self.group, Signal::KILL);
        }
    }

    pub fn feed(&mut self, bytes: Vec<u8>) {
        // A command that has closed its input does not want the rest.
        if self.input.as_ref().is_some_and(|input| input.send(bytes).is_err()) {
            self.input = None;
        }
    }

    pub fn end_input(&mut self) {
        self.input = None;
    }

    pub fn resize(&self, rows: u16, cols: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = tcsetwinsize(terminal, winsize(rows, cols));
        }
    }
}

pub fn run(
    id: u64,
    command: &str,
    env: &BTreeMap<String, String>,
    deadline: Duration,
    sender: &Sender,
) -> io::Result<Job> {
    let mut child = shell(command)
        .envs(env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let input = child.stdin.take().map(feeder);
    let (tell, progress) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    if let Some(pipe) = child.stdout.take() {
        forward(id, 1, pipe, sender, &tell, &done);
    }
    if let Some(pipe) = child.stderr.take() {
        forward(id, 2, pipe, sender, &tell, &done);
    }
    drop(tell);
    watch(id, child, Some(deadline), input, None, progress, done, sender)
}

pub fn terminal(
    id: u64,
    command: &str,
    term: &str,
    (rows, cols): (u16, u16),
    sender: &Sender,
) -> io::Result<Job> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    tcsetwinsize(&master, winsize(rows, cols))?;
    let slave =
        OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.to_bytes()))?;
    let mut shell = shell(command);
    shell.env("TERM", term).stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let own_terminal = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: between fork and exec only two system calls are made.
    unsafe { shell.pre_exec(own_terminal) };
    let child = shell.spawn()?;
    // The command holds copies of the slave; with ours the end never came.
    drop(shell);
    let master = File::from(master);
    let input = feeder(master.try_clone()?);
    let (tell, progress) = mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    forward(id, 1, master.try_clone()?, sender, &tell, &done);
    drop(tell);
    watch(id, child, None, Some(input), Some(master), progress, done, sender)
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(command)
        .current_dir("/")
        .env("HOME", "/root")
        .env("LANG", "C.UTF-8")
        .env("PATH", "/payload:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    shell
}

fn winsize(rows: u16, cols: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}

fn feeder(mut pipe: impl Write + Send + 'static) -> mpsc::SyncSender<Vec<u8>> {
    let (sender, receiver) = mpsc::sync_channel::<Vec<u8>>(INPUT);
    thread::spawn(move || {
        for bytes in receiver {
            if pipe.write_all(&bytes).is_err() {
                break;
            }
        }
    });
    sender
}

fn forward(
    id: u64,
    stream: u8,
    mut pipe: impl Read + Send + 'static,
    sender: &Sender,
    tell: &mpsc::Sender<Progress>,
    done: &Arc<AtomicBool>,
) {
    let (sender, tell, done) = (sender.clone(), tell.clone(), done.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            match pipe.read(&mut buffer) {
                // A terminal whose last process has gone reads as an error.
                Ok(0) | Err(_) => break,
                Ok(_) if done.load(Ordering::Acquire) => {}
                Ok(length) => {
                    sender.send(&FromAgent::Out { id, stream }, &buffer[..length]);
                    let _ = tell.send(Progress::Some);
                }
            }
        }
        let _ = tell.send(Progress::End);
    });
}

#[allow(clippy::too_many_arguments)] // the parts of a job, given once each
fn watch(
    id: u64,
    mut child: Child,
    deadline: Option<Duration>,
    input: Option<mpsc::SyncSender<Vec<u8>>>,
    terminal: Option<File>,
    progress: mpsc::Receiver<Progress>,
    done: Arc<AtomicBool>,
    sender: &Sender,
) -> io::Result<Job> {
    let group = Pid::from_child(&child);
    let streams = if terminal.is_some() { 1 } else { 2 };
    let ended = Arc::new(AtomicBool::new(false));
    let job = Job { group, input, terminal, ended: ended.clone() };
    let sender = sender.clone();
    thread::spawn(move || {
        let expired = deadline.is_some_and(|deadline| !ends_within(&child, deadline));
        if expired {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait();
        ended.store(true, Ordering::Release);
        let mut open = streams;
        while open > 0 {
            match progress.recv_timeout(QUIET) {
                Ok(Progress::Some) => {}
                Ok(Progress::End) => open -= 1,
                Err(_) => break,
            }
        }
        done.store(true, Ordering::Release);
        match status {
            Ok(status) => {
                let (code, signal) = (status.code(), status.signal());
                sender.send(&FromAgent::Exit { id, code, signal, expired }, &[]);
            }
            Err(error) => sender.error(id, format!("waiting for the command: {error}")),
        }
    });
    Ok(job)
}

/// Waits on a pidfd: no polling, and no signal handler in a process with
/// many threads.
fn ends_within(child: &Child, limit: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let Ok(pidfd) =
        rustix::process::pidfd_open(Pid::from_child(child), rustix::process::PidfdFlags::empty())
    else {
        // It can only have ended already.
        return true;
    };
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let timeout =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}
