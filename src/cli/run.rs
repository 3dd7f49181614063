//! From words to answer to exit code.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use super::args::{
    Attachable, Boot, Care, Cli, Command, Config, Disk, Event, Global, Gpu, History, Iommu,
    Machine, Pool, Rom, SchemaOf, Scrub, Service, Snapshot, Span, Usb, Vm,
};
use super::console;
use super::events;
use super::exit;
use super::out::{self, Out, WriteError};
use super::plot;
use super::progress::Progress;
use super::view::{self, Detail};
use crate::api::carry;
use crate::api::client::{self, Bus, Client, SOCKET, Where};
use crate::ask::{Answer, Ask, Code, Refusal, Reply, Right, ScrubAct, Secret};
use crate::base::{Name, Timestamp};
use crate::local::{self, Checked, Local};

/// Runs one command line, the program's name first; returns the exit code.
pub async fn run(args: Vec<OsString>) -> u8 {
    let done = match Cli::try_parse_from(&args) {
        Ok(cli) => command(cli).await,
        Err(error) => words(&error, args.iter().any(|arg| arg == "--json")),
    };
    done.unwrap_or_else(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        out::complain(&format!("{error}: {}", cause.unwrap_or_default()));
        exit::FAILED
    })
}

/// Help, or what is wrong with the words.
fn words(error: &clap::Error, json: bool) -> Result<u8, WriteError> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let text = error.render();
        out::data(&if out::colors() { text.ansi().to_string() } else { text.to_string() })?;
        return Ok(exit::FINE);
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    if json {
        let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
        let tip = rest.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let hint = tip.unwrap_or("`hostctl --help` lists the commands");
        return Out::plain(true).refuse(&Refusal::new(Code::Usage, message.trim(), hint));
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        out::speak(&format!("{text}\n"));
    } else {
        out::complain(text);
    }
    Ok(exit::USAGE)
}

async fn command(cli: Cli) -> Result<u8, WriteError> {
    let out = Out::new(&cli.global);
    if cli.global.stdio {
        return Ok(stdio(&cli.global).await);
    }
    let Some(command) = cli.command else {
        let error = Cli::command().error(ErrorKind::MissingSubcommand, "no command is given");
        return words(&error, out.json);
    };
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hostctl", &mut script);
            out::data(&String::from_utf8_lossy(&script))?;
            Ok(exit::FINE)
        }
        Command::Config(config) => self::config(out, &config).await,
        Command::Vm(Vm::Import { file, name }) => import(out, &file, name.as_ref()),
        Command::Pool(Pool::Status { from: Some(file), name }) => {
            show(out, judged(&file, name.as_deref()), Detail::Full, exit::code)
        }
        Command::Gpu(Gpu::Rom(Rom::Check { file, gpu, strip })) => {
            let answer =
                local::rom_check(&here(&cli.global), &file, gpu.as_deref(), strip.as_deref()).await;
            show(out, answer, Detail::Full, exit::code)
        }
        Command::Event(Event::TestStream { file, after }) => {
            let answer = local::test_stream(&here(&cli.global), &file, after);
            show(out, answer, Detail::Full, exit::code)
        }
        Command::Gpu(Gpu::Rom(Rom::Dump { gpu, file, strip })) => {
            let answer = answer(out, &cli.global, &Ask::GpuRomDump { gpu, strip }).await;
            show(out, answer.and_then(|reply| saved(reply, &file)), Detail::Full, exit::code)
        }
        Command::Vm(Vm::Console { name, take, follow }) => {
            let client = match Client::connect(&place(&cli.global)).await {
                Ok(client) => client,
                Err(refusal) => return out.refuse(&refusal),
            };
            console::run(out, &client, &name, take, follow).await
        }
        Command::Vm(Vm::Screenshot { name, file }) => {
            let taken = answer(out, &cli.global, &Ask::VmScreenshot { name: name.clone() }).await;
            let file = file.unwrap_or_else(|| picture_name(&name, out.look().now).into());
            match taken {
                Ok(Reply::Screenshot(taken)) if file.as_os_str() == "-" && !out.json => {
                    out::bytes(&taken.data.0).map(|_| exit::FINE)
                }
                Ok(Reply::Screenshot(taken)) => {
                    show(out, local::picture_save(taken, &file), Detail::Full, exit::code)
                }
                other => show(out, other, Detail::Full, exit::code),
            }
        }
        Command::Event(Event::Tail { query }) => match Client::connect(&place(&cli.global)).await {
            Ok(client) => events::tail(out, &client, &query).await,
            Err(refusal) => out.refuse(&refusal),
        },
        Command::Event(Event::Send(given)) => {
            let sent = match events::given(given) {
                Ok(events) => answer(out, &cli.global, &Ask::EventSend { events }).await,
                Err(refusal) => Err(refusal),
            };
            show(out, sent, Detail::Full, exit::code)
        }
        Command::History(History::Show { span, csv: true }) => {
            match answer(out, &cli.global, &past(span, 0)).await {
                Ok(Reply::History(view)) => out::data(&view::csv(&view)).map(|()| exit::FINE),
                other => show(out, other, Detail::Full, exit::code),
            }
        }
        Command::History(History::Plot { span, output }) => {
            let kind = match plot::kind(&output) {
                Ok(kind) => kind,
                Err(refusal) => return out.refuse(&refusal),
            };
            let drawn = match answer(out, &cli.global, &past(span, PLOTTED)).await {
                Ok(Reply::History(view)) => plot::draw(&view, kind),
                Ok(other) => return show(out, Ok(other), Detail::Full, exit::code),
                Err(refusal) => Err(refusal),
            };
            let saved = drawn.and_then(|bytes| local::plot_save(&bytes, &output));
            show(out, saved, Detail::Full, exit::code)
        }
        Command::Iommu(Iommu::Show { group }) => {
            let ask = Ask::IommuShow { group: Some(group) };
            show(out, answer(out, &cli.global, &ask).await, Detail::Full, exit::isolated)
        }
        Command::Vm(Vm::Media { name, file, drive, eject: _, force }) => {
            let file = match file.map(|file| whole(&cli.global, &file)).transpose() {
                Ok(file) => file,
                Err(refusal) => return out.refuse(&refusal),
            };
            let ask = Ask::VmMedia { name, drive, file, force };
            show(out, answer(out, &cli.global, &ask).await, Detail::Full, exit::code)
        }
        other => {
            let (ask, detail) = ask(other);
            show(out, answer(out, &cli.global, &ask).await, detail, exit::code)
        }
    }
}

