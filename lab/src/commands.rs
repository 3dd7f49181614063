//! [`Lab`]: commands run inside it, files in and out.

use crate::{
    client::{self, Output},
    lab::Lab,
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// What a command may take when nothing else is said.
pub const COMMAND: Duration = Duration::from_secs(60);

impl Lab {
    /// `/bin/sh -c command` as root, at most 60 s. What it leaves running in
    /// the background goes on.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_for(command, COMMAND)
    }

    pub fn run_for(&self, command: &str, deadline: Duration) -> Result<Output> {
        self.run_with(command, &[], b"", deadline)
    }

    pub fn run_with(
        &self,
        command: &str,
        env: &[(&str, &str)],
        input: &[u8],
        deadline: Duration,
    ) -> Result<Output> {
        let env: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.client()?
            .run(command, &env, input, deadline)
            .map_err(|error| self.explain(error, format!("running {command:?}")))
    }

    /// Its stdout; an error with everything it said unless it succeeds.
    pub fn run_ok(&self, command: &str) -> Result<String> {
        self.run_ok_for(command, COMMAND)
    }

    pub fn run_ok_for(&self, command: &str, deadline: Duration) -> Result<String> {
        let output = self.run_for(command, deadline)?;
        if output.ok() {
            return Ok(output.stdout);
        }
        let how = if output.expired {
            format!("did not end within {} s", deadline.as_secs_f32())
        } else {
            format!("failed with status {}", output.status)
        };
        bail!(
            "in the lab, {command:?} {how}\nstdout:\n{}\nstderr:\n{}",
            output.stdout,
            output.stderr
        )
    }

    /// Repeats a command until it succeeds; its stdout.
    pub fn wait_for(&self, command: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            let output = self.run_for(command, left.min(COMMAND))?;
            if output.ok() {
                return Ok(output.stdout);
            }
            if Instant::now() > end {
                bail!(
                    "in the lab, {command:?} did not come true within {} s; the last time it failed with status {}\nstdout:\n{}\nstderr:\n{}",
                    limit.as_secs_f32(),
                    output.status,
                    output.stdout,
                    output.stderr
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A file from here to there, with its mode.
    pub fn push(&self, file: impl AsRef<Path>, path: &str) -> Result<()> {
        let (file, mode) = client::open_for_push(file.as_ref())?;
        self.client()?
            .push(file, path, mode)
            .map_err(|error| self.explain(error, format!("pushing {path}")))
    }

    pub fn push_bytes(&self, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
        self.client()?
            .push(bytes, path, mode)
            .map_err(|error| self.explain(error, format!("pushing {path}")))
    }

    /// A file from there to here.
    pub fn pull(&self, path: &str, file: impl AsRef<Path>) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let file = file.as_ref();
        let mut target =
            fs::File::create(file).with_context(|| format!("creating {}", file.display()))?;
        let mode = self
            .client()?
            .pull(path, &mut target)
            .map_err(|error| self.explain(error, format!("pulling {path}")))?;
        target.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    pub fn pull_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.client()?
            .pull(path, &mut bytes)
            .map_err(|error| self.explain(error, format!("pulling {path}")))?;
        Ok(bytes)
    }
}
