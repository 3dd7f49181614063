//! A VM file: how it lives on the host.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{AbsolutePath, Size, Span, Text, Unit, Word};
use crate::config::words::Argument;

/// The guest agent's channel.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawAgent {
    /// Whether the guest has it.
    Switch(bool),
    /// The guest has it.
    Full(RawAgentFull),
}

/// The guest has the agent's channel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawAgentFull {
    /// An agent that has spoken and is silent for so long does not respond. 5s
    /// to 1h.
    #[schemars(extend("default" = "60s"))]
    pub silent_after: Option<Text<Span>>,
}

/// Its share of the host, in systemd's terms.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawResources {
    /// `CPUWeight=`; systemd's usual is 100.
    #[schemars(range(min = 1, max = 10000))]
    pub cpu_weight: Option<u32>,
    /// `IOWeight=`; systemd's usual is 100.
    #[schemars(range(min = 1, max = 10000))]
    pub io_weight: Option<u32>,
    /// What QEMU itself may take beyond the guest's memory (`MemoryMax=`), from
    /// 64M; without a bound when absent.
    #[schemars(extend("examples" = ["2G"]))]
    pub memory_overhead: Option<Text<Size>>,
}

/// What the host does for the VM while it runs.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawPerformance {
    /// All of it, or nothing.
    Switch(bool),
    /// What you say.
    Full(RawPerformanceFull),
}

/// What the host does for the VM while it runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPerformanceFull {
    /// The frequency governor of the guest's cores, or `keep`.
    #[schemars(extend("default" = "performance", "examples" = ["schedutil"]))]
    pub governor: Option<Text<Word>>,
    /// Whether tasks, kernel threads and interrupts of the host leave the
    /// guest's cores. With `pinning` only.
    #[schemars(extend("default" = true))]
    pub isolate: Option<bool>,
    /// Whether a running scrub is paused, and resumed after.
    #[schemars(extend("default" = true))]
    pub pause_scrub: Option<bool>,
    /// Units that are stopped, and started again after.
    #[schemars(extend("examples" = [["plexmediaserver.service"]]))]
    pub stop_services: List<Text<Unit>>,
    /// Memory that must be left for the host.
    #[schemars(extend("default" = "2G"))]
    pub reserve: Option<Text<Size>>,
}

/// Snapshots of its disks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawSnapshots {
    /// Whether one is made before each start.
    #[schemars(extend("default" = false))]
    pub before_start: Option<bool>,
    /// How many of those that hostd made by itself are kept.
    #[schemars(range(min = 1, max = 1000), extend("default" = 5))]
    pub keep: Option<u32>,
}

/// Whether it starts with the host.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawAutostart {
    /// Whether.
    Switch(bool),
    /// It does.
    Full(RawAutostartFull),
}

/// It starts with the host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAutostartFull {
    /// Lower ones start first; equal ones together.
    #[schemars(range(min = 0, max = 10000), extend("default" = 100))]
    pub order: Option<u32>,
    /// How long it waits when its turn has come. At most 1h.
    #[schemars(extend("default" = "0s"))]
    pub delay: Option<Text<Span>>,
}

/// What happens when QEMU ends unasked.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawOnCrash {
    /// In a word.
    Word(RawOnCrashWord),
    /// It is started again, so often.
    Full(RawOnCrashFull),
}

/// What happens when QEMU ends unasked, in a word.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawOnCrashWord {
    /// It stays down, and you are told.
    Stay,
    /// It is started again, at most 3 times within an hour.
    Restart,
}

/// It is started again, so often.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawOnCrashFull {
    /// How.
    #[schemars(required, extend("examples" = [{"times": 3, "delay": "5s"}]))]
    pub restart: Option<RawRestart>,
}

/// How it is started again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRestart {
    /// At most so often within an hour.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub times: Option<u32>,
    /// How long it waits before the first; doubled each time, up to five
    /// minutes. 0s to 5m.
    #[schemars(extend("default" = "5s"))]
    pub delay: Option<Text<Span>>,
}

/// Commands around a VM's life. Each is a program's path, a list of the program
/// and its arguments, or a mapping; the VM's name is in `HOSTD_VM`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawHooks {
    /// Before its devices are touched; one that fails refuses the start.
    #[schemars(extend("examples" = [[["/usr/local/bin/lights", "red"]]]))]
    pub before_start: List<RawHook>,
    /// After everything is given back; one that fails is a warning.
    #[schemars(extend("examples" = [["/usr/local/bin/lights-off"]]))]
    pub after_stop: List<RawHook>,
}

/// A command.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawHook {
    /// A program.
    Program(Text<AbsolutePath>),
    /// A program and its arguments.
    Words(Vec<Option<Text<Argument>>>),
    /// A program, its arguments, and how long it may take.
    Full(RawHookFull),
}

/// A command, and how long it may take.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHookFull {
    /// The program's path and its arguments; no shell reads them.
    #[schemars(required, extend("examples" = [["/usr/local/bin/lights", "red"]]))]
    pub run: List<Text<Argument>>,
    /// After this it is killed, and has failed. 1s to 10m.
    #[schemars(extend("default" = "30s"))]
    pub deadline: Option<Text<Span>>,
}

/// How the VM is stopped: the power button is pressed, and then waited for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStop {
    /// How long the guest has to shut down. 1s to 1h.
    #[schemars(extend("default" = "60s"))]
    pub deadline: Option<Text<Span>>,
    /// What happens when it has not.
    #[schemars(extend("default" = "ask"))]
    pub then: Option<RawThen>,
}

/// What happens when a guest ignores the power button.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawThen {
    /// It stays on, and you are told.
    Ask,
    /// QEMU quits, as if the power went.
    Quit,
}
