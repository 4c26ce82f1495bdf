//! The order of an event, from its first bytes.

use chrono::{DateTime, Utc};
use rmp::decode::{read_int, read_map_len, read_str_from_slice};

/// What an event is ordered by: its id, which is its first field, and its time.
pub struct Order {
    /// Its id.
    pub id: String,
    /// Its time.
    pub time: DateTime<Utc>,
}

impl Order {
    /// Reads the beginning of an event, which is texts up to its time; what follows, its features above all, is not looked
    /// at.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        read_map_len(&mut rest).ok()?;
        let (_, rest) = read_str_from_slice(rest).ok()?;
        let (id, mut rest) = read_str_from_slice(rest).ok()?;
        loop {
            let (name, mut value) = read_str_from_slice(rest).ok()?;
            if name == "time" {
                let time = DateTime::from_timestamp_micros(read_int(&mut value).ok()?)?;
                return Some(Self { id: id.to_owned(), time });
            }
            (_, rest) = read_str_from_slice(value).ok()?;
        }
    }
}
