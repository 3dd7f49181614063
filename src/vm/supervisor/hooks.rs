//! The owner's commands before a start and after a stop: each with a deadline,
//! what they say in `hooks.log`.

use tracing::warn;

use super::Supervisor;
use crate::ask::{Code, Refusal};
use crate::base::with_sources;
use crate::config::{Hook, Hooks};
use crate::host::Command;
use crate::vm::record::Phase;
use crate::vm::{paths, unfinished};

/// What is kept of what a hook has said.
const SAID: usize = 64 << 10;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    BeforeStart,
    AfterStop,
}

impl When {
    fn word(self) -> &'static str {
        match self {
            Self::BeforeStart => "before-start",
            Self::AfterStop => "after-stop",
        }
    }
}

impl Supervisor {
    /// Notes that the hooks are run, and runs those before a start.
    pub(super) async fn before_start(&mut self) -> Result<(), Refusal> {
        if self.vm.autostart.is_some() {
            let begun = self.with_files(unfinished::begin).await?;
            begun.map_err(|error| Refusal::new(Code::Failed, with_sources(&error), ""))?;
        }
        if let Some(record) = &mut self.record {
            record.hooked = true;
        }
        if self.vm.hooks != Hooks::default() {
            self.note(Phase::Preparing).await?;
        }
        self.hooks(When::BeforeStart).await
    }

    /// Runs those after a stop, if those before it were; what fails is a warning.
    pub(super) async fn after_stop(&mut self) {
        if !self.record.as_ref().is_some_and(|record| record.hooked) {
            return;
        }
        if let Err(refusal) = self.hooks(When::AfterStop).await {
            warn!(vm = %self.vm.name, "{}", refusal.message);
            self.warnings.push(refusal.message);
        }
        self.settled().await;
    }

    /// The host did not go down because of it.
    pub(super) async fn settled(&mut self) {
        if self.vm.autostart.is_none() {
            return;
        }
        match self.with_files(unfinished::end).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(vm = %self.vm.name, "{}", with_sources(&error)),
            Err(refusal) => warn!(vm = %self.vm.name, "{}", refusal.message),
        }
    }

    /// Runs the hooks in their order; the first that fails ends it.
    pub(super) async fn hooks(&mut self, when: When) -> Result<(), Refusal> {
        let hooks = match when {
            When::BeforeStart => self.vm.hooks.before_start.clone(),
            When::AfterStop => self.vm.hooks.after_stop.clone(),
        };
        for hook in hooks {
            self.hook(&hook, when).await?;
        }
        Ok(())
    }

    async fn hook(&mut self, hook: &Hook, when: When) -> Result<(), Refusal> {
        let Some((program, args)) = hook.run.split_first() else { return Ok(()) };
        let word = when.word();
        self.step(format!("running the hook {} ({word})", hook.run.join(" "))).await;
        let mut command = Command::new(program, args).deadline(hook.deadline);
        command.env = vec![
            ("HOSTD_VM".into(), self.vm.name.as_str().into()),
            ("HOSTD_WHEN".into(), word.into()),
        ];
        let runner = self.host.runner.clone();
        let ran = self.hearing(runner.run(command.clone())).await;
        let mut text = format!("$ {command}   # {word}\n");
        let ended = match ran {
            Ok(output) => {
                for stream in [&output.stdout, &output.stderr] {
                    text.push_str(&String::from_utf8_lossy(&stream[..stream.len().min(SAID)]));
                }
                output.success(&command).map(drop)
            }
            Err(error) => Err(error),
        };
        let failed = ended.as_ref().err().map(|error| with_sources(error));
        if let Some(failed) = &failed {
            text.push_str(failed);
            text.push('\n');
        }
        // That it cannot be written is no reason not to go on.
        let _ = self.with_files(move |host, vm| note(host, vm, &text)).await;
        match failed {
            None => Ok(()),
            Some(failed) => {
                let message = format!("a hook of `{}` ({word}) has failed: {failed}", self.vm.name);
                let path = self.host.runtime.path(paths::name(&self.vm.name, paths::HOOKS_LOG));
                let hint = format!("{} has what it said", path.display());
                Err(Refusal::new(Code::Failed, message, hint))
            }
        }
    }
}

/// Adds to the log, of which the end is kept.
fn note(host: &crate::host::Host, vm: &crate::base::Name, text: &str) {
    let name = paths::name(vm, paths::HOOKS_LOG);
    let before = host.runtime.tail(&name, 2 * SAID as u64).ok().flatten().unwrap_or_default();
    if let Err(error) = host.runtime.write(&name, &format!("{before}{text}")) {
        warn!(%vm, "{}", with_sources(&error));
    }
}
