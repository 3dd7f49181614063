//! The NULL procedure of NFS over ONC RPC (RFC 5531): no rights, no files, and
//! only a living server answers. Pure.

/// Bytes of a question, its record mark included.
pub const REQUEST: usize = 44;
/// Bytes of the record mark.
pub const MARK: usize = 4;
/// The longest reply accepted; that of success has 24 bytes.
pub const MAX_REPLY: usize = 512;
/// The versions that are asked for, in this order.
pub const VERSIONS: [u32; 2] = [4, 3];

const PROGRAM: u32 = 100_003;
const LAST: u32 = 0x8000_0000;

/// What the server has said to one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It serves this version.
    Served,
    /// It serves others, from and to.
    Versions(u32, u32),
}

/// Why a reply is no answer to the question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NfsError {
    /// Something else than RPC, by its first bytes.
    #[error("the reply is not RPC but begins with {0:02x?}")]
    NotRpc(Vec<u8>),
    /// RPC, and a refusal.
    #[error("the server refuses: {0}")]
    Refused(&'static str),
}

/// The question.
pub fn request(version: u32, xid: u32) -> [u8; REQUEST] {
    let words = [LAST + 40, xid, 0, 2, PROGRAM, version, 0, 0, 0, 0, 0];
    let mut bytes = [0; REQUEST];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// The length of the record after this mark; a reply in pieces is not one of ours.
pub fn mark(bytes: [u8; MARK]) -> Result<usize, NfsError> {
    let word = u32::from_be_bytes(bytes);
    let length = usize::try_from(word & !LAST).unwrap_or(usize::MAX);
    if word & LAST == 0 || !(12..=MAX_REPLY).contains(&length) {
        return Err(NfsError::NotRpc(bytes.to_vec()));
    }
    Ok(length)
}

/// What the record says.
pub fn parse(record: &[u8], xid: u32) -> Result<Said, NfsError> {
    let word = |at: usize| {
        let bytes = record.get(4 * at..4 * at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes))
    };
    let foreign = || NfsError::NotRpc(record.iter().take(4).copied().collect());
    if (word(0), word(1)) != (Some(xid), Some(1)) {
        return Err(foreign());
    }
    match word(2).ok_or_else(foreign)? {
        0 => {}
        1 => return Err(NfsError::Refused("it denies the call")),
        _ => return Err(foreign()),
    }
    // A verifier: flavour and length, then as many bytes.
    let length = word(4).and_then(|length| usize::try_from(length).ok()).ok_or_else(foreign)?;
    if length > 400 {
        return Err(foreign());
    }
    let at = 5 + length.div_ceil(4);
    match word(at).ok_or_else(foreign)? {
        0 => Ok(Said::Served),
        1 => Err(NfsError::Refused("it does not serve NFS there")),
        2 => match (word(at + 1), word(at + 2)) {
            (Some(low), Some(high)) => Ok(Said::Versions(low, high)),
            _ => Err(foreign()),
        },
        3 => Err(NfsError::Refused("it does not know the NULL call")),
        5 => Err(NfsError::Refused("it has an error of its own")),
        _ => Err(NfsError::Refused("it does not take the call")),
    }
}

#[cfg(test)]
pub(in crate::media) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reply with its mark.
    pub(crate) fn reply(xid: u32, words: &[u32]) -> Vec<u8> {
        let length = u32::try_from(4 * (words.len() + 1)).unwrap();
        let all = [LAST | length, xid].into_iter().chain(words.iter().copied());
        all.flat_map(u32::to_be_bytes).collect()
    }

    #[test]
    fn the_question_is_that_of_the_rfc() {
        let bytes = request(4, 7);
        assert_eq!(bytes[..4], [0x80, 0, 0, 0x28]);
        assert_eq!(bytes[16..24], [0, 1, 0x86, 0xa3, 0, 0, 0, 4]);
    }

    #[test]
    fn reads_answers_and_refusals() {
        let read = |words: &[u32]| {
            let bytes = reply(7, words);
            let length = mark(bytes[..4].try_into().unwrap())?;
            assert_eq!(length, bytes.len() - 4);
            parse(&bytes[4..], 7)
        };
        assert_eq!(read(&[1, 0, 0, 0, 0]), Ok(Said::Served));
        assert_eq!(read(&[1, 0, 0, 0, 2, 3, 3]), Ok(Said::Versions(3, 3)));
        assert!(matches!(read(&[1, 0, 0, 0, 1]), Err(NfsError::Refused(_))));
        assert!(matches!(read(&[1, 1, 1, 1]), Err(NfsError::Refused(_))));
        assert!(matches!(read(&[0, 0, 0, 0, 0]), Err(NfsError::NotRpc(_))));
        assert!(matches!(mark(*b"HTTP"), Err(NfsError::NotRpc(_))));
        assert!(matches!(parse(&reply(8, &[1, 0, 0, 0, 0])[4..], 7), Err(NfsError::NotRpc(_))));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600), head: [u8; 4]) {
            let _ = (mark(head), parse(&bytes, 7));
        }

        #[test]
        fn any_words_are_read(words in prop::collection::vec(any::<u32>(), 0..12)) {
            let _ = parse(&reply(7, &words)[4..], 7);
        }
    }
}
