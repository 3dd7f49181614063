//! hostctl, the command line.

fn main() -> std::process::ExitCode {
    // What reads attributes and ROMs that may hang, and asks KVM and VFIO, is this same binary; it
    // must not start anything.
    if let Some(code) = hostd::passthrough::helper::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = hostd::passthrough::rom::dump::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = hostd::host::kvm::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = hostd::host::vfio::main(std::env::args_os()) {
        return code;
    }
    if let Some(code) = hostd::zfs::events::zedlet::main(std::env::args_os()) {
        return code;
    }
    hostd::cli::main()
}