/// The ask that a command stands for. The commands that are more than one ask
/// are handled before; here they are what comes closest.
fn ask(command: Command) -> (Ask, Detail) {
    use Detail::{Full, List};
    match command {
        Command::Doctor { probe } => (Ask::Doctor { probe }, Full),
        Command::Iommu(Iommu::List { full: false }) => (Ask::IommuList, List),
        Command::Iommu(Iommu::List { full: true }) => (Ask::IommuShow { group: None }, Full),
        Command::Iommu(Iommu::Show { group }) => (Ask::IommuShow { group: Some(group) }, Full),
        Command::Gpu(Gpu::List) => (Ask::GpuList, List),
        Command::Gpu(Gpu::Quirks { gpu }) => (Ask::GpuQuirks { gpu }, List),
        Command::Gpu(Gpu::Plan { gpu, release }) => (Ask::GpuPlan { gpu, release }, Full),
        Command::Gpu(Gpu::Bind { gpu }) => (Ask::GpuBind { gpu }, Full),
        Command::Gpu(Gpu::Release { gpu }) => (Ask::GpuRelease { gpu }, Full),
        Command::Gpu(Gpu::Reset { gpu }) => (Ask::GpuReset { gpu }, Full),
        Command::Boot(Boot::Plan { gpus, remove }) => (Ask::BootPlan { gpus, remove }, Full),
        Command::Boot(Boot::Setup { gpus }) => (Ask::BootSetup { gpus }, Full),
        Command::Boot(Boot::Remove) => (Ask::BootRemove, Full),
        Command::Boot(Boot::Status) => (Ask::BootStatus, Full),
        Command::Vm(Vm::List | Vm::Import { .. }) => (Ask::VmList, List),
        Command::Vm(Vm::Start { name }) => (Ask::VmStart { name }, Full),
        Command::Vm(Vm::Stop { name, force }) => (Ask::VmStop { name, force }, Full),
        Command::Vm(Vm::Restart { name, force }) => (Ask::VmRestart { name, force }, Full),
        Command::Vm(Vm::Pause { name }) => (Ask::VmPause { name }, Full),
        Command::Vm(Vm::Resume { name }) => (Ask::VmResume { name }, Full),
        Command::Vm(Vm::Reset { name }) => (Ask::VmReset { name }, Full),
        Command::Vm(Vm::Hibernate { name }) => (Ask::VmHibernate { name }, Full),
        Command::Vm(Vm::Kill { name }) => (Ask::VmKill { name }, Full),
        Command::Vm(Vm::Status { name } | Vm::Console { name, .. }) => {
            (Ask::VmStatus { name }, Full)
        }
        Command::Vm(Vm::Log { name, serial: true, .. }) => (Ask::VmSerialLog { name }, Full),
        Command::Vm(Vm::Log { name, firmware, .. }) => (Ask::VmLog { name, firmware }, Full),
        Command::Vm(Vm::Screenshot { name, .. }) => (Ask::VmScreenshot { name }, Full),
        Command::Vm(Vm::Sendkey { name, keys, text, hold }) => {
            let keys = keys.into_iter().map(Secret::new).collect();
            (Ask::VmSendKey { name, keys, text: Secret::new(text), hold }, Full)
        }
        Command::Vm(Vm::Plan { name }) => (Ask::VmPlan { name }, Full),
        Command::Vm(Vm::Argv { name }) => (Ask::VmArgv { name }, Full),
        Command::Vm(Vm::Attach { name, kind: Attachable::Usb, device }) => {
            (Ask::VmAttach { name, device }, Full)
        }
        Command::Vm(Vm::Detach { name, kind: Attachable::Usb, device }) => {
            (Ask::VmDetach { name, device }, Full)
        }
        Command::Vm(Vm::Media { name, .. }) => (Ask::VmStatus { name }, Full),
        Command::Usb(Usb::List) => (Ask::UsbList, List),
        Command::Vm(Vm::Snapshot(snapshot)) => (snapshot_ask(snapshot), Full),
        Command::Pool(Pool::List) => (Ask::PoolStatus { pool: None }, List),
        Command::Pool(Pool::Status { name, .. }) => (Ask::PoolStatus { pool: name }, Full),
        Command::Pool(Pool::Scrub(scrub)) => (scrub_ask(scrub), Full),
        Command::Disk(Disk::List) => (Ask::DiskStatus { disk: None }, List),
        Command::Disk(Disk::Status { name }) => (Ask::DiskStatus { disk: name }, Full),
        Command::Host(Machine::Status) => (Ask::MachineStatus, Full),
        Command::Care(Care::List) => (Ask::CareList { kind: None }, Full),
        Command::Service(Service::List) => (Ask::ServiceList, List),
        Command::Service(Service::Status { name }) => (Ask::ServiceStatus { service: name }, Full),
        Command::Service(Service::Restart { name }) => (Ask::ServiceRestart { name }, Full),
        Command::History(History::List { query }) => (Ask::HistoryList { query }, List),
        Command::History(History::Show { span, .. } | History::Plot { span, .. }) => {
            (past(span, 0), Full)
        }
        Command::Event(Event::Query { query }) => (Ask::EventQuery { query }, List),
        Command::Event(Event::Tail { query }) => (Ask::EventTail { query, session: None }, List),
        Command::Event(Event::Send(_)) => (Ask::EventSend { events: String::new() }, Full),
        // Never asked: hostctl answers it by itself.
        Command::Event(Event::TestStream { .. }) => {
            (Ask::EventQuery { query: String::new() }, List)
        }
        Command::Gpu(Gpu::Rom(_)) => (Ask::GpuList, Full),
        Command::Status | Command::Config(_) | Command::Completions { .. } => (Ask::Status, Full),
    }
}

