//! One virtio-serial port: reads frames, starts jobs and hands them what is
//! theirs, writes what they say.

use crate::job::{self, Job};
use hostd_lab::wire::{self, Decoder, FromAgent, ToAgent};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The way out, shared by all jobs of a port. A write blocks while no host
/// listens, which is the back pressure that bounds everything here.
#[derive(Clone)]
pub struct Sender(Arc<Mutex<File>>);

impl Sender {
    pub fn send(&self, message: &FromAgent, body: &[u8]) {
        let result = wire::encode(message, body).and_then(|frame| {
            let mut port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(port.write_all(&frame)?)
        });
        if let Err(error) = result {
            eprintln!("lab-agent: cannot answer: {error:#}");
        }
    }

    pub fn error(&self, id: u64, error: impl std::fmt::Display) {
        let mut message = error.to_string();
        message.truncate(message.floor_char_boundary(4096));
        self.send(&FromAgent::Error { id, message }, &[]);
    }
}

/// A file on its way in; it gets its name when it is whole.
struct Incoming {
    file: File,
    part: PathBuf,
    path: PathBuf,
    mode: u32,
}

struct Conversation {
    sender: Sender,
    jobs: HashMap<u64, Job>,
    files: HashMap<u64, Incoming>,
}

pub fn serve(device: &Path) {
    let (mut port, sender) = loop {
        let opened = OpenOptions::new().read(true).write(true).open(device);
        match opened.and_then(|port| Ok((port.try_clone()?, port))) {
            Ok((port, clone)) => break (port, Sender(Arc::new(Mutex::new(clone)))),
            Err(error) => {
                eprintln!("lab-agent: cannot open {}: {error}", device.display());
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    };
    let mut decoder = Decoder::default();
    let mut talk = Conversation { sender, jobs: HashMap::new(), files: HashMap::new() };
    let mut buffer = vec![0; wire::CHUNK];
    loop {
        match port.read(&mut buffer) {
            Ok(0) => {
                // No host. Its frame, if one had begun, will not be continued.
                decoder.reset();
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(length) => {
                decoder.push(&buffer[..length]);
                while let Some(frame) = decoder.next::<ToAgent>() {
                    match frame {
                        Ok((message, body)) => talk.handle(message, body),
                        Err(error) => eprintln!("lab-agent: {error:#}"),
                    }
                }
            }
            Err(error) => {
                eprintln!("lab-agent: reading {}: {error}", device.display());
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

impl Conversation {
    fn handle(&mut self, message: ToAgent, body: Vec<u8>) {
        self.jobs.retain(|_, job| !job.ended());
        match message {
            ToAgent::Hello { session } => {
                self.jobs.drain().for_each(|(_, job)| job.kill());
                self.files.drain().for_each(|(_, file)| drop(fs::remove_file(file.part)));
                let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
                let boot_id = boot_id.trim().to_owned();
                self.sender.send(&FromAgent::Hello { session, boot_id }, &[]);
            }
            ToAgent::Ping { id } => self.sender.send(&FromAgent::Pong { id }, &[]),
            ToAgent::Run { id, command, env, deadline_ms } => {
                let deadline = Duration::from_millis(deadline_ms);
                self.start(id, job::run(id, &command, &env, deadline, &self.sender));
            }
            ToAgent::Terminal { id, command, term, rows, cols } => {
                self.start(id, job::terminal(id, &command, &term, (rows, cols), &self.sender));
            }
            ToAgent::Resize { id, rows, cols } => {
                if let Some(job) = self.jobs.get(&id) {
                    job.resize(rows, cols);
                }
            }
            ToAgent::Data { id } => self.data(id, body),
            ToAgent::End { id } => self.end(id),
            ToAgent::Kill { id } => {
                if let Some(job) = self.jobs.get(&id) {
                    job.kill();
                }
            }
            ToAgent::Push { id, path, mode } => match incoming(&path, mode) {
                Ok(file) => drop(self.files.insert(id, file)),
                Err(error) => self.sender.error(id, format!("cannot write {path}: {error:#}")),
            },
            ToAgent::Pull { id, path } => {
                let sender = self.sender.clone();
                std::thread::spawn(move || {
                    if let Err(error) = pull(id, &path, &sender) {
                        sender.error(id, format!("cannot read {path}: {error:#}"));
                    }
                });
            }
        }
    }

    fn start(&mut self, id: u64, job: std::io::Result<Job>) {
        match job {
            Ok(job) => drop(self.jobs.insert(id, job)),
            Err(error) => self.sender.error(id, format!("cannot start /bin/sh: {error}")),
        }
    }

    fn data(&mut self, id: u64, body: Vec<u8>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.feed(body);
        } else if let Some(incoming) = self.files.get_mut(&id)
            && let Err(error) = incoming.file.write_all(&body)
            && let Some(incoming) = self.files.remove(&id)
        {
            drop(fs::remove_file(&incoming.part));
            self.sender.error(id, format!("cannot write {}: {error}", incoming.path.display()));
        }
    }

    fn end(&mut self, id: u64) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.end_input();
        } else if let Some(Incoming { file, part, path, mode }) = self.files.remove(&id) {
            drop(file);
            let placed = fs::set_permissions(&part, fs::Permissions::from_mode(mode & 0o7777))
                .and_then(|()| fs::rename(&part, &path));
            match placed {
                Ok(()) => self.sender.send(&FromAgent::Done { id, mode }, &[]),
                Err(error) => self.sender.error(id, format!("cannot place {}: {error}", path.display())),
            }
        }
    }
}

fn incoming(path: &str, mode: u32) -> anyhow::Result<Incoming> {
    wire::check_path(path)?;
    let path = PathBuf::from(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut part = path.clone().into_os_string();
    part.push(".lab-part");
    let part = PathBuf::from(part);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    Ok(Incoming { file, part, path, mode })
}

fn pull(id: u64, path: &str, sender: &Sender) -> anyhow::Result<()> {
    wire::check_path(path)?;
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut buffer = vec![0; wire::CHUNK];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        sender.send(&FromAgent::Data { id }, &buffer[..length]);
    }
    sender.send(&FromAgent::Done { id, mode }, &[]);
    Ok(())
}
