//! The order of an event, also from its first bytes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rmp::decode::{read_int, read_map_len, read_str_from_slice};
use slated_contract::event::Event;

/// What an event is ordered by: its id, which is its first field, and its time.
#[derive(Debug, Clone)]
pub struct Order {
    /// Its id.
    pub id: Arc<str>,
    /// Its time.
    pub time: DateTime<Utc>,
}

impl Order {
    /// That of an event.
    pub fn of<E: Event>(event: &E) -> Self {
        let (time, id) = event.order();
        Self { id: id.into(), time }
    }

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
                return Some(Self { id: id.into(), time });
            }
            (_, rest) = read_str_from_slice(value).ok()?;
        }
    }
}