/// Points of a picture when nobody says.
const PLOTTED: u32 = 800;

/// The ask for a span of the history.
fn past(span: Span, usual: u32) -> Ask {
    let Span { service, on: host, since, until, points } = span;
    let points = if points == 0 { usual } else { points };
    Ask::HistoryShow { service, host, since, until, points }
}

fn scrub_ask(scrub: Scrub) -> Ask {
    match scrub {
        Scrub::Start { pool } => Ask::PoolScrub { pool, act: ScrubAct::Start },
        Scrub::Pause { pool } => Ask::PoolScrub { pool, act: ScrubAct::Pause },
        Scrub::Stop { pool } => Ask::PoolScrub { pool, act: ScrubAct::Stop },
        Scrub::Status => Ask::CareList { kind: Some("scrub".to_owned()) },
    }
}

/// A file of the VM's host as the daemon finds it; from here only when that is here.
fn whole(global: &Global, file: &Path) -> Result<String, Refusal> {
    let wrong = |why: &str| {
        Refusal::new(Code::Usage, format!("{}: {why}", file.display()), "name it from / on")
    };
    let path = match (&global.host, file.is_absolute()) {
        (Some(_), false) => return Err(wrong("it is not a whole path of the other host")),
        (Some(_), true) => file.to_owned(),
        (None, _) => std::path::absolute(file).map_err(|error| wrong(&error.to_string()))?,
    };
    path.into_os_string().into_string().map_err(|_| wrong("its name is not UTF-8"))
}

