//! Named labs: what they are and which process they are, in a file.

use anyhow::{Context, Result, anyhow, bail, ensure};
use hostd_lab::{Lab, LabSpec, wire};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A lab that does not exist, or does not run: exit code 4.
#[derive(Debug)]
pub struct NoLab(String);

impl std::fmt::Display for NoLab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoLab {}

#[derive(Serialize, Deserialize)]
struct State {
    spec: LabSpec,
    dir: PathBuf,
    pid: u32,
}

pub struct Named {
    pub name: String,
    /// `…/hostd-lab-<uid>/<name>`: state.json, and the locks of the ports.
    dir: PathBuf,
}

fn base() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let base = runtime.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from).join(format!("hostd-lab-{uid}"));
    match DirBuilder::new().mode(0o700).create(&base) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", base.display()));
        }
        _ => {}
    }
    // In /tmp somebody else may have been there first.
    let meta = fs::symlink_metadata(&base)?;
    ensure!(meta.is_dir() && meta.uid() == uid, "{} is not a directory of yours: remove it", base.display());
    Ok(base)
}

pub fn names() -> Result<Vec<String>> {
    let mut names: Vec<_> = fs::read_dir(base()?)?
        .flatten()
        .filter(|entry| entry.path().join("state.json").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}

impl Named {
    pub fn new(name: &str) -> Result<Self> {
        let sound = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(!name.is_empty() && name.chars().all(sound), "{name:?} is no name for a lab: use letters, digits, - and _");
        Ok(Self { name: name.to_owned(), dir: base()?.join(name) })
    }

    fn file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    fn flag(&self) -> String {
        if self.name == "default" { String::new() } else { format!("--name {} ", self.name) }
    }

    fn load(&self) -> Result<State> {
        let text = match fs::read(self.file()) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("there is no lab {:?}; next: lab {}up", self.name, self.flag());
                return Err(anyhow!(NoLab(text)));
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.file().display())),
        };
        serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a lab's state; next: remove it", self.file().display()))
    }

    fn store(&self, state: &State) -> Result<()> {
        let part = self.dir.join("state.part");
        fs::write(&part, serde_json::to_vec_pretty(state)?)
            .and_then(|()| fs::rename(&part, self.file()))
            .with_context(|| format!("writing {}", self.file().display()))
    }

    pub fn up(&self, spec: LabSpec) -> Result<Lab> {
        fs::create_dir_all(&self.dir)?;
        let _lock = self.lock("up.lock")?;
        if let Ok(state) = self.load() {
            if Lab::attach(state.spec, &state.dir, state.pid, 0)?.running() {
                bail!("the lab {:?} is up already; next: lab {}down, or another --name", self.name, self.flag());
            }
            remove(&state.dir)?;
        }
        let dir = tempfile::Builder::new().prefix("hostd-lab-").tempdir()?;
        let lab = Lab::boot_detached(spec, dir.path())?;
        let state = State { spec: lab.spec.clone(), dir: dir.keep(), pid: lab.pid().unwrap_or_default() };
        self.store(&state)?;
        Ok(lab)
    }

    /// The lab, running or not.
    pub fn open(&self) -> Result<Lab> {
        let state = self.load()?;
        Lab::attach(state.spec, &state.dir, state.pid, self.port()?)
    }

    pub fn running(&self) -> Result<Lab> {
        let lab = self.open()?;
        if !lab.running() {
            let text = format!(
                "the lab {:?} is not running; next: lab {flag}power-on, or lab {flag}console --no-follow to see why",
                self.name, flag = self.flag()
            );
            return Err(anyhow!(NoLab(text)));
        }
        Ok(lab)
    }

    pub fn power_on(&self) -> Result<Lab> {
        let mut state = self.load()?;
        let mut lab = Lab::attach(state.spec.clone(), &state.dir, state.pid, 0)?;
        lab.power_on()?;
        state.pid = lab.pid().unwrap_or_default();
        self.store(&state)?;
        Ok(lab)
    }

    pub fn down(&self) -> Result<()> {
        let state = self.load()?;
        Lab::attach(state.spec, &state.dir, state.pid, 0)?.power_loss();
        remove(&state.dir)?;
        fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir.display()))
    }

    /// A port of the agent that no other `lab` command talks on now. The lock
    /// is kept until the process ends.
    fn port(&self) -> Result<usize> {
        for port in 0..wire::PORTS {
            let file = File::create(self.dir.join(format!("port{port}.lock")))?;
            if file.try_lock().is_ok() {
                std::mem::forget(file);
                return Ok(port);
            }
        }
        bail!("{} commands talk to the lab {:?} already; wait for one to end", wire::PORTS, self.name)
    }

    fn lock(&self, name: &str) -> Result<File> {
        let file = File::create(self.dir.join(name))?;
        file.try_lock().map_err(|_| anyhow!("another `lab up` is starting {:?}", self.name))?;
        Ok(file)
    }
}

/// Only what a lab made, whatever a state file says.
fn remove(dir: &Path) -> Result<()> {
    let ours = dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with("hostd-lab-"));
    ensure!(ours, "{} is not the directory of a lab; it stays", dir.display());
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
