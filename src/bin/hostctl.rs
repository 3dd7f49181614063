//! hostctl, the command line.

fn main() -> std::process::ExitCode {
    // What reads a card's ROM is this same binary; it must not start anything.
    if let Some(code) = hostd::passthrough::rom::dump::main(std::env::args_os()) {
        return code;
    }
    hostd::cli::main()
}
