//! What a person sees of a guest and tells it, past its operating system: the
//! serial port, the picture of a graphics card that QEMU makes, the keyboard.
//!
//! - [`console`]: the serial port, a stream of bytes; one person at a time
//! - [`screen`]: the picture as a PNG
//! - [`keys`]: words and text as keys of a US keyboard
//!
//! Nothing here changes the VM's state, so it goes past the supervisor's task:
//! `supervisor::talk` has the methods of its handle. All that comes from QEMU
//! is hostile: bounded, and the picture's file is not followed anywhere.

pub mod console;
pub mod keys;
pub mod screen;

pub use console::Consoles;
