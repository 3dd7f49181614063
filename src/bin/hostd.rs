//! The daemon's process: arguments, logs, configuration, signals.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use hostd::host::{self, Host};
use hostd::{daemon, local, passthrough};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// Watches this host and runs its VMs.
///
/// hostd runs in the foreground and logs to standard error; systemd starts it
/// as hostd.service. Without root it watches what it may and says what it
/// cannot do. Exit codes: 0 stopped as asked, 1 failed, 2 configuration wrong.
#[derive(Parser)]
#[command(name = "hostd", version)]
struct Args {
    /// The host's file; VM files are in vms/ beside it.
    #[arg(long, value_name = "FILE", default_value = local::CONFIG)]
    config: PathBuf,
    /// What survives a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/hostd")]
    state_dir: PathBuf,
    /// What lives until the next boot; the control socket is here.
    #[arg(long, value_name = "DIR", default_value = "/run/hostd")]
    runtime_dir: PathBuf,
    /// Read the machine under this folder.
    #[arg(long, value_name = "DIR", default_value = "/")]
    sysroot: PathBuf,
    /// Stop all VMs by their power buttons, each within its own time, and end:
    /// for hostd-guests.service, when the host goes down.
    #[arg(long)]
    stop_guests: bool,
}

/// The most threads that tasks run on.
const WORKERS: usize = 4;

fn main() -> ExitCode {
    // First: QEMU waits for it.
    if let Some(code) = host::launch::main(std::env::args_os()) {
        return code;
    }
    // The helper that writes to sysfs is this same binary; it must not start anything.
    if let Some(code) = passthrough::helper::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = passthrough::rom::dump::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = host::kvm::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = host::vfio::main(std::env::args_os()) {
        return code;
    }
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("HOSTD_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that cannot be written is lost; saying so there as well would panic.
        .log_internal_errors(false);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        // The journal has the time already.
        log.without_time().with_target(false).with_ansi(false).init();
    } else {
        log.with_target(false).with_ansi(terminal).init();
    }
    let checked = match local::read_config(&args.sysroot, &args.config) {
        Ok(checked) => checked,
        Err(problems) => {
            error!("the configuration is wrong\n{problems}");
            return ExitCode::from(2);
        }
    };
    if checked.missing {
        let file = args.config.display();
        if args.config.as_os_str() == local::CONFIG {
            info!("{file} does not exist: watching what is found");
        } else {
            warn!("{file} does not exist: watching what is found");
        }
    }
    for note in &checked.notes {
        warn!("{note}");
    }
    let host = Host::real(args.sysroot.clone(), args.state_dir, args.runtime_dir)
        .with_launcher(host::launch::OURSELVES.into());
    if args.stop_guests {
        return stop_guests(&host, &checked.config);
    }
    let ended = runtime().map_err(anyhow::Error::from).and_then(|runtime| {
        let ended = runtime.block_on(async {
            let stop = stop_signal()?;
            let reloads = reloads(args.sysroot, args.config)?;
            daemon::run_reloading(host, checked.config, checked.wrong, reloads, stop).await
        });
        // A child that hangs in the kernel must not keep us.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Few threads do on any machine: what takes long is done beside them.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(processors.min(WORKERS)).enable_all().build()
}

fn stop_guests(host: &Host, config: &hostd::config::Config) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let left = runtime.block_on(daemon::guests::stop_all(host, config));
    runtime.shutdown_background();
    if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The configuration as it is at each SIGHUP: `systemctl reload hostd`.
fn reloads(sysroot: PathBuf, config: PathBuf) -> std::io::Result<mpsc::Receiver<daemon::Reload>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (send, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let (sysroot, config) = (sysroot.clone(), config.clone());
            let read = tokio::task::spawn_blocking(move || local::read_config(&sysroot, &config));
            let reload = match read.await {
                // A file that is gone is no wish for an empty one.
                Ok(Ok(read)) if read.missing => Err("host.yaml is not there any more".to_owned()),
                Ok(Ok(read)) => Ok(read.config),
                Ok(Err(problems)) => Err(problems.to_string()),
                Err(failed) => Err(format!("it could not be read: {failed}")),
            };
            if send.send(reload).await.is_err() {
                return;
            }
        }
    });
    Ok(reloads)
}

/// Resolves at SIGTERM or SIGINT.
fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
    })
}
