//! Protobuf, as far as reading needs it: one field after the other, borrowed
//! from the bytes.

use super::decode::DecodeError;

/// The value of a field, by wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// What is left to read of a message.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field with its number.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = self.varint()?;
                let length = usize::try_from(length).map_err(|_| DecodeError::Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups are not part of this protocol; 6 and 7 mean nothing.
            _ => return Err(DecodeError::Malformed),
        };
        match key >> 3 {
            0 => Err(DecodeError::Malformed),
            number => Ok(Some((number, value))),
        }
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit.
                let fits = at < 9 || *byte <= 1;
                self.0 = &self.0[at + 1..];
                return if fits { Ok(value) } else { Err(DecodeError::Malformed) };
            }
        }
        Err(DecodeError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_wire_type() {
        let bytes =
            [0x08, 0x96, 0x01, 0x11, 1, 0, 0, 0, 0, 0, 0, 0, 0x1a, 1, b'a', 0x25, 2, 0, 0, 0];
        let mut fields = Fields(&bytes);
        assert_eq!(fields.next(), Ok(Some((1, Value::Varint(150)))));
        assert_eq!(fields.next(), Ok(Some((2, Value::Fixed64(1)))));
        assert_eq!(fields.next(), Ok(Some((3, Value::Bytes(b"a")))));
        assert_eq!(fields.next(), Ok(Some((4, Value::Fixed32(2)))));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn refuses_what_is_cut_or_means_nothing() {
        let overlong: &[u8] = &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        for bytes in [
            &[0x08][..],
            &[0x80],
            &[0x1a, 2, 0],
            &[0x0b],
            &[0x0e],
            &[0x02, 0],
            &[0x11, 0],
            overlong,
        ] {
            assert_eq!(Fields(bytes).next(), Err(DecodeError::Malformed), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn varints_agree_with_prost(value: u64) {
            let mut bytes = vec![0x08];
            prost::encoding::encode_varint(value, &mut bytes);
            prop_assert_eq!(Fields(&bytes).next(), Ok(Some((1, Value::Varint(value)))));
        }
    }
}
