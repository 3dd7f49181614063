//! The bytes of each protocol: what is asked, and what an answer says. All
//! pure; [`super::probe`] does the talking. SMB and AFP have their own files
//! beside it ([`super::smb`], [`super::afp`]).
//!
//! - [`http`]: one request, one bounded reply; [`plex`] reads what Plex says in it
//! - [`greeting`]: servers that speak first: SMTP, IMAP, POP3, MySQL, SSH, FTP
//! - [`nfs`]: the NULL call
//! - [`tls`]: a handshake that takes any certificate; [`x509`] reads it
//! - [`plugin`]: what a Nagios plugin prints
//! - [`shares`]: smb.conf, afp.conf and exports: what is served from where

pub mod greeting;
pub mod http;
pub mod nfs;
pub mod plex;
pub mod plugin;
pub mod shares;
pub mod tls;
pub mod x509;

/// Text from outside, fit to be shown: no control characters, not too long.
pub fn plain(text: &str, limit: usize) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.trim().chars().take(limit).map(plain).collect()
}
