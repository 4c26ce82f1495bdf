//! Values that RLlib packs: pickled, compressed with LZ4, and written in base 64.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lz4_flex::frame::FrameDecoder;
use serde_json::Value;

use super::pickle::unpickle;

/// The most bytes that one packed value may become.
const MOST: u64 = 1 << 30;

/// The value of a packed text.
///
/// # Errors
/// What is no such text, and what it may not hold.
pub fn unpack(text: &str) -> Result<Value, String> {
    let bytes =
        STANDARD.decode(text).map_err(|error| format!("it is neither a number nor packed in base 64: {error}"))?;
    let mut pickle = Vec::new();
    let mut decoder = FrameDecoder::new(bytes.as_slice()).take(MOST + 1);
    let read = decoder.read_to_end(&mut pickle).map_err(|error| format!("its LZ4 frame does not read: {error}"))?;
    if read as u64 > MOST {
        return Err("it holds more than 1 GiB".to_owned());
    }
    unpickle(&pickle)
}
