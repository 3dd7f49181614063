//! hostctl, the command line.

fn main() -> std::process::ExitCode {
    hostd::cli::main()
}
