//! lab: the virtual host by hand.
//!
//! - `main.rs`   the commands
//! - `args.rs`   their arguments
//! - `state.rs`  named labs that go on when the command has ended
//! - `screen.rs` what talks to a terminal: shell, console
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 4 no such lab; `exec` and `shell`
//! end with the status of what they ran.

mod args;
mod screen;
mod state;

use anyhow::{Context, Result, bail};
use args::{Args, Command, Switch, Thing};
use clap::Parser;
use hostd_lab::{LabSpec, Tier, boot_disk, image};
use state::{Named, NoLab};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

fn main() -> ExitCode {
    let args = Args::parse();
    match perform(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(if error.downcast_ref::<NoLab>().is_some() { 4 } else { 1 })
        }
    }
}

fn perform(args: Args) -> Result<u8> {
    let named = Named::new(&args.name)?;
    let name = &args.name;
    let say = |text: String| if !args.quiet { eprintln!("lab {name}: {text}") };
    match args.command {
        Command::Up(up) => {
            let spec = up.spec()?;
            let started = Instant::now();
            let lab = named.up(spec)?;
            let ready = lab.ready_after.as_secs_f32();
            let pid = lab.pid().unwrap_or_default();
            say(format!(
                "up after {:.1} s (agent after {ready:.1} s; {}, process {pid})",
                started.elapsed().as_secs_f32(),
                lab.accel.name()
            ));
            for forward in &lab.spec.forwards {
                say(format!("127.0.0.1:{} leads to port {}", lab.port(forward.guest)?, forward.guest));
            }
            lab.leave();
            let flag = if name == "default" { String::new() } else { format!("--name {name} ") };
            say(format!("next: lab {flag}shell | lab {flag}exec -- COMMAND | lab {flag}console | lab {flag}down"));
        }
        Command::Down => named.down()?,
        Command::Status { json } => return status(&named, json),
        Command::List => {
            for name in state::names()? {
                let running = Named::new(&name)?.open().is_ok_and(|lab| lab.running());
                println!("{name}\t{}", if running { "running" } else { "off" });
            }
        }
        Command::Exec { command, stdin, deadline } => {
            let lab = named.running()?;
            let mut input = Vec::new();
            if stdin {
                std::io::stdin().read_to_end(&mut input)?;
            }
            let deadline = Duration::from_secs(deadline);
            let command = command.join(" ");
            let client = lab.client()?;
            let (status, expired) = client.stream(&command, &BTreeMap::new(), &input, deadline, |stream, bytes| {
                if stream == 2 {
                    std::io::stderr().write_all(bytes)?;
                } else {
                    std::io::stdout().write_all(bytes)?;
                    std::io::stdout().flush()?;
                }
                Ok(())
            })?;
            if expired {
                bail!("{command:?} was killed after {} s; allow more with --deadline", deadline.as_secs());
            }
            return Ok(u8::try_from(status).unwrap_or(1));
        }
        Command::Shell => return screen::shell(&named.running()?),
        Command::Console { lines, no_follow } => screen::console(&named.open()?, lines, !no_follow)?,
        Command::Push { file, path } => named.running()?.push(file, &path)?,
        Command::Pull { path, file } => {
            let file = match file {
                Some(file) => file,
                None => Path::new(&path).file_name().context("name the file to write")?.into(),
            };
            named.running()?.pull(&path, file)?;
        }
        Command::Unplug { thing } => match thing {
            Thing::Disk(number) => named.running()?.unplug_disk(number)?,
            Thing::Card(index) => named.running()?.unplug_card(index)?,
        },
        Command::Plug { thing } => match thing {
            Thing::Disk(number) => named.running()?.plug_disk(number)?,
            Thing::Card(index) => named.running()?.plug_card(index)?,
        },
        Command::Network { to } => named.running()?.network(matches!(to, Switch::On))?,
        Command::Pause => named.running()?.pause()?,
        Command::Resume => named.running()?.resume()?,
        Command::Reboot => {
            let mut lab = named.running()?;
            lab.reboot()?;
            say(format!("up again after {:.1} s", lab.settled_after.as_secs_f32()));
        }
        Command::PowerLoss => {
            named.running()?.power_loss();
            say("off; next: lab power-on, or lab down".to_owned());
        }
        Command::PowerOn => {
            let lab = named.power_on()?;
            say(format!("up after {:.1} s", lab.settled_after.as_secs_f32()));
            lab.leave();
        }
        Command::Qmp { command, arguments } => {
            let arguments = serde_json::from_str(&arguments).context("the arguments are not JSON")?;
            println!("{:#}", named.running()?.qmp(&command, arguments)?);
        }
        Command::Image { boot_disk: with_boot } => {
            let image = image::ensure()?;
            if with_boot {
                boot_disk::ensure_base(&image)?;
            }
            println!("{}", image.dir.display());
        }
    }
    Ok(0)
}

fn status(named: &Named, json: bool) -> Result<u8> {
    let lab = named.open()?;
    let running = lab.running();
    let state = match running.then(|| lab.qmp("query-status", serde_json::json!({}))) {
        Some(Ok(answer)) => answer["status"].as_str().unwrap_or("unknown").to_owned(),
        Some(Err(error)) => format!("unknown ({error:#})"),
        None => "off".to_owned(),
    };
    if json {
        let dir = lab.dir().to_string_lossy();
        println!("{:#}", serde_json::json!({"name": named.name, "state": state, "pid": lab.pid(), "dir": dir, "spec": lab.spec}));
    } else {
        println!("{}: {state}; {}", named.name, describe(&lab.spec));
        println!("files: {}", lab.dir().display());
        for forward in &lab.spec.forwards {
            if let Ok(port) = lab.port(forward.guest) {
                println!("127.0.0.1:{port} leads to port {}", forward.guest);
            }
        }
    }
    Ok(u8::from(!running))
}

fn describe(spec: &LabSpec) -> String {
    let tier = match spec.tier {
        Tier::Fast => "fast tier",
        Tier::Full => "full tier",
        Tier::OwnBoot => "own-boot tier",
    };
    format!(
        "{tier}, IOMMU {:?}, {} cards, {} disks, {} MiB, network {}",
        spec.iommu,
        spec.cards.len(),
        spec.disks,
        spec.memory_mib,
        if spec.network { "yes" } else { "no" }
    )
    .to_lowercase()
}