fn snapshot_ask(snapshot: Snapshot) -> Ask {
    match snapshot {
        Snapshot::List { name } => Ask::VmSnapshots { name },
        Snapshot::Create { name, snapshot } => Ask::VmSnapshotCreate { name, snapshot },
        Snapshot::Revert { name, snapshot, yes } => Ask::VmSnapshotRevert { name, snapshot, yes },
        Snapshot::Delete { name, snapshot } => Ask::VmSnapshotDelete { name, snapshot },
    }
}

fn place(global: &Global) -> Where {
    match (&global.host, &global.socket) {
        (Some(url), _) => Where::ssh(url),
        (None, Some(path)) => Where::Socket(path.clone()),
        (None, None) => Where::Auto { bus: Bus::System, socket: SOCKET.into() },
    }
}

/// Asks the daemon, or reads the machine where that is enough and nobody answers.
async fn answer(out: Out, global: &Global, ask: &Ask) -> Answer {
    let client = match Client::connect(&place(global)).await {
        Ok(client) => client,
        Err(nobody) if nobody.code == Code::NoDaemon && global.host.is_none() && local(ask) => {
            let how = if ask.right() == Some(Right::BootSetup) { "done" } else { "read" };
            out.note(&format!("{}; this is {how} directly", nobody.message));
            if let Some(plan) = boot_plan(ask) {
                slow(out, local::answer(&here(global), &plan).await);
            }
            return local::answer(&here(global), ask).await;
        }
        Err(refusal) => return Err(refusal),
    };
    if let Some(plan) = boot_plan(ask) {
        slow(out, client.ask(&plan).await);
    }
    match (moves(ask), out.progress()) {
        (Some(vm), Some(live)) => watched(&client, ask, vm, live).await,
        _ => client.ask(ask).await,
    }
}

/// The machine to read when no daemon is asked.
fn here(global: &Global) -> Local {
    let Global { sysroot, config, .. } = global.clone();
    Local { sysroot, config }
}

/// What can be seen without a daemon.
fn local(ask: &Ask) -> bool {
    match ask {
        Ask::Doctor { .. }
        | Ask::IommuList
        | Ask::IommuShow { .. }
        | Ask::GpuList
        | Ask::GpuQuirks { .. }
        | Ask::GpuPlan { .. }
        | Ask::GpuRomDump { .. }
        | Ask::BootPlan { .. }
        | Ask::BootSetup { .. }
        | Ask::BootRemove
        | Ask::BootStatus
        | Ask::UsbList
        | Ask::VmPlan { .. }
        | Ask::VmArgv { .. }
        | Ask::MachineStatus
        | Ask::PoolStatus { .. }
        | Ask::DiskStatus { .. } => true,
        Ask::Status
        | Ask::GpuBind { .. }
        | Ask::GpuRelease { .. }
        | Ask::GpuReset { .. }
        | Ask::VmList
        | Ask::VmStatus { .. }
        | Ask::VmStart { .. }
        | Ask::VmStop { .. }
        | Ask::VmRestart { .. }
        | Ask::VmPause { .. }
        | Ask::VmResume { .. }
        | Ask::VmReset { .. }
        | Ask::VmHibernate { .. }
        | Ask::VmKill { .. }
        | Ask::VmLog { .. }
        | Ask::VmAttach { .. }
        | Ask::VmDetach { .. }
        | Ask::VmMedia { .. }
        | Ask::VmSnapshots { .. }
        | Ask::VmSnapshotCreate { .. }
        | Ask::VmSnapshotRevert { .. }
        | Ask::VmSnapshotDelete { .. }
        | Ask::VmSerialLog { .. }
        | Ask::VmConsoleOpen { .. }
        | Ask::VmConsoleRead { .. }
        | Ask::VmConsoleWrite { .. }
        | Ask::VmConsoleClose { .. }
        | Ask::VmScreenshot { .. }
        | Ask::VmSendKey { .. }
        | Ask::PoolScrub { .. }
        | Ask::CareList { .. }
        | Ask::ServiceList
        | Ask::ServiceStatus { .. }
        | Ask::EventTail { .. }
        | Ask::EventSend { .. }
        | Ask::ServiceRestart { .. }
        | Ask::HistoryList { .. }
        | Ask::HistoryShow { .. }
        | Ask::EventQuery { .. } => false,
    }
}

