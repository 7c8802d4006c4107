//! Little-endian fields and varints, with bounds checked on the way in.
//!
//! Everything on disk is written and read through this file. A decoder never allocates from a
//! length it has not compared with the bytes that are there.

/// The bytes do not hold what they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The input ends before the field does.
    #[error("{field} is cut short at byte {at}")]
    Short {
        /// What was being read.
        field: &'static str,
        /// Byte in the input.
        at: usize,
    },
    /// The field's value is impossible.
    #[error("{field} has the impossible value {value}")]
    Impossible {
        /// What was being read.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// The stored checksum and the bytes disagree.
    #[error("{what}: checksum {stored:08x} stored, {computed:08x} computed")]
    Checksum {
        /// What the checksum covers.
        what: &'static str,
        /// As stored.
        stored: u32,
        /// Over the bytes as they are.
        computed: u32,
    },
    /// A version this build does not know.
    #[error("{what} has version {found}, this build knows up to {known}")]
    Version {
        /// Which format.
        what: &'static str,
        /// As stored.
        found: u16,
        /// The newest this build reads.
        known: u16,
    },
}

/// Reads fields from a slice, front to back.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0 }
    }

    /// Bytes not yet read.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`] if there are fewer.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Malformed> {
        if len > self.remaining() {
            return Err(Malformed::Short { field, at: self.at });
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Malformed> {
        let taken = self.take(N, field)?;
        Ok(taken.try_into().expect("`take` gives as many bytes as asked for"))
    }

    /// One byte.
    ///
    /// # Errors
    /// [`Malformed::Short`], as for every field below.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, Malformed> {
        Ok(self.array::<1>(field)?[0])
    }

    /// Two bytes, little-endian.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn u16(&mut self, field: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array(field)?))
    }

    /// Four bytes, little-endian.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn u32(&mut self, field: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn u64(&mut self, field: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    /// Eight bytes, little-endian, signed.
    ///
    /// # Errors
    /// [`Malformed::Short`].
    pub fn i64(&mut self, field: &'static str) -> Result<i64, Malformed> {
        Ok(i64::from_le_bytes(self.array(field)?))
    }

    /// An unsigned LEB128 varint of at most ten bytes.
    ///
    /// # Errors
    /// [`Malformed::Short`], or [`Malformed::Impossible`] if it is longer than 64 bits.
    pub fn uvarint(&mut self, field: &'static str) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Malformed::Impossible { field, value: bits });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::Impossible { field, value })
    }

    /// A zigzag varint.
    ///
    /// # Errors
    /// As [`uvarint`](Self::uvarint).
    pub fn ivarint(&mut self, field: &'static str) -> Result<i64, Malformed> {
        let zigzag = self.uvarint(field)?;
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    /// Bytes behind their length as a varint.
    ///
    /// # Errors
    /// [`Malformed::Short`] if the length is more than is there.
    pub fn prefixed(&mut self, field: &'static str) -> Result<&'a [u8], Malformed> {
        let len = self.uvarint(field)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX), field)
    }

    /// Bytes behind their length plus one as a varint; 0 stands for "none".
    ///
    /// # Errors
    /// [`Malformed::Short`] if the length is more than is there.
    pub fn optional(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        match self.uvarint(field)? {
            0 => Ok(None),
            len => self.take(usize::try_from(len - 1).unwrap_or(usize::MAX), field).map(Some),
        }
    }
}

/// The bytes a varint takes: 1 to 10.
#[must_use]
pub fn uvarint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The zigzag form of a signed number.
#[must_use]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The bytes an optional field takes, its length included.
#[must_use]
pub fn optional_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| uvarint_len(bytes.len() as u64 + 1) + bytes.len())
}

/// Writes fields into a slice that is known to be large enough.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Starts at the front of `out`.
    pub fn new(out: &'a mut [u8]) -> Writer<'a> {
        Writer { out, at: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Copies `bytes`.
    ///
    /// # Panics
    /// If `out` is too small: callers size it with the `_len` functions first.
    pub fn put(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Writes an unsigned varint.
    pub fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out[self.at] = value as u8 | 0x80;
            self.at += 1;
            value >>= 7;
        }
        self.out[self.at] = value as u8;
        self.at += 1;
    }

    /// Writes a length plus one and the bytes, or 0.
    pub fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.uvarint(0),
            Some(bytes) => {
                self.uvarint(bytes.len() as u64 + 1);
                self.put(bytes);
            }
        }
    }
}

/// Appends a varint to a growing buffer.
pub fn push_uvarint(out: &mut Vec<u8>, value: u64) {
    let mut bytes = [0u8; 10];
    let mut writer = Writer::new(&mut bytes);
    writer.uvarint(value);
    let len = writer.position();
    out.extend_from_slice(&bytes[..len]);
}

/// Appends bytes behind their length.
pub fn push_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    push_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Compares a stored CRC-32C with the bytes it covers.
///
/// # Errors
/// [`Malformed::Checksum`] naming `what` if they differ.
pub fn check_crc(what: &'static str, stored: u32, computed: u32) -> Result<(), Malformed> {
    if stored == computed { Ok(()) } else { Err(Malformed::Checksum { what, stored, computed }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_varint(value: u64) {
        let mut out = Vec::new();
        push_uvarint(&mut out, value);
        assert_eq!(out.len(), uvarint_len(value));
        assert_eq!(Fields::new(&out).uvarint("v"), Ok(value));
    }

    #[test]
    fn varints_come_back_at_every_length() {
        for bits in 0..64 {
            check_varint(1 << bits);
            check_varint((1 << bits) - 1);
        }
        check_varint(u64::MAX);
    }

    #[test]
    fn signed_varints_come_back() {
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            push_uvarint(&mut out, zigzag(value));
            assert_eq!(Fields::new(&out).ivarint("v"), Ok(value));
        }
    }

    #[test]
    fn an_overlong_varint_is_refused() {
        let error = Fields::new(&[0xff; 11]).uvarint("v").unwrap_err();
        assert!(matches!(error, Malformed::Impossible { .. }));
        assert!(matches!(Fields::new(&[0x80]).uvarint("v"), Err(Malformed::Short { .. })));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused_before_anything_is_allocated() {
        let mut out = Vec::new();
        push_uvarint(&mut out, u64::MAX);
        assert!(matches!(Fields::new(&out).prefixed("p"), Err(Malformed::Short { .. })));
    }
}
