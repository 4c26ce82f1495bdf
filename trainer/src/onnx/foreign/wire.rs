//! Protocol buffers field by field, so that what is not understood is carried over as it is.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use super::ForeignError;

/// One field of a message.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Its number.
    pub tag: u32,
    /// The field with its key, as it stands in the message.
    pub whole: &'a [u8],
    /// What it holds.
    pub content: Content<'a>,
}

/// What a field holds, as far as it can be told without its message's definition.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// A number.
    Number(u64),
    /// A text, bytes, or a message.
    Bytes(&'a [u8]),
    /// A number of fixed length.
    Fixed,
}

impl<'a> Field<'a> {
    /// The bytes of a text or a message; empty for numbers.
    pub const fn bytes(&self) -> &'a [u8] {
        match self.content {
            Content::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// A text.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn text(&self) -> Result<&'a str, ForeignError> {
        std::str::from_utf8(self.bytes()).map_err(|error| ForeignError::Damaged(error.to_string()))
    }

    /// A number; 0 for anything else.
    pub const fn number(&self) -> u64 {
        match self.content {
            Content::Number(number) => number,
            _ => 0,
        }
    }
}

/// The fields of a message, in order.
///
/// # Errors
/// Bytes that are no message.
pub fn fields(message: &[u8]) -> Result<Vec<Field<'_>>, ForeignError> {
    let damaged = |error: prost::DecodeError| ForeignError::Damaged(error.to_string());
    let short = || ForeignError::Damaged("it ends in the middle of a field".to_owned());
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let start = rest;
        let (tag, kind) = decode_key(&mut rest).map_err(damaged)?;
        let mut take = |length: usize| {
            let (own, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(own)
        };
        let content = match kind {
            WireType::Varint => Content::Number(decode_varint(&mut rest).map_err(damaged)?),
            WireType::SixtyFourBit => take(8).map(|_| Content::Fixed).ok_or_else(short)?,
            WireType::ThirtyTwoBit => take(4).map(|_| Content::Fixed).ok_or_else(short)?,
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(damaged)?;
                let length = usize::try_from(length).map_err(|_| short())?;
                let (own, after) = rest.split_at_checked(length).ok_or_else(short)?;
                rest = after;
                Content::Bytes(own)
            }
            WireType::StartGroup | WireType::EndGroup => {
                return Err(ForeignError::Damaged("it has a group, which ONNX does not use".to_owned()));
            }
        };
        fields.push(Field { tag, whole: &start[..start.len() - rest.len()], content });
    }
    Ok(fields)
}

/// Appends a text, bytes or a message as a field.
pub fn put(tag: u32, bytes: &[u8], message: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, message);
    encode_varint(bytes.len() as u64, message);
    message.extend_from_slice(bytes);
}