/// What tells how long a change of the boot setup will take.
fn boot_plan(ask: &Ask) -> Option<Ask> {
    match ask {
        Ask::BootSetup { gpus } => Some(Ask::BootPlan { gpus: gpus.clone(), remove: false }),
        Ask::BootRemove => Some(Ask::BootPlan { gpus: Vec::new(), remove: true }),
        _ => None,
    }
}

/// Says what takes long, of what will be done and not refused.
fn slow(out: Out, planned: Answer) {
    if matches!(planned, Ok(Reply::BootPlan(plan)) if !plan.commands.is_empty()) {
        out.note("the initramfs or the boot loader is made anew, which takes up to some minutes");
    }
}

/// The VM that an ask moves.
fn moves(ask: &Ask) -> Option<&Name> {
    match ask {
        Ask::VmStart { name }
        | Ask::VmStop { name, .. }
        | Ask::VmRestart { name, .. }
        | Ask::VmHibernate { name }
        | Ask::VmKill { name } => Some(name),
        _ => None,
    }
}

async fn watched(client: &Client, ask: &Ask, vm: &Name, live: bool) -> Answer {
    let Ok(mut changes) = client.changes().await else { return client.ask(ask).await };
    let mut progress = Progress::new(live);
    let answer = tokio::select! {
        answer = client.ask(ask) => answer,
        never = progress.follow(vm, &mut changes) => match never {},
    };
    progress.end(vm, &mut changes);
    answer
}

/// Prints an answer; `code` says what it means for scripts.
fn show(
    out: Out,
    answer: Answer,
    detail: Detail,
    code: fn(&Reply) -> u8,
) -> Result<u8, WriteError> {
    let reply = match answer {
        Ok(reply) => reply,
        Err(refusal) => return out.refuse(&refusal),
    };
    if out.json {
        match client::document(&reply, true) {
            Ok(document) => out::data(&format!("{document}\n"))?,
            Err(error) => {
                return out.refuse(&Refusal::new(Code::Failed, error.to_string(), ""));
            }
        }
    } else {
        out::data(&view::view(&reply, detail, out.look()))?;
        if let Reply::Done(done) = &reply {
            done.warnings.iter().for_each(|warning| out.note(&format!("warning: {warning}")));
        }
    }
    Ok(code(&reply))
}

/// A ROM from a card goes into a file of whoever asked, with their rights.
fn saved(reply: Reply, file: &Path) -> Answer {
    let Reply::RomDump(dumped) = reply else { return Ok(reply) };
    local::rom_save(dumped, file)
}

/// The name of a picture that nobody has named.
fn picture_name(vm: &Name, now: Timestamp) -> String {
    let time = now.iso().replace([':', '-'], "");
    let time: String = time.chars().take_while(|c| *c != '.').collect();
    format!("{vm}-{}.png", time.trim_end_matches('Z'))
}

/// A saved capture, judged as the daemon would.
fn judged(file: &Path, name: Option<&str>) -> Answer {
    let reply = local::pool_status_from(&local::text(file)?)?;
    let (Reply::Pools(mut view), Some(name)) = (reply.clone(), name) else { return Ok(reply) };
    view.pools.retain(|pool| pool.name == name);
    if view.pools.is_empty() {
        let message = format!("there is no pool {name} in {}", file.display());
        return Err(Refusal::new(Code::NotFound, message, ""));
    }
    Ok(Reply::Pools(view))
}

/// A VM of another program as a VM file; what it lacks is speech.
fn import(out: Out, file: &Path, name: Option<&Name>) -> Result<u8, WriteError> {
    let imported = match local::vm_import(file, name) {
        Ok(imported) => imported,
        Err(refusal) => return out.refuse(&refusal),
    };
    if out.json {
        let document = serde_json::to_string_pretty(&imported).unwrap_or_default();
        out::data(&format!("{document}\n"))?;
        return Ok(exit::FINE);
    }
    out::data(&imported.yaml)?;
    for note in &imported.notes {
        out.note(&note.to_string());
    }
    out.note(&format!(
        "save it as /etc/hostd/vms/{}.yaml, then: hostctl config check",
        imported.name
    ));
    Ok(exit::FINE)
}

