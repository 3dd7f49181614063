//! How a VM lives on the host: its share, its start and end, what is done
//! around them.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::{Usual, texts};
use crate::base::Bytes;
use crate::config::desk::Desk;
use crate::config::formats::{Format, Text};
use crate::config::raw::{
    List, RawAgent, RawAutostart, RawHook, RawHooks, RawOnCrash, RawOnCrashWord, RawPerformance,
    RawResources, RawSnapshots, RawStop, RawThen,
};
use crate::config::tree::Trail;
use crate::config::types::{
    AfterDeadline, Agent, Autostart, Hook, Hooks, OnCrash, Performance, Pinning, Resources,
    Snapshots, Stop,
};
use crate::config::words::Argument;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// As long as a command has that says nothing else.
const HOOK: Duration = Duration::from_secs(30);
/// Most commands of one kind.
const MOST_HOOKS: usize = 16;

/// The agent's channel.
pub fn agent(raw: Option<RawAgent>, usual: Usual, desk: &mut Desk<'_, '_>) -> Option<Agent> {
    let trail = Trail::to("agent");
    match raw {
        None if desk.root.has(&trail) => None,
        None => Some(Agent { channel: usual.agent, ..Agent::default() }),
        Some(RawAgent::Switch(channel)) => Some(Agent { channel, ..Agent::default() }),
        Some(RawAgent::Full(full)) => {
            let at = trail.key("silent-after");
            let silent_after = desk.span(&at, full.silent_after, 5 * SECOND, HOUR)?;
            Some(Agent { channel: true, silent_after })
        }
    }
}

/// Its share of the host.
pub fn resources(raw: Option<RawResources>, desk: &mut Desk<'_, '_>) -> Resources {
    let Some(raw) = raw else { return Resources::default() };
    let memory_overhead = raw.memory_overhead.map(|Text(size)| size);
    if let Some(size) = memory_overhead.filter(|size| size.0 < 64 << 20) {
        let message = format!("{size} is too little: QEMU itself needs more");
        desk.error(&Trail::to("resources").key("memory-overhead"), message, "write 64M or more");
    }
    Resources { cpu_weight: raw.cpu_weight, io_weight: raw.io_weight, memory_overhead }
}

/// What the host does for it; `pinned` is where it runs, if that is known.
#[allow(clippy::option_option, reason = "wrong, absent and given are three cases")]
pub fn performance(
    raw: RawPerformance,
    pinned: Option<&Pinning>,
    desk: &mut Desk<'_, '_>,
) -> Option<Option<Performance>> {
    let trail = Trail::to("performance");
    let wanted = match raw {
        RawPerformance::Switch(false) => return Some(None),
        RawPerformance::Switch(true) => Performance::default(),
        RawPerformance::Full(full) => {
            let (mut seen, at) = (HashMap::new(), trail.key("stop-services"));
            let units = full.stop_services.iter().flatten().enumerate();
            for (i, Text(unit)) in units.filter_map(|(i, unit)| Some((i, unit.as_ref()?))) {
                desk.unique(&mut seen, unit.clone(), &at.item(i), format!("the unit {unit}"));
            }
            Performance {
                governor: full.governor.map(|Text(word)| word).filter(|word| word != "keep"),
                isolate: full.isolate?,
                pause_scrub: full.pause_scrub?,
                stop_services: texts(full.stop_services),
                reserve: full.reserve?.0,
            }
        }
    };
    if wanted.isolate && pinned == Some(&Pinning::Off) {
        let message = "no cores are kept free for the guest, because it has none of its own";
        let fix = "add `pinning: auto`, or write `performance: {isolate: false}`";
        desk.warn(&trail, message, fix);
    }
    if wanted.reserve > Bytes(16 << 40) {
        let message = format!("{} is too much memory", wanted.reserve);
        desk.error(&trail.key("reserve"), message, "write a size up to 16T");
    }
    Some(Some(wanted))
}

/// Snapshots of its disks.
pub fn snapshots(raw: &RawSnapshots) -> Option<Snapshots> {
    Some(Snapshots { before_start: raw.before_start?, keep: raw.keep? })
}