async fn config(out: Out, config: &Config) -> Result<u8, WriteError> {
    let shown = match config {
        Config::Check { file } => match local::config_check_here(file).await {
            Ok(checked) => return self::checked(out, &checked),
            Err(refusal) => Err(refusal),
        },
        Config::Show { file } => local::config_show(file, out.json),
        Config::Schema { of } => local::config_schema(*of == SchemaOf::Vm),
    };
    match shown {
        Ok(text) => out::data(&text).map(|()| exit::FINE),
        Err(refusal) => out.refuse(&refusal),
    }
}

fn checked(out: Out, checked: &Checked) -> Result<u8, WriteError> {
    if out.json {
        let document = serde_json::to_string_pretty(checked).unwrap_or_default();
        out::data(&format!("{document}\n"))?;
    } else {
        out::data(&problems(checked))?;
    }
    let wrong = checked.problems.errors().next().is_some();
    Ok(if wrong { exit::USAGE } else { exit::FINE })
}

/// One problem a paragraph, as compilers write them: editors can jump there.
fn problems(checked: &Checked) -> String {
    let files: Vec<_> = checked.files.iter().map(|file| file.display().to_string()).collect();
    match (checked.problems.is_empty(), files.as_slice()) {
        (true, []) => "nothing is configured: hostd watches what it finds\n".to_owned(),
        (true, files) => format!("no problems in {}\n", view::printable(&files.join(", "))),
        (false, _) => format!("{}\n", checked.problems),
    }
}

/// `hostctl --stdio`: the greeting says what went wrong, if anything.
async fn stdio(global: &Global) -> u8 {
    let socket = global.socket.as_deref().unwrap_or(Path::new(SOCKET));
    match carry::bridge(socket, tokio::io::stdin(), tokio::io::stdout()).await {
        Ok(()) => exit::FINE,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => exit::FINE,
        Err(error) => {
            out::complain(&format!("the connection broke: {error}"));
            exit::FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    #[test]
    fn documents_of_every_command() {
        let replies = [
            ("status", Reply::Status(samples::status())),
            ("doctor", Reply::Doctor(samples::doctor())),
            ("iommu", Reply::Iommu(samples::iommu())),
            ("iommu_show", Reply::Iommu(samples::iommu_full())),
            ("gpu", Reply::Gpus(samples::gpus())),
            ("quirks", Reply::Quirks(samples::quirks())),
            ("rom", Reply::Rom(samples::rom())),
            ("plan", Reply::Plan(samples::plan())),
            ("boot_plan", Reply::BootPlan(samples::boot_plan())),
            ("boot_status", Reply::BootStatus(samples::boot_status())),
            ("vm", Reply::Vms(samples::vms())),
            ("vm_plan", Reply::VmPlan(samples::vm_plan())),
            ("vm_argv", Reply::VmArgv(samples::vm_argv())),
            ("screenshot", Reply::Screenshot(samples::screenshot())),
            ("log", Reply::Log(samples::log())),
            ("usb", Reply::Usb(samples::usb())),
            ("snapshots", Reply::Snapshots(samples::snapshots())),
            ("pool", Reply::Pools(samples::pools())),
            ("disk", Reply::Disks(samples::disks())),
            ("machine", Reply::Machine(samples::machine())),
            ("care", Reply::Care(samples::care())),
            ("service", Reply::Services(samples::services())),
            ("history_list", Reply::HistoryList(samples::history_list())),
            ("history", Reply::History(samples::history())),
            ("event", Reply::Events(samples::events())),
            ("replay", Reply::Replay(samples::replay())),
            ("done", Reply::Done(samples::done())),
        ];
        for (name, reply) in replies {
            let document = client::document(&reply, true).unwrap();
            insta::assert_snapshot!(format!("json_{name}"), document);
        }
    }

    #[test]
    fn problems_have_places() {
        use crate::config::{Source, judge, not_asked};
        let files = vec!["host.yaml".into()];
        let wrong = judge(&[Source::host("host.yaml", "hsot: {}\n")], &not_asked).problems;
        let text = problems(&Checked { files: files.clone(), problems: wrong });
        assert!(text.starts_with("host.yaml:1:1: unknown key `hsot`"), "{text}");
        let fine = Checked { files, ..Checked::default() };
        assert_eq!(problems(&fine), "no problems in host.yaml\n");
    }

    #[test]
    fn a_log_is_printed_without_its_escapes() {
        let shown = view::view(&Reply::Log(samples::log()), Detail::Full, samples::LOOK);
        assert_eq!(shown, "SeaBIOS (version 1.16.3)\n[2JBooting…\n");
    }
}