/// Whether it starts with the host.
#[allow(clippy::option_option, reason = "wrong, absent and given are three cases")]
pub fn autostart(raw: RawAutostart, desk: &mut Desk<'_, '_>) -> Option<Option<Autostart>> {
    match raw {
        RawAutostart::Switch(false) => Some(None),
        RawAutostart::Switch(true) => Some(Some(Autostart { order: 100, delay: Duration::ZERO })),
        RawAutostart::Full(full) => {
            let at = Trail::to("autostart").key("delay");
            let delay = desk.span(&at, full.delay, Duration::ZERO, HOUR)?;
            Some(Some(Autostart { order: full.order?, delay }))
        }
    }
}

/// What happens when QEMU ends unasked.
pub fn on_crash(raw: RawOnCrash, desk: &mut Desk<'_, '_>) -> Option<OnCrash> {
    match raw {
        RawOnCrash::Word(RawOnCrashWord::Stay) => Some(OnCrash::Stay),
        RawOnCrash::Word(RawOnCrashWord::Restart) => {
            Some(OnCrash::Restart { times: 3, delay: 5 * SECOND })
        }
        RawOnCrash::Full(full) => {
            let raw = full.restart?;
            let at = Trail::to("on-crash").key("restart").key("delay");
            let delay = desk.span(&at, raw.delay, Duration::ZERO, 5 * MINUTE)?;
            Some(OnCrash::Restart { times: raw.times?, delay })
        }
    }
}

/// Commands around its life.
pub fn hooks(raw: Option<RawHooks>, desk: &mut Desk<'_, '_>) -> Hooks {
    let Some(raw) = raw else { return Hooks::default() };
    let mut list = |key: &str, raw: List<RawHook>| {
        let (trail, raw) = (Trail::to("hooks").key(key), raw.unwrap_or_default());
        if raw.len() > MOST_HOOKS {
            let fix = format!("write at most {MOST_HOOKS}; a script can run the others");
            desk.error(&trail, format!("{} commands", raw.len()), fix);
        }
        let items = raw.into_iter().enumerate().take(MOST_HOOKS);
        items.filter_map(|(i, raw)| hook(raw?, &trail.item(i), desk)).collect()
    };
    Hooks {
        before_start: list("before-start", raw.before_start),
        after_stop: list("after-stop", raw.after_stop),
    }
}

fn hook(raw: RawHook, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<Hook> {
    let (at, words, deadline) = match raw {
        RawHook::Program(Text(path)) => {
            let word = path.into_os_string().into_string().ok()?;
            (trail.clone(), vec![Some(word)], HOOK)
        }
        RawHook::Words(words) => (trail.clone(), strings(words), HOOK),
        RawHook::Full(full) => {
            let at = trail.key("deadline");
            let deadline = desk.span(&at, full.deadline, SECOND, 10 * MINUTE)?;
            (trail.key("run"), strings(full.run?), deadline)
        }
    };
    let run: Vec<String> = words.into_iter().collect::<Option<_>>()?;
    let Some(program) = run.first() else {
        desk.error(&at, "the command is empty", "write the program's path and its arguments");
        return None;
    };
    // The place of the first word, where the words stand one by one.
    let first = if desk.root.has(&at.item(0)) { at.item(0) } else { at };
    let path = Path::new(program);
    if !path.is_absolute() {
        let message = format!("`{program}` is not the whole path of a program");
        let fix = format!(
            "find it with `command -v {program}`; for a line of shell, write \
                           [/bin/sh, -c, \"…\"]"
        );
        desk.error(&first, message, fix);
        return None;
    }
    desk.needs_file(&first, "the program", path, "correct the path, or install it");
    Some(Hook { run, deadline })
}

fn strings(words: Vec<Option<Text<Argument>>>) -> Vec<Option<<Argument as Format>::Value>> {
    words.into_iter().map(|word| word.map(|Text(word)| word)).collect()
}

/// How it is stopped.
pub fn stop(raw: RawStop, desk: &mut Desk<'_, '_>) -> Option<Stop> {
    let deadline = desk.span(&Trail::to("stop").key("deadline"), raw.deadline, SECOND, HOUR)?;
    let then = match raw.then? {
        RawThen::Ask => AfterDeadline::Ask,
        RawThen::Quit => AfterDeadline::Quit,
    };
    Some(Stop { deadline, then })
}
